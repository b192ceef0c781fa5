"""The timeline: one prompt and seed over all checkpoints, each story held against the one before it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.cli import commands
from storyteller.cli.story_output import cells
from storyteller.cli.wrapped_text import wrap_parts
from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, RunError, UsageError
from storyteller.evaluation import checkpoint_timeline
from storyteller.evaluation.checkpoint_timeline import Timeline, TimelineStory, diff_words, timeline_steps
from storyteller.reports.timeline_page import describe, timeline_page
from storyteller.text import safe
from storyteller.tracking.curves import Curves
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import readable_steps
from storyteller.tracking.sample_history import SampleHistory, SampleRecord, sampling_params
from tests.reports.test_pages import HOSTILE, Reader
from tests.support.training import tiny_config, trained_run
from tests.support.tui_runs import make

FOX = "The fox"
SEVEN = SamplingParams(seed=7)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return make(tmp_path / "runs", "fox-run", steps=100, bits=0.5)


def tell(folder: RunFolder, *stories: tuple[int, str], prompt: str = FOX, **more: Any) -> None:
    with JsonLog(folder.samples) as log:
        for step, text in stories:
            log.append({"step": step, "prompt": prompt, "text": text, "seed": 42, "finished": True, **more})


def grown(folder: RunFolder) -> SampleHistory:
    growth = SampleHistory(folder)
    growth.catch_up()
    return growth


# --- what changed -----------------------------------------------------------------------------------------------------


def test_what_is_kept_and_what_is_new_is_told_word_by_word() -> None:
    before = " ran over the old hill and slept."
    assert diff_words(before, " ran over the new hill and slept. The end.") == (
        ((" ran over the", False), (" new", True), (" hill and slept.", False), (" The end.", True)),
        6 / 9,
    )


def test_two_words_in_common_are_chance() -> None:
    assert diff_words(" there was a dog.", " he saw that there was none.") == (
        ((" he saw that there was none.", True),),
        0.0,
    )


def test_a_story_of_two_words_may_be_kept_whole() -> None:
    assert diff_words(" The end.", " The end.") == (((" The end.", False),), 1.0)


def test_the_first_story_is_held_against_none_and_an_empty_one_keeps_nothing() -> None:
    assert diff_words(None, " a fox") == (((" a fox", False),), None)
    assert diff_words(None, "") == ((), None)
    assert diff_words(" a fox", "") == ((), 0.0)


words = st.lists(st.sampled_from(["a", "fox", "ran", "\n", "  ", "\t", "the end.", "\x1b[1m"])).map(" ".join)


@given(words | st.text(), words | st.text())
def test_the_pieces_are_the_story_whatever_it_is(before: str, text: str) -> None:
    parts, kept = diff_words(before, text)
    assert "".join(piece for piece, _ in parts) == text
    assert kept is not None and 0 <= kept <= 1
    assert all(one[1] is not other[1] for one, other in pairwise(parts))
    if before == text and text.strip():
        assert kept == 1


# --- which steps, and what is told ------------------------------------------------------------------------------------


def test_there_is_a_moment_for_each_story_of_the_seed_and_each_checkpoint(folder: RunFolder) -> None:
    tell(folder, (0, " a"), (50, " b"), (100, " c"))
    growth = grown(folder)
    own = SamplingParams(seed=42)
    assert timeline_steps(growth, FOX, own, [80, 100]) == [0, 50, 80, 100]
    assert timeline_steps(growth, FOX, SEVEN, [80, 100]) == [80, 100]
    assert timeline_steps(growth, "another", own, [80]) == [80]
    assert timeline_steps(growth, FOX, own, range(1, 100), limit=3) == [0, 50, 100]
    assert timeline_steps(growth, FOX, own, range(1, 100), limit=1) == [0]


def test_what_is_missing_is_told_and_what_cannot_be_told_says_why(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(folder, (0, " ran far away at last."), (100, " ran far away home."))
    asked = []

    def now(root: Path, model: str, prompt: str, sample: SamplingParams) -> SampleRecord:
        asked.append((root, model, prompt, sample.seed))
        if model.endswith("@60"):
            raise CheckpointError("checkpoint fox-run@60 is damaged", "take another")
        return SampleRecord(80, prompt, " ran far away too.", 42, finished=False, later=True)

    monkeypatch.setattr(checkpoint_timeline, "generate_story", now)
    scored = {0: 3.0, 80: 1.0}
    root, history = folder.path.parent, grown(folder)
    found = list(Timeline(folder, FOX, SamplingParams(seed=42), [0, 60, 80, 100], history, scored).stories())
    assert asked == [(root, "fox-run@60", FOX, 42), (root, "fox-run@80", FOX, 42)]
    assert [(each.step, each.problem, each.kept, describe(each)) for each in found] == [
        (0, "", None, "3.0000 bits per byte"),
        (60, "checkpoint fox-run@60 is damaged", None, ""),
        (80, "", 0.75, "1.0000 bits per byte, 75 % unchanged, generated later, cut off at the token limit"),
        (100, "", 0.75, "75 % unchanged"),
    ]


def test_a_story_of_another_seed_is_told_anew(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(folder, (100, " of the run's own seed."))
    fresh = SampleRecord(100, FOX, " of seed 7.", 7, later=True)
    monkeypatch.setattr(checkpoint_timeline, "generate_story", lambda *_: fresh)
    [moment] = Timeline(folder, FOX, SEVEN, [100], grown(folder), {}).stories()
    assert moment.story == fresh


# --- as text ----------------------------------------------------------------------------------------------------------


def test_at_no_terminal_stories_are_wrapped_and_lines_with_news_have_a_bar(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    tell(folder, (0, " ran over the hill to the river and slept there."), (10, " stayed."))
    tell(folder, (50, " stayed\x1b[2J."), (100, " ran over the hill to the river and swam there all day."))
    commands.run(["timeline", "fox-run", "--prompt", FOX, "--runs-dir", str(folder.path.parent)])
    assert capsys.readouterr().out == (
        "fox-run, 4 steps, seed 42: The fox\n"
        "\n"
        "step 0  0.5000 bits per byte\n"
        "  The fox ran over the hill to the\n"
        "  river and slept there.\n"
        "\n"
        "step 10  0 % unchanged\n"
        "  The fox stayed.\n"
        "\n"
        "step 50  0.5000 bits per byte, 0 % unchanged\n"
        "  The fox stayed\u241b[2J.\n"
        "\n"
        "step 100  0.5000 bits per byte, 0 % unchanged\n"
        "  The fox ran over the hill to the\n"
        "  river and swam there all day.\n"
    )


def test_where_much_is_kept_the_lines_with_news_have_a_bar(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    tell(folder, (0, " ran over the hill to the river and slept there."))
    tell(folder, (100, " ran over the hill to the river and swam there all day."))
    commands.run(["timeline", "fox-run", "--prompt", FOX, "--runs-dir", str(folder.path.parent)])
    assert capsys.readouterr().out.endswith(
        "step 100  0.5000 bits per byte, 67 % unchanged\n"
        "  The fox ran over the hill to the\n"
        "\u258e river and swam there all day.\n"
    )


def test_as_json_each_moment_is_an_object(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    tell(folder, (0, " a b c d"), (100, " a b c e"))
    commands.run(["timeline", "--prompt", FOX, "--json", "--runs-dir", str(folder.path.parent)])
    said = json.loads(capsys.readouterr().out)
    assert (said["run"], said["prompt"], said["seed"]) == ("fox-run", FOX, 42)
    assert said["moments"][1] == {
        "step": 100,
        "text": " a b c e",
        "finished": True,
        "told": "training",
        "problem": None,
        "bits_per_byte": 0.5,
        "kept_pct": 75.0,
    }


def test_a_prompt_of_nothing_and_a_run_of_nothing_are_refused(folder: RunFolder) -> None:
    root = str(folder.path.parent)
    with pytest.raises(UsageError, match="for --prompt: expected some words"):
        commands.run(["timeline", "--prompt", " ", "--runs-dir", root])
    with pytest.raises(RunError, match="fox-run has neither a story of this prompt nor a checkpoint"):
        commands.run(["timeline", "--prompt", FOX, "--runs-dir", root])
    folder.checkpoint(10).mkdir(parents=True)
    with pytest.raises(RunError, match=r"no story could be generated: checkpoint fox-run@10 has no manifest\.json"):
        commands.run(["timeline", "--prompt", FOX, "--runs-dir", root])


parts = st.lists(st.tuples(words | st.text(), st.booleans()))


@given(parts, st.integers(min_value=2, max_value=60))
def test_wrapped_lines_fit_and_hold_every_word_in_order(pieces: list[tuple[str, bool]], width: int) -> None:
    lines = ["".join(text for text, _ in line) for line in wrap_parts(pieces, width)]
    assert all(cells(line.rstrip(" ")) <= width for line in lines)
    whole = safe("".join(text for text, _ in pieces))
    assert "".join("".join(lines).split(" ")) == "".join(whole.replace("\t", " ").replace("\n", " ").split(" "))


# --- as a page --------------------------------------------------------------------------------------------------------


def test_on_a_page_what_is_kept_is_lighter_and_what_is_new_is_marked(folder: RunFolder) -> None:
    found = [
        TimelineStory(0, SampleRecord(0, FOX, " ran to the sea."), bpb=3.0, parts=((" ran to the sea.", False),)),
        TimelineStory(50, None, "checkpoint fox-run@50 is damaged"),
        TimelineStory(
            100,
            SampleRecord(100, FOX, " ran to the moon."),
            parts=((" ran to the", False), (" moon.", True)),
            kept=0.75,
        ),
    ]
    page = str(timeline_page("fox-run", FOX, SamplingParams(seed=42), found, Curves(folder)))
    assert "<h1>Samples of fox-run during training</h1>" in page
    assert '<header>step 0</header><p dir="auto"><span class="prompt">The fox</span> ran to the sea.</p>' in page
    assert "Step 50: checkpoint fox-run@50 is damaged." in page
    assert '<span class="kept"> ran to the</span><mark> moon.</mark></p><footer>75 % unchanged</footer>' in page


def test_no_story_becomes_markup(folder: RunFolder) -> None:
    pages = []
    for text in ("plain", "".join(HOSTILE)):
        moment = TimelineStory(1, SampleRecord(1, text, text), parts=((text, True),), kept=0.0)
        pages.append(Reader(timeline_page("fox-run", text, SEVEN, [moment], Curves(folder))))
    assert pages[0].tags == pages[1].tags


@pytest.mark.slow
def test_every_checkpoint_of_a_real_run_tells_what_its_training_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained_run(tmp_path / "runs", "small", train_steps=4)
    sample = sampling_params(tiny_config(train_steps=4))
    then = grown(folder)
    prompt = then.prompts[0]
    folder.samples.unlink()
    root = str(tmp_path / "runs")
    commands.run(["timeline", "small", "--prompt", prompt, "--json", "--html", "page.html", "--runs-dir", root])
    told = json.loads(capsys.readouterr().out)["moments"]
    for moment in told:
        before = then.at(prompt, moment["step"])
        assert before is not None and moment["told"] == "later"
        assert (moment["text"], sample.seed) == (before.text, before.seed)
    assert "<h1>Samples of small during training</h1>" in Path("page.html").read_text(encoding="utf-8")
    commands.run(["timeline", "small", "--prompt", "A dragon", "--seed", "7", "--json", "--runs-dir", root])
    other = json.loads(capsys.readouterr().out)
    assert other["seed"] == 7
    assert [moment["step"] for moment in other["moments"]] == readable_steps(folder)

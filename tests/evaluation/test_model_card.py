"""`storyteller card`: what is told, measured, found wrong and written; and that nothing leaves this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.cli import main
from storyteller.data.bundled import story
from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.model_card import card as card_document
from storyteller.evaluation.model_card import real_stories, training_stories, worst_examples
from storyteller.evaluation.model_card.card import Card, Example, Figure
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.reports import card_markdown, card_page
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from tests.evaluation.test_llm_judge import GOOD, Server
from tests.support.tiny_models import script_folder

HOSTILE = "<script>alert(1)</script> [x](http://evil.example) `rm` \x1b]52;c;aGk=\x07 **b** | c\n# Not a heading\u202e"


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def card(self) -> Card:
        return card_document.from_json(json.loads(self.out))


Run = Callable[..., Done]


@pytest.fixture
def card(capsys: pytest.CaptureFixture[str]) -> Run:
    """One `storyteller card` in this process, in a pipe."""

    def run(*words: str) -> Done:
        with pytest.raises(SystemExit) as end:
            main(["card", *words])
        shown = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, shown.out, shown.err)

    return run


@pytest.fixture(scope="module")
def bundled_stories() -> list[str]:
    return [story(number) for number in range(300)]


@pytest.fixture(scope="module")
def reference(bundled_stories: list[str]) -> ReferenceCorpus:
    return ReferenceCorpus.build(bundled_stories)


SMALL = [
    f"Once there was a {kind} named {name}. {name} had a red ball. One day the ball rolled into the {place}. "
    f'"Help!" said {name}. A kind old bird came and pushed the ball back. {name} was very happy.'
    for name in ("Lily", "Tom", "Sara", "Ben")
    for kind in ("girl", "boy", "cat", "dog")
    for place in ("pond", "woods", "well", "barn")
]
"""Stories so short that a model can be made which says one by heart."""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options of a small card: prompts, training stories, real ones."""
    (tmp_path / "prompts.txt").write_text("Once there was a\n")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in SMALL[:48]))
    (tmp_path / "real.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in SMALL[48:]))
    train, held = str(tmp_path / "train.jsonl"), str(tmp_path / "real.jsonl")
    return ["--prompts", str(tmp_path / "prompts.txt"), "--train-data", train, "--data", held, "--completions", "2"]


def says(path: Path, story: str) -> str:
    """A model that says the story by heart, from wherever a prompt leaves off."""
    return str(script_folder(path / "script", story, 384))


def figure(made: Card, key: str) -> Figure:
    found = made.figure(key)
    assert found is not None
    return found


# --- planted ----------------------------------------------------------------------------------------------------------


def test_a_model_that_says_a_training_story_by_heart_is_shown_with_its_source(
    card: Run, files: list[str], tmp_path: Path
) -> None:
    story = SMALL[17]
    done = card(says(tmp_path, story), *files, "--json")
    assert (done.status, done.card.trained_on["stories"], done.card.real["stories"]) == (0, 48, 2)
    assert [told.prompt + told.text for told in done.card.stories] == [story, story]
    assert figure(done.card, "copied_pct").value.value == 100
    assert figure(done.card, "ended_pct").value.value == 100
    (example,) = (each for each in done.card.examples if each.kind == "copied")
    assert example.title == "33 words in a row from training story 18"
    assert example.prompt + example.text == story
    span = story[len("Once there was a ") : -1]
    assert [(example.prompt + example.text)[begin:end] for begin, end in example.marks] == [span]
    assert span in example.source
    assert figure(done.card, "bits_per_byte").value.value > 0
    assert done.card.parameters is not None


def test_a_name_that_changes_half_way_is_caught(bundled_stories: list[str], reference: ReferenceCorpus) -> None:
    whole = (
        "One day Zibby found a kite. Zibby ran up the hill. Then Quorlo fell down. Quorlo cried, and Quorlo went home."
    )
    (found,) = worst_examples.worst_examples([StoryCompletion("", whole, True)], reference, bundled_stories)
    assert (found.kind, found.title) == ("renamed", "Zibby becomes Quorlo")
    assert [whole[begin:end] for begin, end in found.marks] == ["Zibby", "Zibby", "Quorlo", "Quorlo", "Quorlo"]
    kept = StoryCompletion("", whole.replace("Quorlo", "Zibby"), True)
    assert worst_examples.worst_examples([kept], reference, bundled_stories) == ()


def test_real_stories_do_not_loop(bundled_stories: list[str], reference: ReferenceCorpus) -> None:
    told = [StoryCompletion("", story(number), True) for number in range(40_000, 40_040)]
    kinds = [example.kind for example in worst_examples.worst_examples(told, reference, bundled_stories)]
    assert "looped" not in kinds


def test_a_copy_inside_a_story_is_marked_where_it_stands(
    bundled_stories: list[str], reference: ReferenceCorpus
) -> None:
    words = bundled_stories[7].split()
    stolen = " ".join(words[20:50])
    (found,) = (
        each
        for each in worst_examples.worst_examples(
            [StoryCompletion("So it was. ", f"Zog met a blip. {stolen} And blip went zog.", True)],
            reference,
            bundled_stories,
        )
        if each.kind == "copied"
    )
    assert found.title.endswith("from training story 8")
    (mark,) = found.marks
    marked = (found.prompt + found.text)[slice(*mark)]
    assert marked.split()[:5] == stolen.split()[:5]


# --- real stories beside them -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 80), min_size=1, max_size=12), st.integers(1, 15))
@settings(max_examples=30, deadline=None)
def test_real_stories_are_no_longer_than_told_ones_and_end_with_a_sentence(lengths: list[int], n_real: int) -> None:
    told = [StoryCompletion("Once", " word" * length, True) for length in lengths]
    stories = ["He went up the hill and saw a dog. " * 20] * n_real
    found = real_stories.match_lengths(told, stories)
    assert len(found) == min(n_real, len(told))
    for real in found:
        assert real.text.endswith(".")
        assert len(real.text.split()) <= max(20, *lengths)


def test_a_short_real_story_is_left_as_it_is() -> None:
    (found,) = real_stories.match_lengths([StoryCompletion("Once", " word" * 500, True)], [SMALL[0]])
    assert found.prompt + found.text == SMALL[0]
    assert found.ended


# --- the document -----------------------------------------------------------------------------------------------------


def some_card(text: str = HOSTILE) -> Card:
    value, good = Interval(40.0, 30.0, 50.0), Interval(95.0, 90.0, 99.0)
    return Card(
        model=text,
        made_at="2026-01-01T00:00:00Z",
        seconds=1.5,
        parameters=1000,
        telling={
            "prompts": 1,
            "completions": 1,
            "stories": 1,
            "tokens": 9,
            "temperature": 1.0,
            "max_tokens": 9,
            "seed": 0,
        },
        real={"words": text, "stories": 1},
        trained_on={"words": text, "stories": 3, "own": True, "whole": True},
        figures=(
            Figure("known_words_pct", "spelling", text, "%", "higher", value, good),
            Figure("bits_per_byte", "bits per byte", "", "", "lower", value),
        ),
        examples=(Example("copied", text, text, text, ((0, 3), (len(text) - 1, len(text) + 2)), text),),
        stories=(StoryCompletion(text, text, False),),
        judge=card_document.JudgeUsage("host", text, 1, 1, 0, text),
        notes=(text,),
    )


@given(st.text(max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_card_is_read_as_it_was_written(text: str) -> None:
    made = some_card(text + "abc")
    assert card_document.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"schema": "1"},
        {"kind": "run"},
        {"model": 3},
        {"figures": [{}]},
        {"figures": 7},
        {"stories": None},
        {"seconds": float("inf")},
        {"telling": {"stories": "many"}},
        {"real": {"words": 3}},
        {"examples": [{"kind": "a", "title": "", "prompt": "", "text": "", "marks": [[0, 9]], "source": ""}]},
    ],
)
def test_what_is_no_card_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        card_document.from_json({**some_card().to_json(), **changes})


def test_a_card_is_read_and_forgotten_with_the_steps_after_which_a_run_is_resumed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert card_document.read_card(run.card(9)) is None
    run.cards.mkdir()
    for step in (9, 100_000_000, 20):
        run.card(step).write_text(json.dumps(some_card(f"r@{step}").to_json()))
    run.card(200_000_000).write_text("{}")
    assert card_document.read_card(run.card(200_000_000)) is None
    found = card_document.read_card(run.card(100_000_000))
    assert found is not None and found.model == "r@100000000"
    checkpoint_folders.forget_after(run, 20)  # as a resume from step 20 does
    assert sorted(path.name for path in run.cards.iterdir()) == ["step-00000009.json", "step-00000020.json"]


def test_a_verdict_says_which_way_a_figure_differs_from_real_stories() -> None:
    low, high, wide = Interval(1.0, 0.5, 1.5), Interval(3.0, 2.5, 3.5), Interval(2.0, 1.0, 3.0)

    def verdict(better: Any, value: Interval, true: Interval | None) -> str:
        return Figure("k", "t", "", "", better, value, true).verdict

    assert verdict("higher", low, high) == verdict("lower", high, low) == "worse"
    assert verdict("higher", high, low) == verdict("lower", low, high) == "better"
    assert (verdict("like", high, low), verdict("like", low, high)) == ("higher", "lower")
    assert verdict("higher", low, wide) == "alike"
    assert verdict("higher", low, None) == ""


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name == "src" for name, _ in attrs)
        assert all((value or "").startswith("#") for name, value in attrs if name == "href")


def test_a_page_holds_hostile_text_as_text() -> None:
    text = str(card_page.card_page(some_card()))
    tags = _Tags()
    tags.feed(text)
    assert "script" not in tags.tags
    assert "&lt;script&gt;" in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert text.count("<mark>") == 3  # the first mark, and the second's parts in prompt and text


def test_markdown_holds_hostile_text_as_text() -> None:
    lines = card_markdown.markdown(some_card()).splitlines()
    text = "\n".join(lines)
    assert "<script>" not in text.replace("\\<", "") and "\\<script\\>" in text
    assert not set(text) & {"\x1b", "\x07", "\u202e"}
    assert [line for line in lines if line.startswith("#")][1:3] == ["## Measures", "## What went wrong"]
    assert "[x](" not in text.replace("\\[", "").replace("\\]", "")
    rows = [line for line in lines if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}
    assert card_markdown.plain("1. one") == "1\\. one"


# --- where it goes ----------------------------------------------------------------------------------------------------


def test_the_terminal_and_a_folder_get_the_card_and_nobody_is_called(
    card: Run, files: list[str], tmp_path: Path, called: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORYTELLER_JUDGE_KEY", "sk-secret")
    looped = "Once there was a cat. " + "The cat sat on the mat. " * 8
    done = card(says(tmp_path, looped.strip()), *files, "--out", str(tmp_path / "out"))
    assert (done.status, called) == (0, [])
    assert any(line.startswith("METRIC ") for line in done.out.splitlines())
    row = next(line for line in done.out.splitlines() if line.startswith("repetition"))
    assert float(row.removeprefix("repetition").split()[0]) > 75
    assert row.endswith("worse than real")
    assert "of the words are repetition:" in done.out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["card.html", "card.json", "card.md"]
    kept = card_document.read_card(tmp_path / "out" / "card.json")
    assert kept is not None and len(kept.stories) == 2
    assert (tmp_path / "out" / "card.html").read_text().startswith("<!doctype html>")


def test_what_is_no_card_is_never_written_over(card: Run, files: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"kind": "mine"}')
    (tmp_path / "mine.md").write_text("# My notes")
    (tmp_path / "mine.html").write_text("not a page")
    for name in ("mine.json", "mine.md", "mine.html", "card.txt", "nowhere/card.md"):
        before = (tmp_path / name).read_bytes() if (tmp_path / name).exists() else None
        refused = card("starter", *files, "--out", str(tmp_path / name))
        assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
        assert ((tmp_path / name).read_bytes() if before is not None else None) == before


@pytest.mark.parametrize(
    "words",
    [
        ("--completions", "0"),
        ("--judge-model", "wise"),
        ("--judge", "nowhere"),
        ("--judge", "http://127.0.0.1:9/v1"),
        ("--temperature", "-1"),
        ("--prompts", "missing.txt"),
        ("--train-data", "missing.jsonl"),
    ],
)
def test_a_usage_error_is_one_line(card: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    done = card(says(tmp_path, "Once."), *words)
    assert done.status in (1, 2)
    assert (done.out, done.err.count("\n")) == ("", 1)


# --- who hears of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Whom this process connects to, or looks up."""
    found: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> None:
        found.append(address)
        connect(self, address)

    def looking_up(host: Any, *rest: Any, **more: Any) -> Any:
        found.append(host)
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", connecting)
    monkeypatch.setattr(socket, "getaddrinfo", looking_up)
    yield found


def test_a_judge_grades_told_and_real_stories_and_hears_of_nothing_else(
    card: Run, files: list[str], tmp_path: Path, called: list[Any]
) -> None:
    server = Server()
    running = server.start()
    try:
        words = [*files, "--judge", server.address, "--judge-model", "wise", "--judge-stories", "1", "--json"]
        done = card(says(tmp_path, SMALL[0]), *words)
        assert done.status == 0, done.err
        assert {address[0] if isinstance(address, tuple) else address for address in called} == {"127.0.0.1"}
        graded = figure(done.card, "judge_plot")
        assert (graded.value.value, graded.real and graded.real.value) == (GOOD.plot, GOOD.plot)
        assert done.card.judge is not None and (done.card.judge.stories, done.card.judge.real_stories) == (1, 1)
        assert {asked.path for asked in server.asked} == {"/v1/chat/completions"}
        server.answer = lambda _: (401, {}, b"")
        again = card(says(tmp_path / "other", SMALL[1]), *words)
        assert again.status == 1
        assert again.card.judge is not None and "HTTP 401" in again.card.judge.problem
        assert "STORYTELLER_JUDGE_KEY" in again.err
        assert again.card.figure("judge_plot") is None
    finally:
        running.shutdown()
        running.server_close()


# --- what a model was trained on --------------------------------------------------------------------------------------


def test_training_stories_of_files_are_counted_and_a_limit_is_said(files: list[str]) -> None:
    path = files[3]
    every, some = training_stories.from_files([path]), training_stories.from_files([path], limit=10)
    assert (len(every.stories), every.whole, len(some.stories), some.whole) == (48, True, 10, False)
    assert every.description.startswith("all 48 stories of")
    assert some.description.startswith("the first 10 stories of")


def test_a_model_of_unknown_training_is_held_against_the_bundled_tales_which_is_said() -> None:
    said: list[str] = []
    found = training_stories.find_training_stories(None, limit=20, log=said.append)
    assert (len(found.stories), found.own) == (20, False)
    assert "only copies of the bundled stories" in said[0] and "--train-data" in said[0]

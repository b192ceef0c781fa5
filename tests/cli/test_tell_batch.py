"""Many stories at once, where they are written to, and stories told again."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.cli import main
from storyteller.cli.story_output import OutputStream, StoryWriter
from storyteller.cli.tell_batch import BATCH_SIZE
from storyteller.evaluation.prompts import PromptRequest, read_prompts
from storyteller.inference import story_history
from storyteller.inference.loaded_model import LoadedModel
from storyteller.text import safe
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import default_model
from tests.support import tiny_models
from tests.support.ptys import at_terminal, command, environment
from tests.support.training import make_run, sealed_script


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def stories(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Tell = Callable[..., Done]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tell:
    """One `storyteller tell` in this process, in a pipe."""

    def run(*words: str, stdin: bytes = b"", name: str = "tell") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as end:
            main([name, *words])
        shown = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(end.value.code, shown.out, shown.err)

    return run


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model of random weights that never ends by itself."""
    return str(tiny_models.random_folder(tmp_path / "model", eos_token_id=None, bos_token_id=None))


def script(tmp_path: Path, text: bytes | str, context: int = 64) -> str:
    return str(tiny_models.script_folder(tmp_path / "script", text, context))


def test_numbers_is_a_hidden_alias_of_compute_type(tell: Tell, model: str) -> None:
    words = ("Once", "--model", model, "--max-tokens", "30", "--seed", "6", "--json")
    stories = [
        tell(*words, *option).stories[0]["story"] for option in ((), ("--numbers", "int8"), ("--compute-type", "int8"))
    ]
    assert stories[0] != stories[1] == stories[2]
    assert [record.compute_type for record in story_history.recent(3)] == ["int8", "int8", "fp32"]
    kept = json.loads(story_history.stories_path().read_text().splitlines()[-1])
    assert kept["numbers"] == "int8"
    shown = tell("--help").out
    assert "--compute-type" in shown
    assert "--numbers" not in shown


# --- several from one prompt ------------------------------------------------------------------------------------------


def test_several_stories_of_a_prompt_are_numbered_and_the_seed_tells_them_all_again(tell: Tell, model: str) -> None:
    words = ("Once", "--model", model, "--max-tokens", "20", "--seed", "6", "--count", "3")
    done, again = tell(*words), tell(*words, "--json").stories
    assert done.out == "1.\n{}\n\n2.\n{}\n\n3.\n{}\n".format(*(safe(story["text"]) for story in again))
    assert len({story["text"] for story in again}) == 3
    assert [(story["seed"], story["row"], story["rows"]) for story in again] == [(6, 0, 3), (6, 1, 3), (6, 2, 3)]
    assert (done.status, done.err) == (0, "")


def test_more_stories_than_a_batch_holds_go_on_with_the_next_seed(tell: Tell, model: str) -> None:
    done = tell(
        "Once", "--model", model, "--max-tokens", "2", "--seed", "4294967295", "--count", str(BATCH_SIZE + 2), "--json"
    )
    places = [(story["seed"], story["row"], story["rows"]) for story in done.stories]
    assert places == [(4294967295, row, BATCH_SIZE) for row in range(BATCH_SIZE)] + [(0, 0, 2), (0, 1, 2)]


# --- prompts from a file ----------------------------------------------------------------------------------------------


def test_prompts_of_a_file_are_told_from_in_their_order(tell: Tell, tmp_path: Path) -> None:
    Path("prompts.txt").write_bytes(b"\xef\xbb\xbfOnce\r\n\n  \nOnce there\nOnce")
    done = tell("--file", "prompts.txt", "--model", script(tmp_path, "Once there was."), "--json", "--seed", "3")
    assert [(s["line"], s["prompt"], s["text"]) for s in done.stories] == [
        (1, "Once", "Once there was."),
        (4, "Once there", "Once there was."),
        (5, "Once", "Once there was."),
    ]


def test_prompts_come_as_json_lines_too_and_each_may_be_told_from_several_times(tell: Tell, tmp_path: Path) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "Once\\n", "id": 4}\n\n{"prompt": "Two"}\n')
    done = tell("--file", "prompts.jsonl", "--model", script(tmp_path, "......"), "--count", "2")
    assert done.out == "1.\nOnce\n.\n\n2.\nOnce\n.\n\n3.\nTwo...\n\n4.\nTwo...\n"


@pytest.mark.parametrize("text", [b"Once\nTwo", b'\n{"prompt": "Once"}\n{"prompt": "Two"}\n'])
def test_standard_input_is_read_as_what_its_first_line_is(tell: Tell, tmp_path: Path, text: bytes) -> None:
    done = tell("--file", "-", "--model", script(tmp_path, "....."), "--json", stdin=text)
    assert [story["text"] for story in done.stories] == ["Once.", "Two.."]


def test_a_prompt_that_the_model_cannot_take_costs_that_one_alone(tell: Tell, tmp_path: Path) -> None:
    Path("prompts.txt").write_text("Once\n" + "x" * 5000 + "\nTwo\n")
    model = str(tiny_models.script_folder(tmp_path / "script", ".....", 64))
    done = tell("--file", "prompts.txt", "--model", model, "--json")
    told = [story["prompt"] for story in done.stories]
    assert (done.status, told) == (1, ["Once", "Two"])
    first, second = done.err.splitlines()
    assert first.startswith("storyteller: line 2: the prompt is 5,000 tokens long")
    assert second == "storyteller: 1 of 3 prompts were refused"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("none.txt", None, "none.txt cannot be read: no such file or directory"),
        ("blank.txt", b"\n \n", "no prompts in blank.txt"),
        ("bad.jsonl", b'{"prompt": "Once"}\n{"prompt": 4}\n', 'line 2 of bad.jsonl is not {"prompt": "..."}'),
        ("bad.jsonl", b"[" * 100_000, 'line 1 of bad.jsonl is not {"prompt": "..."}'),
        ("long.txt", b"x" * 1_000_001, "line 1 of long.txt has more than 1,000,000 characters"),
        (".", None, ". cannot be read: is a directory"),
    ],
)
def test_a_file_of_no_prompts_is_one_line(
    tell: Tell, tmp_path: Path, name: str, text: bytes | None, expected: str
) -> None:
    if text is not None:
        Path(name).write_bytes(text)
    done = tell("--file", name, "--model", script(tmp_path, "."))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"storyteller: {expected}")
    assert done.err.count("\n") == 1


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n\r\ufeff", codec="utf-8"), max_size=30), min_size=1))
def test_every_line_that_is_not_blank_is_a_prompt(lines: list[str]) -> None:
    path = Path("prompts.txt")
    path.write_text("\n".join([*lines, "the end"]) + "\n", encoding="utf-8", newline="\n")
    asked, total = read_prompts(str(path))
    wanted = [PromptRequest(line, number) for number, line in enumerate([*lines, "the end"], 1) if line.strip()]
    assert (list(asked), total) == (wanted, len(wanted))


# --- where stories go -------------------------------------------------------------------------------------------------


def test_stories_go_to_a_file_whose_name_says_how(tell: Tell, tmp_path: Path) -> None:
    model = script(tmp_path, "Once there was.")
    Path("story.txt").write_text("what was there before, and longer than what comes")
    assert tell("Once", "--model", model, "--out", "story.txt")[:2] == (0, "")
    assert Path("story.txt").read_text() == "Once there was.\n"
    assert tell("Once", "--model", model, "--out", "story.jsonl")[:2] == (0, "")
    assert json.loads(Path("story.jsonl").read_text())["text"] == "Once there was."


def test_the_file_of_prompts_is_not_written_over(tell: Tell, tmp_path: Path) -> None:
    Path("prompts.txt").write_text("Once\n")
    done = tell("--file", "prompts.txt", "--out", "./prompts.txt", "--model", script(tmp_path, "."))
    assert (done.status, Path("prompts.txt").read_text()) == (2, "Once\n")
    assert done.err == "storyteller: --out is the file of prompts: write the stories to another file\n"


def test_what_cannot_be_written_is_one_line(tell: Tell, tmp_path: Path) -> None:
    model = script(tmp_path, "Once.")
    done = tell("Once", "--model", model, "--out", "nowhere/story.txt")
    assert done == (
        1,
        "",
        "storyteller: nowhere/story.txt cannot be written: no such file or directory: check the path\n",
    )
    if Path("/dev/full").exists():
        done = tell("Once", "--model", model, "--out", "/dev/full")
        line = "storyteller: /dev/full cannot be written: no space is left: free some, try again\n"
        assert done == (1, "", line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux alone")
def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        words = command("tell", "Once", "--model", script(tmp_path, "Once."), "--count", "2")
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=environment())
    line = "storyteller: standard output cannot be written: no space is left: free some, try again\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize("more", [(), ("--json", "--count", "70")])
def test_a_reader_that_goes_away_is_not_worth_a_word(model: str, more: tuple[str, ...]) -> None:
    words = ("tell", "Once", "--model", model, "--max-tokens", "10000" if not more else "5", *more)
    with subprocess.Popen(
        command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [("stories", "--json"), ("ps", "--json"), ("tell", "--help")])
def test_no_command_minds_a_reader_that_has_gone(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(*words), stdout=writer, stderr=subprocess.PIPE, env=environment())
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_in_a_batch_leaves_what_was_written(model: str) -> None:
    count = str(BATCH_SIZE + 1)
    words = ("--model", model, "--max-tokens", "20000", "--count", count, "--no-keep", "--out", "stories.txt")
    with at_terminal("tell", "Once", *words, columns=80) as shown:
        shown.until(f"0 of {BATCH_SIZE + 1} stories")
        began = time.monotonic()
        shown.say("\x03")
        assert shown.finish() == 130
        assert time.monotonic() - began < 5
    assert shown.shown.endswith(f"\rstoryteller: stopped after 0 stories of {BATCH_SIZE + 1}\r\n".encode())


def test_a_terminal_sees_how_far_it_is_and_nothing_of_it_stays(tmp_path: Path) -> None:
    Path("prompts.txt").write_text("Once\n" * (BATCH_SIZE + 1))
    words = ("tell", "--file", "prompts.txt", "--model", script(tmp_path, "Once."), "--out", "stories.txt")
    with at_terminal(*words, columns=80) as shown:
        shown.until(f"0 of {BATCH_SIZE + 1} stories")
        shown.until(f"{BATCH_SIZE} of {BATCH_SIZE + 1} stories")
        assert shown.finish() == 0
    assert shown.seen.endswith(b" \r")
    assert b"\x1b" not in shown.seen
    assert Path("stories.txt").read_text().count("Once.\n") == BATCH_SIZE + 1


# --- kept, listed, told again -----------------------------------------------------------------------------------------


def test_every_story_is_kept_but_for_those_that_are_not_to_be(tell: Tell, tmp_path: Path) -> None:
    model = script(tmp_path, "Once there was.")
    tell("Once", "--model", model, "--seed", "3", "--temperature", "0.5", "--top-k", "9")
    tell("Once", "--model", model, "--no-keep")
    Path("prompts.txt").write_text("Once t\nOnce th\n")
    shown = tell("--file", "prompts.txt", "--model", model, "--json").stories
    second, first, alone = story_history.recent(10)
    assert (alone.model, alone.whole, alone.seed, alone.tokens) == (model, "Once there was.", 3, 11)
    assert (alone.sample.temperature, alone.sample.top_k, alone.finished, alone.rows) == (0.5, 9, True, 1)
    assert [first.id, second.id] == [story["id"] for story in shown]
    assert (first.row, second.row, first.batch == second.batch) == (0, 1, True)


def test_a_telling_outlives_a_shelf_that_cannot_be_written(tell: Tell, tmp_path: Path) -> None:
    story_history.stories_path().mkdir(parents=True)
    done = tell("Once", "--model", script(tmp_path, "Once."), "--count", "2")
    assert (done.status, done.out) == (0, "1.\nOnce.\n\n2.\nOnce.\n")
    assert done.err.startswith("storyteller: the story is not kept: is a directory")
    assert done.err.count("\n") == 1


def test_stories_are_listed_and_searched(tell: Tell, tmp_path: Path) -> None:
    assert "no story is kept yet" in tell(name="stories").err
    model = script(tmp_path, "Once there was.\x1b[31m")
    tell("Once", "--model", model, "--seed", "3")
    tell("A dragon ", "--model", model, "--seed", "4")
    (kept, _) = story_history.recent(2)
    head, *lines = tell(name="stories").out.splitlines()
    assert head.split() == ["ID", "TOLD", "MODEL", "STORY"]
    assert [line.split("  ")[-1] for line in lines] == ["A dragon e was.\u241b[31m", "Once there was.\u241b[31m"]
    assert len(tell("dragon", name="stories").out.splitlines()) == 2
    assert json.loads(tell("--json", "--limit", "1", name="stories").out) == json.loads(json.dumps([kept.to_json()]))
    assert "A dragon e was.\u241b[31m\n" in tell("--full", kept.id, name="stories").out
    assert tell("--limit", "0", name="stories").status == 2


def test_a_kept_story_is_told_again_with_all_that_told_it(tell: Tell, model: str) -> None:
    words = ("Once", "--model", model, "--max-tokens", "25", "--seed", "9", "--temperature", "1.3", "--top-k", "50")
    first = tell(*words, "--json").stories[0]
    tell("Once", "--model", model, "--max-tokens", "5")
    again = tell("--again", first["id"][:6], "--json").stories[0]
    assert (again["text"], again["seed"]) == (first["text"], 9)
    other = tell("--again", first["id"], "--seed", "10", "--json").stories[0]
    assert other["text"] != first["text"]
    assert other["tokens"] == 25


def test_a_story_of_a_batch_is_told_again_as_it_was(tell: Tell, model: str) -> None:
    stories = tell("Once", "--model", model, "--max-tokens", "25", "--count", "3", "--json").stories
    again = tell("--again", stories[1]["id"])
    assert (again.out, again.err) == (safe(stories[1]["text"]) + "\n", "")


def test_a_story_that_is_told_differently_or_whose_model_is_gone_says_so(
    tell: Tell, model: str, tmp_path: Path
) -> None:
    story = tell("Once", "--model", model, "--max-tokens", "25", "--json").stories[0]
    tiny_models.write_folder(
        Path(model), tiny_models.random_weights(seed=1), tiny_models.config(32, 2, 4, 64, eos_token_id=None)
    )
    done = tell("--again", story["id"])
    assert done.status == 0
    assert done.err.startswith(f"storyteller: {story['id']} was different when it was kept")
    Path(model).rename(tmp_path / "elsewhere")
    done = tell("--again", story["id"])
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"storyteller: the model of {story['id']} cannot be opened: there is no folder")
    assert f"storyteller tell --again {story['id']} --model NAME" in done.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("Once", "--again", "latest"), "--again cannot be combined with a prompt"),
        (("--again", "latest", "--file", "x"), "--again cannot be combined with --file"),
        (("Once", "--file", "x"), "--file cannot be combined with a prompt"),
        (("--again", "latest", "--count", "2"), "--again cannot be combined with --count"),
        (("Once", "--min-p", "1"), "invalid value 1.0 for --min-p"),
        (("Once", "--beams", "0"), "invalid value 0 for --beams"),
        (("Once", "--no-repeat-ngram", "-1"), "invalid value -1 for --no-repeat-ngram"),
        (("Once", "--compute-type", "fp8"), "fp8"),
        (("Once", "--numbers", "fp8"), "fp8"),
    ],
)
def test_words_that_do_not_go_together_are_one_line(tell: Tell, words: tuple[str, ...], expected: str) -> None:
    done = tell(*words)
    assert (done.status, done.out) == (2, "")
    assert expected in done.err
    assert done.err.count("\n") == 1


# --- which model ------------------------------------------------------------------------------------------------------


def test_the_model_is_the_newest_run_with_a_checkpoint_else_the_starter() -> None:
    root = Path("runs").resolve()
    assert default_model(root) == "starter"
    make_run(root, "old")
    assert default_model(root) == "starter"
    for name, created in (
        ("fox", "2026-01-02T00:00:00Z"),
        ("cat", "2026-01-03T00:00:00Z"),
        ("owl", "2026-01-04T00:00:00Z"),
    ):
        folder = make_run(root, name)
        run = json.loads(folder.run_json.read_text())
        folder.run_json.write_text(json.dumps(run | {"created_at": created}))
        if name != "owl":
            sealed_script(folder, 7)
    assert default_model(root) == "cat"


def test_a_run_s_newer_checkpoint_is_seen_once() -> None:
    folder: RunFolder = make_run(Path("runs").resolve(), "fox")
    sealed_script(folder, 7)
    with LoadedModel("fox@7") as loaded:
        assert (loaded.engine.label, loaded.follows_newest, loaded.newer_checkpoint()) == ("fox@7", False, None)
        sealed_script(folder, 9)
        assert (loaded.newer_checkpoint(), loaded.newer_checkpoint()) == ("fox@9", None)
        assert loaded.record_fields() == {"model": "fox@7", "runs_dir": str(folder.path.parent), "compute_type": "fp32"}


def test_a_stream_whose_reader_has_gone_drops_what_is_left() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = OutputStream(os.fdopen(writer, "w"))
    with pytest.raises(BrokenPipeError):
        StoryWriter(stream, as_json=True).put({"text": "x"})
    stream.stream.close()

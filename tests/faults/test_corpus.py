"""Faulty corpora through the whole of `train`: what is broken is named, counted and left out, and memory is bounded."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from storyteller.tracking.run_status import read_status
from tests.cli.test_train import TINY, run_of, storyteller
from tests.support.training import losses, trained_run

STORY = "A cat sat on the mat with number {} and was very happy about it all."
MIB = 1 << 20


def test_a_run_over_broken_lines_trains_and_names_and_counts_them() -> None:
    lines = [json.dumps({"text": STORY.format(n)}).encode() for n in range(200)]
    lines[10] = b'{"text": "no end'
    lines[20] = b'{"nothing": 1}'
    lines[30] = b"\x00\x00\x00"
    lines[40] = b"[" * 5000
    lines[50] = json.dumps({"text": "Too short."}).encode()
    lines[60] = b'{"text": "A caf\xff\xfe stood by the sea, and the cat went there every day."}'
    lines[70] = b'{"text": "' + b"x" * (MIB + 1) + b'"}'
    Path("some.jsonl").write_bytes(b"\n".join(lines))
    words = ["--foreground", "--name", "broken", "--steps", "4", "--data", "some.jsonl", *TINY[2:]]
    done = storyteller("train", *words, "--set", "batching=pad")
    assert done.returncode == 0, done.stderr
    log = run_of("broken").log.read_text(encoding="utf-8")
    for line in (11, 21, 31):  # the first three of a file are named
        assert log.count(f"some.jsonl, line {line}: left out (broken: ") == 1, log
    assert "\x00" not in log
    assert max(losses(run_of("broken"))) == 4
    counted = log.rpartition("stories read: ")[2]
    assert re.search(r", [1-9]\d* too short, [1-9]\d* broken, [1-9]\d* over 1 MiB\n", counted), counted


@pytest.mark.slow
def test_a_folder_of_good_and_empty_files_trains_on_the_good_ones() -> None:
    folder = Path("mixed")
    (folder / "deep").mkdir(parents=True)
    (folder / "good.txt").write_text("\n\n".join(STORY.format(n) for n in range(60)))
    (folder / "deep" / "good.jsonl").write_text("".join(json.dumps(STORY.format(n)) + "\n" for n in range(60, 120)))
    (folder / "empty.jsonl").touch()
    (folder / "blank.txt").write_text("\n\n  \n")
    (folder / "notes.md").write_text("not a story")
    words = ["--foreground", "--name", "mixed", "--steps", "3", "--data", "mixed", *TINY[2:]]
    done = storyteller("train", *words)
    assert done.returncode == 0, done.stderr
    log = run_of("mixed").log.read_text(encoding="utf-8")
    assert "empty.jsonl: empty" in log and "blank.txt: empty" in log
    assert run_of("mixed").read_run()["data"]["files"] == 2
    assert max(losses(run_of("mixed"))) == 3


@pytest.mark.slow
def test_a_binary_file_among_good_ones_is_refused_by_name() -> None:
    Path("mixed").mkdir()
    Path("mixed/good.txt").write_text("\n\n".join(STORY.format(n) for n in range(60)))
    Path("mixed/picture.txt").write_bytes(b"\x89PNG" + bytes(range(256)) * 20)
    done = storyteller("train", "--foreground", "--steps", "3", "--data", "mixed", *TINY[2:])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "picture.txt is a binary file (a picture), whatever its name says" in last
    assert not list(Path("runs").iterdir())


@pytest.mark.slow
def test_a_file_that_vanishes_while_it_is_read_saves_the_state_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storyteller.data.local_files import Files
    from storyteller.tracking import checkpoint_folders
    from storyteller.training import worker
    from tests.support.training import make_run

    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps({"text": STORY.format(n)}) + "\n" for n in range(400)), encoding="utf-8")
    options = {"data_source": (str(path),), "data_shuffle_stories": 10, "train_steps": 40}
    whole = trained_run(tmp_path / "runs", "whole", **options)
    cut = make_run(tmp_path / "runs", "cut", **options)
    real = Files._read_pieces

    def breaks(self: Files, file: object, cursor: object) -> object:
        for index, piece in enumerate(real(self, file, cursor)):  # type: ignore[arg-type]
            if index == 200 and cut.held_out.exists() and (cut.tokenizer / "tokenizer_config.json").exists():
                raise OSError(5, "Input/output error")
            yield piece

    with monkeypatch.context() as patch:
        patch.setattr(Files, "_read_pieces", breaks)
        assert worker.run(cut) == 1
    status = read_status(cut)
    assert status is not None
    assert status.message == f"{path} cannot be read (Input/output error): look at its permissions"
    assert checkpoint_folders.steps(cut) == [max(losses(cut))] and max(losses(cut)) < 40
    assert worker.run(cut) == 0
    assert losses(cut) == losses(whole)


def peak_mib(words: list[str]) -> float:
    """Most memory that training took, in MiB."""
    out = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, out, 1)]
    arguments = [sys.executable, "-m", "storyteller", "train", "--foreground", *words]
    pid = os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions)
    os.close(out)
    _, status, used = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return used.ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_a_line_of_100_mb_takes_no_memory_worth_a_word(kind: str) -> None:
    as_line = (lambda text: json.dumps({"text": text}) + "\n") if kind == "jsonl" else (lambda text: text + "\n\n")
    stories = [as_line(STORY.format(n)) for n in range(300)]
    Path(f"plain.{kind}").write_text("".join(stories))
    with Path(f"large.{kind}").open("w") as file:
        file.writelines(stories[:150])
        file.write(as_line("x" * 100_000_000))
        file.writelines(stories[150:])
    words = ["--steps", "60", *TINY[2:]]
    without = peak_mib(["--name", "plain", "--data", f"plain.{kind}", *words])
    with_it = peak_mib(["--name", "large", "--data", f"large.{kind}", *words])
    assert with_it < without + 40, f"{without:.0f} MiB without, {with_it:.0f} with"
    log = run_of("large").log.read_text(encoding="utf-8")
    assert re.search(r", [1-9]\d* over 1 MiB\n", log)
    assert f"large.{kind}, line " in log
    assert losses(run_of("large")) == losses(run_of("plain"))

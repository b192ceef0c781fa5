"""`train`, `resume`, `ps`, `logs`, `stop` as their user meets them: real processes, signals and exit statuses."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status, seen_state
from tests.support.records import read_records
from tests.support.training import losses, trained_run

TINY = shlex.split(
    "--data bundled --vocab-size 400 --layers 1 --width 32 --heads 2 --context 64 --batch-size 4 --precision fp32 "
    "--set tokenizer_mib=1 --set eval_stories=4 --set log_every=1 --set threads=1 --set shuffle_stories=200"
)


def storyteller(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    how = {"capture_output": True, "text": True, "timeout": 120} | how
    return subprocess.run([sys.executable, "-m", "storyteller", *words], check=False, **how)


def run_of(name: str) -> RunFolder:
    return RunFolder(Path("runs").resolve() / name)


def wait_for_step(folder: RunFolder, step: int, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if max([record["step"] for record in read_records(folder.metrics)[0]], default=-1) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"no step {step} after {seconds} s: {folder.log.read_text(encoding='utf-8')}")


@pytest.fixture(autouse=True)
def _no_process_left_behind() -> Iterator[None]:
    yield
    here = str(Path.cwd())
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "storyteller.training.worker" in words and any(word.startswith(here) for word in words):
            process.kill()


def test_train_starts_a_process_of_its_own_follows_it_and_tells_how_it_ended() -> None:
    done = storyteller("train", "--name", "first", "--steps", "5", *TINY)
    assert done.returncode == 0, done.stderr
    assert "first has finished: 5 steps, 1,280 tokens" in done.stdout
    assert "step 5: " in done.stdout and "bits per byte held out" in done.stdout
    assert "a story at step 5: Once upon a time" in done.stdout
    folder = run_of("first")
    status = read_status(folder)
    assert status is not None and (status.state, status.step, status.exit_code) == ("finished", 5, 0)
    assert status.pid != os.getpid()
    shown = json.loads(storyteller("ps", "--json").stdout)
    assert [(run["name"], run["state"], run["step"], run["progress"]) for run in shown] == [
        ("first", "finished", 5, 1.0)
    ]
    assert "first  finished     5  100 %" in storyteller("ps").stdout
    assert "finished at step 5" in storyteller("logs", "first").stdout


@pytest.mark.slow
def test_a_run_stopped_and_resumed_has_the_losses_of_one_that_was_not() -> None:
    slow = [*TINY, "--context", "256", "--batch-size", "8"]  # steps long enough to be stopped between
    whole = storyteller("train", "--foreground", "--name", "whole", "--steps", "60", *slow)
    assert whole.returncode == 0, whole.stderr
    assert storyteller("train", "--detach", "--name", "cut", "--steps", "60", *slow).returncode == 0
    cut = run_of("cut")
    wait_for_step(cut, 3)
    stopped = storyteller("stop", "cut")
    assert (stopped.returncode, stopped.stdout.splitlines()[0]) == (0, "cut was stopped"), stopped.stderr
    reached = max(losses(cut))
    assert 3 <= reached < 60
    again = storyteller("resume", "cut")
    assert again.returncode == 0, again.stderr
    assert f"resuming from step {reached}" in again.stdout
    assert losses(cut) == losses(run_of("whole"))


@pytest.mark.slow
def test_ctrl_c_leaves_training_alone_and_says_how_to_come_back() -> None:
    words = [sys.executable, "-m", "storyteller", "train", "--name", "alone", "--steps", "100000", *TINY]
    following = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = run_of("alone")
    wait_for_step(folder, 2)
    following.send_signal(signal.SIGINT)
    _, said = following.communicate(timeout=20)
    assert following.returncode == 0
    assert "detached; alone goes on training" in said
    assert "storyteller train --attach alone" in said
    assert seen_state(folder) == "running"
    step = read_records(folder.metrics)[0][-1]["step"]
    wait_for_step(folder, step + 3)
    second = storyteller("train", "--name", "alone", *TINY)
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert "a run named alone exists" in second.stderr
    busy = storyteller("resume", "alone")
    assert busy.returncode == 1 and "alone is running" in busy.stderr
    assert storyteller("stop", "alone", "--now").returncode == 0
    assert seen_state(folder) == "died"


@pytest.mark.slow
def test_a_signal_lets_the_step_finish_and_saves(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "storyteller", "train", "--foreground", "--name", "fg", "--steps", "100000", *TINY]
    with (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out)
        folder = run_of("fg")
        wait_for_step(folder, 2)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert time.monotonic() - begin < 20
    status = read_status(folder)
    assert status is not None and status.state == "stopped"
    assert (folder.checkpoint(status.step) / "manifest.json").is_file()
    assert max(losses(folder)) == status.step


@pytest.mark.slow
def test_a_finished_run_wants_a_larger_budget_and_then_goes_on() -> None:
    trained_run(Path("runs").resolve(), "more", train_steps=3)
    refused = storyteller("resume", "more")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "more has finished: give it a larger budget" in refused.stderr
    assert storyteller("resume", "more", "--steps", "5", "--foreground").returncode == 0
    folder = run_of("more")
    assert max(losses(folder)) == 5
    assert folder.read_run()["earlier_budgets"] == [{"minutes": None, "steps": 3, "epochs": None, "tokens": None}]


BAD = [
    (["--data", "nowhere.jsonl"], 1, "--data nowhere.jsonl does not exist: check the path"),
    (["--data", "empty.txt"], 1, "empty.txt is empty"),
    (["--data", "short.txt"], 1, "no story survives cleaning"),
    (["--data", "binary.txt"], 1, "binary.txt"),
    (["--data", "few.txt", "--context", "4096", "--valid", "few2.txt"], 1, "less than one context of 4,096"),
    (["--preset", "fast"], 2, "there is no preset fast: take one of quick, classic"),
    (["--width", "30", "--heads", "4"], 2, "--width 30 cannot be shared evenly by --heads 4"),
    (["--lr", "-1"], 2, "invalid value -1.0 for --lr"),
    (["--steps", "none"], 2, "Invalid value for '--steps'"),
    (["--clean", "harsh"], 2, "invalid value harsh for --clean: expected light or classic"),
    (["--set", "nothing=1"], 2, "there is no setting nothing"),
    (["--name", "../up"], 2, "../up"),
    (["--name", "a/b"], 2, "a/b"),
    (["--name", "x\x1b[31m"], 2, "x\u241b[31m"),
    (["--name", "latest"], 2, "latest"),
    (["--tokenizer", "nowhere"], 2, "invalid value nowhere for --tokenizer: expected bpe, gpt2, or a folder"),
    (["--minutes", "1", "--steps", "1"], 2, "--minutes and --steps are two budgets"),
    (["--device", "cuda"], 2, "--device cuda: torch finds no such device"),
    (["--detach", "--foreground"], 2, "--detach and --foreground cannot go together"),
    (["--bogus"], 2, "No such option: --bogus: see storyteller train --help"),
]


@pytest.mark.parametrize(("words", "status", "line"), BAD, ids=[" ".join(bad[0]).replace("\x1b", "ESC") for bad in BAD])
def test_bad_input_ends_in_one_line_and_leaves_nothing(words: list[str], status: int, line: str) -> None:
    Path("empty.txt").touch()
    Path("short.txt").write_text("Tiny.\n\nSmall.\n\nWee.")
    Path("binary.txt").write_bytes(bytes(range(256)) * 20)
    story = "A cat sat on the mat with number {} and was very happy about it all."
    Path("few.txt").write_text("\n\n".join(story.format(n) for n in range(20)))
    Path("few2.txt").write_text("\n\n".join(story.format(n) for n in range(30, 32)))
    given = [*TINY, *words] if "--data" not in words else [*TINY[2:], *words]
    if "--steps" in words or "--device" in words:
        given = ["--data", "few.txt", *words]
    done = storyteller("train", *given)
    last = done.stderr.strip().splitlines()[-1]
    assert line in last, done.stderr
    assert last.startswith("storyteller: ")
    assert done.returncode == status
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
    assert not Path("runs").exists() or list(Path("runs").iterdir()) == []


def test_debug_shows_the_traceback() -> None:
    done = storyteller("train", "--debug", "--preset", "fast")
    assert "Traceback" in done.stderr and "there is no preset fast" in done.stderr


@pytest.mark.parametrize(
    "words", [["logs", "none"], ["stop", "none"], ["resume", "none"], ["train", "--attach", "none"]]
)
def test_an_unknown_run_is_named(words: list[str]) -> None:
    done = storyteller(*words)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "there is no run none" in done.stderr


def test_an_unknown_step_is_named_with_those_there_are() -> None:
    trained_run(Path("runs").resolve(), "steps", train_steps=2)
    done = storyteller("resume", "steps", "--from", "7")
    assert done.returncode == 1
    assert "steps has no step 7: it has 2" in done.stderr


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used() -> None:
    folder = trained_run(Path("runs").resolve(), "hurt", train_steps=4, train_checkpoint_every="2")
    told = losses(folder)
    weights = folder.checkpoint(4) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10] + bytes(10))
    (folder.checkpoint(4) / "training_state" / "state.json").unlink()
    done = storyteller("resume", "hurt", "--steps", "4", "--foreground")
    assert done.returncode == 0, done.stderr
    assert "checkpoint hurt@4 is damaged" in done.stdout and "going on from an earlier checkpoint" in done.stdout
    assert losses(folder) == told


@pytest.mark.slow
def test_a_changed_corpus_is_not_gone_on_with() -> None:
    story = "A cat sat on the mat with number {} and was very happy about it all."
    Path("few.txt").write_text("\n\n".join(story.format(n) for n in range(90)))
    trained_run(Path("runs").resolve(), "moved", train_steps=3, data_source=(str(Path("few.txt").resolve()),))
    Path("few.txt").write_text("\n\n".join(story.format(n) for n in range(91)))
    done = storyteller("resume", "moved", "--steps", "6")
    assert done.returncode == 1
    assert "the stories are not those that moved was begun with" in done.stderr
    assert max(losses(run_of("moved"))) == 3

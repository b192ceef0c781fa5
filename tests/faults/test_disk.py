"""A disk that fills up and has space again: nothing torn, the old checkpoints whole, and training goes on."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from storyteller.tracking import run_folder
from storyteller.tracking.metrics_log import JsonLog, RetryingLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import overwrite_status, own_status, read_status, seen_state, write_status
from storyteller.training import worker as body
from storyteller.training.status_reporter import StatusReporter
from storyteller.training.train_state import TrainState
from tests.support.living import last_step, saved, state, until, worker
from tests.support.records import read_records
from tests.support.training import losses, make_run, trained_run

DISK_FULL = "the disk is full: free some space, or nothing more of this run is saved"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB: twenty times a checkpoint of these tests."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", path], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here ({mounted.stderr.decode().strip()})")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path) -> Path:
    """Take all that is left of the disk, to the last byte; the file that does."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


def keep_full(disk: Path, until_true: object, seconds: float = 60) -> None:
    """Take whatever comes free, until something is so."""
    assert callable(until_true)
    deadline = time.monotonic() + seconds
    while not until_true():
        assert time.monotonic() < deadline
        fill(disk)
        time.sleep(0.02)


def message(folder: RunFolder) -> str:
    status = read_status(folder)
    return status.message if status is not None else "no status"


@pytest.mark.slow
def test_training_goes_on_over_a_full_disk_and_saves_again_when_there_is_space(disk: Path) -> None:
    folder = make_run(disk / "runs", "fox", train_steps=100_000, train_checkpoint_every="25", train_keep=2)
    with worker(folder) as process:
        until(lambda: len(saved(folder)) == 2)
        keep_full(disk, lambda: message(folder) == DISK_FULL)
        before, reached = saved(folder), last_step(folder)
        assert seen_state(folder) == "running" and len(before) >= 1
        keep_full(disk, lambda: state(folder)[1] > reached + 60)  # two periods and more go by unsaved
        assert saved(folder) == before
        assert message(folder) == DISK_FULL
        assert folder.metrics.read_bytes().endswith(b"\n") and process.poll() is None
        assert [json.loads(line)["step"] for line in folder.metrics.read_bytes().splitlines()][-1] < state(folder)[1]
        (disk / "filler").unlink()
        until(lambda: message(folder) == "" and saved(folder)[-1] > before[-1])
        process.terminate()
        assert process.wait(timeout=20) == 0
    what, step = state(folder)
    assert what == "stopped" and saved(folder)[-1] == step
    trained = [record["step"] for record in read_records(folder.metrics)[0] if "train/loss" in record]
    assert trained == list(range(1, step + 1))  # none lost, none twice, in order
    log = folder.log.read_text()
    assert log.count("the disk is full") == log.count("metrics and checkpoints are written again") == 1
    assert "Traceback" not in log and all(line.strip("\0") for line in log.splitlines())


@pytest.mark.slow
def test_a_run_that_ends_on_a_full_disk_fails_clearly_and_resumes_to_the_same_end(disk: Path, tmp_path: Path) -> None:
    options = {"train_steps": 30, "train_accumulate": 8}
    folder = make_run(disk / "runs", "fox", train_checkpoint_every="10", **options)
    with worker(folder) as process:
        until(lambda: saved(folder) == [10])
        keep_full(disk, lambda: process.poll() is not None)
        assert process.returncode == 1
    remedy = "free some space, then storyteller resume fox"
    assert (seen_state(folder), message(folder)) == ("failed", f"the disk is full: {remedy}")
    assert saved(folder) == [10]
    (disk / "filler").unlink()
    with worker(folder) as process:
        assert process.wait(timeout=90) == 0, folder.log.read_text()
    assert losses(folder) == losses(trained_run(tmp_path, "whole", **options))


def test_no_checkpoint_is_made_whose_steps_the_log_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, "fox", train_checkpoint_every="1", train_keep=9)
    real = JsonLog.append

    def full_from_step_3(log: JsonLog, record: Mapping[str, object]) -> None:
        if record.get("step") == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(log, record)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLog, "append", full_from_step_3)
        assert body.run(folder) == 1
    assert saved(folder) == [1, 2] and last_step(folder) == 2
    assert state(folder) == ("failed", 6)
    assert body.run(folder) == 0  # goes on from 2, or the steps after it would never be logged
    assert list(losses(folder)) == [1, 2, 3, 4, 5, 6]


def test_lines_that_the_disk_does_not_take_wait_and_are_written_in_order(disk: Path) -> None:
    path = disk / "metrics.jsonl"
    with RetryingLog(path) as log:
        for step in range(3):
            log.append({"step": step})
        fill(disk)
        step = 3
        while log.fault is None:  # what is left of the file's last block
            log.append({"step": step, "pad": "x" * 100})
            step += 1
        assert log.fault.errno == errno.ENOSPC
        log.append({"step": step})
        assert path.read_bytes().endswith(b"\n")
        assert [record["step"] for record in read_records(path)[0]] == list(range(step - 1))
        with pytest.raises(OSError, match="No space left"):
            log.flush()
        (disk / "filler").unlink()
        log.append({"step": step + 1})
        assert log.fault is None
    assert [record["step"] for record in read_records(path)[0]] == list(range(step + 2))


def test_of_too_many_lines_the_oldest_are_lost(disk: Path) -> None:
    path = disk / "metrics.jsonl"
    with RetryingLog(path, most_waiting=3) as log:
        fill(disk)
        path.write_bytes(b"")
        for step in range(10):
            log.append({"step": step})
        (disk / "filler").unlink()
        log.flush()
    assert [record["step"] for record in read_records(path)[0]] == [7, 8, 9]


def test_a_status_is_put_in_the_place_of_the_last_where_there_is_no_room_for_two(disk: Path) -> None:
    folder = run_folder.create(disk / "runs", "fox")
    write_status(folder, own_status("running", step=7))
    fill(disk)
    later = own_status("failed", step=123_456_789, message="x" * 5000, exit_code=1)
    with pytest.raises(OSError, match="No space left"):
        write_status(folder, later)
    assert state(folder) == ("running", 7)
    overwrite_status(folder, later)
    assert state(folder) == ("failed", 123_456_789)
    assert set(message(folder)) == {"x"} and 500 < len(message(folder)) < 1024
    assert folder.status_json.stat().st_size == 1024
    (disk / "filler").unlink()
    write_status(folder, own_status("running", step=8))
    assert state(folder) == ("running", 8)


def test_the_log_waits_for_space_without_a_torn_line_and_says_each_thing_once(disk: Path) -> None:
    folder = run_folder.create(disk / "runs", "fox")
    reporter = StatusReporter(folder)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with reporter.running():
        reporter.ready(TrainState(step=1))
        reporter.log("x" * 4000)
        fill(disk)
        for step in range(2, 5):
            reporter.progressed(TrainState(step=step), waiting=False)
            reporter.disk_trouble(full)
        assert folder.log.read_text().endswith("x\n")
        until(lambda: message(folder) == DISK_FULL and state(folder)[1] == 4, seconds=5)
        assert seen_state(folder) == "running"
        (disk / "filler").unlink()
        reporter.disk_trouble(None)
        reporter.end("stopped", "", 0)
    lines = [line[9:] for line in folder.log.read_text().splitlines()]
    assert lines[1:] == [f"{DISK_FULL}; training goes on", "metrics and checkpoints are written again"]
    assert message(folder) == ""


def test_a_run_on_a_disk_that_is_full_already_does_not_begin_and_says_why(disk: Path) -> None:
    folder = make_run(disk / "runs", "fox")
    write_status(folder, own_status("starting"))  # as who starts a worker does
    fill(disk)
    assert body.run(folder) == 1
    assert message(folder) == "the disk is full: free some space, then storyteller resume fox"

"""SIGKILL at any moment, inside saves too: at most one save interval is lost, and nothing of the end is changed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.metrics_log import RetryingLog, by_step
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status, seen_state
from tests.support.living import last_step, saved, says, until, worker
from tests.support.records import read_records
from tests.support.training import losses, make_run
from tests.training.test_trainer import assert_equal_weights

N_KILLS = 50
N_STEPS = 30

NURSERY = """
import os, sys
from pathlib import Path
from storyteller.training import worker
from storyteller.tracking.run_folder import RunFolder
# All that a worker imports on its way: what is measured here is not how long that takes.
import storyteller.training.trainer, storyteller.training.sample_writer
import storyteller.inference.engine, storyteller.data.story_stream
import ctranslate2, filelock, psutil, tokenizers, torch._dynamo
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        log = os.open(str(RunFolder(Path(line.strip())).log), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        worker.leave(worker.main([line.strip()]))
    print(pid, flush=True)
    sys.stdin.readline()  # until then its pid is nobody else's
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Starts workers by forking one process that has imported all they need."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._in: IO[str] = process.stdin  # type: ignore[assignment]
        self._out: IO[str] = process.stdout  # type: ignore[assignment]

    def start(self, folder: RunFolder) -> int:
        """A worker on the run; its pid."""
        self._in.write(f"{folder.path}\n")
        self._in.flush()
        return int(self._out.readline())

    def exit_status(self) -> int:
        """The last worker's, once it has ended; negative: the signal that killed it."""
        self._in.write("\n")
        self._in.flush()
        return int(self._out.readline())


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Nursery(process)


def saving(folder: RunFolder) -> bool:
    """Whether a checkpoint is being filled."""
    return any(folder.checkpoints.glob(".staging-*"))


def wait_for_a_moment(folder: RunFolder, pid: int, dice: random.Random) -> None:
    """Until a moment of this worker's life: of its set-up, of its loop, or of a save. Or until it has ended."""

    def ended() -> bool:
        status = read_status(folder)
        return status is not None and status.pid == pid and status.state in ("finished", "failed")

    def in_loop() -> bool:
        status = read_status(folder)
        return status is not None and status.pid == pid and status.state == "running"

    kind = dice.choice(["set-up", "loop", "loop", "save", "save"])
    if kind == "set-up":
        time.sleep(dice.uniform(0, 1.0))
        return
    until(lambda: in_loop() or ended(), every=0.001)
    for _ in range(dice.randint(0, 3)):
        until(lambda: saving(folder) or ended(), every=0)
        if kind == "loop" or ended():
            break
        until(lambda: not saving(folder) or ended(), every=0)
    if kind == "save":
        until(lambda: saving(folder) or ended(), every=0)
    time.sleep(dice.uniform(0, 0.2 if kind == "loop" else 0.04))


def check_after_a_kill(folder: RunFolder, every: int) -> None:
    assert seen_state(folder) in ("died", "finished")
    reached = last_step(folder)
    newest = 0
    if checkpoint_folders.steps(folder):
        path, skipped = checkpoint_folders.newest_good(folder)
        assert skipped == []  # a folder that has its name is whole
        newest = saved(folder)[-1]
        assert path == folder.checkpoint(newest)
    assert newest >= reached - every
    read_back = [record["step"] for record in by_step(read_records(folder.metrics)[0])]
    assert read_back == list(range(read_back[-1] + 1)) if read_back else not reached
    assert newest <= max(read_back, default=0)  # a step that was saved was logged


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_fifty_kills_lose_at_most_one_interval_each_and_change_nothing(tmp_path: Path, nursery: Nursery) -> None:
    whole = make_run(tmp_path, "whole", train_steps=N_STEPS, train_threads=1)
    nursery.start(whole)
    assert nursery.exit_status() == 0
    dice = random.Random(20)
    kills = n_runs = 0
    while kills < N_KILLS:
        every = 1 + n_runs % 3
        n_runs += 1
        folder = make_run(tmp_path, f"cut-{n_runs}", train_steps=N_STEPS, train_checkpoint_every=str(every))
        while seen_state(folder) != "finished":
            pid = nursery.start(folder)
            if kills < N_KILLS:
                wait_for_a_moment(folder, pid, dice)
                os.kill(pid, signal.SIGKILL)
            status = nursery.exit_status()
            assert status in (0, -signal.SIGKILL), folder.log.read_text()
            kills += status == -signal.SIGKILL
            check_after_a_kill(folder, every)
        assert losses(folder) == losses(whole)
        assert [record["step"] for record in by_step(read_records(folder.metrics)[0])] == list(range(N_STEPS + 1))
        assert_equal_weights(whole, folder, N_STEPS)
        assert not saving(folder)
    assert kills == N_KILLS


@pytest.mark.slow
def test_a_worker_killed_in_a_save_goes_on_as_a_process_of_its_own(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", train_steps=12, train_checkpoint_every="2")
    with worker(folder) as process:
        until(lambda: 4 in checkpoint_folders.steps(folder) and saving(folder), every=0)
        process.kill()
        process.wait()
    assert saving(folder) and seen_state(folder) == "died"
    check_after_a_kill(folder, 2)
    with worker(folder) as process:
        assert process.wait(timeout=90) == 0
    assert seen_state(folder) == "finished" and not saving(folder)
    assert [record["step"] for record in by_step(read_records(folder.metrics)[0])] == list(range(13))


@pytest.mark.slow
def test_a_tokenizer_that_a_kill_cut_short_is_made_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", train_steps=2)
    folder.tokenizer.mkdir()
    (folder.tokenizer / "tokenizer.json").write_text('{"version": "1.0", "trunc')
    with worker(folder) as process:
        assert process.wait(timeout=90) == 0
    assert says(folder, "finished at step 2")


def test_the_log_of_metrics_cut_at_any_byte_is_mended_and_reads_as_if_it_had_not_been(tmp_path: Path) -> None:
    folder = run_folder.create(tmp_path, "fox")
    lines = b"".join(b'{"step": %d, "train/loss": %d.5}\n' % (step, step) for step in range(1, 9))
    rest = [{"step": step, "train/loss": step + 0.5} for step in range(5, 9)]
    for cut in range(lines.index(b'{"step": 5'), len(lines) + 1):  # step 4 was saved: resumed from there
        folder.metrics.write_bytes(lines[:cut])
        with RetryingLog(folder.metrics) as log:
            for record in rest:
                log.append(record)
        assert [record["step"] for record in by_step(read_records(folder.metrics)[0])] == list(range(1, 9)), cut

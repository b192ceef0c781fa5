"""Real training processes for tests of faults: started as a user's are, watched, and never left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from subprocess import Popen

from storyteller.launch import start
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import RunState, read_status, seen_state
from tests.support.records import read_records


@contextlib.contextmanager
def worker(folder: RunFolder, *arguments: str) -> Iterator[Popen[bytes]]:
    """The run's training process, as `storyteller train --detach` starts it."""
    process = start.start(folder, arguments)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(what: Callable[[], object], seconds: float = 60, every: float = 0.01) -> None:
    """Wait until `what` is true; an assertion fails where it never is."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(every)


def says(folder: RunFolder, words: str) -> bool:
    """Whether the run's log holds these words."""
    return folder.log.exists() and words in folder.log.read_text(encoding="utf-8")


def last_step(folder: RunFolder) -> int:
    """Of the log of metrics; 0 where it is empty."""
    return max((record["step"] for record in read_records(folder.metrics)[0]), default=0)


def state(folder: RunFolder) -> tuple[RunState, int]:
    """The run's state as `ps` says it, and its status's step."""
    status = read_status(folder)
    return seen_state(folder), status.step if status is not None else 0


def saved(folder: RunFolder) -> list[int]:
    """The steps of the checkpoints, each of them verified."""
    steps = checkpoint_folders.steps(folder)
    for step in steps:
        checkpoint_folders.verify(folder.checkpoint(step))
    return steps

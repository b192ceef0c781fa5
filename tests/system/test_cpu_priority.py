"""Training gives way to people, and stories told beside it give way to training."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from storyteller.training.background_task import BackgroundTask
from tests.support.living import until, worker
from tests.support.training import make_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")

_BEHIND = """
import os, threading
from storyteller.system import cpu_priority
cpu_priority.lower_training_priority()
print(os.getpriority(os.PRIO_PROCESS, 0))
threading.Thread(target=lambda: print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))).start()
"""


def said_by(code: str) -> list[int]:
    return [int(word) for word in subprocess.check_output([sys.executable, "-c", code], text=True).split()]


def test_a_training_process_and_its_later_threads_are_five_steps_nicer_than_its_starter() -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    assert said_by(_BEHIND) == [min(19, here + 5)] * 2


def test_a_story_told_beside_training_comes_after_all_else() -> None:
    code = (
        "import os; from storyteller.system import cpu_priority; cpu_priority.lower_generation_priority();"
        "print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0))"
    )
    assert said_by(code) == [19, os.SCHED_IDLE]


def test_what_is_done_beside_a_step_comes_after_it() -> None:
    """A story of an evaluation, on the task's thread, and the threads that tell it."""
    here = os.getpriority(os.PRIO_PROCESS, 0)
    seen: list[int] = []

    def look() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def work(_step: int, _weights: object) -> None:
        look()
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    task = BackgroundTask("sample-writer", work, lambda _, error: pytest.fail(str(error)))
    task.submit(1, {})
    assert task.close(10)
    assert seen == [19, 19]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == here


def test_a_daemon_trains_behind_people(tmp_path: Path) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)
    with worker(make_run(tmp_path, "fox", train_steps=100_000)) as process:
        until(lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, here + 5))

"""Scheduling priorities: interactive programs first, then training, the W&B mirror, and background generation.

Linux divides a core among runnable threads by weight: 1,024 at niceness 0, 335 at 5, 15 at 19 (the kernel's table
`sched_prio_to_weight`). So an interactive program gets three quarters of a core that a run trains on, and background
generation at most 15/350, 4 %. Generation also uses `SCHED_IDLE`, which yields a core at once, so it mostly runs in the
gaps between parts of a training step. It uses one thread, because several would wait for each other, and for their
turn, at every layer of every token. And it sleeps after each token: even on an idle core it would compete with training
for caches and, with hyper-threading, for the other half of the core.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Collection
from pathlib import Path

TRAINING_NICENESS = 5
MIRROR_NICENESS = 10
GENERATION_NICENESS = 19  # of the threads that generate stories while a run trains
GENERATION_THREADS = 1
_REST_SECONDS = 0.008  # leaves 50 to 100 tokens per second, ten times as fast as one reads


class Throttle:
    """How long generation in this process sleeps after each token."""

    rest_seconds = 0.0

    def enable(self, enabled: bool) -> None:
        """Takes effect at once, also for stories that are being generated."""
        self.rest_seconds = _REST_SECONDS if enabled else 0.0


THROTTLE = Throttle()


def lower_training_priority() -> None:
    """Lowers the priority of this process, and of processes that it starts later, below interactive programs.

    Linux may schedule whole sessions as groups (autogroup), whatever the niceness of their processes. So a process that
    leads a session, such as a detached run, also lowers the priority of that session.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.nice(TRAINING_NICENESS)
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(TRAINING_NICENESS))


def lower_generation_priority(besides: Collection[int] = (), *, children: bool = True) -> None:
    """Gives all threads of this process except `besides`, and its child processes (`children`), idle priority.

    Also enables `THROTTLE`. An unprivileged thread cannot raise its priority again. On systems other than Linux, the
    priority of the whole process is lowered.
    """
    THROTTLE.enable(True)
    if not hasattr(os, "setpriority"):
        return
    if sys.platform != "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, GENERATION_NICENESS)
        return
    for task in (Path("/proc/self/task"), *(_descendants() if children else ())):
        with contextlib.suppress(OSError):
            for thread in map(int, os.listdir(task)):  # noqa: PTH208
                if thread not in besides:
                    _make_idle(thread)


def lower_thread_priority() -> None:
    """Lowers the priority of the calling thread of a training process, and of threads that it starts later.

    Only by niceness: with `SCHED_IDLE`, the thread could be denied a core while it holds the interpreter lock, and
    training would wait for it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), GENERATION_NICENESS)


def _make_idle(thread: int) -> None:
    """Gives a thread the lowest niceness and the `SCHED_IDLE` policy.

    With niceness alone, a busy thread keeps its core for some milliseconds when another becomes runnable. The threads
    of a training step synchronize often and wait that long each time: training loses a third of its tokens per second.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, GENERATION_NICENESS)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def _descendants() -> list[Path]:
    """The task folders in /proc of all descendants of this process."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return [Path(f"/proc/{process.pid}/task") for process in psutil.Process().children(recursive=True)]
    return []

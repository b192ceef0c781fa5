"""Who goes first where cores are few: people at their terminals, then training, its mirror, stories told beside it.

Linux divides a core among the threads that want it by their weights: 1,024 at niceness 0, 335 at 5, 15 at 19 (the
kernel's `sched_prio_to_weight`). So a program that a person waits for takes three quarters of one core from a run that
trains on all of them, and a story at most 15/350, 4 %. The story also gives a core up at once (`SCHED_IDLE`), and so
lives on what training leaves of it between two parts of a step. It is told by one thread: two wait for each other at
every layer of every token, and each of them for its turn. And it rests after each token: what it computes on a core
that training leaves, it still takes from the caches, and from the other half of the core where two are one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Collection
from pathlib import Path

TRAINING_NICENESS = 5
"""The niceness of a run's process."""
MIRROR_NICENESS = 10
GENERATION_NICENESS = 19
"""Of the threads that tell a story while a run trains."""
GENERATION_THREADS = 1
_REST_SECONDS = 0.008
"""A story then comes at 50 to 100 tokens a second, ten times as fast as it is read."""


class Throttle:
    """How long a story of this process rests after each token."""

    rest_seconds = 0.0

    def slow(self, slow: bool) -> None:
        """Whether stories rest, those that are being told too."""
        self.rest_seconds = _REST_SECONDS if slow else 0.0


THROTTLE = Throttle()


def lower_training_priority() -> None:
    """The calling process, and what it starts from here on, give way to what a person waits for.

    Linux may weigh whole sessions against each other, whatever their processes say; so the session of a daemon, which
    is its own, steps back too.
    """
    with contextlib.suppress(AttributeError, OSError):
        os.nice(TRAINING_NICENESS)
        if os.getsid(0) == os.getpid():
            Path("/proc/self/autogroup").write_text(str(TRAINING_NICENESS))


def lower_generation_priority(besides: Collection[int] = (), *, children: bool = True) -> None:
    """All threads of this process but `besides` wait for training from here on, and (`children`) its processes do.

    Its stories rest on the way (`THROTTLE`). A thread without privileges can never come forward again. Elsewhere than on
    Linux the whole process steps back.
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
                    _step_back(thread)


def lower_thread_priority() -> None:
    """The calling thread, one of a run's own process, and those that it starts from here on give way to the others.

    By niceness alone: training shares an interpreter with it, and would wait for a thread that never gets a core while
    it holds the interpreter's lock.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), GENERATION_NICENESS)


def _step_back(thread: int) -> None:
    """Weigh as little as can be, and give a core up the moment that another wants it.

    By its niceness alone a thread that computes keeps its core for some milliseconds first, and a step of training,
    whose threads meet and part, waits as often for as long: a third of its tokens a second.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, GENERATION_NICENESS)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


def _descendants() -> list[Path]:
    """Where the threads of the processes are that this one started."""
    import psutil

    try:
        return [Path(f"/proc/{process.pid}/task") for process in psutil.Process().children(recursive=True)]
    except psutil.Error:
        return []

"""Telling beside training: the run goes first, and the story comes at the pace of a reader.

Linux divides a core among the threads that want it by their weights: 1,024 at niceness 0, 45 at 14 (the kernel's
`sched_prio_to_weight`). So a story takes at most 45/1,069, 4 %, of one core from a run that trains on all of them,
which is some twenty tokens a second of a small model, and all it can use of a core that idles. It is told by one
thread: two wait for each other at every layer of every token, and each of them for its turn.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection
from pathlib import Path

BEHIND = 14
"""Steps of niceness that telling stays behind training."""
THREADS = 1


def niceness() -> int:
    """Of a thread that has stepped back behind the calling one."""
    here = os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0
    return min(19, here + BEHIND)


def step_back(niceness: int, besides: Collection[int] = (), *, children: bool = True) -> None:
    """All threads of this process but `besides` wait for training from here on, and (`children`) its processes do.

    A thread without privileges can never come forward again. Elsewhere than on Linux the whole process steps back.
    """
    if not hasattr(os, "setpriority"):
        return
    if sys.platform != "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
        return
    for task in (Path("/proc/self/task"), *(_descendants() if children else ())):
        with contextlib.suppress(OSError):
            for thread in map(int, os.listdir(task)):  # noqa: PTH208
                if thread not in besides:
                    with contextlib.suppress(OSError):
                        os.setpriority(os.PRIO_PROCESS, thread, niceness)


def _descendants() -> list[Path]:
    """Where the threads of the processes are that this one started."""
    import psutil

    try:
        return [Path(f"/proc/{process.pid}/task") for process in psutil.Process().children(recursive=True)]
    except psutil.Error:
        return []

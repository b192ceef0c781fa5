"""Threads among which a step is dealt out on a CPU, each with cores of its own.

Threads that share one operation wait for each other at its end, some hundred times a step; where the machine does other
things too, each time for the one that was held up. Lanes meet once a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from storyteller.model.device import ComputeDevice
from storyteller.system import malloc

A = TypeVar("A")
B = TypeVar("B")

_MOST = 4
"""Each lane has gradients of its own, which are added up at the end."""
_HELD = 8
"""Pieces of 64 MiB that a lane keeps: half of a step of `quick` stands in three."""


class CpuThreads:
    """So many threads, or the caller's own where there is but one."""

    def __init__(self, threads: int) -> None:
        """Shares `threads` of torch's out among the lanes; the caller has no more than one of them from then on.

        What it does between two maps is little, and a team of its own would go on turning for some milliseconds
        afterwards, on the cores of the lanes.
        """
        self.size = max(1, min(threads, _MOST))
        if self.size == 1:
            return
        torch.set_num_threads(threads // self.size)  # for every thread that comes later, too
        self._pool = ThreadPoolExecutor(self.size, "lane", _begin)

    def map(self, function: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """What `function` gives of each item, in their order. What one of them raises is raised once all are done.

        Torch's modes are each thread's own: `function` enters autocast and the like itself.
        """
        if self.size == 1:
            return [function(item) for item in items]
        futures = [self._pool.submit(function, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]


def _begin() -> None:
    """What each lane's thread does first."""
    torch.get_num_threads()  # the first look takes the count up
    malloc.hold(_HELD)


ONE = CpuThreads(1)


def of(machine: ComputeDevice, dropout: float, compiled: bool = False) -> CpuThreads:
    """The lanes of a run; one where the processor is not what computes, or where they would share a generator, or a
    compiler."""
    alone = machine.device.type != "cpu" or machine.precision == "fp16" or dropout > 0 or compiled
    return ONE if alone else CpuThreads(machine.threads)

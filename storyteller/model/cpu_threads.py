"""Threads that share a training step on a CPU, each with rows and cores of its own.

Torch's own threads share one operation at a time and wait for each other at its end, some hundred times a step; on a
machine that does other things too, each time for the one that was interrupted. These threads meet once a step.
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

_MAX_THREADS = 4
"""Each thread has gradients of its own, which cost memory and must be added up at the end of the step."""
_KEPT_HEAPS = 8
"""Heaps of 64 MiB that malloc keeps for a thread; half a step of the preset `quick` fits into three."""


class CpuThreads:
    """A fixed number of threads, at most 4. With one, everything runs in the caller's thread."""

    def __init__(self, threads: int) -> None:
        """Divide `threads` of torch among the workers; from then on the caller's thread has no more than a worker.

        The caller does little between two maps, and a thread team of its own would busy-wait for some milliseconds
        afterwards on the workers' cores.
        """
        self.size = max(1, min(threads, _MAX_THREADS))
        if self.size == 1:
            return
        torch.set_num_threads(threads // self.size)  # also for threads started later
        self._pool = ThreadPoolExecutor(self.size, "cpu-threads", _start_thread)

    def map(self, function: Callable[[A], B], items: Iterable[A]) -> list[B]:
        """The results of `function` for `items`, in order. An exception is raised once every item is done.

        Torch's modes are thread-local: `function` enters autocast, no_grad and the like itself.
        """
        if self.size == 1:
            return [function(item) for item in items]
        futures = [self._pool.submit(function, item) for item in items]
        wait(futures)
        return [future.result() for future in futures]


def _start_thread() -> None:
    torch.get_num_threads()  # a thread adopts the number of `set_num_threads` when it first asks for it
    malloc.keep_thread_heap(_KEPT_HEAPS)


SINGLE_THREAD = CpuThreads(1)


def choose_cpu_threads(machine: ComputeDevice, dropout: float, compiled: bool = False) -> CpuThreads:
    """The threads of a run: one where a GPU computes, or where threads would share a random generator or a compiler."""
    single = machine.device.type != "cpu" or machine.precision == "fp16" or dropout > 0 or compiled
    return SINGLE_THREAD if single else CpuThreads(machine.threads)

"""Stepping back: while a run trains, telling leaves the processor to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from storyteller.system import cpu_priority

_LOOK_SECONDS = 2.0
"""How often it is looked whether a run trains."""
_RETRY_SECONDS = 0.05
"""After it a weight that the kernel did not take is offered again."""


class CpuYield:
    """Who goes first: opening a model is quick; telling leaves the processor to a run that trains.

    A thread that has stepped back can never come forward again, so it is the threads of one telling that do. Linux may
    weigh whole sessions against each other, whatever their threads say; ours is one of its own, and its weight can be
    changed again.
    """

    def __init__(self, trains: Callable[[], bool]) -> None:
        """`trains` says whether there is anything to step back for."""
        self._trains = trains
        self._lock = threading.Lock()
        self._hasty: set[int] = set()
        self._patient: set[int] = set()
        self._kept = {threading.get_native_id()}
        self._changed = threading.Event()
        self._group: Path | None = Path("/proc/self/autogroup")
        self._weight = 0
        threading.Thread(target=self._watch, name="manners", daemon=True).start()

    def start(self, work: Callable[[], None]) -> None:
        """`work` on a thread of its own, which goes at full speed until it calls `step_back`."""

        def do() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._hasty.discard(threading.get_native_id())
                    self._patient.discard(threading.get_native_id())
                self._changed.set()

        thread = threading.Thread(target=do, daemon=True)
        with self._lock:
            thread.start()
            self._hasty.add(thread.native_id or 0)
        self._changed.set()

    def keep(self) -> None:
        """The calling thread never steps back: it only listens or writes."""
        with self._lock:
            self._kept.add(threading.get_native_id())

    def step_back(self) -> None:
        """From here on the calling thread and what it started (a model's threads, a process) wait for training."""
        with self._lock:
            self._hasty.discard(threading.get_native_id())
            self._patient.add(threading.get_native_id())
        self._changed.set()

    def _watch(self) -> None:
        self.keep()
        while True:
            self._changed.wait(_LOOK_SECONDS if self._patient else None)
            self._changed.clear()
            if not self._patient or not self._trains():
                cpu_priority.PACE.slow(False)
                self._weigh(0)
            else:
                with self._lock:
                    # A process that another thread started may still be opening its model.
                    cpu_priority.step_back(self._kept | self._hasty, children=not self._hasty)
                self._weigh(0 if self._hasty else cpu_priority.TELLING)

    def _weigh(self, weight: int) -> None:
        """Give the session this weight. The kernel takes few changes a second; then it is tried again."""
        if weight != self._weight and self._group is not None:
            try:
                self._group.write_text(str(weight))
                self._weight = weight
            except BlockingIOError:
                time.sleep(_RETRY_SECONDS)
                self._changed.set()
            except OSError:  # no such thing here
                self._group = None

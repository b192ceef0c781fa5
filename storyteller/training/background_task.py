"""Background work on the weights of a training run, which training never waits for."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from storyteller.system.cpu_priority import lower_thread_priority

if TYPE_CHECKING:
    from torch import Tensor


class BackgroundTask:
    """A thread that works on the weights of one step at a time; of those that wait, only the newest are kept."""

    def __init__(
        self,
        name: str,
        work: Callable[[int, dict[str, Tensor]], None],
        on_error: Callable[[int, Exception], None],
    ) -> None:
        """`work` and `on_error` are called with the step, and its weights or the exception that `work` raised."""
        self._work = work
        self._on_error = on_error
        self._queue: queue.Queue[tuple[int, dict[str, Tensor]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, step: int, weights: dict[str, Tensor]) -> None:
        """Work on `weights` as soon as possible, in place of any that wait."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        self._queue.put((step, weights))

    def close(self, timeout_seconds: float) -> bool:
        """Wait for the newest work; returns True if it was completed in time."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        lower_thread_priority()
        while (item := self._queue.get()) is not None:
            step, weights = item
            try:
                self._work(step, weights)
            except Exception as error:  # noqa: BLE001  a failure here is no reason to stop training
                self._on_error(step, error)

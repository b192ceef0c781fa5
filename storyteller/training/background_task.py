"""What is done with a training run's weights beside its training, which never waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from storyteller.system.cpu_priority import lower_thread_priority

if TYPE_CHECKING:
    from torch import Tensor


class BackgroundTask:
    """Work on one step's weights at a time, on a thread of its own; later weights take the place of those that wait."""

    def __init__(
        self, name: str, work: Callable[[int, dict[str, Tensor]], None], failed: Callable[[int, Exception], None]
    ) -> None:
        """`work` is called with a step and its weights; what it raises is told to `failed`, and training goes on."""
        self._work = work
        self._failed = failed
        self._queue: queue.Queue[tuple[int, dict[str, Tensor]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def ask(self, step: int, weights: dict[str, Tensor]) -> None:
        """Have it done as soon as may be."""
        while not self._queue.empty():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put((step, weights))

    def close(self, timeout_seconds: float) -> bool:
        """Let the newest work be done to its end; whether it was."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        lower_thread_priority()
        while (asked := self._queue.get()) is not None:
            step, weights = asked
            try:
                self._work(step, weights)
            except Exception as error:  # noqa: BLE001  what is done aside is no reason to stop training
                self._failed(step, error)

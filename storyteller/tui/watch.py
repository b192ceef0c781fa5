"""Reader threads: they look at the disk and post what they saw as typed messages; the screen is never kept waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.runs.store import Summary

T = TypeVar("T")


class RunsSeen(Message):
    """The runs as they are now."""

    def __init__(self, summaries: Sequence[Summary]) -> None:
        super().__init__()
        self.summaries = summaries


class Watch(Generic[T]):
    """A thread that calls `look` every so often and posts `tell(what it saw)` to a widget or screen.

    `look` must not raise for what is on the disk. A look that sees nothing new returns None and posts nothing.
    """

    def __init__(
        self,
        owner: MessagePump,
        look: Callable[[], T | None],
        tell: Callable[[T], Message],
        every_seconds: float = 0.5,
    ) -> None:
        self._owner = owner
        self._look = look
        self._tell = tell
        self._every_seconds = every_seconds
        self._over = threading.Event()
        self._nudged = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look, at once; again after a `stop`, too."""
        if self._thread is None:
            self._over.clear()
            self._thread = threading.Thread(target=self._work, args=(self._over,), name="watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Look no more; returns at once, a look under way posts nothing."""
        if self._thread is not None:
            self._over.set()
            self._nudged.set()
            self._awake.set()
            self._over = threading.Event()
            self._thread = None

    def sleep(self) -> None:
        """Stop looking while nobody sees it (the screen is covered)."""
        self._awake.clear()

    def wake(self) -> None:
        """Look again, at once."""
        self._awake.set()
        self._nudged.set()

    def _work(self, over: threading.Event) -> None:
        while not over.is_set():
            self._nudged.clear()
            seen = self._look()
            if over.is_set():
                return
            if seen is not None:
                self._owner.post_message(self._tell(seen))
            self._nudged.wait(self._every_seconds)
            self._awake.wait()

"""Who hears of a training process's life: signals in, status and log out."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from storyteller.runs.layout import RunFolder
from storyteller.runs.status import State, own_status, write_status

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.lm.checkpoint import Progress

_HEARTBEAT_SECONDS = 1.0


class StoppedEarly(BaseException):
    """A signal came before the first step: there is nothing to save."""


class Teller(Protocol):
    """Whoever tells stories from weights: `narrator.Narrator`."""

    def ask(self, step: int, weights: dict[str, Tensor]) -> None: ...


class Desk:
    """Signals in, status and log out. The loop's observer; writes nothing to the disk while the loop waits for it."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.exit_code = 1
        self.step = self.tokens = 0
        self.teller: Teller | None = None
        self._sources: list[tuple[Sequence[str], int]] = []
        self._message = ""
        self._state: State = "starting"
        self._stop = threading.Event()
        self._over = threading.Event()
        self._in_loop = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Heartbeats and signal handlers, for as long as this lasts."""
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        self._write_status()
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            yield
        finally:
            self._over.set()
            heart.join()
            self._log_new_notes()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def ready(self, progress: Progress) -> None:
        """Set-up is over: from here on a signal lets the step finish."""
        self._in_loop = True
        self.at(progress, waiting=False)
        self._write_status()

    def end(self, state: State, message: str, exit_code: int) -> None:
        """The last status of this process."""
        self._state, self._message, self.exit_code = state, message, exit_code
        self._write_status(exit_code)

    def progress(self, what: str) -> Callable[[float], None]:
        """A listener for the share that is done of something before the first step; shown as the status's message."""

        def say(share: float) -> None:
            self._message = f"{what}, {share:.0%}"

        return say

    # What the loop tells (`lm.train.Observer`):

    def stop_asked(self) -> bool:
        return self._stop.is_set()

    def at(self, progress: Progress, waiting: bool) -> None:
        self.step, self.tokens = progress.step, progress.tokens
        self._message = "waiting for stories" if waiting else ""
        if not self._stop.is_set():
            self._state = "waiting" if waiting else "running"

    def evaluated(self, progress: Progress, weights: dict[str, Tensor]) -> None:
        if self.teller is not None:
            self.teller.ask(progress.step, weights)

    def note(self, line: str) -> None:
        """A line for the run's log; training goes on where it cannot be written."""
        stamped = f"{time.strftime('%H:%M:%S')} {line}\n"
        try:
            with self.folder.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(stamped)
        except OSError as error:
            print(f"the log cannot be written ({error.strerror}): {line}", file=sys.stderr)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()
        self._state = "stopping"
        if not self._in_loop:
            raise StoppedEarly

    def listen(self, notes: Sequence[str]) -> None:
        """Log each line that is in `notes`, and those that come to it while the run lasts (a broken line, say)."""
        self._sources.append((notes, 0))
        self._log_new_notes()

    def _log_new_notes(self) -> None:
        for i, (notes, seen) in enumerate(self._sources):
            new = notes[seen:]
            self._sources[i] = (notes, seen + len(new))
            for line in new:
                self.note(line)

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            self._log_new_notes()
            self._write_status()

    def _write_status(self, exit_code: int | None = None) -> None:
        status = own_status(self._state, step=self.step, tokens=self.tokens, message=self._message, exit_code=exit_code)
        try:
            write_status(self.folder, status)
        except OSError as error:
            print(f"the status cannot be written ({error.strerror})", file=sys.stderr)

"""What a command shows while it computes for long, and how Ctrl-C ends that."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, Self, TypeVar

from storyteller.cli.text_tables import span

_T = TypeVar("_T")


def interruptibly(compute: Callable[[], _T]) -> _T:
    """`compute()`, on a thread: a batch is one long call of native code, in which Ctrl-C would not be heard."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(compute())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            errors.append(error)

    stopped = threading.Event()
    thread = threading.Thread(target=run, name="computing", daemon=True)
    # An exception out of a signal may break a lock that is being waited for: the signal is noted, and looked at here.
    before = signal.signal(signal.SIGINT, lambda *_: stopped.set())
    try:
        thread.start()
        while thread.is_alive() and not stopped.is_set():
            thread.join(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
    if stopped.is_set():
        raise KeyboardInterrupt
    if errors:
        raise errors[0]
    return results[0]


def leave() -> NoReturn:
    """End the process while native code still computes, which an orderly exit would wait for or crash on."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(130)


class ProgressLine:
    """One line at the end of a terminal's standard error: how far it is, how fast, how long still."""

    def __init__(self, total: int | None, what: str = "") -> None:
        """`total`: stories, None where it is not known; `what` is said before them."""
        self._total = total
        self._what = f"{what}: " if what else ""
        self._began = time.monotonic()
        self._shown = 0
        self._is_terminal = sys.stderr.isatty()
        self.tokens = 0
        """Told so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, done: int) -> None:
        """Draw the line: so many stories are done."""
        if not self._is_terminal:
            return
        seconds = time.monotonic() - self._began
        count = f"{done:,} of {self._total:,} stories" if self._total is not None else f"{done:,} stories"
        words = [self._what + count]
        if done:
            if self.tokens:
                words.append(f"{self.tokens / seconds:,.0f} tokens/s")
            if self._total is not None:
                words.append(f"{span(seconds * (self._total - done) / done)} left")
        columns = shutil.get_terminal_size().columns
        bar = ""
        if self._total and columns >= 60:
            filled = round(20 * done / self._total)
            bar = "\u2501" * filled + "\u2500" * (20 - filled) + "  "
        line = (bar + "  ".join(words))[: columns - 1]
        self._draw(line)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._draw("")

    def close(self) -> None:
        """Take the line away for good."""
        self.clear()

    def _draw(self, line: str) -> None:
        # Spaces over what was there, rather than an escape: a dumb terminal has none.
        before, self._shown = self._shown, len(line)
        with contextlib.suppress(OSError, UnicodeError):
            sys.stderr.write("\r" + line.ljust(before) + ("\r" if not line else ""))
            sys.stderr.flush()

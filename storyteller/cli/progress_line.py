"""Long computations at a terminal: a progress line, and Ctrl-C that works within native code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn, Self, TypeVar

from storyteller.cli.story_output import terminal_columns
from storyteller.cli.text_tables import note, span

_T = TypeVar("_T")


def run_interruptibly(compute: Callable[[], _T]) -> _T:
    """Runs `compute` on a thread and returns its result. Raises KeyboardInterrupt on Ctrl-C at once.

    A batch is one long call of native code, during which Python handles no signal in the main thread.
    """
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(compute())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            errors.append(error)

    stopped = threading.Event()
    thread = threading.Thread(target=run, name="computing", daemon=True)
    # An exception raised by a signal handler may corrupt a lock that is being waited for, so the handler sets a flag.
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
    """Ends the process at once. An orderly exit would wait for native code that still computes, or crash in it."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(130)


class ProgressLine:
    """A line on standard error, where that is a terminal: stories done, tokens a second, time left."""

    def __init__(self, total: int | None, phase: str = "") -> None:
        """`total` stories (None: unknown); `phase` is a label in front."""
        self._total = total
        self.phase = phase
        self._began = time.monotonic()
        self._shown = 0
        self._is_terminal = sys.stderr.isatty()
        self.tokens = 0
        """Tokens generated so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, done: int) -> None:
        """Draws the line for `done` finished stories."""
        if not self._is_terminal:
            return
        seconds = time.monotonic() - self._began
        count = f"{done:,} of {self._total:,} stories" if self._total is not None else f"{done:,} stories"
        words = [f"{self.phase}: {count}" if self.phase else count]
        if done and self.tokens:
            words.append(f"{self.tokens / seconds:,.0f} tokens/s")
        if done and self._total is not None:
            words.append(f"{span(seconds * (self._total - done) / done)} left")
        columns = terminal_columns()
        bar = ""
        if self._total and columns >= 60:
            filled = round(20 * done / self._total)
            bar = "\u2501" * filled + "\u2500" * (20 - filled) + "  "
        self._draw((bar + "  ".join(words))[: columns - 1])

    def clear(self) -> None:
        """Erases the line."""
        if self._shown:
            self._draw("")

    def _draw(self, line: str) -> None:
        # Overwrite with spaces: a dumb terminal has no escape sequence that erases a line.
        before, self._shown = self._shown, len(line)
        with contextlib.suppress(OSError, UnicodeError):
            sys.stderr.write("\r" + line.ljust(before) + ("\r" if not line else ""))
            sys.stderr.flush()


def run_with_progress(compute: Callable[[Callable[[str, int, int], None]], _T]) -> _T:
    """Runs `compute` interruptibly with a progress line. Its argument is called with (phase, items done, items in all).

    On Ctrl-C, prints a line and ends the process.
    """
    line, drawn_at = ProgressLine(None), 0.0

    def show(phase: str, done: int, total: int) -> None:
        nonlocal line, drawn_at
        if phase != line.phase:
            line.clear()
            line = ProgressLine(total, phase)
        elif time.monotonic() - drawn_at < 0.1:
            return
        drawn_at = time.monotonic()
        line.show(done)

    try:
        return run_interruptibly(lambda: compute(show))
    except KeyboardInterrupt:
        line.clear()
        note("interrupted")
        leave()
    finally:
        line.clear()

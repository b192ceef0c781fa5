"""Many stories at once: prompts from a file, told in batches, in order, with a line of progress at a terminal."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from storyteller.cli.page import Sheet, note
from storyteller.cli.show import span
from storyteller.cli.telling import Heard, Keeper, record
from storyteller.config import Sample
from storyteller.errors import UsageError

if TYPE_CHECKING:
    from storyteller.cli.models import Loaded
    from storyteller.engine import Story
    from storyteller.judging.prompts import Asked

ROWS = 64
"""Stories told side by side."""

_T = TypeVar("_T")


def tell_many(
    loaded: Loaded, asked: Iterable[Asked], total: int | None, sample: Sample, sheet: Sheet, keeper: Keeper
) -> int:
    """Tell a story for each prompt, `ROWS` at a time, and write them in order; the exit status.

    Each batch has the next seed. A prompt that the model cannot take is noted and left out, and the status is then 1.
    After Ctrl-C, what is done stays, and the process ends with 130.
    """
    first = sample.seed if sample.seed is not None else secrets.randbits(32)
    waiting, done, failed = iter(asked), 0, 0
    with _Progress(total) as progress:
        for number in itertools.count():
            some = list(itertools.islice(waiting, ROWS))
            if not some:
                break
            seeded = dataclasses.replace(sample, seed=(first + number) % 2**32)
            try:
                progress.show(done)
                fit, stories = _interruptibly(lambda some=some, seeded=seeded: _batch(loaded, some, seeded))  # type: ignore[misc]
            except KeyboardInterrupt:
                progress.close()
                note(f"stopped after {done:,} stories" + (f" of {total:,}" if total is not None else ""))
                _leave(loaded)
            progress.clear()
            _write(loaded, fit, stories, seeded, sheet, keeper)
            done += len(some)
            failed += len(some) - len(fit)
            progress.tokens += sum(story.tokens for story in stories)
    if failed:
        note(f"{failed:,} of {done:,} prompts could not be told from")
    return 1 if failed else 0


def _batch(loaded: Loaded, asked: Sequence[Asked], sample: Sample) -> tuple[Sequence[Asked], list[Story]]:
    """The prompts that the model can take, and their stories."""
    try:
        return asked, loaded.engine.batch([each.prompt for each in asked], sample)
    except UsageError:
        if not any(each.line for each in asked):
            raise
    fit = []
    for each in asked:
        try:
            loaded.engine.stream(each.prompt, sample).close()  # checks the prompt, and tells nothing yet
            fit.append(each)
        except UsageError as error:
            note(f"line {each.line:,}: {error.problem}")
    return fit, loaded.engine.batch([each.prompt for each in fit], sample) if fit else []


def _write(
    loaded: Loaded, asked: Sequence[Asked], stories: Sequence[Story], sample: Sample, sheet: Sheet, keeper: Keeper
) -> None:
    batch = secrets.token_hex(6)
    for row, (each, story) in enumerate(zip(asked, stories, strict=True)):
        heard = Heard(story.text, story.tokens, story.seconds, story.finished)
        place: dict[str, Any] = {"batch": batch, "row": row, "rows": len(stories)} if len(stories) > 1 else {}
        told = keeper.keep(loaded, each.prompt, sample, heard, **place)
        sheet.put(record(told, loaded.engine.label, **({"line": each.line} if each.line else {})))


def _interruptibly(compute: Callable[[], _T]) -> _T:
    """`compute()`, on a thread: a batch is one long call of native code, in which Ctrl-C would not be heard."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(compute())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            errors.append(error)

    stopped = threading.Event()
    thread = threading.Thread(target=run, name="batch", daemon=True)
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


def _leave(loaded: Loaded) -> None:
    """End the process while native code still computes, which an orderly exit would wait for or crash on."""
    loaded.close()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(130)


class _Progress:
    """One line at the end of a terminal's standard error: how far it is, how fast, how long still."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._began = time.monotonic()
        self._shown = 0
        self._is_terminal = sys.stderr.isatty()
        self.tokens = 0
        """Told so far."""

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, done: int) -> None:
        """Draw the line: so many stories are done."""
        if not self._is_terminal:
            return
        seconds = time.monotonic() - self._began
        words = [f"{done:,} of {self._total:,} stories" if self._total is not None else f"{done:,} stories"]
        if done:
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

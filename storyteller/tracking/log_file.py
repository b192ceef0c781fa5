"""Reads the training process's log, `train.log`, as it grows."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from storyteller.system.files import open_regular
from storyteller.tracking.run_folder import RunFolder

_POLL_SECONDS = 0.5  # each look takes a moment of a core that the run could use
_LAST_LINES_BYTES = 1 << 16


class NewLines(NamedTuple):
    """What one read of a `FileTail` found. The lines are untrusted text: make them safe before they are shown."""

    lines: list[str]
    restarted: bool  # the lines replace all earlier ones: this is the first read of the file, or it was truncated
    skipped: bool  # lines before these were left out


class FileTail:
    """Reads the lines that are appended to a text file, each of them once."""

    def __init__(self, path: Path, offset: int | None = None, most_bytes: int = sys.maxsize) -> None:
        """Nothing is read yet. Reading starts at the byte `offset`, or at the start of the file.

        If more than `most_bytes` are new at a read, only the last `most_bytes` of them are read.
        """
        self._path = path
        self._offset = offset
        self._most_bytes = most_bytes
        self._partial = b""

    def read(self) -> NewLines:
        """Returns the lines completed since the last read; a last line without its newline waits for the next one.

        Raises OSError if the file cannot be read. A missing file has no new lines.
        """
        try:
            file = open_regular(self._path)
        except FileNotFoundError:
            return NewLines([], restarted=False, skipped=False)
        with file:
            size = file.seek(0, os.SEEK_END)
            restarted = self._offset is None or size < self._offset
            begin = 0 if restarted or self._offset is None else self._offset
            skipped = size - begin > self._most_bytes
            begin = max(begin, size - self._most_bytes)
            file.seek(begin)
            data = file.read(size - begin)
        self._offset = begin + len(data)
        *lines, self._partial = ((b"" if skipped or restarted else self._partial) + data).split(b"\n")
        self._partial = self._partial[-self._most_bytes :]  # a line without end must not fill the memory
        if skipped:
            lines = lines[1:]  # the first one lacks its beginning
        return NewLines([line.decode("utf-8", "replace") for line in lines], restarted, skipped)

    @property
    def partial(self) -> str:
        """The last line, if it has no newline yet."""
        return self._partial.decode("utf-8", "replace")


def last_lines(folder: RunFolder, n: int = 5) -> list[str]:
    """Returns the last `n` lines of the log that are not blank, untrusted text; none if the log cannot be read."""
    tail = FileTail(folder.log, most_bytes=_LAST_LINES_BYTES)
    try:
        lines = [line.strip() for line in (*tail.read().lines, tail.partial)]
    except OSError:
        return []
    return [line for line in lines if line][-n:] if n > 0 else []


def read_log(folder: RunFolder) -> list[str]:
    """Returns all lines of the log, untrusted text. Raises OSError if it cannot be read; a missing log has none."""
    tail = FileTail(folder.log)
    lines = tail.read().lines
    return [*lines, tail.partial] if tail.partial else lines


def follow_log(folder: RunFolder, ended: Callable[[], bool], offset: int | None = None) -> Iterator[list[str]]:
    """Yields the new lines of the log twice a second, untrusted text, until `ended()` is true and all was read."""
    tail = FileTail(folder.log, offset)
    while True:
        is_last = ended()  # before the read, so that the last lines are not missed
        lines: list[str] = []
        with contextlib.suppress(OSError):
            lines = tail.read().lines
        yield lines
        if is_last:
            break
        time.sleep(_POLL_SECONDS)
    if tail.partial:
        yield [tail.partial]

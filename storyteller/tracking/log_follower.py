"""Follows a JSON Lines log of a run as it grows: `metrics.jsonl` for the curves, `samples.jsonl` for the stories."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from storyteller.tracking.metrics_log import Accept, has_step, records_in, split_at_resumes

_SLICE_BYTES = 1 << 17  # bytes read at a time: a few milliseconds of parsing, so that other threads get their turn
_CONTEXT_BYTES = 64  # bytes before the position that are compared at each look, to notice that the log was rewritten


@dataclass(frozen=True)
class LogPart:
    """Consecutive records of a log, their steps ascending."""

    offsets: Sequence[int]  # where the line of each record starts, in bytes
    records: Sequence[dict[str, Any]]
    is_resume: bool  # the run was resumed here: these records supersede all earlier ones from their first step on


class LogFollower:
    """Reads the complete lines of a log from where the last read ended; a torn last line is left for the next read.

    For each look the caller opens the file, calls `restart_if_replaced`, then `read_to_end`, or `read` until `at_end`.
    """

    def __init__(self, accept: Accept = has_step, longest_line_bytes: int = 1 << 20) -> None:
        """Nothing is read yet. Records that `accept` refuses and lines longer than `longest_line_bytes` are skipped.

        An accepted record has an integer step.
        """
        self._accept = accept
        self._longest_line_bytes = longest_line_bytes
        self.restart()

    def restart(self) -> None:
        """Reads from the start of the file next."""
        self.position = 0  # offset behind the last complete line that was read
        self.at_end = False  # the last `read` reached the end of the file
        self._context = b""
        self._file_id: tuple[int, int] | None = None
        self._searched: tuple[int, int] | None = None
        self._is_in_long_line = False
        self._last_step: int | None = None

    def restart_if_replaced(self, file: BinaryIO) -> bool:
        """Restarts, and returns True, if this is another file than before or its beginning was rewritten."""
        status = os.fstat(file.fileno())
        context = os.pread(file.fileno(), len(self._context), self.position - len(self._context))
        is_same_file = self._file_id in (None, (status.st_dev, status.st_ino))
        if is_same_file and status.st_size >= self.position and context == self._context:
            return False
        self.restart()
        return True

    def unread_bytes(self, file: BinaryIO) -> int:
        return os.fstat(file.fileno()).st_size - self.position

    def skip_to_end(self, file: BinaryIO) -> None:
        """Continues after the last complete line, as if all lines had been read. Raises OSError."""
        self.restart()
        begin = max(0, self.unread_bytes(file) - _SLICE_BYTES)
        tail = os.pread(file.fileno(), _SLICE_BYTES, begin)
        end = tail.rfind(b"\n") + 1
        self._is_in_long_line = not end and begin > 0
        self.position, self._context = begin + end, tail[:end][-_CONTEXT_BYTES:]
        _, records = records_in(tail[:end], accept=self._accept)
        self._last_step = records[-1]["step"] if records else None

    def read(self, file: BinaryIO) -> list[LogPart]:
        """Reads the next slice of lines and sets `at_end`. Returns one part, or more if the run was resumed within it.

        Raises OSError.
        """
        status = os.fstat(file.fileno())
        self._file_id = (status.st_dev, status.st_ino)
        # Without this, a torn line of megabytes would be read again at every look.
        self.at_end = self._searched == (status.st_size, status.st_mtime_ns)
        if self.at_end:
            return []
        block = os.pread(file.fileno(), _SLICE_BYTES, self.position)
        if len(block) == _SLICE_BYTES and b"\n" not in block:
            block = os.pread(file.fileno(), self._longest_line_bytes, self.position)
        if self._is_in_long_line:
            skipped = block.find(b"\n") + 1
            self._is_in_long_line = not skipped
            self.at_end = not block
            self._advance(block[: skipped or len(block)])
            return []
        end = block.rfind(b"\n") + 1
        if not end and len(block) >= self._longest_line_bytes:
            self._is_in_long_line = True
            self._advance(block)
            return []
        self.at_end = len(block) < _SLICE_BYTES or not end
        if self.at_end:
            self._searched = (status.st_size, status.st_mtime_ns)
        offsets, records = records_in(block[:end], self.position, self._accept)
        self._advance(block[:end])
        return self._parts(offsets, records)

    def read_to_end(self, file: BinaryIO) -> Iterator[LogPart]:
        """Yields what repeated `read` calls return, to the end of the file. Raises OSError."""
        while True:
            yield from self.read(file)
            if self.at_end:
                return

    def _advance(self, block: bytes) -> None:
        self.position += len(block)
        self._context = (self._context + block)[-_CONTEXT_BYTES:]

    def _parts(self, offsets: list[int], records: list[dict[str, Any]]) -> list[LogPart]:
        parts = []
        for part in split_at_resumes(records):
            if part.stop > part.start:
                goes_back = self._last_step is not None and records[part.start]["step"] < self._last_step
                parts.append(LogPart(offsets[part], records[part], is_resume=goes_back))
                self._last_step = records[part.stop - 1]["step"]
        return parts

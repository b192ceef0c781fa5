"""The log of a run: a JSON object a line, appended whole, mended after a kill, read from any offset.

The writer flushes each line with one system call, so that what a killed process logged is there; readers take complete
lines alone, so that they may read while it is written.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

_BLOCK_BYTES = 1 << 16


class JsonLog:
    """The one writer of a log. Opening it mends the torn line that a kill or a full disk left at its end."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, made if it is not there. Raises OSError."""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._torn = True
        try:
            self._mend()
        except BaseException:
            self.close()
            raise

    def append(self, record: Mapping[str, object]) -> None:
        """Write one line; a key whose value is NaN or infinite is left out.

        Raises OSError where the disk is full: the log then ends with the last complete line, and the next append works
        as soon as there is space.
        """
        finite = {key: value for key, value in record.items() if not _is_non_finite(value)}
        # All ASCII: a lone surrogate, which UTF-8 cannot hold, and line separators in a story need no thought then.
        line = json.dumps(finite, allow_nan=False).encode("ascii") + b"\n"
        if self._torn:
            self._mend()
        end = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, line)
        except OSError:
            # Whatever got onto the disk would glue to the next line. Should even this fail, the next append mends.
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, end)
            raise

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend(self) -> None:
        """Make the file end with a newline: a whole object keeps its place, a piece of one is cut off."""
        size = os.fstat(self._handle).st_size
        start, piece = size, b""
        while start > 0:
            begin = max(0, start - _BLOCK_BYTES)
            block = os.pread(self._handle, start - begin, begin)
            newline = block.rfind(b"\n")
            if newline >= 0:
                start, piece = begin + newline + 1, block[newline + 1 :] + piece
                break
            start, piece = begin, block + piece
        if piece and _parse(piece) is not None:
            os.write(self._handle, b"\n")
        elif piece:
            os.ftruncate(self._handle, start)
        self._torn = False


class PatientLog:
    """A log that outlives a full disk: what cannot be written waits in memory, and goes first once there is space.

    At most `most_waiting` lines wait; the oldest are lost where there are more.
    """

    def __init__(self, path: Path, most_waiting: int = 20_000) -> None:
        """Open `path` as `JsonLog` does. Raises OSError."""
        self._log = JsonLog(path)
        self._waiting: deque[Mapping[str, object]] = deque(maxlen=most_waiting)
        self.fault: OSError | None = None
        """Why lines wait; None where none does."""

    def append(self, record: Mapping[str, object]) -> None:
        """Write one line after those that wait; it waits too where the disk does not take it (`fault` says so)."""
        self._waiting.append(record)
        with contextlib.suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Write the lines that wait. Raises OSError where some still have to."""
        self.fault = None
        while self._waiting:
            try:
                self._log.append(self._waiting[0])
            except OSError as error:
                self.fault = error
                raise
            self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()


def read_records(path: Path, offset: int = 0, most: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """The records of all complete lines from a byte offset on, at most `most`, and the offset after them.

    Broken lines are skipped; a piece without its newline is left for the next time. A missing file has none, a file
    that is shorter than the offset was begun anew and is read from its start.
    """
    records = []
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return [], 0
    with file:
        if file.seek(0, os.SEEK_END) < offset:
            offset = 0
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n") or len(records) == most:
                break
            offset += len(line)
            record = _parse(line)
            if record is not None:
                records.append(record)
    return records, offset


def last_record(path: Path, needs: str | None = None, within_bytes: int | None = None) -> dict[str, Any] | None:
    """The last record, or the last that has the key `needs`; None where there is none, or no file.

    Read backwards from the end, at most `within_bytes`. A record of a step past the log's last one was left behind by a
    resume from an earlier checkpoint, and does not count.
    """
    needle = json.dumps(needs).encode("ascii") if needs is not None else b""
    last_step: float | None = None
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        for line in _lines_backwards(file, within_bytes):
            # Parsing is what costs: once the last step is known, only lines that hold the key are worth it.
            if last_step is not None and needle not in line:
                continue
            record = _parse(line)
            if record is None:
                continue
            step = record.get("step")
            if isinstance(step, int) and last_step is None:
                last_step = step
            superseded = isinstance(step, int) and last_step is not None and step > last_step
            if (needs is None or needs in record) and not superseded:
                return record
    return None


def by_step(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One record a step, ascending, from records in the order of the log.

    Lines of one step that follow each other (its training and its evaluation) are merged, the later value winning. A
    step below the one before it is a resume: all that was logged from that step on is superseded and dropped. Records
    without a whole-number step are left out.
    """
    merged: list[dict[str, Any]] = []
    for record in records:
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            continue
        went_back = False
        while merged and merged[-1]["step"] > step:
            merged.pop()
            went_back = True
        if merged and merged[-1]["step"] == step:
            merged[-1] = dict(record) if went_back else {**merged[-1], **record}
        else:
            merged.append(dict(record))
    return merged


def _lines_backwards(file: BinaryIO, within_bytes: int | None) -> Iterator[bytes]:
    """Complete lines, without their newline, from the last to the first; reads a block at a time."""
    start = file.seek(0, os.SEEK_END)
    lowest = 0 if within_bytes is None else max(0, start - within_bytes)
    rest: list[bytes] = []  # what follows the last newline seen so far, its pieces from the last to the first
    complete = False  # the piece after the file's last newline is torn
    while start > lowest:
        begin = max(lowest, start - _BLOCK_BYTES)
        file.seek(begin)
        block = file.read(start - begin)
        start = begin
        lines = block.split(b"\n")
        rest.append(lines.pop())
        while lines:
            if complete:
                yield b"".join(reversed(rest))
            complete = True
            rest = [lines.pop()]
    if complete and start == 0:
        yield b"".join(reversed(rest))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The JSON object that `line` is, or None."""
    try:
        record = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _write_all(handle: int, line: bytes) -> None:
    """One write; only a disk that fills up takes less than all, and the rest then raises the reason."""
    written = os.write(handle, line)
    while written < len(line):
        written += os.write(handle, line[written:])

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from json.scanner import make_scanner
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, Self

from storyteller.system.files import open_regular

_BLOCK_BYTES = 1 << 16
_WINDOW_BYTES = 1 << 12
"""What is read at each place of a log that is sampled: a dozen lines."""


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_SCAN = make_scanner(_DECODER)  # type: ignore[arg-type]  # the stubs take the C class's own attributes for its argument


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
    records: list[dict[str, Any]] = []
    try:
        file = open_regular(path)
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


def records_in(block: bytes) -> tuple[list[int], list[dict[str, Any]]]:
    """Where in a block of complete lines each record begins, and the records; broken lines are skipped.

    The same records as `read_records`', at less cost: for whoever reads a log of a million lines.
    """
    offsets: list[int] = []
    records: list[dict[str, Any]] = []
    text = block.decode("ascii") if block.isascii() else ""  # a character is a byte: one scanner serves all lines
    begin = 0
    while (end := block.find(b"\n", begin)) >= 0:
        record = None
        # An object that ends where its line ends is what parsing the line alone would give: JSON's strings hold no raw
        # newline, and an object that goes on past its line ends elsewhere.
        if text and block.startswith(b"{", begin) and block.endswith(b"}", begin, end):
            try:
                record, stop = _SCAN(text, begin)
            except (StopIteration, ValueError, RecursionError):
                stop = -1
            if stop != end:
                record = None
        if record is None:
            record = _parse(block[begin:end])
        if record is not None:
            offsets.append(begin)
            records.append(record)
        begin = end + 1
    return offsets, records


def sampled_records(path: Path, places: int) -> tuple[list[int], list[dict[str, Any]]]:
    """A few records from each of so many places, evenly over the file: their offsets, and the records.

    The file's last complete lines are among them. A missing file has none. For a log too long to be read at once.
    """
    offsets: list[int] = []
    records: list[dict[str, Any]] = []
    with contextlib.suppress(OSError), open_regular(path) as file:
        room = max(0, file.seek(0, os.SEEK_END) - _WINDOW_BYTES)
        for place in range(places):
            at = room * place // max(1, places - 1)
            block = os.pread(file.fileno(), _WINDOW_BYTES, at)
            first = block.find(b"\n") + 1 if at else 0
            inside, parsed = records_in(block[first : block.rfind(b"\n") + 1])
            for offset, record in zip(inside, parsed, strict=True):
                if not offsets or at + first + offset > offsets[-1]:  # in a short log the windows overlap
                    offsets.append(at + first + offset)
                    records.append(record)
    return offsets, records


def last_record(path: Path, needs: str | None = None, within_bytes: int | None = None) -> dict[str, Any] | None:
    """The last record, or the last that has the key `needs`; None where there is none, or no file.

    Read backwards from the end, at most `within_bytes`. A record of a step past the log's last one was left behind by a
    resume from an earlier checkpoint, and does not count.
    """
    return last_records(path, [needs], within_bytes).get(needs)


def last_records(
    path: Path, needs: Sequence[str | None], within_bytes: int | None = None
) -> dict[str | None, dict[str, Any]]:
    """What `last_record` gives for each of `needs`, in one pass; those that have none are left out."""
    found: dict[str | None, dict[str, Any]] = {}
    needles = {need: json.dumps(need).encode("ascii") if need is not None else b"" for need in needs}
    last_step: int | None = None
    try:
        file = open_regular(path)
    except OSError:
        return {}
    with file:
        for lines in _blocks_backwards(file, within_bytes):
            # Parsing is what costs: once the last step is known, only lines that hold a key are worth it, and of a
            # block that holds none not even its lines are.
            if last_step is not None and not any(needle in lines for needle in needles.values()):
                continue
            for line in reversed(lines.split(b"\n")):
                if last_step is not None and not any(needle in line for needle in needles.values()):
                    continue
                record = _parse(line)
                if record is None:
                    continue
                step = record.get("step")
                if isinstance(step, int) and last_step is None:
                    last_step = step
                if isinstance(step, int) and last_step is not None and step > last_step:
                    continue
                for need in [need for need in needles if need is None or need in record]:
                    found[need] = record
                    del needles[need]
                if not needles:
                    return found
    return found


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


def lines_backwards(
    file: BinaryIO, within_bytes: int | None = None, most_line_bytes: int | None = None
) -> Iterator[bytes]:
    """Complete lines, without their newline, from the last to the first; reads a block at a time.

    `within_bytes` of the end alone are read; a line of more than `most_line_bytes` is passed over, and not held.
    """
    for lines in _blocks_backwards(file, within_bytes, most_line_bytes):
        for line in reversed(lines.split(b"\n")):
            if most_line_bytes is None or len(line) <= most_line_bytes:
                yield line


def _blocks_backwards(file: BinaryIO, within_bytes: int | None, most_line_bytes: int | None = None) -> Iterator[bytes]:
    """The complete lines, joined by newlines, a block's worth at a time from the file's end to its beginning."""
    start = file.seek(0, os.SEEK_END)
    lowest = 0 if within_bytes is None else max(0, start - within_bytes)
    rest: list[bytes] = []  # the end of a line whose beginning was not seen yet, its pieces from the last to the first
    fits, complete = True, False  # what follows the file's last newline is torn
    while start > lowest:
        begin = max(lowest, start - _BLOCK_BYTES)
        file.seek(begin)
        block = file.read(start - begin)
        start = begin
        first, last = block.find(b"\n"), block.rfind(b"\n")
        if first >= 0:
            rest.append(block[last + 1 :])
            whole = complete and fits
            lines = b"".join((block[first + 1 : last + 1], *reversed(rest))) if whole else block[first + 1 : last]
            if whole or last > first:
                yield lines
            fits, complete, rest = True, True, [block[:first]]
        else:
            rest.append(block)
        if most_line_bytes is not None and sum(map(len, rest)) > most_line_bytes:
            fits, rest = False, []
    if complete and fits and start == 0:
        yield b"".join(reversed(rest))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The JSON object that `line` is, or None."""
    try:
        record = _DECODER.decode(line.decode(json.detect_encoding(line), "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _write_all(handle: int, line: bytes) -> None:
    """One write; only a disk that fills up takes less than all, and the rest then raises the reason."""
    written = os.write(handle, line)
    while written < len(line):
        written += os.write(handle, line[written:])

"""The JSON Lines logs of a run, `metrics.jsonl` and `samples.jsonl`: appending, repairing and reading them.

Each line is appended with one system call, so what a killed process had logged is in the file. Readers take complete
lines only and may read while the log is being written.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

from storyteller.system.files import open_regular

_BLOCK_BYTES = 1 << 16
_WINDOW_BYTES = 1 << 12  # bytes read at each place of a log that is sampled: about a dozen lines
_LARGEST_STEP = 2**53  # larger integers are not exact in a float64 column. No run comes near.
_DECODER = json.JSONDecoder(parse_constant=int)  # NaN and infinities are not JSON: `int` raises ValueError for them
Accept = Callable[[Mapping[str, Any]], bool]  # True for a record that is wanted


class JsonLog:
    """The only writer of a log. Opening it repairs a torn last line that a kill or a full disk left."""

    def __init__(self, path: Path) -> None:
        """Opens `path` for appending and creates it if missing. Raises OSError."""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        self._torn = True
        try:
            self._repair()
        except BaseException:
            os.close(self._handle)
            raise

    def append(self, record: Mapping[str, object]) -> None:
        """Writes one line, leaving out keys whose value is NaN or infinite.

        Raises OSError, for one when the disk is full. The log then ends with the last complete line, and the next
        append works as soon as there is space.
        """
        finite = {k: v for k, v in record.items() if not isinstance(v, float) or math.isfinite(v)}
        # ASCII output escapes lone surrogates, which UTF-8 cannot encode, and Unicode line separators in stories.
        line = json.dumps(finite, allow_nan=False).encode("ascii") + b"\n"
        if self._torn:
            self._repair()
        end = os.fstat(self._handle).st_size
        try:
            # One write suffices, except on a disk that fills up: the second write then raises the reason.
            written = os.write(self._handle, line)
            while written < len(line):
                written += os.write(self._handle, line[written:])
        except OSError:
            # A part of the line on the disk would run into the next line. If truncating fails too, the next append
            # repairs the log.
            self._torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, end)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def _repair(self) -> None:
        """Makes the file end with a newline: completes a whole last record, cuts off a partial one."""
        begin, tail = os.fstat(self._handle).st_size, b""
        while begin > 0 and b"\n" not in tail:
            size = min(begin, _BLOCK_BYTES)
            begin -= size
            tail = os.pread(self._handle, size, begin) + tail
        piece = tail[tail.rfind(b"\n") + 1 :]
        if piece and _parse(piece) is not None:
            os.write(self._handle, b"\n")
        elif piece:
            os.ftruncate(self._handle, begin + len(tail) - len(piece))
        self._torn = False


class RetryingLog(JsonLog):
    """A log that survives a full disk: records that cannot be written are queued in memory and written first later.

    At most `most_waiting` records are queued; beyond that the oldest are dropped.
    """

    def __init__(self, path: Path, most_waiting: int = 20_000) -> None:
        """Opens `path` as `JsonLog` does. Raises OSError."""
        super().__init__(path)
        self._waiting: deque[Mapping[str, object]] = deque(maxlen=most_waiting)
        self.fault: OSError | None = None  # why records are queued; None if none are

    def append(self, record: Mapping[str, object]) -> None:
        """Writes the queued records and this one. Sets `fault` and queues it if the disk does not take it."""
        self._waiting.append(record)
        with contextlib.suppress(OSError):
            self.flush()

    def flush(self) -> None:
        """Writes the queued records. Raises OSError if some are left."""
        self.fault = None
        while self._waiting:
            try:
                super().append(self._waiting[0])
            except OSError as error:
                self.fault = error
                raise
            self._waiting.popleft()


def iter_records(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields the record of each complete line from a byte offset on, with the offset behind its line.

    Skips lines that are not JSON objects. A missing file has no records. Raises OSError if the file cannot be read.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if (record := _parse(line)) is not None:
                yield record, offset


def records_in(block: bytes, offset: int = 0, accept: Accept | None = None) -> tuple[list[int], list[dict[str, Any]]]:
    """Returns the records in the complete lines of the block at `offset`, and where in the file each line starts.

    Skips records that `accept` refuses. Parses the same records as `iter_records`, several times faster, which matters
    for a log of a million lines.
    """
    offsets: list[int] = []
    records: list[dict[str, Any]] = []
    # In ASCII a character is a byte, so one decoded text serves all lines and its indices are offsets.
    text = block.decode("ascii") if block.isascii() else ""
    begin = 0
    while (end := block.find(b"\n", begin)) >= 0:
        record = None
        # An object that ends where its line ends is what parsing the line alone would give: JSON strings hold no raw
        # newline, and an object that goes on past its line ends elsewhere.
        if text and block.startswith(b"{", begin) and block.endswith(b"}", begin, end):
            try:
                record, stop = _DECODER.raw_decode(text, begin)
            except (ValueError, RecursionError):
                stop = -1
            if stop != end:
                record = None
        if record is None:
            record = _parse(block[begin:end])
        if record is not None and (accept is None or accept(record)):
            offsets.append(offset + begin)
            records.append(record)
        begin = end + 1
    return offsets, records


def sampled_records(path: Path, places: int) -> tuple[list[int], list[dict[str, Any]]]:
    """Returns a few records from each of `places` evenly spaced windows of the file, and the offset of each line.

    The last complete lines are among them; records without a step are not. For logs too long to read at once. A missing
    file has no records.
    """
    offsets: list[int] = []
    records: list[dict[str, Any]] = []
    with contextlib.suppress(OSError), open_regular(path) as file:
        room = max(0, file.seek(0, os.SEEK_END) - _WINDOW_BYTES)
        for place in range(places):
            at = room * place // max(1, places - 1)
            block = os.pread(file.fileno(), _WINDOW_BYTES, at)
            first = block.find(b"\n") + 1 if at else 0
            lines = block[first : block.rfind(b"\n") + 1]
            for offset, record in zip(*records_in(lines, at + first, has_step), strict=True):
                if not offsets or offset > offsets[-1]:  # in a short log the windows overlap
                    offsets.append(offset)
                    records.append(record)
    return offsets, records


def has_step(record: Mapping[str, Any]) -> bool:
    """True if the record names its step; records without one have no place on a curve."""
    step = record.get("step")
    return type(step) is int and -_LARGEST_STEP <= step <= _LARGEST_STEP


def split_at_resumes(records: Sequence[Mapping[str, Any]]) -> Iterator[slice]:
    """Yields slices of the records within which the steps ascend.

    Each slice but the first starts with a step below the one before it. That is a resume: the run went back to a
    checkpoint, and its new records supersede all earlier ones from that step on.
    """
    begin = 0
    for i in range(1, len(records)):
        if records[i]["step"] < records[i - 1]["step"]:
            yield slice(begin, i)
            begin = i
    yield slice(begin, len(records))


def by_step(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns one record a step, ascending, from records in the order of the log.

    Merges the lines of one step (training, evaluation), the later value of a key winning. Drops what a resume
    superseded, and records without a step.
    """
    known = [record for record in records if has_step(record)]
    merged: list[dict[str, Any]] = []
    for part in split_at_resumes(known):
        while merged and merged[-1]["step"] >= known[part.start]["step"]:
            merged.pop()
        for record in known[part]:
            if merged and merged[-1]["step"] == record["step"]:
                merged[-1] |= record
            else:
                merged.append(dict(record))
    return merged


def last_record(path: Path, needs: str | None = None, within_bytes: int | None = None) -> dict[str, Any] | None:
    """Returns the last record, or the last one that has the key `needs`; None if there is none, or no file.

    Searches at most the last `within_bytes` of the file. Ignores records that a resume superseded, which are those of
    steps past the step of the log's last record.
    """
    return last_records(path, [needs], within_bytes).get(needs)


def last_records(
    path: Path, needs: Sequence[str | None], within_bytes: int | None = None
) -> dict[str | None, dict[str, Any]]:
    """Returns what `last_record` gives for each of `needs`, in one pass; those without a record are left out."""
    found: dict[str | None, dict[str, Any]] = {}
    needles = {need: json.dumps(need).encode("ascii") if need is not None else b"" for need in needs}
    last_step: int | None = None
    with contextlib.suppress(OSError), open_regular(path) as file:
        for lines in _blocks_backwards(file, within_bytes):
            # Parsing is the expensive part. Once the last step is known, only lines that contain one of the keys are
            # parsed, and a block that contains none is not even split into lines.
            if last_step is not None and not any(needle in lines for needle in needles.values()):
                continue
            for line in reversed(lines.split(b"\n")):
                if last_step is not None and not any(needle in line for needle in needles.values()):
                    continue
                if (record := _parse(line)) is None:
                    continue
                if isinstance(step := record.get("step"), int):
                    last_step = step if last_step is None else last_step
                    if step > last_step:
                        continue
                for need in [need for need in needles if need is None or need in record]:
                    found[need] = record
                    del needles[need]
                if not needles:
                    return found
    return found


def lines_backwards(file: BinaryIO, most_line_bytes: int) -> Iterator[bytes]:
    """Yields the complete lines of at most `most_line_bytes`, without their newline, from the last to the first."""
    for lines in _blocks_backwards(file, None, most_line_bytes):
        yield from (line for line in reversed(lines.split(b"\n")) if len(line) <= most_line_bytes)


def _blocks_backwards(file: BinaryIO, within_bytes: int | None, most_line_bytes: int | None = None) -> Iterator[bytes]:
    """Yields complete lines, joined by newlines, a block's worth at a time from the file's end to its beginning."""
    start = file.seek(0, os.SEEK_END)
    lowest = 0 if within_bytes is None else max(0, start - within_bytes)
    # A block usually starts in the middle of a line. That line's end is carried over, in pieces from the last to the
    # first, until a block holds the newline before it.
    rest: list[bytes] = []
    fits = True  # False once the carried line is too long: its pieces are then dropped
    complete = False  # False for what follows the last newline of the file: a torn line, or one being written
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
    if complete and fits and start == 0:  # the first line of the file has no newline before it
        yield b"".join(reversed(rest))


def _parse(line: bytes) -> dict[str, Any] | None:
    """The JSON object on this line; None if there is none."""
    try:
        record = _DECODER.decode(line.decode("utf-8", "surrogatepass").removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None

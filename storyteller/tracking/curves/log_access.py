"""Reads parts of a metrics log out of turn: lines sampled over all of it, for a preview, and stretches read again.

A sketch stands for the part of the log that has not been read line by line yet. Exact rows are for zooms into more
detail than the bins hold.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from storyteller.system.files import open_regular
from storyteller.system.json_values import finite
from storyteller.tracking.curves.columns import MetricColumns, joined, newest_values, position_of, rows_as_left, rows_of
from storyteller.tracking.metrics_log import has_step, last_records, records_in, sampled_records

_BLOCK_BYTES = 1 << 20
_MOST_STRETCHES = 256
_PLACES = 500
_LOOK_BACK_BYTES = 8 << 20
_NEWEST_BYTES = 1 << 20
_MOST_ROWS = 20_000

ChooseKeys = Callable[[Sequence[Mapping[str, Any]]], list[str]]  # returns the metrics of some records to be shown


@dataclass(frozen=True)
class Sketch:
    """Rows sampled evenly over the whole log, and its newest values."""

    rows: MetricColumns
    last: Mapping[str, float | str]  # newest value of each metric; step, tokens, seconds and time of the newest line
    end_offset: int  # where the newest line starts, in bytes


def draw_sketch(path: Path, choose_keys: ChooseKeys) -> Sketch | None:
    """Samples the log, in under 0.3 s for 300 MB; None if it has no records."""
    offsets, records = sampled_records(path, _PLACES)
    if not records:
        return None
    keys = choose_keys(records)
    newest = last_records(path, [None, *keys], _LOOK_BACK_BYTES)
    last = position_of(newest.get(None, {}))
    for key in keys:
        value = finite(newest[key][key]) if key in newest else None
        if value is not None:
            last[key] = value
    return Sketch(rows_as_left(offsets, records, keys), last, offsets[-1])


def extend_sketch(sketch: Sketch, file: BinaryIO, choose_keys: ChooseKeys) -> Sketch:
    """Adds the lines that were appended since, at most 1 MiB of the file's end. Raises OSError."""
    size = os.fstat(file.fileno()).st_size
    begin = max(sketch.end_offset, size - _NEWEST_BYTES)
    block = os.pread(file.fileno(), size - begin, begin)
    first = block.find(b"\n") + 1  # skips the line the sketch ends with, or the end of a line
    offsets, records = records_in(block[first : block.rfind(b"\n") + 1], begin + first, has_step)
    if not records:
        return sketch
    rows = rows_as_left(offsets, records, choose_keys(records))
    together = joined(sketch.rows, rows).where(slice(-_MOST_ROWS, None))
    return Sketch(together, {**sketch.last, **newest_values(rows), **position_of(records[-1])}, offsets[-1])


class ExactRows:
    """The rows of a log between two offsets, without the stretches that resumes superseded. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._superseded: list[tuple[int, int]] = []
        self._cached: tuple[int, int, MetricColumns] | None = None
        self.version = 0  # rises whenever rows are dropped: an earlier offset may then be in a superseded stretch

    def supersede(self, begin: int, end: int) -> None:
        """A resume at the offset `end` superseded the lines from `begin` on."""
        with self._lock:
            # The longest stretches are kept: they are what makes reading past them worthwhile.
            earlier = [stretch for stretch in self._superseded if stretch[1] <= begin]
            longest = sorted([*earlier, (begin, end)], key=lambda stretch: stretch[0] - stretch[1])[:_MOST_STRETCHES]
            self._superseded = sorted(longest)
            self._cached = None
            self.version += 1

    def read(self, file: BinaryIO, begin: int, end: int, keys: Sequence[str]) -> MetricColumns:
        """Reads the rows between two offsets, each the start of a line. Raises OSError."""
        rows = rows_of((), (), ())
        with self._lock:
            gaps = [gap for gap in self._superseded if begin <= gap[0] and gap[1] <= end]
        for stop, go_on in [*gaps, (end, end)]:
            while begin < stop:
                block = os.pread(file.fileno(), min(stop - begin, _BLOCK_BYTES), begin)
                size = block.rfind(b"\n") + 1 or len(block)
                if not size:
                    return rows
                offsets, records = records_in(block[:size], begin, has_step)
                if len(rows):  # the next block may hold more lines of the last step
                    offsets, records = [int(rows.offsets[-1]), *offsets], [rows.record(len(rows) - 1), *records]
                rows = joined(rows, rows_as_left(offsets, records, keys))
                begin += size
            begin = go_on
        return rows

    def between(self, begin: int, end: int, keys: Sequence[str], version: int) -> MetricColumns | None:
        """The rows between two offsets that were noted at `version`; None if the log cannot be read.

        They are cached, so that a zoom on a growing log reads only what is new.
        """
        with self._lock:
            cached = self._cached
        rows, start = rows_of((), (), ()), begin
        if cached is not None and cached[0] <= begin <= cached[1]:
            rows = cached[2].where((cached[2].offsets >= begin) & (cached[2].offsets < end))
            start = min(cached[1], end)
        if start < end:
            try:
                with open_regular(self._path) as file:
                    rows = joined(rows, self.read(file, start, end, keys))
            except OSError:
                return rows if len(rows) else None
            with self._lock:
                if self.version == version:
                    self._cached = (begin, end, rows)
        return rows

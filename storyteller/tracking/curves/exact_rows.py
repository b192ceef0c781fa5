"""Reads stretches of a metrics log again, for zooms into more detail than the bins hold."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from storyteller.system.files import open_regular
from storyteller.tracking.curves.columns import MetricColumns, joined, rows_as_left, rows_of
from storyteller.tracking.metrics_log import records_in, select_records

_BLOCK_BYTES = 1 << 20
_MOST_STRETCHES = 256


class ExactRows:
    """The rows of a log between two offsets, without the stretches that resumes superseded. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.version = -1
        """Rises whenever rows are dropped: an offset noted before may then point into a superseded stretch."""
        self.reset()

    def reset(self) -> None:
        """Forgets all about the file."""
        with self._lock:
            self._superseded: list[tuple[int, int]] = []
            self._cached: tuple[int, int, MetricColumns] | None = None
            self.version += 1

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
                inside, records = records_in(block[:size])
                offsets, records = select_records([begin + offset for offset in inside], records)
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

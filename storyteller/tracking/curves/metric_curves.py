"""One run's metrics as curves, followed as they grow: in memory that does not grow with the log, and without hurry.

The log is read line by line into bins; a deep zoom reads the lines of its range again. Until the whole log was read, a
sketch of lines sampled evenly stands for what is to come.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from storyteller.system.files import open_regular
from storyteller.system.json_values import finite
from storyteller.tracking.curves.bins import MEAN, Bins
from storyteller.tracking.curves.columns import (
    MetricColumns,
    breaks,
    courses,
    is_step,
    joined,
    rows_as_left,
    rows_of,
    with_steps,
)
from storyteller.tracking.curves.points import Points, reach, single, smoothed, thinned, within
from storyteller.tracking.metrics_log import last_records, records_in, sampled_records
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.tracking.curves.columns import X

_SLICE_BYTES = 1 << 17
"""Read at a time: a few milliseconds of parsing, so that other threads get their turn."""
_REST_SECONDS = 0.0005
"""Slept between two slices: a thread that waits for the interpreter would else get it 5 ms later each time."""
_LONGEST_LINE_BYTES = 1 << 20
_SKETCH_PLACES = 500
_LOOK_BACK_BYTES = 8 << 20
_EXACT_ROWS = 16_384
"""Most steps that a zoom reads from the log again: about a tenth of a second."""
_BEFORE_BYTES = 64
"""What stands before the position is compared, so that a log that was written anew is noticed."""
_MOST_KEYS = 64
_MOST_STRETCHES = 256
_MOST_AHEAD_ROWS = 20_000
_LONGEST_KEY = 200
_KNOWN = frozenset(
    [
        "train/loss",
        "train/grad_norm",
        "train/lr",
        "train/tokens_per_second",
        "train/mfu_pct",
        "train/padding_pct",
        "train/data_wait_pct",
        "memory/rss_gib",
        "memory/device_gib",
        "eval/loss",
        "eval/perplexity",
        "eval/bpb",
        "time/eta_seconds",
    ]
)
"""The metrics of the run folder's contract: there is always room for them."""
NOT_METRICS = frozenset(("step", "tokens", "seconds", "time"))


@dataclass(frozen=True)
class Line:
    """One metric over one axis: N points."""

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    """The least of what a point stands for."""
    high: Sequence[float]
    smooth: Sequence[float]
    """The means, smoothed; equal to them where no smoothing was asked for."""


class Curves:
    """A run's metrics.jsonl as columns, in memory that does not grow with the log.

    One thread reads (`sketch`, `catch_up`) while others look (`line`, `value_at`, `last`); nothing here raises for what
    is in the file.
    """

    def __init__(self, folder: RunFolder, most_bins: int = 8192) -> None:
        self._path = folder.metrics
        self._most_bins = most_bins
        self._seen = threading.RLock()  # what those who look see; held for moments
        self._reader = threading.Lock()  # one reads at a time
        self._version = self._course = -1
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Nothing is known."""
        with self._seen:
            self._bins = Bins(self._most_bins)
            self._keys: dict[str, None] = {}
            self._open: dict[str, Any] | None = None  # the newest step: more lines of it may come
            self._open_offset = 0
            self._position = 0  # up to here the file was read
            self._passing_over = False  # within a line that is too long
            self._identity: tuple[int, ...] = ()
            self._before = b""  # what stands before the position
            self._last: dict[str, float | str] = {}
            self._wall_ahead: float | None = None
            self._resumes: list[int] = []
            self._left: list[tuple[int, int]] = []  # stretches of the file that were given up by a resume
            self._course += 1  # rises where rows are dropped
            self._exact: tuple[int, int, MetricColumns] | None = None  # a stretch that was read again for a zoom
            self._ahead: MetricColumns | None = None  # the sketch: what stands past the position, in part
            self._ahead_last: dict[str, float | str] = {}
            self._ahead_offset = 0  # of its last line
            self._version += 1

    # --- reading ------------------------------------------------------------------------------------------------------

    def sketch(self) -> None:
        """A first picture, from lines sampled evenly over the file: under 0.3 s for a log of 300 MB."""
        with self._reader:
            offsets, records = with_steps(*sampled_records(self._path, _SKETCH_PLACES))
            if not records:
                return
            keys = self._admitted(records)
            newest = last_records(self._path, [None, *keys], _LOOK_BACK_BYTES)
            last = _stamp(newest.get(None, {}))
            for key in keys:
                value = finite(newest[key][key]) if key in newest else None
                if value is not None:
                    last[key] = value
            ahead = rows_as_left(offsets, records, keys)
            with self._seen:
                self._ahead = ahead
                self._ahead_last, self._ahead_offset = last, offsets[-1]
                self._version += 1

    def catch_up(self, budget_seconds: float | None = None) -> bool:
        """Read on, every line; True once at the end of the file. Called from a reader thread, again and again.

        A step that comes again (a resume) replaces what was there from that step on. Broken lines are passed over; a
        file that became shorter or is another one is begun anew. Of one that vanished, what was read stays to be seen:
        its run is being deleted. Never raises for what is in the file.
        """
        deadline = math.inf if budget_seconds is None else time.monotonic() + budget_seconds
        with self._reader:
            try:
                with open_regular(self._path) as file:
                    if self._is_another(file):
                        self._begin_anew()
                    while self._read_slice(file):
                        if time.monotonic() >= deadline:
                            self._look_ahead(file)
                            return False
                        time.sleep(_REST_SECONDS)
            except FileNotFoundError:
                return True
            except OSError:
                if self._position or self._ahead is not None:
                    self._begin_anew()
            with self._seen:
                if self._ahead is not None:
                    self._ahead = None
                    self._version += 1
            return True

    def _is_another(self, file: BinaryIO) -> bool:
        """Whether this is not the file that was read so far, or no longer what it was."""
        status = os.fstat(file.fileno())
        if self._identity and (status.st_dev, status.st_ino) != self._identity:
            return True
        if status.st_size < self._position:
            return True
        before = os.pread(file.fileno(), len(self._before), self._position - len(self._before))
        return before != self._before

    def _move_on(self, file: BinaryIO, size: int) -> None:
        """So many bytes were read; remember where in which file."""
        status = os.fstat(file.fileno())
        begin = max(0, self._position + size - _BEFORE_BYTES)
        before = os.pread(file.fileno(), self._position + size - begin, begin)
        with self._seen:
            self._position += size
            self._identity, self._before = (status.st_dev, status.st_ino), before

    def _read_slice(self, file: BinaryIO) -> bool:
        """Read some lines; whether there may be more."""
        block = os.pread(file.fileno(), _SLICE_BYTES, self._position)
        if len(block) == _SLICE_BYTES and b"\n" not in block:
            block = os.pread(file.fileno(), _LONGEST_LINE_BYTES, self._position)
        end = block.rfind(b"\n") + 1
        if self._passing_over:
            passed = block.find(b"\n") + 1
            self._passing_over = not passed
            self._move_on(file, passed or len(block))
            return bool(block)
        if not end and len(block) == _LONGEST_LINE_BYTES:
            self._passing_over = True
            self._move_on(file, len(block))
            return True
        if not end:
            return False
        inside, records = records_in(block[:end])
        self._take(file, [self._position + offset for offset in inside], records)
        self._move_on(file, end)
        return len(block) >= _SLICE_BYTES

    def _take(self, file: BinaryIO, offsets: list[int], records: list[dict[str, Any]]) -> None:
        """Lines in the order of the log, after those that were taken."""
        offsets, records = with_steps(offsets, records)
        if not records:
            return
        marks, self._wall_ahead = breaks(records, self._wall_ahead)
        stamp = _stamp(records[-1])
        if self._open is not None:
            offsets, records = [self._open_offset, *offsets], [self._open, *records]
        keys = self._admitted(records)
        for number, (course_offsets, course) in enumerate(courses(offsets, records)):
            rows = rows_of(course_offsets, course, keys)
            with self._seen:
                if number:
                    self._resume(file, course[0]["step"], course_offsets[0])
                self._bins.add(rows.where(slice(0, len(rows) - 1)))
                self._open, self._open_offset = rows.record(len(rows) - 1), int(rows.offsets[-1])
                self._last.update(_newest(rows))
        with self._seen:
            newest_step = records[-1]["step"]
            self._resumes = sorted({*self._resumes, *(step for step in marks if step <= newest_step)})
            self._last = {**{key: value for key, value in self._last.items() if key not in NOT_METRICS}, **stamp}
            self._version += 1

    def _admitted(self, records: Sequence[dict[str, Any]]) -> list[str]:
        """The metrics of these lines; a new key is one once it has had a number, as long as there is room."""
        found = set().union(*records) - NOT_METRICS
        for key in sorted(found - self._keys.keys()):
            room = len(self._keys) < _MOST_KEYS or key in _KNOWN
            if room and len(key) <= _LONGEST_KEY and any(finite(record.get(key)) is not None for record in records):
                with self._seen:
                    self._keys[key] = None
        return [key for key in self._keys if key in found]

    def _resume(self, file: BinaryIO, step: int, at: int) -> None:
        """A line at an offset goes back to a step: drop what was logged from that step on."""
        bins = self._bins
        place = bins.place_of(step)
        given_up = self._open_offset
        newest: dict[str, float | str] = {}
        if place < bins.filled:
            given_up = int(bins.offsets[place])
            rows = self._read_again(file, given_up, bins.end_of(place, self._open_offset))
            bins.filled, newest = place, _newest(rows.where(rows.x["step"] < step))
            if len(rows):
                kept = rows.x["step"] < step
                bins.add(rows.where(kept))
                given_up = int(rows.offsets[kept.sum()]) if not kept.all() else at
        earlier = [stretch for stretch in self._left if stretch[1] <= given_up]
        self._left = sorted(sorted([*earlier, (given_up, at)], key=lambda s: s[0] - s[1])[:_MOST_STRETCHES])
        self._resumes = [*(mark for mark in self._resumes if mark < step), step]
        self._open = self._exact = None
        self._course += 1
        self._last = {**self._newest_of(set(self._keys) - newest.keys(), file, at), **newest}

    def _newest_of(self, keys: Collection[str], file: BinaryIO, end: int) -> dict[str, float | str]:
        """The newest value in the bins of each of some metrics; the last bin's lines end at an offset."""
        found: dict[str, float | str] = {}
        places = {key: places[-1] for key in keys if len(places := self._bins.points(key, "step")[0])}
        for place in sorted(set(places.values())):
            rows = self._read_again(file, int(self._bins.offsets[place]), self._bins.end_of(place, end))
            found |= {key: value for key, value in _newest(rows).items() if key in places}
        return found

    def _read_again(self, file: BinaryIO, begin: int, end: int) -> MetricColumns:
        """The rows that stand between two offsets, each at a line's beginning."""
        rows = rows_of((), (), ())
        stretches = [stretch for stretch in self._left if begin <= stretch[0] and stretch[1] <= end]
        for stop, go_on in [*stretches, (end, end)]:
            while begin < stop:
                block = os.pread(file.fileno(), min(stop - begin, _LONGEST_LINE_BYTES), begin)
                size = block.rfind(b"\n") + 1 or len(block)
                if not size:
                    return rows
                inside, records = records_in(block[:size])
                offsets, records = with_steps([begin + offset for offset in inside], records)
                if len(rows):  # its last step may go on
                    offsets, records = [int(rows.offsets[-1]), *offsets], [rows.record(len(rows) - 1), *records]
                rows = joined(rows, rows_as_left(offsets, records, list(self._keys)))
                begin += size
            begin = go_on
        return rows

    def _look_ahead(self, file: BinaryIO) -> None:
        """While there is much to read: add the log's newest lines to the sketch."""
        if self._ahead is None:
            return
        size = os.fstat(file.fileno()).st_size
        begin = max(self._ahead_offset, size - _LONGEST_LINE_BYTES)
        block = os.pread(file.fileno(), size - begin, begin)
        first = block.find(b"\n") + 1  # the sketch's last line, or a piece
        inside, records = records_in(block[first : block.rfind(b"\n") + 1])
        offsets, records = with_steps([begin + first + offset for offset in inside], records)
        if not records:
            return
        rows = rows_as_left(offsets, records, self._admitted(records))
        with self._seen:
            together = joined(self._ahead, rows)
            self._ahead = together.where(slice(-_MOST_AHEAD_ROWS, None))
            self._ahead_last.update({**_newest(rows), **_stamp(records[-1])})
            self._ahead_offset = offsets[-1]
            self._version += 1

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics seen, such as `train/loss`."""
        with self._seen:
            return tuple(self._keys)

    @property
    def last(self) -> Mapping[str, float | str]:
        """The newest value of each key, and the newest line's step, tokens, seconds and time."""
        with self._seen:
            return {**self._last, **(self._ahead_last if self._ahead is not None else {})}

    @property
    def version(self) -> int:
        """Rises whenever something changed."""
        return self._version

    @property
    def resumes(self) -> list[int]:
        """Steps at which the run was resumed, ascending: the first that came again, or the first after a while in
        which nobody trained."""
        with self._seen:
            return list(self._resumes)

    @property
    def share_read(self) -> float:
        """How much of the log was read line by line, 0 to 1; the rest is sketched."""
        try:
            return min(1.0, self._position / max(1, self._path.stat().st_size))
        except OSError:
            return 1.0

    def line(
        self,
        key: str,
        x: X = "step",
        begin: float | None = None,
        end: float | None = None,
        points: int = 2000,
        smoothing: float = 0.0,
    ) -> Line:
        """The metric from `begin` to `end` on the axis, and one point more on either side, so that it reaches the edge.

        At most about `points` points, each the mean, lowest and highest of what it stands for. Where the bins hold
        fewer than that for the range, its lines are read from the log again, as long as they are not too many. May be
        called from any thread.

        `smoothing`, 0 to 1, is the span of an exponentially weighted mean as a share of the range: the weight of what
        lies behind falls by e over half a span of the axis, which gives it the mean age of a plain moving average over
        the span. Sums of weights are divided out, so that the beginning is not drawn towards 0: the correction of
        D. P. Kingma and J. Ba, Adam (2015), section 3, for points at uneven distances.
        """
        chosen = within(self._points(key, x, begin, end, points), begin, end)
        chosen = thinned(chosen, max(1, points))
        mean, low, high, _ = chosen.stats
        smooth = mean.tolist()
        if smoothing > 0 and len(smooth) > 1:
            left = float(chosen.x[0]) if begin is None else begin
            right = float(chosen.x[-1]) if end is None else end
            smooth = smoothed(chosen, min(1.0, smoothing) * (right - left))
        return Line(chosen.x.tolist(), mean.tolist(), low.tolist(), high.tolist(), smooth)

    def value_at(self, key: str, x: X, where: float) -> float | None:
        """The value logged nearest to a place on the axis; None where the metric has none."""
        near = within(self._points(key, x, where, where, points=1 << 30, keep=False), where, where)
        if not len(near.x):
            return None
        return float(near.stats[MEAN][abs(near.x - where).argmin()])

    def place_of(self, step: float, x: X) -> float | None:
        """Where a step lies on the axis, between the steps that were logged; None where nothing was."""
        import numpy as np

        with self._seen:
            bins = self._bins
            steps = np.concatenate([each["step"][: bins.filled] for each in (bins.first, bins.last)])
            places = np.concatenate([each[x][: bins.filled] for each in (bins.first, bins.last)])
            newer = self._newer_rows(())
        steps, places = np.concatenate((steps, newer.x["step"])), np.concatenate((places, newer.x[x]))
        there = ~np.isnan(places)
        if not there.any():
            return None
        order = np.argsort(steps[there], kind="stable")
        return float(np.interp(step, steps[there][order], places[there][order]))

    def _points(self, key: str, x: X, begin: float | None, end: float | None, points: int, keep: bool = True) -> Points:
        """What is known of the metric, in as much detail as `points` over the range ask for."""
        import numpy as np

        with self._seen:
            bins = self._bins
            places, middles, stats = bins.points(key, x)
            wanted = reach(middles, begin, end, more=2)
            stretch = None
            if len(places[wanted]):
                first, last = int(places[wanted][0]), int(places[wanted][-1])
                rows = int(bins.rows[first : last + 1].sum())
                if last - first + 1 < min(rows, points) and rows <= _EXACT_ROWS:
                    stretch = int(bins.offsets[first]), bins.end_of(last, self._open_offset)
            newer = self._newer_rows((key,))
            course = self._course
            first_step = float(newer.x["step"][0]) if len(newer) else math.inf
            if len(newer):  # the log's unread rest may be a course that goes back
                kept = bins.last["step"][places] < first_step
                middles, stats = middles[kept], stats[:, kept]
                wanted = slice(wanted.start, min(wanted.stop, len(middles)))
        exact = self._stretch(*stretch, course, keep) if stretch is not None else None
        parts = [Points(middles, stats)]
        if exact is not None:
            kept = exact.x["step"] < first_step
            before, after = slice(0, wanted.start), slice(wanted.stop, None)
            parts = [parts[0].where(before), _of_rows(exact.where(kept), key, x), parts[0].where(after)]
        parts.append(_of_rows(newer, key, x))
        return Points(np.concatenate([p.x for p in parts]), np.concatenate([p.stats for p in parts], axis=1))

    def _newer_rows(self, keys: tuple[str, ...]) -> MetricColumns:
        """What is not in the bins: the newest step, and what was sketched of the log's unread rest."""
        rows = rows_of((), (), keys) if self._open is None else rows_of([self._open_offset], [self._open], keys)
        if self._ahead is not None:
            rows = joined(rows, self._ahead.where(self._ahead.offsets >= self._position))
        return rows

    def _stretch(self, begin: int, end: int, course: int, keep: bool) -> MetricColumns | None:
        """The rows between two offsets, read again or kept from the last time; None where they cannot be read."""
        with self._seen:
            exact = self._exact
        rows, come_to = None, begin
        if exact is not None and exact[0] <= begin <= exact[1]:
            rows = exact[2].where((exact[2].offsets >= begin) & (exact[2].offsets < end))
            come_to = min(exact[1], end)
        if rows is None or come_to < end:
            try:
                with open_regular(self._path) as file:
                    new = self._read_again(file, come_to, end)
            except OSError:
                return rows
            rows = new if rows is None else joined(rows, new)
            if keep:
                with self._seen:
                    if self._course == course:
                        self._exact = (begin, end, rows)
        return rows


def _of_rows(rows: MetricColumns, key: str, x: X) -> Points:
    import numpy as np

    return single(rows.x[x], rows.values.get(key, np.full(len(rows), np.nan)))


def _stamp(record: Mapping[str, Any]) -> dict[str, float | str]:
    """Where a line stands: its step, tokens, seconds and time, as far as they are sound."""
    found: dict[str, float | str] = {}
    for key in ("step", "tokens", "seconds"):
        value = record.get(key)
        if is_step(value) or (key != "step" and finite(value) is not None):
            found[key] = value  # type: ignore[assignment]
    if isinstance(record.get("time"), str):
        found["time"] = record["time"][:_LONGEST_KEY]
    return found


def _newest(rows: MetricColumns) -> dict[str, float | str]:
    """The newest value of each metric in the rows."""
    import numpy as np

    there = {key: np.flatnonzero(~np.isnan(column)) for key, column in rows.values.items()}
    return {key: float(rows.values[key][places[-1]]) for key, places in there.items() if len(places)}

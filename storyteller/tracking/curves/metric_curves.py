"""A run's metrics as curves that follow the log, in memory that does not grow with it.

The log is read line by line into bins. A deep zoom reads the lines of its range again (`ExactRows`). Until the whole
log has been read, lines sampled evenly stand for the rest (`Sketch`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from storyteller.system.files import open_regular
from storyteller.system.json_values import finite
from storyteller.tracking.curves.bins import Bins, Points, points_of, reach, smoothed, thinned
from storyteller.tracking.curves.columns import MetricColumns, X, breaks, joined, newest_values, position_of, rows_of
from storyteller.tracking.curves.log_access import ExactRows, Sketch, draw_sketch, extend_sketch
from storyteller.tracking.log_follower import LogFollower, LogPart
from storyteller.tracking.run_folder import RunFolder

_REST_SECONDS = 0.0005  # slept between slices: a thread that waits for the interpreter would else get it 5 ms later
_EXACT_ROWS = 16_384  # most steps that a zoom reads from the log again: about a tenth of a second
_MOST_KEYS = 64
_LONGEST_KEY = 200
_STANDARD_KEYS = {
    *("train/loss", "train/grad_norm", "train/lr", "train/tokens_per_second", "train/mfu_pct", "train/padding_pct"),
    *("train/data_wait_pct", "memory/rss_gib", "memory/device_gib", "time/eta_seconds"),
    *("eval/loss", "eval/perplexity", "eval/bpb"),
}
"""The metrics that every run logs: they are kept even where `_MOST_KEYS` others came first."""
NOT_METRICS = frozenset(("step", "tokens", "seconds", "time"))


@dataclass(frozen=True)
class Line:
    """One metric over one axis: N points, each standing for one or more logged values."""

    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    smooth: Sequence[float]  # the smoothed means; the means themselves if no smoothing was asked for


class Curves:
    """The curves of a run's `metrics.jsonl`.

    One thread reads (`sketch`, `catch_up`) while any others look (`line`, `place_of`, `last`). Contents of the file
    never raise an error.
    """

    def __init__(self, folder: RunFolder, most_bins: int = 8192) -> None:
        self._path = folder.metrics
        self._most_bins = most_bins
        self._lock = threading.RLock()  # guards what looking threads see; held for moments
        self._reading = threading.Lock()  # held by the one thread that reads
        self._follower = LogFollower()
        self.version = -1  # rises whenever something changes
        self._reset()

    def _reset(self) -> None:
        with self._lock:
            self._follower.restart()
            self._exact = ExactRows(self._path)
            self._bins = Bins(self._most_bins)
            self._keys: dict[str, None] = {}
            self._newest: dict[str, Any] | None = None  # not in the bins yet: more lines of its step may come
            self._newest_offset = 0
            self._position = 0  # the file was read up to here
            self._last: dict[str, float | str] = {}
            self._wall_ahead: float | None = None
            self._resumes: list[int] = []
            self._sketch: Sketch | None = None
            self.version += 1

    def sketch(self) -> None:
        """Draws a first picture from lines sampled evenly over the file: under 0.3 s for a log of 300 MB."""
        with self._reading:
            if (sketch := draw_sketch(self._path, self._choose_keys)) is not None:
                with self._lock:
                    self._sketch = sketch
                    self.version += 1

    def catch_up(self, budget_seconds: float | None = None) -> bool:
        """Reads the lines that are new, and returns True at the end of the file. Called again and again by one thread.

        A resume replaces the curves from its step on. Broken lines are skipped. A truncated or replaced file is read
        from its start. After the file is gone, what was read of it stays: its run is being deleted.
        """
        deadline = math.inf if budget_seconds is None else time.monotonic() + budget_seconds
        with self._reading:
            try:
                with open_regular(self._path) as file:
                    if self._follower.restart_if_replaced(file):
                        self._reset()
                    while True:
                        for part in self._follower.read(file):
                            self._add(file, part)
                        with self._lock:
                            self._position = self._follower.position
                        if self._follower.at_end:
                            break
                        if time.monotonic() >= deadline:
                            self._extend_sketch(file)
                            return False
                        time.sleep(_REST_SECONDS)
            except FileNotFoundError:
                return True
            except OSError:
                if self._follower.position or self._sketch is not None:
                    self._reset()
            with self._lock:
                if self._sketch is not None:
                    self._sketch = None
                    self.version += 1
            return True

    def _extend_sketch(self, file: BinaryIO) -> None:
        """Keeps the newest lines in view while there is still much to read."""
        if self._sketch is not None:
            sketch = extend_sketch(self._sketch, file, self._choose_keys)
            with self._lock:
                self.version += sketch is not self._sketch
                self._sketch = sketch

    def _add(self, file: BinaryIO, part: LogPart) -> None:
        offsets, records = part.offsets, part.records
        interruptions, self._wall_ahead = breaks(records, self._wall_ahead)
        if self._newest is not None and not part.is_resume:  # these lines may belong to its step too
            offsets, records = [self._newest_offset, *offsets], [self._newest, *records]
        rows = rows_of(offsets, records, self._choose_keys(records))
        with self._lock:
            if part.is_resume:
                self._drop_superseded(file, records[0]["step"], offsets[0])
            self._bins.add(rows.where(slice(0, len(rows) - 1)))
            self._newest, self._newest_offset = rows.record(len(rows) - 1), int(rows.offsets[-1])
            self._resumes = sorted({*self._resumes, *interruptions})
            self._last = {key: value for key, value in self._last.items() if key not in NOT_METRICS}
            self._last |= newest_values(rows) | position_of(records[-1])
            self.version += 1

    def _choose_keys(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """The metrics of these records. A new key becomes one at its first number, as long as there is room."""
        found: set[str] = set().union(*records) - NOT_METRICS
        for key in sorted(found - self._keys.keys()):
            has_room = len(self._keys) < _MOST_KEYS or key in _STANDARD_KEYS
            if has_room and len(key) <= _LONGEST_KEY and any(finite(each.get(key)) is not None for each in records):
                with self._lock:
                    self._keys[key] = None
        return [key for key in self._keys if key in found]

    def _drop_superseded(self, file: BinaryIO, step: int, at: int) -> None:
        """The line at the offset `at` is a resume from `step`: drops what was logged from that step on."""
        bins = self._bins
        place = bins.place_of(step)
        begin = self._newest_offset
        newest: dict[str, float | str] = {}
        if place < bins.filled:
            # The resume may start within a bin. A bin cannot be cut, so its lines are read again and the earlier ones
            # are put into a new bin.
            begin = int(bins.offsets[place])
            rows = self._exact.read(file, begin, bins.end_of(place, self._newest_offset), list(self._keys))
            bins.filled, newest = place, newest_values(rows.where(rows.x["step"] < step))
            if len(rows):
                kept = rows.x["step"] < step
                bins.add(rows.where(kept))
                begin = int(rows.offsets[kept.sum()]) if not kept.all() else at
        self._exact.supersede(begin, at)
        self._resumes = [*(mark for mark in self._resumes if mark < step), step]
        self._newest = None
        self._last = {**self._newest_of(set(self._keys) - newest.keys(), file, at), **newest}

    def _newest_of(self, keys: Collection[str], file: BinaryIO, end: int) -> dict[str, float | str]:
        """The newest value of some metrics in the bins, whose last one ends at the offset `end`."""
        found: dict[str, float | str] = {}
        places = {key: places[-1] for key in keys if len(places := self._bins.points(key, "step")[0])}
        for place in sorted(set(places.values())):
            begin, stop = int(self._bins.offsets[place]), self._bins.end_of(place, end)
            rows = self._exact.read(file, begin, stop, list(self._keys))
            found |= {key: value for key, value in newest_values(rows).items() if key in places}
        return found

    @property
    def keys(self) -> tuple[str, ...]:
        """The metrics in the log, such as `train/loss`."""
        with self._lock:
            return tuple(self._keys)

    @property
    def last(self) -> Mapping[str, float | str]:
        """The newest value of each metric, and step, tokens, seconds and time of the newest line."""
        with self._lock:
            return {**self._last, **(self._sketch.last if self._sketch is not None else {})}

    @property
    def resumes(self) -> list[int]:
        """The steps at which the run was resumed, ascending: the first that was logged again, or the first after an
        interruption."""
        with self._lock:
            return list(self._resumes)

    @property
    def share_read(self) -> float:
        """The share of the log that was read line by line, 0 to 1; a sketch stands for the rest."""
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
        """Returns the metric from `begin` to `end` on the axis, with one point more on either side to reach the edges.

        Has about `points` points at most, each with mean, low and high of the values it stands for. Where the bins have
        fewer for the range, its lines are read from the log again, unless they are too many.

        `smoothing`, 0 to 1, is the span of an exponentially weighted mean as a share of the range. The weight of a
        value falls by a factor of e over half a span of the axis; its mean age is then that of a moving average over
        the whole span. The sum of weights is divided out, so that the curve does not start near 0: the bias correction
        of D. P. Kingma and J. Ba, Adam (2015), section 3, for points at uneven distances.
        """
        known = self._points(key, x, begin, end, points)
        chosen = thinned(known.where(reach(known.x, begin, end)), max(1, points))
        mean, low, high, _ = chosen.stats
        smooth = mean.tolist()
        if smoothing > 0 and len(smooth) > 1:
            left = float(chosen.x[0]) if begin is None else begin
            right = float(chosen.x[-1]) if end is None else end
            smooth = smoothed(chosen, min(1.0, smoothing) * (right - left))
        return Line(chosen.x.tolist(), mean.tolist(), low.tolist(), high.tolist(), smooth)

    def place_of(self, step: float, x: X) -> float | None:
        """Returns the x coordinate of a step, interpolated between logged steps; None if no step is logged."""
        with self._lock:
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

    def _points(self, key: str, x: X, begin: float | None, end: float | None, points: int) -> Points:
        """All points of the metric, those of the range in as much detail as `points` asks for."""
        with self._lock:
            bins = self._bins
            places, binned = bins.points(key, x)
            wanted = reach(binned.x, begin, end, more=2)
            stretch = None
            if len(places[wanted]):
                first, last = int(places[wanted][0]), int(places[wanted][-1])
                rows = int(bins.rows[first : last + 1].sum())
                if last - first + 1 < min(rows, points) and rows <= _EXACT_ROWS:
                    stretch = int(bins.offsets[first]), bins.end_of(last, self._newest_offset)
            newer = self._newer_rows((key,))
            keys, exact, version = list(self._keys), self._exact, self._exact.version
            first_step = float(newer.x["step"][0]) if len(newer) else math.inf
            if len(newer):  # the unread rest of the log may start with a resume
                binned = binned.where(bins.last["step"][places] < first_step)
                wanted = slice(wanted.start, min(wanted.stop, len(binned.x)))
        rows_again = exact.between(*stretch, keys, version) if stretch is not None else None
        parts = [binned]
        if rows_again is not None:
            between = points_of(rows_again.where(rows_again.x["step"] < first_step), key, x)
            parts = [binned.where(slice(0, wanted.start)), between, binned.where(slice(wanted.stop, None))]
        parts.append(points_of(newer, key, x))
        return Points(np.concatenate([p.x for p in parts]), np.concatenate([p.stats for p in parts], axis=1))

    def _newer_rows(self, keys: tuple[str, ...]) -> MetricColumns:
        """The rows that are not in the bins: the newest step, and the sketch of what has not been read."""
        newest = rows_of((), (), keys)
        if self._newest is not None:
            newest = rows_of([self._newest_offset], [self._newest], keys)
        if self._sketch is None:
            return newest
        return joined(newest, self._sketch.rows.where(self._sketch.rows.offsets >= self._position))

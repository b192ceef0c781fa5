"""The points of a curve, each with the statistics of the values it stands for, and the bins that rows are counted in.

There is a fixed number of bins, which are merged in pairs whenever all are full. Before points are drawn, they are cut
to a range, thinned and smoothed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from storyteller.tracking.curves.columns import AXES, MetricColumns, Numbers, X

MEAN, LOW, HIGH, COUNT = range(4)
_NOTHING = [[[math.nan]], [[math.nan]], [[math.nan]], [[0.0]]]  # the statistics of an empty bin


@dataclass
class Points:
    """N points of one metric over one axis."""

    x: Numbers
    stats: Numbers  # mean, low, high, count: 4 x N

    def where(self, chosen: Numbers | slice) -> Points:
        return Points(self.x[chosen], self.stats[:, chosen])


class Bins:
    """At most `most` bins of consecutive rows, by ascending step, with mean, low, high and count of each metric."""

    def __init__(self, most: int) -> None:
        """`most` is rounded down to an even number. Memory for a metric is allocated at its first value."""
        self.most = max(2, most // 2 * 2)
        self.filled = 0
        self.rows_per_bin = 1
        self.offsets = np.zeros(self.most, np.int64)  # where the first line of each bin starts in the file, in bytes
        self.rows = np.zeros(self.most, np.int64)  # number of steps in each bin
        self.first: dict[X, Numbers] = {axis: np.full(self.most, np.nan) for axis in AXES}
        self.last: dict[X, Numbers] = {axis: np.full(self.most, np.nan) for axis in AXES}
        self.keys: dict[str, int] = {}  # index of each metric in `values`
        # Mean, low, high and count: 4 x keys x bins. One array, because bins are filled a few rows at a time.
        self.values = np.zeros((4, 0, self.most))

    def add(self, rows: MetricColumns) -> None:
        """Adds rows, whose steps are past those of the last bin."""
        new = [key for key in rows.values if key not in self.keys]
        if new:
            self.keys |= {key: len(self.keys) + i for i, key in enumerate(new)}
            self.values = np.concatenate((self.values, np.tile(_NOTHING, (1, len(new), self.most))), axis=1)
        begin = 0
        while begin < len(rows):
            used = int(self.rows[self.filled - 1]) if self.filled else self.rows_per_bin
            free = max(0, self.rows_per_bin - used)
            if not free and self.filled == self.most:
                self._merge_pairs()
                continue
            # Takes as many rows as fit into the last bin, which may be partly filled, and the bins that are left.
            end = min(len(rows), begin + free + (self.most - self.filled) * self.rows_per_bin)
            place = np.arange(end - begin) + (self.rows_per_bin - free)
            self._put(rows.where(slice(begin, end)), self.filled - 1 + place // self.rows_per_bin)
            begin = end

    def place_of(self, step: float) -> int:
        """Index of the first bin that contains the step or a later one; the number of filled bins if none does."""
        return int(np.searchsorted(self.last["step"][: self.filled], step))

    def end_of(self, place: int, end: int) -> int:
        """Returns the byte offset in the log at which the lines of a bin end; `end` for the last bin."""
        return int(self.offsets[place + 1]) if place + 1 < self.filled else end

    def points(self, key: str, axis: X) -> tuple[Numbers, Points]:
        """The bins that have the metric: their indices, and a point in the middle of each."""
        if key not in self.keys:
            return np.zeros(0, np.int64), Points(np.zeros(0), np.zeros((4, 0)))
        values = self.values[:, self.keys[key], : self.filled]
        x = middle(self.first[axis][: self.filled], self.last[axis][: self.filled])
        places = np.flatnonzero((values[COUNT] > 0) & ~np.isnan(x))
        return places, Points(x[places], values[:, places])

    def _put(self, rows: MetricColumns, places: Numbers) -> None:
        """Adds rows to their bins: the last filled one and those after it."""
        starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        ends = np.concatenate((starts[1:], [len(places)])) - 1
        bins = slice(int(places[0]), int(places[-1]) + 1)
        fresh = np.arange(bins.start, bins.stop) >= self.filled
        self.rows[bins] = np.where(fresh, 0, self.rows[bins]) + ends - starts + 1
        self.offsets[bins] = np.where(fresh, rows.offsets[starts], self.offsets[bins])
        for axis in AXES:
            column, first, last = rows.x[axis], self.first[axis], self.last[axis]
            first[bins] = np.where(fresh, column[starts], first[bins])
            last[bins] = np.where(np.isnan(column[ends]) & ~fresh, last[bins], column[ends])
        columns = np.full((len(self.keys), len(places)), np.nan)
        for key, column in rows.values.items():
            columns[self.keys[key]] = column
        now = self.values[:, :, bins]
        now[:, :, fresh] = _NOTHING
        mean, count = grouped_means(columns, (~np.isnan(columns)).astype(np.float64), starts)
        low, high = (extreme.reduceat(columns, starts, axis=-1) for extreme in (np.fmin, np.fmax))
        now[...] = merged(now, np.stack((mean, low, high, count)))
        self.filled = bins.stop

    def _merge_pairs(self) -> None:
        half = self.most // 2
        self.rows[:half] = self.rows[0::2] + self.rows[1::2]
        self.offsets[:half] = self.offsets[0::2]
        for axis in AXES:
            first, last = self.first[axis], self.last[axis]
            first[:half] = np.where(np.isnan(first[0::2]), first[1::2], first[0::2])
            last[:half] = np.where(np.isnan(last[1::2]), last[0::2], last[1::2])
        self.values[:, :, :half] = merged(self.values[:, :, 0::2], self.values[:, :, 1::2])
        self.filled = half
        self.rows_per_bin *= 2


def points_of(rows: MetricColumns, key: str, axis: X) -> Points:
    """One point a row that has the metric and a place on the axis."""
    x, values = rows.x[axis], rows.values.get(key, np.full(len(rows), np.nan))
    there = ~(np.isnan(x) | np.isnan(values))
    return Points(x[there], np.stack((values, values, values, np.ones(len(values))))[:, there])


def reach(x: Numbers, begin: float | None, end: float | None, more: int = 1) -> slice:
    """Selects the points within the range and `more` of them on either side."""
    inside = np.flatnonzero((x >= (-math.inf if begin is None else begin)) & (x <= (math.inf if end is None else end)))
    if len(inside):
        first, last = int(inside[0]), int(inside[-1])
    else:  # the range lies between two points
        first = int(np.searchsorted(x, math.inf if begin is None else begin))
        last = first - 1
    return slice(max(0, first - more), min(len(x), last + 1 + more))


def thinned(points: Points, most: int) -> Points:
    """Merges consecutive points, so that at most `most` are left."""
    every = -(-len(points.x) // most)
    if every <= 1:
        return points
    starts = np.arange(0, len(points.x), every)
    mean, low, high, counts = points.stats
    means, count = grouped_means(mean, counts, starts)
    ends = np.minimum(starts + every, len(points.x)) - 1
    x = middle(points.x[starts], points.x[ends])
    low, high = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    return Points(x, np.stack((np.clip(means, low, high), low, high, count)))


def smoothed(points: Points, span: float) -> list[float]:
    """The exponentially weighted means over a span of the axis behind each point, weighted by counts, too."""
    if not span > 0 or math.isinf(span):
        return list(points.stats[MEAN].tolist())
    fades = np.exp(-np.maximum(np.diff(points.x, prepend=points.x[0]), 0) / (span / 2)).tolist()
    smooth, mean, weight = [], 0.0, 0.0
    for fade, value, count in zip(fades, points.stats[MEAN].tolist(), points.stats[COUNT].tolist(), strict=True):
        weight = weight * fade + count
        mean += (value - mean) * (count / weight)  # weighted sum / sum of weights, without large sums
        smooth.append(mean)
    return smooth


def middle(one: Numbers, other: Numbers) -> Numbers:
    """The middle between two values; exactly the value if both are the same."""
    return np.where(one == other, one, one / 2 + other / 2)  # halves first: the sum of two huge floats is infinite


def merged(one: Numbers, other: Numbers) -> Numbers:
    """Merges the statistics (4 x ...) of two groups of values."""
    count = one[COUNT] + other[COUNT]
    share = one[COUNT] / np.maximum(count, 1)
    # Weights the means before adding them: the sum of two huge floats is infinite.
    mean = np.nan_to_num(one[MEAN]) * share + np.nan_to_num(other[MEAN]) * (1 - share)
    low, high = np.fmin(one[LOW], other[LOW]), np.fmax(one[HIGH], other[HIGH])
    return np.stack((np.clip(np.where(count > 0, mean, np.nan), low, high), low, high, count))


def grouped_means(means: Numbers, counts: Numbers, starts: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and count of each group of values, on the last axis, that starts at `starts`; the mean of none is NaN."""
    if len(starts) == means.shape[-1]:  # groups of one
        return np.where(counts > 0, means, np.nan), counts
    count = np.add.reduceat(counts, starts, axis=-1)
    of_each = np.repeat(count, np.diff(np.concatenate((starts, [means.shape[-1]]))), axis=-1)
    mean = np.add.reduceat(np.nan_to_num(means) * (counts / np.maximum(of_each, 1)), starts, axis=-1)
    return np.where(count > 0, mean, np.nan), count

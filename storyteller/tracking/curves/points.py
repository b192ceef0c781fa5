"""The points of a curve, and how they are cut to a range, thinned and smoothed before they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from storyteller.tracking.curves.bins import COUNT, MEAN, grouped_means, middle
from storyteller.tracking.curves.columns import Numbers


@dataclass
class Points:
    """N points of one metric over one axis."""

    x: Numbers
    stats: Numbers
    """Mean, low, high, count: 4 x N."""

    def where(self, chosen: Numbers | slice) -> Points:
        return Points(self.x[chosen], self.stats[:, chosen])


def single(x: Numbers, values: Numbers) -> Points:
    """Makes points of one value each."""
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


def within(points: Points, begin: float | None, end: float | None) -> Points:
    return points.where(reach(points.x, begin, end))


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

"""How sure a figure is: 95 % intervals by bootstrap over stories (Efron 1979; the percentile interval).

A figure is a ratio of sums, sum(values) / sum(weights): nats over bytes, faults over words, or a plain mean where the
weights are 1. Stories are resampled whole, with replacement. Where several stories belong together (ten endings of one
prompt), `groups` says which, and whole groups are resampled: stories of one prompt are alike, and to take them for
independent would make the interval too narrow.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

COVERAGE_PCT = 95
RESAMPLES = 2000
_INDICES_AT_ONCE = 2_000_000
"""Bounds the memory of resampling many stories."""


@dataclass(frozen=True)
class Interval:
    """A figure, and between which bounds it would lie for 95 of 100 other draws of stories."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A figure of one model less that of another on the same items, with its bounds."""

    value: float
    low: float
    high: float
    real: bool
    """Whether the interval leaves 0 out."""


def interval(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """sum(values) / sum(weights) with its 95 % interval, the same for the same arguments.

    values, weights, groups: one an item; weights (not negative) are 1 by default, each item is its own group.
    Raises ValueError where there is no item, a number is not finite, or the weights sum to 0.
    """
    summed = _summed([values, _weights(values, weights)], groups)
    ratios = _ratios(summed, seed, resamples)
    low, high = _bounds(ratios)
    value = float(summed[0].sum() / summed[1].sum())
    return Interval(value, min(low, value), max(high, value))


def difference(
    a: Sequence[float],
    b: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    weights_b: Sequence[float] | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Difference:
    """The ratio of `a` less that of `b` with its 95 % interval, by paired bootstrap: both over the same items.

    a, b, weights, weights_b, groups: one an item; `weights_b` are those of `b` where they differ from `weights`.
    Raises ValueError as `interval` does, and where the lengths differ.
    """
    w_a = _weights(a, weights)
    w_b = w_a if weights_b is None else _weights(b, weights_b)
    summed = _summed([a, w_a, b, w_b], groups)
    of_a, of_b = float(summed[0].sum() / summed[1].sum()), float(summed[2].sum() / summed[3].sum())
    value = of_a - of_b
    low, high = _bounds(_ratios(summed, seed, resamples))
    low, high = min(low, value), max(high, value)
    rounding = 1e-12 * max(abs(of_a), abs(of_b))
    return Difference(value, low, high, real=low > rounding or high < -rounding)


def _weights(values: Sequence[float], weights: Sequence[float] | None) -> Sequence[float]:
    return [1.0] * len(values) if weights is None else weights


def _summed(columns: Sequence[Sequence[float]], groups: Sequence[Hashable] | None) -> Floats:
    """The columns (values and weights in turn), added up within each group: (columns, groups)."""
    import numpy as np

    if not len(columns[0]):
        raise ValueError("there is no item to measure")
    if len({len(column) for column in columns}) > 1 or (groups is not None and len(groups) != len(columns[0])):
        raise ValueError(f"the items differ in number: {[len(column) for column in columns]}")
    table = np.array([np.asarray(column, dtype=np.float64) for column in columns])
    if not np.isfinite(table).all():
        raise ValueError("a value or a weight is not a finite number")
    if (table[1::2] < 0).any() or not table[1::2].sum(axis=1).all():
        raise ValueError("the weights must not be negative, nor all 0")
    if groups is None:
        return table
    numbers: dict[Hashable, int] = {}
    of_item = [numbers.setdefault(group, len(numbers)) for group in groups]
    summed: Floats = np.array([np.bincount(of_item, weights=column, minlength=len(numbers)) for column in table])
    return summed


def _ratios(summed: Floats, seed: int, resamples: int) -> Floats:
    """Of each resample the ratio of the first two rows, less that of the next two where there are four."""
    import numpy as np

    random = np.random.default_rng(seed)
    n, found = summed.shape[1], []
    rows = max(1, _INDICES_AT_ONCE // n)
    for start in range(0, resamples, rows):
        drawn = random.integers(n, size=(min(rows, resamples - start), n))
        sums = np.array([row[drawn].sum(axis=1) for row in summed])
        found.append(sums[:, sums[1::2].all(axis=0)])  # a draw without any weight has no ratio
    sums = np.concatenate(found, axis=1)
    ratios: Floats = sums[0] / sums[1]
    return ratios if len(summed) == 2 else ratios - sums[2] / sums[3]


def _bounds(ratios: Floats) -> tuple[float, float]:
    import numpy as np

    if not len(ratios):
        return float("inf"), float("-inf")  # each draw was without weight: the figure itself is all there is
    tail = (100 - COVERAGE_PCT) / 2
    low, high = np.percentile(ratios, [tail, 100 - tail])
    return float(low), float(high)

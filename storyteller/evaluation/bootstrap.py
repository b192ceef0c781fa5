"""95 % confidence intervals by the bootstrap over stories (percentile interval, Efron 1979).

A statistic is a ratio of sums, sum(values) / sum(weights): nats over bytes, errors over words, or a mean if all weights
are 1. Each resample draws as many stories as there are, with replacement, and computes the statistic again; the
interval spans the middle 95 % of the results.

Stories that share a prompt are alike. Drawing them independently would understate the variance, so that `groups` makes
the bootstrap draw whole groups instead. Two models are compared by a paired bootstrap: each resample draws the same
stories for both, which removes the variance that comes from some stories being harder than others.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000
_MAX_INDICES = 2_000_000  # indices drawn at a time; bounds the memory


@dataclass(frozen=True)
class Interval:
    """A statistic and its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A statistic of one model minus that of another on the same stories, with its 95 % confidence interval."""

    significant: bool  # True if the interval does not contain 0

    def to_json(self) -> dict[str, float | bool]:
        return {"value": self.value, "low": self.low, "high": self.high, "real": self.significant}


def interval(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Returns sum(values) / sum(weights) with its 95 % interval; deterministic for a given `seed`.

    values, weights, groups: one per item. Weights are not negative and 1 by default; by default each item is a group of
    its own. Raises ValueError if there are no items, a number is not finite, or the weights sum to 0.
    """
    summed = _sum_groups([values, _weights(values, weights)], groups)
    low, high = _bounds(summed, seed, resamples)
    value = float(summed[0].sum() / summed[1].sum())
    return Interval(value, min(low, value), max(high, value))


def difference(
    a: Sequence[float],
    b: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    weights_b: Sequence[float] | None = None,
) -> Difference:
    """Returns the ratio of `a` minus that of `b` with its 95 % interval, by a paired bootstrap over the same items.

    a, b, weights, weights_b: one per item; `weights_b` are the weights of `b` if they differ from `weights`.
    Raises ValueError as `interval` does, and if the lengths differ.
    """
    w_a = _weights(a, weights)
    w_b = w_a if weights_b is None else _weights(b, weights_b)
    summed = _sum_groups([a, w_a, b, w_b], None)
    of_a, of_b = float(summed[0].sum() / summed[1].sum()), float(summed[2].sum() / summed[3].sum())
    value = of_a - of_b
    low, high = _bounds(summed, 0, RESAMPLES)
    low, high = min(low, value), max(high, value)
    # Two models with the same scores must not differ significantly by a rounding error.
    rounding = 1e-12 * max(abs(of_a), abs(of_b))
    return Difference(value, low, high, significant=low > rounding or high < -rounding)


def _weights(values: Sequence[float], weights: Sequence[float] | None) -> Sequence[float]:
    return [1.0] * len(values) if weights is None else weights


def _sum_groups(columns: Sequence[Sequence[float]], groups: Sequence[Hashable] | None) -> Floats:
    """Validates the columns (values and weights in turn) and sums them within groups: -> (columns, groups)."""
    import numpy as np

    if not len(columns[0]):
        raise ValueError("there are no items")
    if len({len(column) for column in columns}) > 1 or (groups is not None and len(groups) != len(columns[0])):
        raise ValueError(f"the columns differ in length: {[len(column) for column in columns]}")
    table = np.array([np.asarray(column, dtype=np.float64) for column in columns])
    if not np.isfinite(table).all():
        raise ValueError("a value or a weight is not finite")
    if (table[1::2] < 0).any() or not table[1::2].sum(axis=1).all():
        raise ValueError("weights must not be negative, nor all 0")
    if groups is None:
        return table
    numbers: dict[Hashable, int] = {}
    of_item = [numbers.setdefault(group, len(numbers)) for group in groups]
    summed: Floats = np.array([np.bincount(of_item, weights=column, minlength=len(numbers)) for column in table])
    return summed


def _bounds(summed: Floats, seed: int, resamples: int) -> tuple[float, float]:
    """The 95 % interval of row 0 / row 1, minus row 2 / row 3 if there are four rows: (columns, groups) -> bounds."""
    import numpy as np

    random = np.random.default_rng(seed)
    n, found = summed.shape[1], []
    rows = max(1, _MAX_INDICES // n)
    for start in range(0, resamples, rows):
        # All rows are summed over the same drawn groups: this is what pairs the two models.
        drawn = random.integers(n, size=(min(rows, resamples - start), n))
        sums = np.array([row[drawn].sum(axis=1) for row in summed])
        found.append(sums[:, sums[1::2].all(axis=0)])  # a resample whose weights are all 0 has no ratio
    sums = np.concatenate(found, axis=1)
    if not sums.size:
        return float("inf"), float("-inf")  # no resample has a ratio: the callers fall back to the value itself
    ratios = sums[0] / sums[1] if len(sums) == 2 else sums[0] / sums[1] - sums[2] / sums[3]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)

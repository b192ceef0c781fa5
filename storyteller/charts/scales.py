"""Converts series to arrays on the scale of the axes, and computes the ranges of the axes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storyteller.charts.ticks import nice_step
from storyteller.charts.types import Series, View

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

_LARGEST = sys.float_info.max
FAR = 1e7  # points further outside the plot than this, in dots, are drawn at this distance


@dataclass(frozen=True)
class Trace:
    """A series as arrays. y, low and high are on the scale of the axis (log10 if logarithmic); NaN is a gap."""

    series: Series
    x: NDArray[float64]
    y: NDArray[float64]
    low: NDArray[float64] | None
    high: NDArray[float64] | None

    @property
    def has_points(self) -> bool:
        """True if there is a point to draw."""
        import numpy as np

        return bool(np.any(np.isfinite(self.x) & np.isfinite(self.y)))

    @classmethod
    def of(cls, series: Series, log_y: bool) -> Trace:
        import numpy as np

        length = min(len(series.x), len(series.y))
        x, y = _scaled(numbers(series.x, length), False), _scaled(numbers(series.y, length), log_y)
        low = high = None
        if series.low is not None and series.high is not None and min(len(series.low), len(series.high)) >= length:
            low, high = _scaled(numbers(series.low, length), log_y), _scaled(numbers(series.high, length), log_y)
            if log_y:  # a band that reaches zero or below extends to the bottom
                low = np.where(np.isnan(low) & np.isfinite(high), -FAR, low)
        return cls(series, x, y, low, high)


def numbers(values: Sequence[float], length: int) -> NDArray[float64]:
    import numpy as np

    try:
        return np.asarray(values if len(values) == length else values[:length], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([number(value) for value in values[:length]], dtype=np.float64)


def number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _scaled(values: NDArray[float64], log_y: bool) -> NDArray[float64]:
    import numpy as np

    if not log_y:
        return np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        return np.where((values > 0) & np.isfinite(values), np.log10(values), np.nan)


def x_range(traces: Sequence[Trace], view: View) -> tuple[float, float]:
    begin, end = (value if value is not None and math.isfinite(value) else None for value in (view.x_begin, view.x_end))
    is_begin_given = begin is not None
    # Without points, the range is 1 wide and keeps the end that is given.
    without_points = 0.0 if end is None else end - 1.0, 1.0 if begin is None else begin + 1.0
    low, high = _extremes([trace.x for trace in traces]) or without_points
    begin, end = low if begin is None else begin, high if end is None else end
    if begin / 2 < end / 2:
        return begin, end
    # A single x: centre it in a range of some width.
    half = max(0.5, abs(begin) * 1e-3, abs(end) * 1e-3)
    low, high = (begin, begin + 2 * half) if is_begin_given else (end - half, end + half)
    return max(low, -_LARGEST), min(high, _LARGEST)


def y_range(traces: Sequence[Trace], view: View, x_begin: float, x_end: float) -> tuple[float, float]:
    """The range of the y axis. Ends that fit the data are rounded, so that they rarely move while a run grows."""
    limit = 0.0 if view.log_y else -math.inf
    given = tuple(
        None if end is None or not math.isfinite(end) or end <= limit else end for end in (view.y_begin, view.y_end)
    )
    in_sight: list[Any] = []
    for trace in traces:
        seen = (trace.x >= x_begin) & (trace.x <= x_end)
        in_sight.append(trace.y[seen])
        edges = [edge for edge in (trace.low, trace.high) if edge is not None]
        in_sight += [edge[seen & (edge > -FAR)] if view.log_y else edge[seen] for edge in edges]
    low, high = _rounded_out(*(_extremes(in_sight) or (0.0, 1.0)), log=view.log_y)
    if view.log_y:
        low, high = (float(10.0 ** min(max(exponent, -307.0), 308.0)) for exponent in (low, high))
    begin, end = given[0] if given[0] is not None else low, given[1] if given[1] is not None else high
    if begin / 2 < end / 2:
        return begin, end
    if view.log_y:
        return (begin, begin * 10) if begin * 10 < math.inf else (begin / 10, begin)
    half = max(abs(begin), 1.0) / 2
    return begin - half, begin + half


def _rounded_out(low: float, high: float, *, log: bool) -> tuple[float, float]:
    if log:
        low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
        return (low, high) if low < high else (low - 0.5, high + 0.5)
    if not low < high:
        half = abs(low) / 10 or 1.0
        low, high = max(low - half, -1.7e308), min(high + half, 1.7e308)
    step = nice_step(low, high, 40)
    if not 0 < step < math.inf:
        return low, high
    return max(math.floor(low / step) * step, -1.7e308), min(math.ceil(high / step) * step, 1.7e308)


def _extremes(columns: Iterable[Any]) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for column in columns:
        if len(column):
            import numpy as np

            # An array without a finite value gives NaN, which `min` and `max` ignore as their second argument.
            low, high = min(low, float(np.fmin.reduce(column))), max(high, float(np.fmax.reduce(column)))
    return (low, high) if low <= high else None

"""Line charts drawn in character cells: for the terminal app's chart and for `storyteller show`.

A cell holds several dots (braille 2 x 4, blocks 2 x 2, ascii 1), so that a chart of 160 x 45 cells is a picture of 300
x 170 dots. Lines are joined between their points; a band (or the raw points) lies dim behind each. What comes out is
text with the name of a style a piece; whoever shows it gives each style its colour.
"""

from __future__ import annotations

import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from storyteller.text import safe_line

if TYPE_CHECKING:
    from numpy import bool_, float64, int64, uint8, uint32
    from numpy.typing import NDArray

Cells = Literal["braille", "blocks", "ascii"]
Unit = Literal["number", "seconds"]
Run = tuple[str, str]
"""A piece of a row: its text, and the name of its style, one of `STYLES`."""

PALETTE = 8
STYLES = (
    "",
    "axis",
    "label",
    "cursor",
    "mark",
    "grid",
    *(f"line{number}" for number in range(PALETTE)),
    *(f"dim{number}" for number in range(PALETTE)),
)
"""`lineN` is the N-th colour of the palette, `dimN` the same faded, `grid` fainter than `axis`."""
_AXIS, _LABEL, _CURSOR, _MARK, _GRID, _LINE, _DIM = 1, 2, 3, 4, 5, 6, 6 + PALETTE

DOTS: dict[Cells, tuple[int, int]] = {"braille": (2, 4), "blocks": (2, 2), "ascii": (1, 1)}
"""Dots a cell: across, and down."""
SERIES_GLYPHS = "*+xo#@%&"
"""What each colour of the palette is drawn with in ascii."""

# The bit of the dot at [across][down] in the number that picks the glyph.
_BITS: dict[Cells, tuple[tuple[int, ...], ...]] = {
    "braille": ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)),
    "blocks": ((1, 2), (4, 8)),
    "ascii": ((1,),),
}
_QUADRANTS = " ▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"
_FAR = 1e7
"""Dots beyond the picture at which a point is drawn that lies further away."""


@dataclass(frozen=True)
class Series:
    """A line. Points that are no finite numbers, or not above 0 on a logarithmic axis, leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    """Index into the palette of 8."""
    low: Sequence[float] | None = None
    """The lower edge of a band that lies dim behind the line, a value a point; with `high`."""
    high: Sequence[float] | None = None
    dim: bool = False
    """Drawn faded, behind the others."""


@dataclass(frozen=True)
class Marks:
    """Places on the x axis: checkpoints, resumes."""

    x: Sequence[float]
    glyph: str
    name: str = ""


@dataclass(frozen=True)
class View:
    """What part of the plane is seen; None fits the data."""

    x_begin: float | None = None
    x_end: float | None = None
    y_begin: float | None = None
    y_end: float | None = None
    log_y: bool = False
    cursor_x: float | None = None


@dataclass(frozen=True)
class Frame:
    """Where in a picture the plot lies, in cells, and what it spans."""

    left: int
    top: int
    columns: int
    rows: int
    x_begin: float
    x_end: float
    y_begin: float
    y_end: float
    log_y: bool = False

    def x_at(self, column: float) -> float:
        """The x under the middle of a cell of the picture (0 is the leftmost column of the picture)."""
        if self.columns < 2:
            return self.x_begin
        share = (column - self.left) / (self.columns - 1)
        return self.x_begin * (1 - share) + self.x_end * share

    def column_of(self, x: float) -> int | None:
        """The column of the picture in which `x` lies; None where it is out of sight."""
        dot = _dot(x, self.x_begin, self.x_end, self.columns)
        return None if dot is None else self.left + dot


@dataclass(frozen=True)
class Picture:
    """A drawn chart: each row is as wide as was asked for, whatever it is made of."""

    rows: list[list[Run]]
    frame: Frame

    def plain(self) -> str:
        """The text alone, its rows ended by newlines."""
        return "".join("".join(text for text, _ in row).rstrip() + "\n" for row in self.rows)


def draw(
    series: Sequence[Series],
    columns: int,
    rows: int,
    view: View | None = None,
    *,
    cells: Cells = "braille",
    marks: Sequence[Marks] = (),
    x_name: str = "",
    y_name: str = "",
    x_unit: Unit = "number",
    patterns: bool = False,
) -> Picture:
    """A picture of exactly `rows` x `columns` cells, whatever the data are; it never raises for them.

    From the top: the legend (with the last values, or those at the cursor), the plot with the y axis at its left, the x
    axis with the marks, its labels; where there is little room, the plot keeps it. `patterns` tells the lines apart
    where there is no colour: the second is dashed, the third dotted, and so on.
    """
    view = view or View()
    columns, rows = max(0, columns), max(0, rows)
    traces = [_Trace.of(each, view.log_y) for each in series if len(each.x) and len(each.y)]
    x_begin, x_end = _x_range(traces, view)
    y_begin, y_end = _y_range(traces, view, x_begin, x_end)
    legend_rows, axis_rows = (1 if rows >= 3 else 0), (2 if rows >= 7 else 1 if rows >= 5 else 0)
    legend = _legend(series, view.cursor_x, x_begin, x_end, columns, max(1, rows // 8), y_name, cells, patterns)
    legend = legend if legend_rows else []
    plot_rows = rows - len(legend) - axis_rows
    y_ticks = ticks(y_begin, y_end, max(2, min(plot_rows // 3, 9)), log=view.log_y) if plot_rows > 1 else []
    gutter = max((len(label) for _, label in y_ticks), default=-1) + 1
    if columns - gutter < max(8, columns // 2):
        y_ticks, gutter = [], 0
    plot_columns = columns - gutter
    frame = Frame(gutter, len(legend), plot_columns, plot_rows, x_begin, x_end, y_begin, y_end, view.log_y)
    labels = [(row, label) for value, label in y_ticks if (row := _row_of(value, frame, cells)) is not None]
    cursor = frame.column_of(view.cursor_x) if view.cursor_x is not None else None
    plot = _plot(traces, frame, {row for row, _ in labels}, cursor, cells, patterns)
    drawn = [*legend, *_with_gutter(plot, labels, gutter)]
    if axis_rows:
        drawn += _x_axis(frame, view.cursor_x, marks, x_name, x_unit, cells)[-axis_rows:]
    return Picture(drawn, frame)


# --- figures ----------------------------------------------------------------------------------------------------------

_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def figure(value: float) -> str:
    """A value as a reader wants it: four digits that count (`0.2531`, `3.917`, `5,995`, `12.35M`, `3.0e-4`)."""
    if not math.isfinite(value):
        return "\u2014"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 9999.5:
        for unit, suffix in _SUFFIXES:
            if size >= 0.99995 * unit:
                return f"{value / unit:.4g}{suffix}"
    if size >= 999.95:
        return f"{value:,.0f}"
    # trailing zeros stay: a column of figures lines up, and 0.2530 was measured to four digits
    decimals = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1
    return "0" if value == 0 else f"{value:.{decimals}f}"


def duration(seconds: float) -> str:
    """`45s`, `5m`, `1h30m`, `2d`: a length of time in at most two units."""
    if not math.isfinite(seconds):
        return "\u2014"
    sign, left = ("-" if seconds < 0 else ""), abs(seconds)
    if 0 < left < 10 and left != round(left):
        return f"{sign}{left:.3g}s"
    whole = round(left)
    if whole >= 100 * 86400:
        return f"{sign}{_short(whole / 86400)}d"
    for unit, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{sign}{whole // unit}{name}" + (f"{rest}{smaller_name}" if rest else "")
    return f"{sign}{whole}s"


def place(x: float, unit: Unit = "number") -> str:
    """An x as the cursor shows it, exact where it is a whole number: `12,345`, `1h5m`."""
    if unit == "seconds":
        return duration(x)
    if math.isfinite(x) and abs(x) < 1e7 and (x == round(x) or abs(x) >= 1000):
        return f"{round(x):,}"
    return figure(x)


def ticks(begin: float, end: float, most: int, *, unit: Unit = "number", log: bool = False) -> list[tuple[float, str]]:
    """Round numbers from `begin` to `end`, some `most` of them, each with its label; steps are 1, 2 or 5 times a power.

    With `unit` "seconds" steps are those of a clock; with `log` they are 1-2-5, or whole decades where there are many.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and begin < end) or most < 1:
        return []
    if log and begin > 0:
        values = _log_ticks(begin, end, most)
        if len(values) >= 2:
            return [(value, _tick_label(value, value)) for value in values]
    step = _clock_step(begin, end, most) if unit == "seconds" else _nice_step(begin, end, most)
    if not 0 < step < math.inf:
        return []
    first, last = math.ceil(begin / step - 1e-9), math.floor(end / step + 1e-9)
    if last - first > 100:  # the span is below what the numbers can tell apart
        return []
    values = [min(max(number * step, begin), end) for number in range(first, last + 1)]
    values = [0.0 if abs(value) < step * 1e-6 else value for value in values]
    return [(value, duration(value) if unit == "seconds" else _tick_label(value, step)) for value in values]


def _nice_step(begin: float, end: float, most: int) -> float:
    raw = (end / most - begin / most) if most > 1 else end / 2 - begin / 2
    if not 0 < raw < math.inf:
        return 0.0
    power = math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        # by the literal, so that a step of 0.1 is 0.1 and not 0.1000000001
        step = float(f"{factor}e{power}")
        if step >= raw * (1 - 1e-9):
            return step
    return float(f"1e{power + 1}")


_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def _clock_step(begin: float, end: float, most: int) -> float:
    raw = end / most - begin / most
    if raw < 1:
        return _nice_step(begin, end, most)
    for step in _CLOCK:
        if step >= raw * (1 - 1e-9):
            return float(step)
    return 86400 * max(1.0, _nice_step(begin / 86400, end / 86400, most))


def _log_ticks(begin: float, end: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(begin)), math.ceil(math.log10(end))
    for factors in ((1, 2, 5), (1,)):
        if (last - first) * len(factors) > 60:
            continue
        values = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
        values = [value for value in values if begin * (1 - 1e-12) <= value <= end * (1 + 1e-12)]
        if len(values) <= most:
            return values
    every = max(1, math.ceil((last - first + 1) / most))
    values = [float(f"1e{power}") for power in range(first, last + 1) if power % every == 0 and -308 < power <= 308]
    return [value for value in values if begin * (1 - 1e-12) <= value <= end * (1 + 1e-12)]


def _tick_label(value: float, step: float) -> str:
    """`value` with as many digits as a step of `step` needs."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e15 or max(size, step) < 1e-3:
        digits = max(0, math.floor(math.log10(size)) - math.floor(math.log10(step) + 1e-9)) if step <= size else 0
        mantissa, _, exponent = f"{value:.{min(digits, 6)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 1000 and max(size, step) >= 1000:
        for unit, suffix in _SUFFIXES:
            if size >= unit:
                if unit == 1e3 and size < 10_000 and step < 100:
                    break
                text = f"{value / unit:.{_decimals(step / unit)}f}"
                return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return min(8, max(0, -math.floor(math.log10(step) + 1e-9)))


def _short(value: float) -> str:
    """Three digits with a suffix: `1.5k`."""
    for unit, suffix in _SUFFIXES:
        if value >= unit:
            return f"{value / unit:.3g}{suffix}" if value < 1e15 else f"{value:.0e}"
    return f"{value:.0f}"


# --- what is seen -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trace:
    """A series as numbers: y, low and high on the axis' own scale, NaN where nothing is drawn."""

    series: Series
    x: NDArray[float64]
    y: NDArray[float64]
    low: NDArray[float64] | None
    high: NDArray[float64] | None

    @classmethod
    def of(cls, series: Series, log_y: bool) -> _Trace:
        import numpy as np

        length = min(len(series.x), len(series.y))
        x, y = _numbers(series.x, length), _scaled(_numbers(series.y, length), log_y)
        x = np.where(np.isfinite(x), x, np.nan)
        low = high = None
        if series.low is not None and series.high is not None and min(len(series.low), len(series.high)) >= length:
            low, high = _scaled(_numbers(series.low, length), log_y), _scaled(_numbers(series.high, length), log_y)
            if log_y:  # a band that goes below zero goes to the bottom
                low = np.where(np.isnan(low) & np.isfinite(high), -_FAR, low)
        return cls(series, x, y, low, high)


def _numbers(values: Sequence[float], length: int) -> NDArray[float64]:
    import numpy as np

    try:
        return np.asarray(values[:length], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in values[:length]], dtype=np.float64)


def _number(value: Any) -> float:
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


def _x_range(traces: Sequence[_Trace], view: View) -> tuple[float, float]:
    given = (_finite(view.x_begin), _finite(view.x_end))
    begin, end = _filled(given, _extremes([trace.x for trace in traces]))
    if begin < end:
        return begin, end
    # one place alone stands in the middle
    half = max(0.5, abs(begin) * 1e-3)
    return (begin, begin + 2 * half) if given[0] is not None else (end - half, end + half)


def _y_range(traces: Sequence[_Trace], view: View, x_begin: float, x_end: float) -> tuple[float, float]:
    """The ends of the y axis as values; fitted ones are round, so that they stand still while a run grows."""
    limit = 0.0 if view.log_y else -math.inf
    given = tuple(
        None if end is None or not math.isfinite(end) or end <= limit else end for end in (view.y_begin, view.y_end)
    )
    in_sight: list[Any] = []
    for trace in traces:
        seen = (trace.x >= x_begin) & (trace.x <= x_end)
        in_sight.append(trace.y[seen])
        edges = [edge for edge in (trace.low, trace.high) if edge is not None]
        in_sight += [edge[seen & (edge > -_FAR)] if view.log_y else edge[seen] for edge in edges]
    found = _extremes(in_sight)
    if found is None:
        found = (0.0, 1.0)
    low, high = _rounded_out(*found, log=view.log_y)
    if view.log_y:
        low, high = _power(low), _power(high)
    begin, end = given[0] if given[0] is not None else low, given[1] if given[1] is not None else high
    if begin < end:
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
    step = _nice_step(low, high, 40)
    if not 0 < step < math.inf:
        return low, high
    return max(math.floor(low / step) * step, -1.7e308), min(math.ceil(high / step) * step, 1.7e308)


def _power(exponent: float) -> float:
    return float(10.0 ** min(max(exponent, -307.0), 308.0))


def _extremes(columns: Iterable[Any]) -> tuple[float, float] | None:
    low, high = math.inf, -math.inf
    for column in columns:
        if len(column):
            import numpy as np

            low = min(low, float(np.fmin.reduce(column)) if not math.isnan(np.fmin.reduce(column)) else low)
            high = max(high, float(np.fmax.reduce(column)) if not math.isnan(np.fmax.reduce(column)) else high)
    return (low, high) if low <= high else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _filled(given: tuple[float | None, float | None], found: tuple[float, float] | None) -> tuple[float, float]:
    begin, end = found or (0.0, 1.0)
    if found is None and (given[0] is not None or given[1] is not None):
        begin = given[0] if given[0] is not None else (given[1] or 0.0) - 1.0
        end = given[1] if given[1] is not None else begin + 1.0
    return given[0] if given[0] is not None else begin, given[1] if given[1] is not None else end


def _dot(value: float, begin: float, end: float, dots: int) -> int | None:
    """Which of `dots` places from `begin` to `end` a value falls on; None outside of them."""
    if dots < 1 or not math.isfinite(value):
        return None
    # halves, so that the distance of two huge numbers stays finite
    dot = math.floor((value / 2 - begin / 2) / (end / 2 - begin / 2) * (dots - 1) + 0.5)
    return dot if 0 <= dot < dots else None


def _row_of(value: float, frame: Frame, cells: Cells) -> int | None:
    """The row of the plot in which a value of y lies."""
    down = DOTS[cells][1]
    y_begin, y_end = frame.y_begin, frame.y_end
    if frame.log_y:
        value, y_begin, y_end = math.log10(value), math.log10(y_begin), math.log10(y_end)
    dot = _dot(value, y_end, y_begin, frame.rows * down)
    return None if dot is None else dot // down


# --- dots -------------------------------------------------------------------------------------------------------------


def _plot(
    traces: Sequence[_Trace], frame: Frame, grid: set[int], cursor: int | None, cells: Cells, patterns: bool
) -> list[list[Run]]:
    """The rows of the plot."""
    if frame.columns < 1 or frame.rows < 1:
        return [[] for _ in range(frame.rows)]
    bare = [_bare_row(frame, row in grid, cursor, cells) for row in range(frame.rows)]
    if not traces:
        return [_runs(text, styles) for text, styles in bare]
    import numpy as np

    glyphs = np.array([[ord(glyph) for glyph in text] for text, _ in bare], dtype=np.uint32)
    styles = np.array([list(row) for _, row in bare], dtype=np.uint8)
    _put_bands(traces, frame, glyphs, styles, cells)
    _put_lines(traces, frame, glyphs, styles, cells, patterns)
    return [
        _runs(line.astype("<u4").tobytes().decode("utf-32-le"), row.tobytes())
        for line, row in zip(glyphs, styles, strict=True)
    ]


def _bare_row(frame: Frame, on_grid: bool, cursor: int | None, cells: Cells) -> tuple[str, bytes]:
    """A row of the plot without its lines: grid and cursor alone."""
    text = ("\u2508" if cells != "ascii" else " ") * frame.columns if on_grid else " " * frame.columns
    styles = bytes([_GRID if on_grid else 0]) * frame.columns
    if cursor is not None:
        at = cursor - frame.left
        text = text[:at] + ("\u2502" if cells != "ascii" else "|") + text[at + 1 :]
        styles = styles[:at] + bytes([_CURSOR]) + styles[at + 1 :]
    return text, styles


def _put_bands(
    traces: Sequence[_Trace], frame: Frame, glyphs: NDArray[uint32], styles: NDArray[uint8], cells: Cells
) -> None:
    import numpy as np

    union = np.zeros(glyphs.shape, dtype=np.uint8)
    most = np.zeros(glyphs.shape, dtype=np.uint8)
    winner = np.zeros(glyphs.shape, dtype=np.uint8)
    for trace in traces:
        if trace.low is None or trace.high is None or trace.series.dim:
            continue
        bits = _bits(_band(trace, frame, cells), cells)
        count = _POPCOUNT(bits)
        wins = count > most
        winner[wins] = trace.series.color % PALETTE
        most = np.maximum(most, count)
        union |= bits
    lit = (union > 0) & (styles != _CURSOR)
    glyphs[lit] = _glyphs(union, winner, cells, dim=True)[lit]
    styles[lit] = _DIM + winner[lit]


def _put_lines(
    traces: Sequence[_Trace],
    frame: Frame,
    glyphs: NDArray[uint32],
    styles: NDArray[uint8],
    cells: Cells,
    patterns: bool,
) -> None:
    """Every dot of every line; a cell is of the colour of the line that has most dots in it, faded lines last."""
    import numpy as np

    union = np.zeros(glyphs.shape, dtype=np.uint8)
    most = np.zeros(glyphs.shape, dtype=np.uint8)
    style = np.zeros(glyphs.shape, dtype=np.uint8)
    color = np.zeros(glyphs.shape, dtype=np.uint8)
    for trace in traces:
        dots = _stroke(trace, frame, cells)
        if patterns:
            _apply_pattern(dots, trace.series.color)
        bits = _bits(dots, cells)
        score = np.where(bits > 0, _POPCOUNT(bits) + (0 if trace.series.dim else 16), 0).astype(np.uint8)
        wins = score > most
        color[wins] = trace.series.color % PALETTE
        style[wins] = (_DIM if trace.series.dim else _LINE) + trace.series.color % PALETTE
        most = np.maximum(most, score)
        union |= bits
    lit = union > 0
    glyphs[lit] = _glyphs(union, color, cells, dim=False)[lit]
    styles[lit] = style[lit]


def _apply_pattern(dots: NDArray[bool_], color: int) -> None:
    """Leave columns of dots out, each line by a rhythm of its own."""
    on, off = _RHYTHMS[color % len(_RHYTHMS)]
    for column in range(on, on + off):
        dots[column :: on + off] = False


_RHYTHMS = ((1, 0), (6, 4), (2, 4), (10, 4), (4, 2), (2, 2), (12, 8), (2, 8))
"""Columns of dots lit and left out, a colour each."""


def _places(trace: _Trace, values: NDArray[float64], frame: Frame, cells: Cells) -> tuple[Any, Any, Any]:
    """The dot of each point as whole numbers (column, row), and which points there are."""
    import numpy as np

    across, down = DOTS[cells]
    y_begin, y_end = frame.y_begin, frame.y_end
    if frame.log_y:
        y_begin, y_end = math.log10(y_begin), math.log10(y_end)
    with np.errstate(all="ignore"):
        share_x = (trace.x / 2 - frame.x_begin / 2) / (frame.x_end / 2 - frame.x_begin / 2)
        share_y = (values / 2 - y_end / 2) / (y_begin / 2 - y_end / 2)
        u = np.clip(share_x * (frame.columns * across - 1), -_FAR, _FAR)
        v = np.clip(share_y * (frame.rows * down - 1), -_FAR, _FAR)
        there = np.isfinite(u) & np.isfinite(v)
        column = np.floor(np.where(there, u, 0.0) + 0.5).astype(np.int64)
        row = np.floor(np.where(there, v, 0.0) + 0.5).astype(np.int64)
    return column, row, there


def _stroke(trace: _Trace, frame: Frame, cells: Cells) -> NDArray[bool_]:
    """The dots of a line: its points, and what joins them; one dot a column where it is flat, one a row where steep."""
    import numpy as np

    column, row, there = _places(trace, trace.y, frame, cells)
    across, down = DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    which, at = _crossed(column, there, wide)
    begin_row, end_row = row[which], row[which + 1]
    begin, end = column[which], column[which + 1]
    reach, rise = end - begin, end_row - begin_row
    flat = np.abs(rise) <= np.abs(reach)
    slope = rise / np.where(reach == 0, 1, reach)
    middle = np.floor(begin_row + (at - begin) * slope + 0.5)
    # steep: the rows whose place on the line falls into this column
    reach_low, reach_high = np.minimum(begin, end), np.maximum(begin, end)
    enter = begin_row + (np.maximum(at - 0.5, reach_low) - begin) * slope
    leave = begin_row + (np.minimum(at + 0.5, reach_high) - begin) * slope
    first = np.where(flat, middle, np.ceil(np.minimum(enter, leave)))
    last = np.where(flat, middle, np.floor(np.maximum(enter, leave)))
    upright = reach == 0
    first = np.where(upright, np.minimum(begin_row, end_row), first).astype(np.int64)
    last = np.where(upright, np.maximum(begin_row, end_row), last).astype(np.int64)
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    return _filled_spans(
        np.concatenate([at, column[alone]]),
        np.concatenate([first, row[alone]]),
        np.concatenate([last, row[alone]]),
        wide,
        high,
    )


def _band(trace: _Trace, frame: Frame, cells: Cells) -> NDArray[bool_]:
    """The dots between low and high, filled from point to point."""
    import numpy as np

    assert trace.low is not None  # noqa: S101
    assert trace.high is not None  # noqa: S101
    across, down = DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    column, lower, there = _places(trace, trace.low, frame, cells)
    _, upper, also = _places(trace, trace.high, frame, cells)
    there &= also
    which, at = _crossed(column, there, wide)
    reach = column[which + 1] - column[which]
    share = (at - column[which]) / np.where(reach == 0, 1, reach)
    top = np.floor(upper[which] + (upper[which + 1] - upper[which]) * share + 0.5).astype(np.int64)
    bottom = np.floor(lower[which] + (lower[which + 1] - lower[which]) * share + 0.5).astype(np.int64)
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    tops, bottoms = np.concatenate([top, upper[alone]]), np.concatenate([bottom, lower[alone]])
    return _filled_spans(
        np.concatenate([at, column[alone]]), np.minimum(tops, bottoms), np.maximum(tops, bottoms), wide, high
    )


def _crossed(column: NDArray[int64], there: NDArray[bool_], wide: int) -> tuple[NDArray[int64], NDArray[int64]]:
    """Every column of dots in sight that a join between neighbouring points crosses: the join's number, the column."""
    import numpy as np

    joins = np.flatnonzero(there[:-1] & there[1:])
    one, other = column[joins], column[joins + 1]
    first, last = np.maximum(np.minimum(one, other), 0), np.minimum(np.maximum(one, other), wide - 1)
    count = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(joins)), count)
    at = first[which] + np.arange(len(which)) - (np.cumsum(count) - count)[which]
    return joins[which], at


def _filled_spans(
    column: NDArray[int64], first: NDArray[int64], last: NDArray[int64], wide: int, high: int
) -> NDArray[bool_]:
    """Dots [column, row] of which each span, from its first row to its last, is lit; what is out of sight is cut."""
    import numpy as np

    first, last = np.maximum(first, 0), np.minimum(last, high - 1)
    seen = first <= last
    start = column[seen] * (high + 1)
    # where spans begin less where they end, summed up: above zero inside any of them
    edges = np.bincount(start + first[seen], minlength=wide * (high + 1))
    edges -= np.bincount(start + last[seen] + 1, minlength=wide * (high + 1))
    dots: NDArray[bool_] = edges.cumsum().reshape(wide, high + 1)[:, :high] > 0
    return dots


def _bits(dots: NDArray[bool_], cells: Cells) -> NDArray[uint8]:
    """[row, column] of cells: the number that picks the glyph."""
    import numpy as np

    across, down = DOTS[cells]
    bits = np.zeros((dots.shape[0] // across, dots.shape[1] // down), dtype=np.uint8)
    for right, column in enumerate(_BITS[cells]):
        for below, bit in enumerate(column):
            bits |= dots[right::across, below::down].view(np.uint8) * np.uint8(bit)
    return bits.T


def _POPCOUNT(bits: NDArray[uint8]) -> NDArray[uint8]:
    import numpy as np

    return np.bitwise_count(bits)


def _glyphs(bits: NDArray[uint8], color: NDArray[uint8], cells: Cells, *, dim: bool) -> NDArray[uint32]:
    """The character of each cell, as its code point."""
    import numpy as np

    if cells == "braille":
        return bits.astype(np.uint32) + 0x2800
    if cells == "blocks":
        return np.array([ord(glyph) for glyph in _QUADRANTS], dtype=np.uint32)[bits]
    if dim:
        return np.full(bits.shape, ord("."), dtype=np.uint32)
    return np.array([ord(glyph) for glyph in SERIES_GLYPHS], dtype=np.uint32)[color]


# --- words around the plot --------------------------------------------------------------------------------------------


def _runs(text: str, styles: bytes) -> list[Run]:
    """A row as pieces of one style each."""
    return [(text[run.start() : run.end()], STYLES[run.group()[0]]) for run in _SAME.finditer(styles)]


_SAME = re.compile(rb"(.)\1*", re.DOTALL)


def _with_gutter(plot: list[list[Run]], labels: Sequence[tuple[int, str]], gutter: int) -> list[list[Run]]:
    if not gutter:
        return plot
    by_row = dict(reversed(labels))  # of two in one row the first
    return [
        [(by_row.get(row, "").rjust(gutter - 1) + " ", "label" if row in by_row else ""), *runs]
        for row, runs in enumerate(plot)
    ]


def _x_axis(
    frame: Frame, cursor_x: float | None, marks: Sequence[Marks], x_name: str, x_unit: Unit, cells: Cells
) -> list[list[Run]]:
    """Two rows: the line with ticks and marks, and the labels."""
    width = frame.left + frame.columns
    ascii_only = cells == "ascii"
    line = bytearray([0] * frame.left + [_AXIS] * frame.columns)
    text = list(" " * frame.left + ("-" if ascii_only else "\u2500") * frame.columns)
    labels, label_styles = [" "] * width, bytearray(width)
    taken = [False] * (width + 1)

    def put(words: str, start: int, style: int) -> bool:
        end = start + len(words)
        if start < 0 or end > width or any(taken[max(0, start - 1) : end + 1]):
            return False
        labels[start:end] = list(words)
        label_styles[start:end] = bytes([style]) * len(words)
        taken[start:end] = [True] * len(words)
        return True

    cursor = frame.column_of(cursor_x) if cursor_x is not None else None
    if cursor is not None and cursor_x is not None:
        words = f" {place(cursor_x, x_unit)} "
        put(words, min(max(cursor - len(words) // 2, 0), max(0, width - len(words))), _CURSOR)
    name = _fitted(x_name, max(0, frame.columns // 3), cells)
    put(name, width - len(name), _LABEL)
    for value, label in ticks(frame.x_begin, frame.x_end, max(2, min(frame.columns // 12, 10)), unit=x_unit):
        column = frame.column_of(value)
        if column is None:
            continue
        text[column] = "+" if ascii_only else "\u252c"
        put(label, min(max(column - (len(label) - 1) // 2, 0), max(0, width - len(label))), _LABEL)
    for number, each in enumerate(marks):
        glyph = _fitted(each.glyph[:1], 1, "braille") or "^"
        if ascii_only and not glyph.isascii():
            glyph = "^!~v"[number % 4]
        for x in each.x:
            column = frame.column_of(_number(x))
            if column is not None:
                text[column], line[column] = glyph, _MARK
    if cursor is not None:
        text[cursor], line[cursor] = ("|" if ascii_only else "\u2534"), _CURSOR
    return [_runs("".join(text), bytes(line)), _runs("".join(labels), bytes(label_styles))]


def value_at(series: Series, x: float, tolerance: float = 0.0) -> float | None:
    """The y of the point nearest to `x`; None where the line does not reach within `tolerance`. `x` must ascend."""
    length = min(len(series.x), len(series.y))
    if not length or not math.isfinite(x):
        return None
    try:
        if not series.x[0] - tolerance <= x <= series.x[length - 1] + tolerance:
            return None
        after = bisect_left(series.x, x, 0, length)
        near = [at for at in (after - 1, after) if 0 <= at < length]
        found = _number(series.y[min(near, key=lambda at: abs(series.x[at] - x))])
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def last_value(series: Series) -> float | None:
    """The last y that is a number."""
    for at in range(min(len(series.x), len(series.y)) - 1, -1, -1):
        value = _number(series.y[at])
        if math.isfinite(value):
            return value
    return None


def swatch(color: int, cells: Cells = "braille", patterns: bool = False) -> str:
    """Two cells that stand for a line in a legend."""
    if cells == "ascii":
        return SERIES_GLYPHS[color % PALETTE] * 2
    return _SWATCHES[color % PALETTE] if patterns else _SWATCHES[0]


_SWATCHES = (
    "\u2501\u2501",
    "\u2578\u2578",
    "\u00b7\u00b7",
    "\u2501\u2578",
    "\u2505\u2505",
    "\u2509\u2509",
    "\u2501 ",
    "\u00b7 ",
)


def _legend(
    series: Sequence[Series],
    cursor_x: float | None,
    x_begin: float,
    x_end: float,
    columns: int,
    most_rows: int,
    y_name: str,
    cells: Cells,
    patterns: bool,
) -> list[list[Run]]:
    """The name of the y axis and a key a line, with its value at the cursor, or its last."""
    tolerance = (x_end / 2 - x_begin / 2) / max(1, columns)
    title = _fitted(y_name, columns, cells)
    keys: list[tuple[str, str, str, str]] = []
    for each in series:
        value = last_value(each) if cursor_x is None else value_at(each, cursor_x, tolerance)
        shown = ("-" if cells == "ascii" else "\u2014") if value is None else figure(value)
        style = f"{'dim' if each.dim else 'line'}{each.color % PALETTE}"
        keys.append((swatch(each.color, cells, patterns), _fitted(each.name, 60, cells), shown, style))
    for limit in (60, 40, 28, 20, 14, 9, 5, 0):
        rows = _laid(title, keys, columns, limit, most_rows, cells)
        if rows is not None:
            return rows
    return [_padded([(title[:columns], "label")], columns)]


def _laid(
    title: str, keys: Sequence[tuple[str, str, str, str]], columns: int, limit: int, most_rows: int, cells: Cells
) -> list[list[Run]] | None:
    """The legend with names of at most `limit` characters; None where it does not fit."""
    rows: list[list[Run]] = [[(title, "label")] if title else []]
    used = len(title)
    for mark, name, shown, style in keys:
        name = _fitted(name, limit, cells) if name != title or len(keys) > 1 else ""
        pieces: list[Run] = [(mark, style), (f" {name}" if name else "", "label"), (f" {shown}", style)]
        length = sum(len(text) for text, _ in pieces)
        gap = 3 if rows[-1] else 0
        if used + gap + length > columns:
            rows.append([])
            used, gap = 0, 0
        if length > columns or len(rows) > most_rows:
            return None
        rows[-1] += [(" " * gap, ""), *pieces]
        used += gap + length
    return [_padded(row, columns) for row in rows]


def _padded(row: list[Run], columns: int) -> list[Run]:
    left = columns - sum(len(text) for text, _ in row)
    return [(text, style) for text, style in [*row, (" " * left, "")] if text]


def _fitted(text: str, limit: int, cells: Cells) -> str:
    """`text` made safe, a cell a character, and cut to `limit` cells."""
    line = safe_line(text)
    if not line.isascii():
        line = "".join(_narrow(character) for character in line)
        if cells == "ascii":
            line = line.encode("ascii", "replace").decode("ascii")
    if len(line) <= limit:
        return line
    return line[: max(0, limit - 1)] + ("~" if cells == "ascii" else "\u2026") if limit > 0 else ""


def _narrow(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    return "\u25a1" if unicodedata.east_asian_width(character) in "WF" else character

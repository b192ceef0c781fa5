"""Draws plots as inline SVG: lines, intervals, and grids of small plots.

A plot is as wide as its place on the page. Positions are percentages of the width, and only the lines are stretched, so
that text and strokes have the same size on a phone and on a wide screen. Series, marks and ticks are those of `charts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from storyteller.charts import Marks, Series, Unit, View, format_number, format_x, ticks
from storyteller.charts.scales import Trace, x_range, y_range
from storyteller.charts.types import fraction
from storyteller.reports.html import Markup, element, optional
from storyteller.reports.style import COLORS
from storyteller.text import safe_line

_FINE = 2000  # width and height of the coordinate system of lines, finer than the pixels of any screen
_MAX_POINTS = 1200  # per line; longer ones are thinned
_DASHES = ("", "7 4", "2 4", "11 4 2 4", "4 3", "14 4", "1 3", "8 3 1 3")
"""Dash pattern per colour, so that lines differ by more than colour."""
_X_TICKS, _Y_TICKS = 6, 5
_ROW_PX = 40
_FEW_POINTS = 60
_FEW_MARKS, _MAX_MARKS = 8, 400


def lines(
    series: Sequence[Series],
    *,
    title: str,
    note: str = "",
    x_name: str = "",
    x_unit: Unit = "number",
    log_y: bool = False,
    marks: Sequence[Marks] = (),
    height_px: int = 240,
    legend: bool | None = None,
    x_begin: float | None = None,
    x_end: float | None = None,
) -> Markup:
    """Returns a line plot with its title (`note` is the unit) and legend (None: if there are several lines).

    The band of a series (`low`, `high`) is drawn faint behind it. A `dim` series is thin and faint and not in the
    legend. On a logarithmic axis (`log_y`), values not above 0 leave a gap. The x axis reaches from `x_begin` to
    `x_end` (None: fits the data). Any data is accepted; without points, the plot says so.
    """
    traces = [Trace.of(each, log_y) for each in series if len(each.x) and len(each.y)]
    left, right = x_range(traces, View(x_begin=x_begin, x_end=x_end))
    bottom, top = y_range(traces, View(log_y=log_y), left, right)
    frame = _Frame(left, right, bottom, top, log_y)
    named = [each for each in series if not each.dim]
    parts = [
        element("title", f"{title}, {note}" if note else title),
        element("desc", _describe(named, x_name, x_unit)),
        *_axes(frame, x_name, x_unit, height_px),
    ]
    for mark in marks:
        parts += _mark(mark, frame)
    order = sorted(traces, key=lambda trace: not trace.series.dim)
    bands = [band for trace in order if (band := _band(trace, frame)) is not None]
    strokes = [stroke for trace in order if (stroke := _stroke(trace, frame, len(named) > 1)) is not None]
    plane = {"viewBox": f"0 0 {_FINE} {_FINE}", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    parts.append(element("svg", *bands, *strokes, **plane))
    parts += [dot for trace in order for dot in _single_points(trace, frame)]
    if not any(trace.has_points for trace in traces):
        parts.append(element("text", "nothing to draw yet", x="50%", y="50%", text_anchor="middle"))
    drawn = element("svg", *parts, role="img", width="100%", height=height_px)
    axes = element("div", drawn, class_="axes named" if x_name else "axes")
    shown = len(named) > 1 if legend is None else legend
    keys = _legend(named, marks, len(named) > 1) if shown or any(mark.name for mark in marks) else None
    return element("div", _name(title, note), keys, axes, class_="plot")


@dataclass(frozen=True)
class Dot:
    """One row of `dots`: a value and its interval."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    color: int = 0  # index into the palette of 8

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval; None if an end is unknown or not finite."""
        if self.low is None or self.high is None or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return None
        return self.low, self.high


def dots(rows: Sequence[Dot], *, title: str, note: str = "", form: Callable[[float], str] = format_number) -> Markup:
    """Returns a plot of values with their intervals, one row each, over one axis. `form` formats a value."""
    known = [v for row in rows for v in (row.value, row.low, row.high) if v is not None and math.isfinite(v)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    margin = 0.06 * (high - low) or abs(high) / 10 or 1.0
    low, high = low - margin, high + margin
    frame = _Frame(low, high, 0.0, 1.0, log_y=False)
    height = _ROW_PX * len(rows)
    description = "; ".join(f"{row.label}: {_format_row(row, form)}" for row in rows)
    parts = [
        element("title", f"{title}, {note}" if note else title),
        element("desc", description),
        *_x_axis(frame, "number", height, most=5, form=form),
    ]
    for number, row in enumerate(rows):
        parts += _dot_row(row, frame, number * _ROW_PX, form)
    drawn = element("svg", *parts, role="img", width="100%", height=height)
    return element("div", _name(title, note), element("div", drawn, class_="axes rows"), class_="plot")


def grid(plots: Sequence[Markup], *, narrowest_rem: float = 19) -> Markup:
    """Arranges small plots in rows, as many per row as fit."""
    return element("div", *plots, class_="grid", style=f"--narrowest:{narrowest_rem:g}rem")


# --- coordinates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """The ranges of the axes."""

    x_begin: float
    x_end: float
    y_begin: float
    y_end: float
    log_y: bool

    def across(self, x: float) -> float:
        """The position of `x`: 0 at the left, 1 at the right."""
        return _share(x, self.x_begin, self.x_end)

    def down(self, y: float) -> float:
        """The position of `y`, a logarithm on a logarithmic axis: 0 at the top, 1 at the bottom."""
        scale = math.log10 if self.log_y else float
        return 1 - _share(y, scale(self.y_begin), scale(self.y_end))


def _share(value: float, begin: float, end: float) -> float:
    """The position of a value between `begin` (0) and `end` (1), clipped to -10 and 11; NaN if it is not finite."""
    if not math.isfinite(value):
        return math.nan
    return min(11.0, max(-10.0, fraction(value, begin, end)))


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


# --- axes, legend, description ----------------------------------------------------------------------------------------


def _name(title: str, note: str) -> Markup:
    return element("p", title, " " if note else None, optional("span", note), class_="name", aria_hidden="true")


def _axes(frame: _Frame, x_name: str, x_unit: Unit, height_px: int) -> list[Markup]:
    parts = []
    # A short logarithmic axis has at most two logarithmic ticks, and gets linear ones.
    y_ticks = ticks(frame.y_begin, frame.y_end, _Y_TICKS, log=True) if frame.log_y else []
    if len(y_ticks) <= 2:
        y_ticks = ticks(frame.y_begin, frame.y_end, _Y_TICKS)
    for value, label in y_ticks:
        at = _percent(frame.down(math.log10(value) if frame.log_y else value))
        parts.append(element("line", x1="0", x2="100%", y1=at, y2=at, class_="grid-line"))
        parts.append(element("text", label, x="-8", y=at, dy="4", text_anchor="end"))
    parts += _x_axis(frame, x_unit, height_px, most=_X_TICKS)
    if x_name:
        parts.append(element("text", x_name, x="100%", y=f"{height_px}", dy="36", text_anchor="end"))
    return parts


def _x_axis(
    frame: _Frame, unit: Unit, height_px: int, *, most: int, form: Callable[[float], str] | None = None
) -> list[Markup]:
    parts = [element("line", x1="0", x2="100%", y1="100%", y2="100%", class_="axis")]
    for value, label in ticks(frame.x_begin, frame.x_end, most, unit=unit):
        at = _percent(frame.across(value))
        parts.append(element("line", x1=at, x2=at, y1=f"{height_px}", y2=f"{height_px + 4}", class_="axis"))
        words = label if form is None else _tick(form(value), label)
        parts.append(element("text", words, x=at, y=f"{height_px}", dy="18", text_anchor="middle"))
    return parts


def _tick(formed: str, label: str) -> str:
    """Adds to a tick's label the unit (`%` or `s`) with which `form` writes the value."""
    unit = formed.lstrip("-+0123456789.,e\u2014")
    return label + unit if unit.strip() in ("%", "s") else label


def _mark(mark: Marks, frame: _Frame) -> list[Markup]:
    """Vertical lines at the marks: over the full height if they are few, else short ones above the axis."""
    places = dict.fromkeys(_percent(frame.across(x)) for x in mark.x if math.isfinite(x) and 0 <= frame.across(x) <= 1)
    top = "0" if len(places) <= _FEW_MARKS else "94%"
    lines = [element("line", x1=at, x2=at, y1=top, y2="100%", class_="mark") for at in places]
    return lines if len(lines) <= _MAX_MARKS else lines[:: -(-len(lines) // _MAX_MARKS)]


def _legend(series: Sequence[Series], marks: Sequence[Marks], several: bool) -> Markup:
    """The legend: look, name and last value of each line."""
    keys = []
    for each in series:
        number = each.color % COLORS
        stroke = element(
            "line",
            x1="1", x2="27", y1="6", y2="6",
            class_=f"line s{number}",
            stroke_dasharray=(_DASHES[number] or None) if several else None,
        )  # fmt: skip
        last = next((y for y in reversed(each.y) if math.isfinite(y)), None)
        value = (" ", element("b", format_number(last))) if last is not None else ()
        keys.append(element("li", _swatch(stroke), element("span", safe_line(each.name, 60), *value)))
    for mark in marks:
        if mark.name and len(mark.x):
            line = element("line", x1="14", x2="14", y1="0", y2="12", class_="mark")
            keys.append(element("li", _swatch(line), element("span", mark.name)))
    return element("ul", *keys, class_="legend")


def _swatch(line: Markup) -> Markup:
    return element("svg", line, width=28, height=12, aria_hidden="true")


def _describe(series: Sequence[Series], x_name: str, x_unit: Unit) -> str:
    """A text alternative for screen readers: the first, last and lowest point of each line."""
    described = []
    for each in series:
        points = [(x, y) for x, y in zip(each.x, each.y, strict=False) if math.isfinite(x) and math.isfinite(y)]
        if not points:
            described.append(f"{each.name}: no points")
            continue
        name = f" {x_name}" if x_name else ""
        chosen = (points[0], points[-1], min(points, key=lambda point: point[1]))
        first, last, low = (f"{format_number(y)} at{name} {format_x(x, x_unit)}" for x, y in chosen)
        described.append(f"{each.name}: {first}, {last}, lowest {low}")
    return ". ".join(described)


# --- lines ------------------------------------------------------------------------------------------------------------


def _points(trace: Trace, values: Sequence[float], frame: _Frame) -> list[tuple[int, int] | None]:
    """The coordinates of each point; None for a gap. Consecutive points at the same place are merged."""
    every = max(1, -(-len(trace.x) // _MAX_POINTS))
    pairs = list(zip(trace.x.tolist(), values, strict=True))
    chosen = pairs[::every] + (pairs[-1:] if (len(pairs) - 1) % every else [])
    places = ((frame.across(x), frame.down(y)) for x, y in chosen)
    dots = (None if math.isnan(u) or math.isnan(v) else (round(u * _FINE), round(v * _FINE)) for u, v in places)
    return [at for at, _ in groupby(dots)]


def _path(places: Sequence[tuple[int, int] | None]) -> str:
    """The path data of a line through these points, interrupted at gaps."""
    words = []
    for is_gap, points in groupby(places, lambda at: at is None):
        line = [] if is_gap else [f"{x} {y}" for x, y in filter(None, points)]
        if line:
            # The round line caps of a single point between gaps show as a dot.
            words.append(f"M{'L'.join(line)}" + ("h0" if len(line) == 1 else ""))
    return "".join(words)


def _stroke(trace: Trace, frame: _Frame, several: bool) -> Markup | None:
    path = _path(_points(trace, trace.y.tolist(), frame))
    if not path:
        return None
    number = trace.series.color % COLORS
    return element(
        "path",
        d=path,
        class_=f"line s{number}" + (" faint" if trace.series.dim else ""),
        vector_effect="non-scaling-stroke",
        stroke_dasharray=(_DASHES[number] or None) if several and not trace.series.dim else None,
    )


def _band(trace: Trace, frame: _Frame) -> Markup | None:
    """The area between `low` and `high`."""
    if trace.low is None or trace.high is None:
        return None
    upper, lower = (_points(trace, edge.tolist(), frame) for edge in (trace.high, trace.low))
    above, below = [at for at in upper if at is not None], [at for at in lower if at is not None]
    if len(above) < 2 or len(below) < 2:
        return None
    path = _path(above + below[::-1])
    return element("path", d=f"{path}Z", class_=f"band f{trace.series.color % COLORS}")


def _single_points(trace: Trace, frame: _Frame) -> list[Markup]:
    """Dots at the points of a line that has few. Each shows its value as a tooltip."""
    points = [
        (x, y, at)
        for x, y, at in zip(trace.x.tolist(), trace.y.tolist(), trace.series.y, strict=False)
        if math.isfinite(x) and math.isfinite(y)
    ]
    if trace.series.dim or len(points) > _FEW_POINTS:
        return []
    return [
        element(
            "circle",
            element("title", f"{trace.series.name}: {format_number(value)}"),
            cx=_percent(frame.across(x)),
            cy=_percent(frame.down(y)),
            r="2.5",
            class_=f"f{trace.series.color % COLORS}",
        )
        for x, y, value in points
        if 0 <= frame.across(x) <= 1 and -0.001 <= frame.down(y) <= 1.001
    ]


def _format_row(row: Dot, form: Callable[[float], str]) -> str:
    if not math.isfinite(row.value):
        return "\u2014"
    if row.interval is None:
        return form(row.value)
    low, high = row.interval
    return f"{form(row.value)} ({form(low)} to {form(high)})"


def _dot_row(row: Dot, frame: _Frame, top_px: int, form: Callable[[float], str]) -> list[Markup]:
    number = row.color % COLORS
    text_y, line_y = f"{top_px + 14}", f"{top_px + 26}"
    parts = [
        element("text", safe_line(row.label, 40), x="0", y=text_y, class_="said"),
        element("text", _format_row(row, form), x="100%", y=text_y, text_anchor="end"),
        element("line", x1="0", x2="100%", y1=line_y, y2=line_y, class_="grid-line"),
    ]
    if row.interval is not None:
        low, high = (_percent(min(1.0, max(0.0, frame.across(end)))) for end in row.interval)
        parts.append(element("line", x1=low, x2=high, y1=line_y, y2=line_y, class_=f"interval s{number}"))
    if math.isfinite(row.value) and 0 <= frame.across(row.value) <= 1:
        at = _percent(frame.across(row.value))
        parts.append(element("circle", cx=at, cy=line_y, r="4.5", class_=f"f{number}"))
    return parts

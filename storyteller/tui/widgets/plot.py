"""The drawing half of the chart widget: lines, axes and marks in character cells, repainted row by row.

`line_chart.ChartView` adds zooming, panning and the cursor to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.geometry import Region
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from storyteller.charts import PALETTE, Cells, Frame, Marks, Run, Series, Unit, View, draw

_FALLBACK_COLORS = ("#e8b15d", "#7cb0e0", "#93c47d", "#e58a9b", "#b59ae0", "#66c2b5", "#e0824f", "#a9adb8")
"""Line colours in an app without `palette_colors`."""


class Plot(Widget):
    """Draws series over a range of x. However much changes, it is drawn once, at the next idle moment."""

    DEFAULT_CSS = """
    Plot {
        height: 1fr;
        width: 1fr;
        & > .chart--label { color: $text-muted; }
        & > .chart--axis { color: $foreground 35%; }
        & > .chart--grid { color: $foreground 14%; }
        & > .chart--mark { color: $accent; text-style: bold; }
        & > .chart--cursor { color: $foreground; text-style: bold; }
        &:ansi {
            & > .chart--label, & > .chart--axis, & > .chart--grid { color: ansi_default; text-style: dim; }
            & > .chart--mark, & > .chart--cursor { color: ansi_default; text-style: bold; }
        }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{part}" for part in ("axis", "cursor", "grid", "label", "mark")}

    log_y: var[bool] = var(False, init=False)
    cells: var[Cells] = var("braille", init=False)
    cursor_x: var[float | None] = var(None, init=False)
    lines: var[Sequence[Series]] = var((), init=False)
    marks: var[Sequence[Marks]] = var((), init=False)  # marked places on the x axis
    range: var[tuple[float | None, float | None]] = var((None, None), init=False)
    """The visible range of x; an end that is None follows the data."""

    def __init__(
        self, lines: Sequence[Series] = (), *, y_name: str = "", nothing: str = "", classes: str | None = None
    ) -> None:
        """`nothing` is shown if there is no point to draw."""
        super().__init__(classes=classes)
        self.set_reactive(Plot.lines, lines)
        self.x_name, self.y_name, self.nothing = "", y_name, nothing
        self.x_unit: Unit = "number"
        self.extent: tuple[float, float] | None = None
        """The first and the last x of all lines assigned since the last `reset`; None without a point."""
        self._frame: Frame | None = None
        self._rows: list[list[Run]] = []
        self._strips: list[Strip] = []
        self._styles: dict[str, Style] = {}
        self._stale = True
        self._update_extent()

    # --- what is drawn ------------------------------------------------------------------------------------------------

    def watch_lines(self) -> None:
        self._update_extent()
        self._changed()

    def validate_range(self, wanted: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
        """A reversed or empty range shows everything."""
        begin, end = wanted
        return wanted if begin is None or end is None or begin < end else (None, None)

    def name_axes(self, x_name: str, y_name: str, x_unit: Unit) -> None:
        """Label the axes. If x changes its meaning, call `reset` too."""
        self.x_name, self.y_name, self.x_unit = x_name, y_name, x_unit
        self._changed()

    @property
    def frame(self) -> Frame:
        """The position of the plot area in cells of the widget, and its ranges of x and y."""
        if self._stale or self._frame is None:
            self._draw()
        assert self._frame is not None  # noqa: S101
        return self._frame

    def reset(self) -> None:
        """Show everything, without a cursor. Posts no message."""
        self.extent = None
        self._update_extent()
        self.cursor_x, self.range = None, (None, None)

    def _update_extent(self) -> None:
        spans = [span for span in map(_span, self.lines) if span is not None]
        # A zoomed chart may be given only the points of its range: the extent known so far still holds.
        if self.extent is not None and self.range != (None, None):
            spans.append(self.extent)
        self.extent = (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None

    # --- drawing ------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._recolor, init=False)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._recolor()

    def _recolor(self) -> None:
        self._styles = {}
        self._rows = []
        self._changed()

    def _changed(self) -> None:
        if not self._stale and self.is_attached:
            self.call_later(self._redraw)
        self._stale = True

    watch_log_y = watch_cells = watch_cursor_x = watch_marks = watch_range = on_resize = _changed

    def _redraw(self) -> None:
        if self._stale and self.is_attached:
            self._draw()

    def _draw(self) -> None:
        """Draw the chart, and request a repaint of the rows that differ from the last drawing."""
        self._stale = False
        width, height = self.content_size
        picture = draw(
            self.lines,
            width,
            height,
            View(*self.range, log_y=self.log_y, cursor_x=self.cursor_x),
            cells=self.cells,
            marks=self.marks,
            x_name=self.x_name,
            y_name=self.y_name,
            x_unit=self.x_unit,
            patterns=self.app.no_color and len(self.lines) > 1,
            nothing=self.nothing,
        )
        before, self._rows, self._frame = self._rows, picture.rows, picture.frame
        if len(before) != height or len(self._strips) != height:
            self._strips = [self._strip(row) for row in picture.rows]
            self.refresh()
            return
        changed = [number for number, row in enumerate(picture.rows) if row != before[number]]
        for number in changed:
            self._strips[number] = self._strip(picture.rows[number])
        if changed:
            self.refresh(*(Region(0, number, width, 1) for number in changed))

    def render_line(self, y: int) -> Strip:
        if self._stale:
            self._draw()
        if not 0 <= y < len(self._strips):
            return Strip.blank(self.content_size.width, self.rich_style)
        return self._strips[y]

    def _strip(self, row: list[Run]) -> Strip:
        return Strip([Segment(text, self._style(name)) for text, name in row], sum(len(text) for text, _ in row))

    def _style(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self._styles[name] = self._compute_style(name)
        return style

    def _compute_style(self, name: str) -> Style:
        """The style of one of `charts.STYLES`: "", a component class, or `lineN` or `dimN` with a palette index N."""
        base = self.rich_style
        if not name:
            return base
        kind, number = name[:-1], name[-1]
        if not number.isdigit():
            return self.get_component_rich_style(f"chart--{name}")
        color = self.line_color(int(number))
        if kind == "line":
            return base + Style.from_color(color.rich_color)
        # The terminal's own colours cannot be blended with the background, so their faded form is the dim attribute.
        if color.ansi is not None or self.app.no_color:
            return base + Style(color=color.rich_color, dim=True)
        return base + Style.from_color(self.background_colors[1].blend(color, 0.45).rich_color)

    def line_color(self, number: int) -> Color:
        """The colour of line `number`, so that a table can show whose line is whose."""
        colors = getattr(self.app, "palette_colors", _FALLBACK_COLORS)
        return Color.parse(colors[number % PALETTE % len(colors)])


def _span(line: Series) -> tuple[float, float] | None:
    """The first and the last finite x of a line, whose x ascend; None if there is none."""
    length = min(len(line.x), len(line.y))
    first = next((float(line.x[at]) for at in range(length) if math.isfinite(line.x[at])), None)
    last = next((float(line.x[at]) for at in range(length - 1, -1, -1) if math.isfinite(line.x[at])), None)
    return (min(first, last), max(first, last)) if first is not None and last is not None else None

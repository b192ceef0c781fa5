"""A chart that is looked into: zoomed, panned, and read with a cursor, by mouse and by keys that screens bind.

It holds what is seen (a range of x, the cursor, a logarithmic axis) and draws the lines it is given; whose lines they
are, how smooth and how fine is the screen's business: it hears of a new range by `ViewChanged` and gives new lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.color import Color
from textual.geometry import Region
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.widget import Widget

from storyteller.charts import PALETTE, Cells, Frame, Marks, Run, Series, Unit, View, draw

ZOOM = 1.5
"""How much narrower the range is after a key or a notch of the wheel."""
PAN_SHARE = 0.2
_NARROWEST = 1e-9
"""The narrowest range, as a share of the size of its numbers: below it, they cannot be told apart."""

_FALLBACK_COLORS = ("#e8b15d", "#7cb0e0", "#93c47d", "#e58a9b", "#b59ae0", "#66c2b5", "#e0824f", "#a9adb8")


class ChartView(Widget):
    """A line chart of as many cells as it is given."""

    DEFAULT_CSS = """
    ChartView {
        height: 1fr;
        width: 1fr;
        & > .chart--label { color: $text-muted; }
        & > .chart--axis { color: $foreground 35%; }
        & > .chart--grid { color: $foreground 14%; }
        & > .chart--mark { color: $accent; text-style: bold; }
        & > .chart--cursor { color: $foreground; text-style: bold; }
        &:ansi {
            & > .chart--label { color: ansi_default; text-style: dim; }
            & > .chart--axis { color: ansi_default; text-style: dim; }
            & > .chart--grid { color: ansi_default; text-style: dim; }
            & > .chart--mark { color: ansi_default; text-style: bold; }
            & > .chart--cursor { color: ansi_default; text-style: bold; }
        }
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--axis",
        "chart--cursor",
        "chart--grid",
        "chart--label",
        "chart--mark",
    }

    log_y: var[bool] = var(False, init=False)
    cells: var[Cells] = var("braille", init=False)
    cursor_x: var[float | None] = var(None, init=False)

    class CursorMoved(Message):
        """The user moved the cursor; `x` is None where it was taken away."""

        def __init__(self, chart: ChartView, x: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.x = x

        @property
        def control(self) -> ChartView:
            return self.chart

    class ViewChanged(Message):
        """The user changed the range of x that is seen; an end that is None follows the data."""

        def __init__(self, chart: ChartView, begin: float | None, end: float | None) -> None:
            super().__init__()
            self.chart = chart
            self.begin = begin
            self.end = end

        @property
        def control(self) -> ChartView:
            return self.chart

    def __init__(
        self,
        lines: Sequence[Series] = (),
        *,
        x_name: str = "",
        y_name: str = "",
        x_unit: Unit = "number",
        nothing: str = "",
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`nothing` is said where there is no point to draw."""
        super().__init__(id=id, classes=classes)
        self._lines = list(lines)
        self._marks: list[Marks] = []
        self.x_name, self.y_name, self.x_unit, self.nothing = x_name, y_name, x_unit, nothing
        self._begin: float | None = None
        self._end: float | None = None
        self._extent: tuple[float, float] | None = None
        self._frame: Frame | None = None
        self._rows: list[list[Run]] = []
        self._strips: list[Strip] = []
        self._styles: dict[str, Style] = {}
        self._stale = True
        self._drag: tuple[int, float, float] | None = None
        self._dragged = False
        self._note_extent()

    # --- what is drawn ------------------------------------------------------------------------------------------------

    @property
    def lines(self) -> list[Series]:
        """The series; assigning draws them, and sends only the rows that changed."""
        return self._lines

    @lines.setter
    def lines(self, lines: Sequence[Series]) -> None:
        self._lines = list(lines)
        self._note_extent()
        self._changed()

    @property
    def marks(self) -> list[Marks]:
        """Places on the x axis."""
        return self._marks

    @marks.setter
    def marks(self, marks: Sequence[Marks]) -> None:
        self._marks = list(marks)
        self._changed()

    def name_axes(self, x_name: str, y_name: str, x_unit: Unit = "number") -> None:
        """What the axes are called. A change of what x is goes with `reset`."""
        self.x_name, self.y_name, self.x_unit = x_name, y_name, x_unit
        self._changed()

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The range of x that is seen; an end that is None follows the data."""
        return self._begin, self._end

    @property
    def extent(self) -> tuple[float, float] | None:
        """From the first x to the last of all that was ever given since the last `reset`; None without a point."""
        return self._extent

    @property
    def frame(self) -> Frame:
        """Where in the widget's cells the plot lies, and what it spans."""
        if self._stale or self._frame is None:
            self._draw()
        assert self._frame is not None  # noqa: S101
        return self._frame

    def look(self, begin: float | None, end: float | None) -> None:
        """Show a range of x. Posts nothing: for charts that follow another one's view."""
        if begin is not None and end is not None and not begin < end:
            begin = end = None
        self._begin, self._end = begin, end
        self._changed()

    def reset(self) -> None:
        """See everything, without a cursor. Posts nothing."""
        self._extent = None
        self._note_extent()
        self.cursor_x = None
        self.look(None, None)

    def _note_extent(self) -> None:
        """A zoomed view may be given the lines of its range alone: what was seen before still counts."""
        spans = [span for span in map(_span, self._lines) if span is not None]
        if self._extent is not None and (self._begin is not None or self._end is not None):
            spans.append(self._extent)
        self._extent = (min(span[0] for span in spans), max(span[1] for span in spans)) if spans else None

    def watch_log_y(self) -> None:
        self._changed()

    def watch_cells(self) -> None:
        self._changed()

    def watch_cursor_x(self) -> None:
        self._changed()

    # --- drawing ------------------------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self._recolor, init=False)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._recolor()

    def on_resize(self) -> None:
        self._changed()

    def _recolor(self) -> None:
        self._styles = {}
        self._rows = []
        self._changed()

    def _changed(self) -> None:
        """Draw again, once, however much changes before the next idle moment."""
        if not self._stale and self.is_attached:
            self.call_later(self._redraw)
        self._stale = True

    def _redraw(self) -> None:
        if not self._stale or not self.is_attached:
            return
        self._draw()

    def _draw(self) -> None:
        """Draw, and ask for the rows that differ to be painted."""
        self._stale = False
        width, height = self.content_size
        picture = draw(
            self._lines,
            width,
            height,
            View(self._begin, self._end, log_y=self.log_y, cursor_x=self.cursor_x),
            cells=self.cells,
            marks=self._marks,
            x_name=self.x_name,
            y_name=self.y_name,
            x_unit=self.x_unit,
            patterns=self.app.no_color and len(self._lines) > 1,
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
            style = self._styles[name] = self._made_style(name)
        return style

    def _made_style(self, name: str) -> Style:
        base = self.rich_style
        if not name:
            return base
        kind, number = name[:-1], name[-1]
        if not number.isdigit():
            return self.get_component_rich_style(f"chart--{name}")
        color = self.line_color(int(number))
        if kind == "line":
            return base + Style.from_color(color.rich_color)
        if color.ansi is not None or self.app.no_color:
            return base + Style(color=color.rich_color, dim=True)
        return base + Style.from_color(self.background_colors[1].blend(color, 0.45).rich_color)

    def line_color(self, number: int) -> Color:
        """The colour in which line `number` is drawn, for a table that shows whose line is whose."""
        colors = getattr(self.app, "palette_colors", _FALLBACK_COLORS)
        return Color.parse(colors[number % PALETTE % len(colors)])

    # --- moving about -------------------------------------------------------------------------------------------------

    def _seen(self) -> tuple[float, float]:
        """The range of x on the screen."""
        return self.frame.x_begin, self.frame.x_end

    def _go(self, begin: float, end: float) -> None:
        """See a range, within the data; an end at the data's own follows them from then on."""
        extent = self._extent
        if extent is None or not (math.isfinite(begin) and math.isfinite(end) and begin < end):
            return
        narrowest = max(abs(begin), abs(end)) * _NARROWEST
        if end - begin < narrowest:
            return
        first, last = extent
        if end - begin >= last - first:
            now: tuple[float | None, float | None] = (None, None)
        else:
            if begin < first:
                begin, end = first, first + (end - begin)
            elif end > last:
                begin, end = last - (end - begin), last
            now = (begin if begin > first else None, end if end < last else None)
        if now != (self._begin, self._end):
            self.look(*now)
            self.post_message(self.ViewChanged(self, *now))

    def zoom(self, factor: float, about: float | None = None) -> None:
        """See `1 / factor` of the range, with the x `about` (the cursor, or the middle) staying where it is."""
        begin, end = self._seen()
        if about is None:
            at = self.cursor_x
            about = at if at is not None and begin <= at <= end else begin / 2 + end / 2
        self._go(about - (about - begin) / factor, about + (end - about) / factor)

    def pan(self, share: float) -> None:
        """Move the range by a share of its width; to later x where it is positive."""
        begin, end = self._seen()
        by = (end - begin) * share
        self._go(begin + by, end + by)

    def move_cursor(self, columns: int) -> None:
        """Move the cursor by so many columns, to the point nearest there: always on to another point.

        Without a cursor, it begins at the last point in sight, or for a step to the right at the first one.
        """
        begin, end = self._seen()
        points = self._points()
        if not points or not columns:
            return
        at = self.cursor_x
        if at is None:
            in_sight = [x for x in points if begin <= x <= end] or points
            self._point_at(in_sight[0] if columns > 0 else in_sight[-1])
            return
        target = at + (end - begin) / max(1, self.frame.columns - 1) * columns
        ahead = [x for x in points if (x > at if columns > 0 else x < at)]
        if ahead:
            self._point_at(min(ahead, key=lambda x: abs(x - target)))

    def _points(self) -> list[float]:
        """The x of every point of the lines that are not faded (of all, where all are), ascending."""
        bright = [line for line in self._lines if not line.dim] or self._lines
        return sorted({float(x) for line in bright for x in line.x if math.isfinite(x)})

    def _point_at(self, x: float | None) -> None:
        if x == self.cursor_x:
            return
        self.cursor_x = x
        self.post_message(self.CursorMoved(self, x))
        if x is None:
            return
        begin, end = self._seen()
        if not begin <= x <= end:
            middle = begin / 2 + end / 2
            self._go(begin + (x - middle), end + (x - middle))

    def action_zoom_in(self) -> None:
        self.zoom(ZOOM)

    def action_zoom_out(self) -> None:
        self.zoom(1 / ZOOM)

    def action_pan_left(self) -> None:
        self.pan(-PAN_SHARE)

    def action_pan_right(self) -> None:
        self.pan(PAN_SHARE)

    def action_cursor_left(self) -> None:
        self.move_cursor(-1)

    def action_cursor_right(self) -> None:
        self.move_cursor(1)

    def action_reset(self) -> None:
        """See everything, without a cursor."""
        if (self._begin, self._end) != (None, None):
            self.look(None, None)
            self.post_message(self.ViewChanged(self, None, None))
        self._point_at(None)

    def action_toggle_log(self) -> None:
        self.log_y = not self.log_y

    # --- mouse --------------------------------------------------------------------------------------------------------

    def _x_under(self, event: events.MouseEvent) -> float:
        begin, end = self._seen()
        x = self.frame.x_at(event.get_content_offset_capture(self).x)
        return min(max(x, begin), end)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.zoom(ZOOM, self._x_under(event))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.zoom(1 / ZOOM, self._x_under(event))

    def on_mouse_scroll_left(self, event: events.MouseScrollLeft) -> None:
        event.stop()
        self.action_pan_left()

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        event.stop()
        self.action_pan_right()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1:
            self._drag = (event.screen_x, *self._seen())
            self._dragged = False
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._drag is None:
            return
        start, begin, end = self._drag
        columns = event.screen_x - start
        self._dragged = self._dragged or columns != 0
        if self._dragged:
            by = (end - begin) / max(1, self.frame.columns - 1) * columns
            self._go(begin - by, end - by)

    def on_mouse_up(self) -> None:
        self._drag = None
        self.release_mouse()

    def on_click(self, event: events.Click) -> None:
        if self._dragged:
            self._dragged = False
        elif event.chain >= 2:
            self.action_reset()
        else:
            points = self._points()
            where = self._x_under(event)
            if points:
                self._point_at(min(points, key=lambda x: abs(x - where)))


def _span(line: Series) -> tuple[float, float] | None:
    """The first and the last x of a line. Lines ascend; a bad end is looked past."""
    length = min(len(line.x), len(line.y))
    first = next((float(line.x[at]) for at in range(length) if math.isfinite(line.x[at])), None)
    last = next((float(line.x[at]) for at in range(length - 1, -1, -1) if math.isfinite(line.x[at])), None)
    return (min(first, last), max(first, last)) if first is not None and last is not None else None

"""A line chart that can be zoomed, panned and read with a cursor, by mouse and by keys that screens bind.

It draws the lines it is given. When the user changes the visible range it posts `RangeChanged`, and the screen may
assign lines of a finer resolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual import events
from textual.message import Message

from storyteller.tui.widgets.plot import Plot

ZOOM = 1.5  # the factor by which a key or a notch of the mouse wheel zooms
PAN_SHARE = 0.2  # the share of the visible range by which a key pans
_NARROWEST = 1e-9
"""The narrowest range, relative to the size of its numbers: in a narrower one, floats cannot be told apart."""


class ChartView(Plot):
    """A chart with a visible range and a cursor. The arrow keys and the wheel move them within the data."""

    @dataclass
    class CursorMoved(Message):
        """The user moved the cursor; `x` is None if it was removed."""

        chart: ChartView
        x: float | None

    @dataclass
    class RangeChanged(Message):
        """The user changed the visible range of x; an end that is None follows the data."""

        chart: ChartView
        begin: float | None
        end: float | None

    _drag: tuple[int, float, float] | None = None
    """While a mouse button is down: the column where it was pressed, and the range at that moment."""
    _dragged = False

    # --- zoom, pan and cursor -----------------------------------------------------------------------------------------

    def _visible_range(self) -> tuple[float, float]:
        return self.frame.x_begin, self.frame.x_end

    def _show_range(self, begin: float, end: float) -> None:
        """Show a range, moved to lie within the data. An end that reaches the data's end follows it from then on."""
        if self.extent is None or not (math.isfinite(begin) and math.isfinite(end) and begin < end):
            return
        if end - begin < max(abs(begin), abs(end)) * _NARROWEST:
            return
        first, last = self.extent
        wanted: tuple[float | None, float | None] = (None, None)
        if end - begin < last - first:
            if begin < first:
                begin, end = first, first + (end - begin)
            elif end > last:
                begin, end = last - (end - begin), last
            wanted = (begin if begin > first else None, end if end < last else None)
        if wanted != self.range:
            self.range = wanted
            self.post_message(self.RangeChanged(self, *wanted))

    def zoom(self, factor: float, about: float | None = None) -> None:
        """Show `1 / factor` of the range. The x `about` (by default the cursor, else the middle) keeps its column."""
        begin, end = self._visible_range()
        if about is None:
            cursor = self.cursor_x
            # Halved before they are added: the sum of two huge numbers would not be finite.
            about = cursor if cursor is not None and begin <= cursor <= end else begin / 2 + end / 2
        self._show_range(about - (about - begin) / factor, about + (end - about) / factor)

    def move_cursor(self, columns: int) -> None:
        """Move the cursor by about `columns` columns, always to another point.

        A new cursor begins at the last visible point, or at the first one if it is moved to the right.
        """
        begin, end = self._visible_range()
        points = self._points()
        if not points or not columns:
            return
        cursor = self.cursor_x
        if cursor is None:
            visible = [x for x in points if begin <= x <= end] or points
            self._set_cursor(visible[0] if columns > 0 else visible[-1])
            return
        target = cursor + (end - begin) / max(1, self.frame.columns - 1) * columns
        ahead = [x for x in points if (x > cursor if columns > 0 else x < cursor)]
        if ahead:
            self._set_cursor(min(ahead, key=lambda x: abs(x - target)))

    def _points(self) -> list[float]:
        """Every x of the lines that are not faded (of all lines, if all are), ascending."""
        bright = [line for line in self.lines if not line.dim] or self.lines
        return sorted({float(x) for line in bright for x in line.x if math.isfinite(x)})

    def _set_cursor(self, x: float | None) -> None:
        if x == self.cursor_x:
            return
        self.cursor_x = x
        self.post_message(self.CursorMoved(self, x))
        if x is None:
            return
        begin, end = self._visible_range()
        if not begin <= x <= end:
            middle = begin / 2 + end / 2
            self._show_range(begin + (x - middle), end + (x - middle))

    def zoom_step(self, direction: int) -> None:
        """Zoom in by one step (1), or out (-1)."""
        self.zoom(ZOOM**direction)

    def pan_step(self, direction: int) -> None:
        """Pan by one step, to larger x (1) or smaller (-1)."""
        begin, end = self._visible_range()
        by = (end - begin) * PAN_SHARE * direction
        self._show_range(begin + by, end + by)

    def show_all(self) -> None:
        """Show everything, without a cursor."""
        if self.range != (None, None):
            self.range = (None, None)
            self.post_message(self.RangeChanged(self, None, None))
        self._set_cursor(None)

    # --- mouse --------------------------------------------------------------------------------------------------------

    def _x_under(self, event: events.MouseEvent) -> float:
        begin, end = self._visible_range()
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
        self.pan_step(-1)

    def on_mouse_scroll_right(self, event: events.MouseScrollRight) -> None:
        event.stop()
        self.pan_step(1)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        if event.button == 1:
            self._drag = (event.screen_x, *self._visible_range())
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
            self._show_range(begin - by, end - by)

    def on_mouse_up(self) -> None:
        self._drag = None
        self.release_mouse()

    def on_click(self, event: events.Click) -> None:
        if self._dragged:
            self._dragged = False
        elif event.chain >= 2:
            self.show_all()
        elif points := self._points():
            where = self._x_under(event)
            self._set_cursor(min(points, key=lambda x: abs(x - where)))

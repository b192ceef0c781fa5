"""The table of runs. It hides columns where room is short, and repaints only the rows that changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from storyteller.tui.widgets.run_columns import RunColumn, RunRow, StyledText, fit

if TYPE_CHECKING:
    from storyteller.charts.types import Cells

_STYLES = ("plain", "dim", "strong", "good", "busy", "bad", "rest", "accent", "bar", "rail", "spark")


class RunTable(ScrollView, can_focus=True):
    """Shows rows in the order given. When the order changes, the cursor stays on its run."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "run-table--head",
        "run-table--head-sorted",
        "run-table--cursor",
        *(f"run-table--{style}" for style in _STYLES),
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000)", "First run", show=False),
        Binding("end,G", "move(1000000)", "Last run", show=False),
        Binding("enter", "open", "Open"),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)

    @dataclass
    class RunOpened(Message):
        """Enter was pressed on a run, or it was double-clicked."""

        name: str

    @dataclass
    class RunHighlighted(Message):
        """The cursor moved to another run, or to none."""

        name: str | None

    @dataclass
    class HeaderClicked(Message):
        """The header of a column was clicked."""

        column: str

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: list[RunRow] = []
        self._cells: list[list[list[StyledText]]] = []
        self._fitted: list[tuple[RunColumn, int]] = []
        self._sorted = ("", False)
        self._characters: Cells = "braille"
        self.marked: set[str] = set()  # the names of the marked runs

    # --- what it shows ------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> Sequence[RunRow]:
        return self._rows

    @property
    def current(self) -> RunRow | None:
        """The run under the cursor."""
        return self._rows[self.cursor] if self.cursor < len(self._rows) else None

    @property
    def current_name(self) -> str | None:
        return self.current.name if self.current is not None else None

    @property
    def columns(self) -> list[str]:
        """The names of the visible columns."""
        return [column.name for column, _ in self._fitted]

    def show(
        self, rows: Sequence[RunRow], sorted_by: str = "", is_reversed: bool = False, cells: Cells = "braille"
    ) -> None:
        """Show these rows in this order. Only the rows that differ from the last ones are repainted."""
        before, old = self.current_name, self._cells
        layout = (self._fitted, self._sorted, self._characters, len(self._rows))
        self._rows, self._sorted, self._characters = list(rows), (sorted_by, is_reversed), cells
        self._fitted = fit(self._rows, self._room())
        self._cells = [self._cells_of(row) for row in self._rows]
        names = [row.name for row in self._rows]
        place = names.index(before) if before in names else min(self.cursor, max(0, len(names) - 1))
        moved, self.cursor = place != self.cursor, place
        if layout != (self._fitted, self._sorted, self._characters, len(self._rows)):
            self.virtual_size = Size(self.size.width, len(self._rows) + 1)
            self.refresh()
        else:
            for index, row_cells in enumerate(self._cells):
                if row_cells != old[index] or moved:
                    self._draw_row(index)
        if self.current_name != before:
            self.post_message(self.RunHighlighted(self.current_name))
        if moved:
            self._scroll_to_cursor()

    def mark(self, name: str, marked: bool) -> None:
        (self.marked.add if marked else self.marked.discard)(name)
        self.refresh_rows()

    def on_resize(self) -> None:
        self.refresh_rows()
        self._scroll_to_cursor()

    def refresh_rows(self) -> None:
        """Repaint all rows. Call it after changing `marked` directly."""
        self._fitted = fit(self._rows, self._room())
        self._cells = [self._cells_of(row) for row in self._rows]
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self.refresh()

    def _room(self) -> int:
        return self.scrollable_content_region.width or self.size.width

    def _cells_of(self, row: RunRow) -> list[list[StyledText]]:
        marked = row.name in self.marked
        return [column.cell(row, width, marked, self._characters) for column, width in self._fitted]

    # --- drawing ------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        width = self._room()
        if y == 0:
            return Strip(self._head()).adjust_cell_length(width, self._style("head")).crop(0, width)
        index = y - 1 + self.scroll_offset.y
        if index >= len(self._cells):
            return Strip.blank(width, self.rich_style)
        over = self._cursor_style() if index == self.cursor else None
        segments = []
        for (column, room), pieces in zip(self._fitted, self._cells[index], strict=True):
            segments += self._aligned(column, room, pieces, over)
        plain = self._style("plain") + over if over is not None else self._style("plain")
        return Strip(segments).adjust_cell_length(width, plain).crop(0, width)

    def _aligned(self, column: RunColumn, room: int, pieces: list[StyledText], over: Style | None) -> list[Segment]:
        def styled(name: str) -> Style:
            if over is None:
                return self._style(name)
            # In reverse video the text colours become backgrounds, so a reversed row gets one style throughout.
            return over if over.reverse else self._style(name) + over

        filled = sum(len(text) for text, _ in pieces)
        blank = Segment(" " * max(0, room - filled), styled("plain"))
        drawn = [Segment(text, styled(style)) for text, style in pieces]
        drawn = [blank, *drawn] if column.format else [*drawn, blank]
        return [*drawn, Segment("  " if column.gap else "", styled("plain"))]

    def _head(self) -> list[Segment]:
        by, is_reversed = self._sorted
        segments = []
        for column, room in self._fitted:
            is_sorted = column.name == by
            title = column.title + ((" ▴" if is_reversed else " ▾") if is_sorted and column.title else "")
            text = title[-room:].rjust(room) if column.format else title[:room].ljust(room)
            segments.append(Segment(text, self._style("head-sorted" if is_sorted else "head")))
            segments.append(Segment("  " if column.gap else "", self._style("head")))
        return segments

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"run-table--{name}")

    def _cursor_style(self) -> Style:
        """The part of the cursor's style that is laid over the colours of a row."""
        style = self._style("cursor")
        return Style(bgcolor=style.bgcolor, reverse=style.reverse)

    def _draw_row(self, index: int) -> None:
        self.refresh(Region(0, index + 1 - self.scroll_offset.y, self.size.width, 1))

    # --- the cursor ---------------------------------------------------------------------------------------------------

    def watch_cursor(self, before: int, after: int) -> None:
        self._draw_row(before)
        self._draw_row(after)

    def action_move(self, by: int) -> None:
        self._go(self.cursor + by)

    def action_page(self, by: int) -> None:
        self._go(self.cursor + by * max(1, self.size.height - 2))

    def action_open(self) -> None:
        if self.current is not None:
            self.post_message(self.RunOpened(self.current.name))

    def on_click(self, event: Click) -> None:
        where = event.get_content_offset(self)
        if where is None:
            return
        if where.y == 0:
            name = self._column_at(where.x)
            if name:
                self.post_message(self.HeaderClicked(name))
            return
        index = where.y - 1 + self.scroll_offset.y
        if index < len(self._rows):
            self._go(index)
            if event.chain == 2:
                self.action_open()

    def _column_at(self, x: int) -> str:
        begin = 0
        for column, room in self._fitted:
            end = begin + room + (2 if column.gap else 0)
            if begin <= x < end:
                return column.name
            begin = end
        return ""

    def _go(self, index: int) -> None:
        index = min(max(0, index), max(0, len(self._rows) - 1))
        if index != self.cursor:
            self.cursor = index
            self._scroll_to_cursor()
            self.post_message(self.RunHighlighted(self.current_name))

    def _scroll_to_cursor(self) -> None:
        rows = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + rows:
            self.scroll_to(y=self.cursor - rows + 1, animate=False)

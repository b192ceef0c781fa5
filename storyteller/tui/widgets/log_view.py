"""The log of a training process: its newest lines, wrapped to the width of the widget."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

from textual.content import Content
from textual.events import Resize
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from storyteller.text import safe_line

MAX_LINES = 2000
_TIMED = re.compile(r"(\d\d:\d\d:\d\d) (.*)", re.DOTALL)
_QUIET = ("a story at step ", "stories read: ")
_TROUBLE = ("failed: ", "Traceback ", "storyteller: ")


class LogView(ScrollView, can_focus=True):
    """Shows the last `MAX_LINES` lines. It follows the log unless the user has scrolled up."""

    DEFAULT_CSS = """
    LogView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-gutter: stable; }
    LogView .log--time { color: $text-muted; }
    LogView .log--quiet { color: $text-muted; text-style: italic; }
    LogView .log--trouble { color: $text-error; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--time", "log--quiet", "log--trouble"}

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._rows: list[Content] = []
        self._row_counts: deque[int] = deque()
        """The number of rows of each wrapped line, so that the rows of the oldest lines can be dropped."""
        self._width = 0
        self._cut = False  # whether the log has earlier lines that are not held

    @property
    def lines(self) -> list[str]:
        return list(self._lines)

    def show(self, lines: Sequence[str], *, replace: bool = False, cut: bool = False) -> None:
        """Append lines, or `replace` those held so far; `cut` says that the log has earlier lines."""
        lines = [safe_line(line) for line in lines]
        follows = replace or self.is_vertical_scroll_end
        if replace or cut:
            self._lines.clear()
            self._cut = cut
        self._cut = self._cut or len(self._lines) + len(lines) > MAX_LINES
        self._lines.extend(lines)
        if replace or cut or not self._rows:
            self._wrap_all()
        else:
            self._wrap(lines[-MAX_LINES:])
        self._settle(follows)

    def render_line(self, y: int) -> Strip:
        row = y + self.scroll_offset.y
        width = self.scrollable_content_region.width
        if not 0 <= row < len(self._rows):
            return Strip.blank(width, self.rich_style)
        strip = Strip(self._rows[row].render_segments(self.visual_style))
        return strip.extend_cell_length(width, self.rich_style).crop(0, width)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self._rows:
            self._wrap_all()

    def on_resize(self, _: Resize) -> None:
        if self.scrollable_content_region.width != self._width:
            follows = not self._rows or self.is_vertical_scroll_end
            self._wrap_all()
            self._settle(follows)

    def _settle(self, follows: bool) -> None:
        self.virtual_size = Size(self._width, len(self._rows))
        if follows:
            self.call_after_refresh(self.scroll_end, animate=False)
        self.refresh()

    def _wrap_all(self) -> None:
        """Wrap all lines to the current width, or none while the widget has no width yet."""
        self._rows, self._row_counts, self._width = [], deque(), self.scrollable_content_region.width
        if self._width < 1:
            return
        if self._cut:
            self._add(Content.styled("\u2026 earlier lines: storyteller logs", self.get_visual_style("log--time")))
        self._wrap(list(self._lines))

    def _wrap(self, lines: Sequence[str]) -> None:
        if self._width < 1:
            return
        for text in lines:
            self._add(self._styled(text))
        surplus = len(self._row_counts) - MAX_LINES
        if surplus > 0:
            n_rows = sum(self._row_counts.popleft() for _ in range(surplus))
            del self._rows[:n_rows]

    def _add(self, line: Content) -> None:
        # The rows after the first are indented past the time (HH:MM:SS and a space).
        indent = 9 if self._width >= 40 and _TIMED.match(line.plain) else 0
        if indent:
            wrapped = line[9:].wrap(self._width - 9)
            rows = [line[:9] + row if number == 0 else row.pad_left(9) for number, row in enumerate(wrapped)]
        else:
            rows = line.wrap(self._width)
        rows = rows or [line]
        self._rows += rows
        self._row_counts.append(len(rows))

    def _styled(self, text: str) -> Content:
        match = _TIMED.match(text)
        time, said = (f"{match[1]} ", match[2]) if match else ("", text)
        name = "log--quiet" if said.startswith(_QUIET) else "log--trouble" if said.startswith(_TROUBLE) else ""
        body = Content.styled(said, self.get_visual_style(name)) if name else Content(said)
        return Content.styled(time, self.get_visual_style("log--time")) + body if time else body

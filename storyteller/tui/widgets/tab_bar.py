"""Tabs on one row: words side by side, the chosen one lit; a click chooses."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from storyteller.tui import safe_content

_GAP = 2


class TabBar(Widget):
    """Where the tabs do not fit the row they scroll, the chosen one staying in sight."""

    DEFAULT_CSS = """
    TabBar { height: 1; width: 1fr; }
    """

    class Picked(Message):
        """A tab was clicked."""

        def __init__(self, tabs: TabBar, tab: str) -> None:
            super().__init__()
            self.tabs = tabs
            self.tab = tab

        @property
        def control(self) -> TabBar:
            return self.tabs

    chosen: reactive[str] = reactive("")
    """The lit tab's own name."""

    def __init__(self, tabs: Sequence[tuple[str, str]], *, chosen: str = "", id: str | None = None) -> None:
        """`tabs`: each one's name and the words it shows."""
        super().__init__(id=id)
        self._tabs = list(tabs)
        self.set_reactive(TabBar.chosen, chosen or (self._tabs[0][0] if self._tabs else ""))

    @property
    def tabs(self) -> list[tuple[str, str]]:
        return list(self._tabs)

    @tabs.setter
    def tabs(self, tabs: Sequence[tuple[str, str]]) -> None:
        if list(tabs) != self._tabs:
            self._tabs = list(tabs)
            self.refresh()

    def render(self) -> Content:
        gap = " " * _GAP
        parts = [
            safe_content.line(label, "bold underline $primary" if name == self.chosen else "$text-muted")
            for name, label in self._tabs
        ]
        shown = Content(gap).join(parts)
        return shown[self._first_column() :] if self._first_column() else shown

    def on_click(self, event: Click) -> None:
        column = event.x + self._first_column()
        for name, begin, end in self._places():
            if begin - _GAP // 2 <= column < end + _GAP // 2:
                self.post_message(self.Picked(self, name))

    def _places(self) -> list[tuple[str, int, int]]:
        """Each tab's name, its first column, and the one after its last."""
        places, column = [], 0
        for name, label in self._tabs:
            end = column + safe_content.line(label).cell_length
            places.append((name, column, end))
            column = end + _GAP
        return places

    def _first_column(self) -> int:
        """The column that is shown at the left edge."""
        places = self._places()
        if not places or places[-1][2] <= self.size.width:
            return 0
        end = next((end for name, _, end in places if name == self.chosen), 0)
        return max(0, end - self.size.width)

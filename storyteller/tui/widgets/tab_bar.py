"""Tabs on one row; a click chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from storyteller.tui import safe_content
from storyteller.tui.widgets.label_row import positions

_GAP = 2


class TabBar(Widget):
    """Labels side by side, the chosen one highlighted. A row that is too narrow scrolls to the chosen tab."""

    DEFAULT_CSS = "TabBar { height: 1; width: 1fr; }"

    @dataclass
    class TabClicked(Message):
        """A tab was clicked; `tab` is its name."""

        tab: str

    chosen: reactive[str] = reactive("")  # the name of the chosen tab

    def __init__(self, tabs: Sequence[tuple[str, str]], *, chosen: str = "", id: str | None = None) -> None:
        """`tabs`: the name and the label of each."""
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
        labels = [
            safe_content.line(label, "bold underline $primary" if name == self.chosen else "$text-muted")
            for name, label in self._tabs
        ]
        return Content(" " * _GAP).join(labels)[self._first_column() :]

    def on_click(self, event: Click) -> None:
        column = event.x + self._first_column()
        for name, begin, end in self._places():
            if begin - _GAP // 2 <= column < end + _GAP // 2:
                self.post_message(self.TabClicked(name))

    def _places(self) -> list[tuple[str, int, int]]:
        """Each tab's name, first column, and the column after its last."""
        columns = positions((safe_content.line(label).cell_length for _, label in self._tabs), _GAP)
        return [(name, *place) for (name, _), place in zip(self._tabs, columns, strict=True)]

    def _first_column(self) -> int:
        """The column shown at the left edge: above 0 only where the row is scrolled."""
        places = self._places()
        if not places or places[-1][2] <= self.size.width:
            return 0
        end = next((end for name, _, end in places if name == self.chosen), 0)
        return max(0, end - self.size.width)

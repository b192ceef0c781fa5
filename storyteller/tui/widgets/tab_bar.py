"""Tabs on one row; a click chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import LabelRow


class TabBar(LabelRow):
    """Labels side by side, the chosen one highlighted. A row that is too narrow scrolls to the chosen tab."""

    DEFAULT_CSS = "TabBar { height: 1; width: 1fr; }"

    @dataclass
    class TabClicked(Message):
        """A tab was clicked; `tab` is its name."""

        tab: str

    tabs: reactive[Sequence[tuple[str, str]]] = reactive(())  # the name and the label of each tab
    chosen: reactive[str] = reactive("")  # the name of the chosen tab

    def __init__(self, tabs: Sequence[tuple[str, str]], chosen: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.set_reactive(TabBar.tabs, tabs)
        self.set_reactive(TabBar.chosen, chosen or tabs[0][0])

    def labels(self) -> Content:
        styles = {self.chosen: "bold underline $primary"}
        row = self.joined((name, line(label, styles.get(name, "$text-muted"))) for name, label in self.tabs)
        # The first column shown is above 0 only where the row is too narrow for all tabs.
        end = next((end for name, _, end in self.places if name == self.chosen), 0)
        first = max(0, end - self.size.width)
        self.places = [(name, begin - first, end - first) for name, begin, end in self.places]
        return row[first:]

    def on_label_clicked(self, name: str) -> None:
        self.post_message(self.TabClicked(name))

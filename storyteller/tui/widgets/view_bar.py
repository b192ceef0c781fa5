"""The first row of every view: the names of the views, the current one highlighted. A click switches to one."""

from __future__ import annotations

from typing import cast

from textual import getters
from textual.content import Content

from storyteller.text import safe_line
from storyteller.tui.base_app import VIEWS, BaseApp, View
from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import LabelRow

_BRAND = "storyteller"


class ViewBar(LabelRow):
    DEFAULT_CSS = "ViewBar { dock: top; height: 1; padding: 0 1; background: $surface; color: $text-muted; }"
    GAP = 3

    app = getters.app(BaseApp)

    def __init__(self, view: View | None = None) -> None:
        """`view` is the current one; None on a screen that is no view, such as a form."""
        super().__init__()
        self._view = view

    def on_mount(self) -> None:
        self.app.screen_change_signal.subscribe(self, lambda _screen: self.refresh())

    def labels(self) -> Content:
        width = self.size.width
        brand = line(_BRAND, "bold $primary").pad_right(self.GAP) if width >= 70 else Content("")
        titles = {view: f"{number} {self._title(view)}" for number, view in enumerate(VIEWS, 1)}
        if brand.cell_length + sum(len(title) + self.GAP for title in titles.values()) > width:
            # Too narrow for all: only the current view keeps its title, the others show their number.
            titles = {view: title if view == self._view else title[0] for view, title in titles.items()}
        styles = {self._view: "bold $foreground underline"}
        labels = ((view, line(title, styles.get(view, "$text-muted"))) for view, title in titles.items())
        return brand + self.joined(labels, brand.cell_length)

    def on_label_clicked(self, name: str) -> None:
        self.app.action_view(cast(View, name))

    def _title(self, view: View) -> str:
        return safe_line(self.app.run_shown or "Run", 24) if view == "run" else view.capitalize()

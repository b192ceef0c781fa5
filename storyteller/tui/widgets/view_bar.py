"""The first row of every view: the names of the views, the current one highlighted. A click switches to one."""

from __future__ import annotations

from textual import getters
from textual.content import Content
from textual.events import Click
from textual.widget import Widget

from storyteller.text import safe_line
from storyteller.tui.base_app import VIEWS, BaseApp, View
from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import positions

_BRAND = "storyteller"
_GAP = 3


class ViewBar(Widget):
    DEFAULT_CSS = "ViewBar { dock: top; height: 1; padding: 0 1; background: $surface; color: $text-muted; }"
    ALLOW_SELECT = False

    app = getters.app(BaseApp)

    def __init__(self, view: View | None = None) -> None:
        """`view` is the current one; None on a screen that is no view, such as a form."""
        super().__init__()
        self._view = view
        self._places: list[tuple[int, int]] = []

    def on_mount(self) -> None:
        self.app.screen_change_signal.subscribe(self, lambda _screen: self.refresh())

    def render(self) -> Content:
        width = self.size.width
        brand = [line(_BRAND, "bold $primary")] if width >= 70 else []
        first = len(_BRAND) + _GAP if brand else 0
        labels = [f"{number} {self._title(view)}" for number, view in enumerate(VIEWS, 1)]
        if first + sum(len(label) + _GAP for label in labels) > width:
            # Too narrow for all: only the current view keeps its title, the others show their number.
            labels = [label if view == self._view else label[0] for view, label in zip(VIEWS, labels, strict=True)]
        self._places = positions(map(len, labels), _GAP, first)
        styles = ["bold $foreground underline" if view == self._view else "$text-muted" for view in VIEWS]
        return Content(" " * _GAP).join([*brand, *map(line, labels, styles)])

    def on_click(self, event: Click) -> None:
        column = event.x - self.styles.padding.left
        for view, (begin, end) in zip(VIEWS, self._places, strict=False):
            if begin - 1 <= column < end + 1:
                self.app.action_view(view)

    def _title(self, view: View) -> str:
        return safe_line(self.app.run_shown or "Run", 24) if view == "run" else view.capitalize()

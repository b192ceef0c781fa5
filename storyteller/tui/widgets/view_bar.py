"""The first row of every view: which views there are, and which one this is. A click goes there."""

from __future__ import annotations

from textual import getters
from textual.content import Content
from textual.events import Click
from textual.widget import Widget

from storyteller.text import safe_line
from storyteller.tui.app import VIEWS, StorytellerApp, View
from storyteller.tui.safe_content import line

_BRAND = "storyteller"
_GAP = 3


class ViewBar(Widget):
    DEFAULT_CSS = """
    ViewBar { dock: top; height: 1; padding: 0 1; background: $surface; color: $text-muted; }
    """
    ALLOW_SELECT = False

    app = getters.app(StorytellerApp)

    def __init__(self, view: View | None = None) -> None:
        """`view` is the one that is lit; None for what is no view of its own, such as a form."""
        super().__init__()
        self._view = view
        self._places: list[tuple[int, int, View]] = []

    def on_mount(self) -> None:
        self.app.screen_change_signal.subscribe(self, lambda _screen: self.refresh())

    def render(self) -> Content:
        width = self.size.width
        tabs = [(view, str(number), self._title(view)) for number, view in enumerate(VIEWS, 1)]
        brand = line(_BRAND, "bold $primary") if width >= 70 else Content("")
        column = brand.cell_length + (_GAP if brand else 0)
        # Where there is little room, the view that is shown keeps its words and the others are numbers.
        brief = column + sum(2 + len(title) + _GAP for _, _, title in tabs) > width
        parts, self._places = [], []
        for view, number, title in tabs:
            lit = view == self._view
            words = f"{number} {title}" if lit or not brief else number
            parts.append(line(words, "bold $foreground underline" if lit else "$text-muted"))
            self._places.append((column, column + len(words), view))
            column += len(words) + _GAP
        gap = Content(" " * _GAP)
        return gap.join([brand, *parts] if brand else parts)

    def on_click(self, event: Click) -> None:
        column = event.x - self.styles.padding.left
        for begin, end, view in self._places:
            if begin - 1 <= column < end + 1:
                self.app.action_view(view)

    def _title(self, view: View) -> str:
        if view == "run":
            return safe_line(self.app.run_shown or "Run", 24)
        return view.capitalize()

"""The last row of every screen: the keys that can be used now. Clicking a hint presses its key."""

from __future__ import annotations

from typing import NamedTuple

from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import positions

_GAP = 2


class _KeyHint(NamedTuple):
    key: str
    shown: str  # the key as it is displayed
    action: str

    @property
    def width(self) -> int:
        return len(self.shown) + 1 + len(self.action)


class KeyHints(Widget):
    """Shows as many of the screen's hints as fit; the app's own (help, quit) stand at the right and take precedence."""

    DEFAULT_CSS = "KeyHints { dock: bottom; height: 1; padding: 0 1; background: $surface; color: $text-muted; }"
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []  # first column, column after the last, key

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        left, right = self._active_hints()
        width = self.size.width
        while right and _width(right) > width:
            right = right[1:]
        room = width - (_width(right) + _GAP if right else 0)
        while left and _width(left) > room:
            left = left[:-1]
        self._places = []
        for hints, begin in ((left, 0), (right, width - _width(right))):
            columns = positions((hint.width for hint in hints), _GAP, begin)
            self._places += [(*place, hint.key) for hint, place in zip(hints, columns, strict=True)]
        gap = width - _width(left) - _width(right)
        return Content.assemble(_joined(left), " " * max(gap, 0), _joined(right))

    def on_click(self, event: Click) -> None:
        column = event.x - self.styles.padding.left
        for begin, end, key in self._places:
            if begin <= column < end:
                self.app.simulate_key(key)

    def _active_hints(self) -> tuple[list[_KeyHint], list[_KeyHint]]:
        """The hints of the screen and its widgets, and those of the app; one for each action."""
        of_screen: dict[str, _KeyHint] = {}
        of_app: dict[str, _KeyHint] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.description:
                hint = _KeyHint(binding.key, self.app.get_key_display(binding), binding.description)
                (of_app if node is self.app else of_screen).setdefault(binding.action, hint)
        return list(of_screen.values()), list(of_app.values())


def _width(hints: list[_KeyHint]) -> int:
    return sum(hint.width for hint in hints) + _GAP * max(0, len(hints) - 1)


def _joined(hints: list[_KeyHint]) -> Content:
    return Content(" " * _GAP).join(
        Content.assemble(line(hint.shown, "bold $primary"), " ", line(hint.action)) for hint in hints
    )

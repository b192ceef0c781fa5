"""The last row of every screen: the keys that do something now. A click presses one."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

from storyteller.tui.safe_content import line

_GAP = 2


class KeyHints(Widget):
    """As many hints as the row holds, those of the app itself (help, quit) always, at the right."""

    DEFAULT_CSS = """
    KeyHints { dock: bottom; height: 1; padding: 0 1; background: $surface; color: $text-muted; }
    """
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Content:
        own, everywhere = self._shown()
        width = self.size.width
        right = everywhere
        while right and _width(right) > width:
            right = right[1:]
        room = width - (_width(right) + _GAP if right else 0)
        left: list[tuple[str, str, str]] = []
        for hint in own:
            if _width([*left, hint]) > room:
                break
            left.append(hint)
        gap = width - _width(left) - _width(right)
        self._places = _places(left, 0) + _places(right, width - _width(right))
        return Content.assemble(_joined(left), " " * max(gap, 0), _joined(right))

    def on_click(self, event: Click) -> None:
        column = event.x - self.styles.padding.left
        for begin, end, key in self._places:
            if begin <= column < end:
                self.app.simulate_key(key)

    def _shown(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
        """The screen's hints and the app's: each as the key, how it is written, and what it does."""
        own: dict[str, tuple[str, str, str]] = {}
        everywhere: dict[str, tuple[str, str, str]] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.description:
                kind = everywhere if node is self.app else own
                kind.setdefault(binding.action, (binding.key, self.app.get_key_display(binding), binding.description))
        return list(own.values()), list(everywhere.values())


def _width(hints: list[tuple[str, str, str]]) -> int:
    return sum(len(shown) + 1 + len(words) for _, shown, words in hints) + _GAP * max(0, len(hints) - 1)


def _places(hints: list[tuple[str, str, str]], begin: int) -> list[tuple[int, int, str]]:
    places = []
    for key, shown, words in hints:
        end = begin + len(shown) + 1 + len(words)
        places.append((begin, end, key))
        begin = end + _GAP
    return places


def _joined(hints: list[tuple[str, str, str]]) -> Content:
    return Content(" " * _GAP).join(
        Content.assemble(line(shown, "bold $primary"), " ", line(words)) for _, shown, words in hints
    )

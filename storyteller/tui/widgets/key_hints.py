"""The last row of every screen: the keys that can be used now. Clicking a hint presses its key."""

from __future__ import annotations

from textual.content import Content
from textual.screen import Screen

from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import LabelRow

_KeyHint = tuple[str, Content]  # the key, and what is displayed for it


class KeyHints(LabelRow):
    """Shows as many of the screen's hints as fit; the app's own (help, quit) stand at the right and take precedence."""

    DEFAULT_CSS = "KeyHints { dock: bottom; height: 1; padding: 0 1; background: $surface; color: $text-muted; }"

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def labels(self) -> Content:
        left, right = self._active_hints()
        width = self.size.width
        while right and self._width(right) > width:
            right = right[1:]
        room = width - (self._width(right) + self.GAP if right else 0)
        while left and self._width(left) > room:
            left = left[:-1]
        begin = width - self._width(right)
        return self.joined(left).pad_right(begin - self._width(left)) + self.joined(right, begin)

    def on_label_clicked(self, name: str) -> None:
        self.app.simulate_key(name)

    def _active_hints(self) -> tuple[list[_KeyHint], list[_KeyHint]]:
        """The hints of the screen and its widgets, and those of the app; one for each action."""
        of_screen: dict[str, _KeyHint] = {}
        of_app: dict[str, _KeyHint] = {}
        for node, binding, enabled, _ in self.screen.active_bindings.values():
            if binding.show and enabled and binding.description:
                shown = line(self.app.get_key_display(binding), "bold $primary")
                hint = binding.key, Content.assemble(shown, " ", line(binding.description))
                (of_app if node is self.app else of_screen).setdefault(binding.action, hint)
        return list(of_screen.values()), list(of_app.values())

    def _width(self, hints: list[_KeyHint]) -> int:
        return sum(hint.cell_length for _, hint in hints) + self.GAP * max(0, len(hints) - 1)

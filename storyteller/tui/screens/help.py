"""Every key of the screen one comes from, and the command that does the same without the app."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from storyteller.tui.safe_content import line

_HIDDEN = {"command_palette", "app.command_palette", "screen.copy_text", "help_quit", "toggle_dark"} | {
    "app.focus_next",
    "app.focus_previous",
    "scroll_left",
    "scroll_right",
    "page_left",
    "page_right",
}
"""Actions of Textual's own; those that are of use are told of in our words."""
_SAME_PLAINLY = {
    "runs": "storyteller ps",
    "run": "storyteller show RUN, storyteller logs RUN -f",
    "story": "storyteller tell, storyteller stories",
    "compare": "storyteller compare RUN RUN",
}


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, screen: Screen[Any], view: str) -> None:
        super().__init__()
        self._groups = keys_of(screen)
        self._plain = getattr(screen, "PLAIN_COMMAND", "") or _SAME_PLAINLY.get(view, "")

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialogue help"):
            yield Static(self._page(), markup=False)

    def _page(self) -> Content:
        lines: list[Content] = []
        for title, keys in self._groups:
            lines += [line(title, "bold $primary"), *self._rows(keys), Content("")]
        if self._plain:
            lines += [line("Without the app", "bold $primary"), line(f"  {self._plain}"), Content("")]
        lines.append(line("What trains goes on training when the app is left. Esc closes this.", "$text-muted"))
        return Content("\n").join(lines)

    @staticmethod
    def _rows(keys: list[tuple[str, str]]) -> list[Content]:
        wide = max(len(shown) for shown, _ in keys)
        return [Content.assemble("  ", line(shown.ljust(wide), "bold"), "  ", line(does)) for shown, does in keys]

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by * 2, animate=False)


def keys_of(screen: Screen[Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The screen's keys in groups: the view's own, those of what has the focus, and those of every view."""
    found: dict[str, dict[str, tuple[list[str], str]]] = {"This view": {}, "Here": {}, "Everywhere": {}}
    for key, (node, binding, _, tooltip) in screen.active_bindings.items():
        if binding.action in _HIDDEN or not binding.description or binding.system:
            continue
        group = "This view" if node is screen else "Everywhere" if node is screen.app else "Here"
        keys, _ = found[group].setdefault(binding.action, ([], tooltip or binding.description))
        shown = (
            binding.key_display
            if binding.key_display and not keys
            else screen.app.get_key_display(Binding(key, binding.action))
        )
        keys.append(shown)
    found["Everywhere"].setdefault("focus", (["tab"], "The next part of the screen"))
    found["Everywhere"].setdefault("palette", (["^p"], "Every action and run by its name"))
    return [
        (title, [(" ".join(keys), does) for keys, does in actions.values()])
        for title, actions in found.items()
        if actions
    ]

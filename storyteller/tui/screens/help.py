"""The help: every key of the current screen, and the command that does the same without the app."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from storyteller.tui.safe_content import line

_HIDDEN = {
    "command_palette", "app.command_palette", "screen.copy_text", "help_quit", "toggle_dark", "app.focus_next",
    "app.focus_previous", "scroll_left", "scroll_right", "page_left", "page_right",
}  # fmt: skip
"""Actions of Textual that are not listed; the useful ones are listed with a description of our own."""
_COMMANDS = {
    "runs": "storyteller ps",
    "run": "storyteller show RUN, storyteller logs RUN -f",
    "story": "storyteller tell, storyteller stories",
    "compare": "storyteller compare RUN RUN",
}


class HelpScreen(ModalScreen[None]):
    """Lists the keys of `screen`, which shows `view`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close"),
        Binding("down,j", "scroll(1)", "Down", show=False),
        Binding("up,k", "scroll(-1)", "Up", show=False),
    ]

    def __init__(self, screen: Screen[Any], view: str) -> None:
        super().__init__()
        self._groups = keys_of(screen)
        self._command = getattr(screen, "COMMAND", "") or _COMMANDS.get(view, "")

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialogue help"):
            yield Static(self._page(), markup=False)

    def _page(self) -> Content:
        lines: list[Content] = []
        for title, keys in self._groups:
            wide = max(len(shown) for shown, _ in keys)
            rows = [Content.assemble("  ", line(shown.ljust(wide), "bold"), "  ", line(does)) for shown, does in keys]
            lines += [line(title, "bold $primary"), *rows, Content("")]
        if self._command:
            lines += [line("Without the app", "bold $primary"), line(f"  {self._command}"), Content("")]
        lines.append(line("Training continues when the app is closed. Esc closes this help.", "$text-muted"))
        return Content("\n").join(lines)

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by * 2, animate=False)


def keys_of(screen: Screen[Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The screen's keys and their descriptions in groups: of the view, of the focused widget, of every view."""
    found: dict[str, dict[str, tuple[list[str], str]]] = {"This view": {}, "Here": {}, "Everywhere": {}}
    for key, (node, binding, _, tooltip) in screen.active_bindings.items():
        if binding.action in _HIDDEN or not binding.description or binding.system:
            continue
        group = "This view" if node is screen else "Everywhere" if node is screen.app else "Here"
        keys, _ = found[group].setdefault(binding.action, ([], tooltip or binding.description))
        own_display = binding.key_display if not keys else None
        keys.append(own_display or screen.app.get_key_display(Binding(key, binding.action)))
    found["Everywhere"].setdefault("focus", (["tab"], "Next part of the screen"))
    found["Everywhere"].setdefault("palette", (["^p"], "Search all actions and runs"))
    return [
        (title, [(" ".join(keys), does) for keys, does in actions.values()])
        for title, actions in found.items()
        if actions
    ]

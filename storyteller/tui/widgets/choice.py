"""A one-row selector that shows all of its options; the arrow keys or a click select one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from storyteller.tui.safe_content import line
from storyteller.tui.widgets.label_row import LabelRow


class Choice(LabelRow, can_focus=True):
    """Selects one of a few options."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; color: $text-muted; }
    Choice:focus { background: $surface; }
    Choice:focus:ansi { text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "Previous option", show=False),
        Binding("right,space", "choose(1)", "Next option", show=False),
    ]

    value: reactive[str] = reactive("")

    @dataclass
    class Changed(Message):
        """Another option was selected."""

        choice: Choice
        value: str

    def __init__(self, options: Sequence[str], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.options = tuple(options)
        self.set_reactive(Choice.value, self.options[0])

    def labels(self) -> Content:
        selected = "bold $primary" + (" underline" if self.app.no_color else "")
        return self.joined((option, line(option, selected if option == self.value else "")) for option in self.options)

    def watch_value(self, value: str) -> None:
        self.post_message(self.Changed(self, value))

    def action_choose(self, by: int) -> None:
        place = self.options.index(self.value) if self.value in self.options else 0
        self.value = self.options[(place + by) % len(self.options)]

    def on_label_clicked(self, name: str) -> None:
        self.value = name

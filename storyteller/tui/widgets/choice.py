"""One of a few words, all of them in sight: the arrows or a click choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from storyteller.tui.safe_content import line

_GAP = 2


class Choice(Widget, can_focus=True):
    """One row high."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; color: $text-muted; }
    Choice:focus { background: $surface; }
    Choice:focus:ansi { text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "The choice before", show=False),
        Binding("right,space", "choose(1)", "The next choice", show=False),
    ]
    ALLOW_SELECT = False

    value: reactive[str] = reactive("")

    class Changed(Message):
        """Another one was chosen."""

        def __init__(self, choice: Choice, value: str) -> None:
            super().__init__()
            self.choice = choice
            self.value = value

        @property
        def control(self) -> Choice:
            return self.choice

    def __init__(self, options: Sequence[str], value: str = "", *, id: str | None = None) -> None:  # Textual's name
        super().__init__(id=id)
        self.options = tuple(options)
        self.set_reactive(Choice.value, value or self.options[0])

    def render(self) -> Content:
        lit = "bold $primary" + (" underline" if self.app.no_color else "")
        parts = [line(option, lit if option == self.value else "") for option in self.options]
        return Content(" " * _GAP).join(parts)

    def watch_value(self, value: str) -> None:
        self.post_message(self.Changed(self, value))

    def action_choose(self, by: int) -> None:
        place = self.options.index(self.value) if self.value in self.options else 0
        self.value = self.options[(place + by) % len(self.options)]

    def on_click(self, event: Click) -> None:
        begin = 0
        for option in self.options:
            if begin <= event.x < begin + len(option) + 1:
                self.value = option
            begin += len(option) + _GAP

"""Where it is written how a story begins."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from storyteller.text import safe

_STORY_KEYS = {"ctrl+e", "ctrl+w", "ctrl+y", "ctrl+z"}
"""The Story view's keys that a text area has other uses for."""
_KEPT_KEYS = [
    binding
    for binding in TextArea.BINDINGS
    if isinstance(binding, Binding) and not {*binding.key.split(",")} & _STORY_KEYS
]


class PromptBox(TextArea, inherit_bindings=False):
    """How the story begins. Enter tells it; ctrl+j makes a new line. It grows with its text."""

    DEFAULT_CSS = """
    PromptBox {
        height: auto; min-height: 1; max-height: 6; padding: 0 1 0 0;
        border: none; border-left: outer $panel; background: $surface; scrollbar-size-vertical: 1;
        &:focus { border: none; border-left: outer $primary; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *_KEPT_KEYS,
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", "New line", show=False),
    ]

    class Entered(Message):
        """Enter was pressed."""

    def __init__(self, text: str) -> None:
        super().__init__(safe(text), highlight_cursor_line=False, placeholder="Once upon a time \u2026", id="prompt")
        self._given = text

    @property
    def prompt(self) -> str:
        """The text as it was given, where it was not changed since; else as it stands."""
        return self._given if self.text == safe(self._given) else self.text

    @prompt.setter
    def prompt(self, text: str) -> None:
        self._given = text
        self.load_text(safe(text))
        self.move_cursor(self.document.end)

    def edit(self, edit: Edit) -> EditResult:
        edit.text = safe(edit.text.replace("\r\n", "\n").replace("\r", "\n"))
        return super().edit(edit)

    def action_new_line(self) -> None:
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Entered())
        else:
            await super()._on_key(event)

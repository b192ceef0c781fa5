"""The text area for the prompt, the beginning of a story."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from storyteller.text import safe

_STORY_KEYS = {"ctrl+e", "ctrl+w", "ctrl+y", "ctrl+z"}
"""Keys of the Story view that are bound to other actions in a `TextArea`."""
_KEPT_KEYS = [
    binding
    for binding in TextArea.BINDINGS
    if isinstance(binding, Binding) and not {*binding.key.split(",")} & _STORY_KEYS
]


class PromptBox(TextArea, inherit_bindings=False):
    """A text area that grows with its text. Enter posts `Entered`; ctrl+j inserts a newline."""

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
        """The prompt. Until the user edits it, it is the text as it was set, not the safe form that is displayed."""
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

    # `TextArea` inserts characters in `_on_key`, which runs before bindings; its documentation extends it this way.
    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Entered())
        else:
            await super()._on_key(event)

"""The dialogue that selects runs to draw in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from storyteller.tui import safe_content


class PickRunsScreen(ModalScreen[tuple[str, ...] | None]):
    """Returns the names selected, or None if the dialogue was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("enter", "take", "Draw", priority=True),
    ]

    def __init__(self, names: Sequence[str], selected: Sequence[str], prompt: str, limit: int) -> None:
        """`prompt` says what the selection is for; at most `limit` names are returned."""
        super().__init__()
        self._names, self._selected, self._prompt, self._limit = names, selected, prompt, limit

    def compose(self) -> ComposeResult:
        with Vertical():
            prompt = self._prompt if self._names else "There is no other run to draw over this one."
            yield Static(safe_content.plain(prompt), markup=False)
            yield SelectionList[str](
                *(Selection(safe_content.line(name), name, name in self._selected) for name in self._names),
                compact=True,
            )

    def on_mount(self) -> None:
        self.query_one(SelectionList).focus()

    def action_take(self) -> None:
        selected = self.query_one(SelectionList).selected
        self.dismiss(tuple(name for name in self._names if name in selected)[: self._limit])

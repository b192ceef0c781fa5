"""Choosing runs to draw beside one."""

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

MOST_RUNS = 7
"""As many as the palette has colours beside the run's own."""


class PickRunsScreen(ModalScreen[tuple[str, ...] | None]):
    """The names that were chosen; None where the choice was left."""

    DEFAULT_CSS = """
    PickRunsScreen { align: center middle; background: $background 60%; }
    PickRunsScreen > Vertical {
        width: 60; max-width: 90%; height: auto; max-height: 80%; padding: 1 2; background: $surface;
    }
    PickRunsScreen SelectionList { height: auto; max-height: 16; border: none; padding: 0; background: $surface; }
    PickRunsScreen SelectionList > .selection-list--button,
    PickRunsScreen SelectionList > .selection-list--button-highlighted { color: $panel; background: $panel; }
    PickRunsScreen SelectionList > .selection-list--button-selected,
    PickRunsScreen SelectionList > .selection-list--button-selected-highlighted {
        color: $primary; background: $panel; text-style: bold;
    }
    PickRunsScreen Static { color: $text-muted; height: auto; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave"),
        Binding("enter", "take", "Draw them", priority=True),
    ]

    def __init__(self, names: Sequence[str], chosen: Sequence[str], asks: str = "", most: int = MOST_RUNS) -> None:
        """`asks` says what the choice is for; at most `most` of the names are given back."""
        super().__init__()
        self._asks = asks or "Draw other runs over this one: space marks, enter draws, escape leaves."
        self._most = most
        self._names = list(names)
        self._chosen = set(chosen)

    def compose(self) -> ComposeResult:
        with Vertical():
            said = self._asks if self._names else "There is no other run to draw over this one."
            yield Static(safe_content.plain(said), markup=False)
            yield SelectionList[str](
                *(Selection(safe_content.line(name), name, name in self._chosen) for name in self._names), compact=True
            )

    def on_mount(self) -> None:
        self.query_one(SelectionList).focus()

    def action_take(self) -> None:
        chosen = self.query_one(SelectionList).selected
        self.dismiss(tuple(name for name in self._names if name in chosen)[: self._most])

    def action_leave(self) -> None:
        self.dismiss(None)

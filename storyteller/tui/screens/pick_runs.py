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

MAX_RUNS = 7  # the palette has eight colours, one of which is the run's own


class PickRunsScreen(ModalScreen[tuple[str, ...] | None]):
    """Returns the names selected, or None if the dialogue was cancelled."""

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
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("enter", "take", "Draw", priority=True),
    ]

    def __init__(self, names: Sequence[str], selected: Sequence[str], prompt: str = "", limit: int = MAX_RUNS) -> None:
        """`prompt` says what the selection is for; at most `limit` names are returned."""
        super().__init__()
        self._prompt = prompt or "Draw other runs over this one: space marks, enter draws, escape cancels."
        self._limit = limit
        self._names = list(names)
        self._selected = set(selected)

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

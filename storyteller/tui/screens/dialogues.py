"""The small dialogues: a yes-or-no question, a question that is answered with text, and a selection of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, SelectionList, Static
from textual.widgets.selection_list import Selection

from storyteller.errors import StorytellerError
from storyteller.text import safe_line
from storyteller.tui.safe_content import line, plain

T = TypeVar("T")


def ask(app: App[Any], dialogue: ModalScreen[T | None], use: Callable[[T], object]) -> None:
    """Show a dialogue, and call `use` with its result unless it was cancelled."""

    def closed(result: T | None) -> None:
        if result is not None:
            use(result)

    app.push_screen(dialogue, closed)


class AnswerButton(Static, can_focus=True):
    """A text button: enter, space or a click presses it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "press", "Press", show=False)]

    def __init__(self, label: str, action: str, *, id: str, classes: str = "") -> None:
        """`action` is an action of the screen."""
        super().__init__(line(f" {label} "), id=id, classes=classes, markup=False)
        self._action = action

    async def action_press(self) -> None:
        await self.screen.run_action(self._action)

    on_click = action_press


class Confirm(ModalScreen[Literal[True] | None]):
    """A yes-or-no question. `y` answers yes; `n`, escape, and enter unless the focus was moved answer no (None)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(None)", "No"),
        Binding("left,right,up,down", "app.focus_next", "Other answer", show=False),
    ]
    AUTO_FOCUS = "#no"

    def __init__(self, question: str, detail: str, *, yes: str, no: str) -> None:
        super().__init__()
        self._question, self._detail, self._yes, self._no = question, detail, yes, no

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialogue"):
            yield Static(plain(self._question, "bold"), classes="question")
            yield Static(plain(self._detail), classes="detail")
            with Horizontal(classes="answers"):
                yield AnswerButton(f"{self._yes}  y", "dismiss(True)", id="yes", classes="danger")
                yield AnswerButton(f"{self._no}  n", "dismiss(None)", id="no")


class Ask(ModalScreen[str | None]):
    """A question answered with text, or None on escape. The StorytellerError that `check` raises is shown below."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, question: str, value: str, check: Callable[[str], object]) -> None:
        """`value` is the text that the field begins with."""
        super().__init__()
        self._question, self._value, self._check = question, value, check

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialogue"):
            yield Static(plain(self._question, "bold"), classes="question")
            yield Input(safe_line(self._value), compact=True)
            yield Static("", id="why", classes="trouble", markup=False)
            yield Static(line("enter confirms, escape cancels", "$text-muted"), markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        word = event.value.strip()
        try:
            self._check(word)
        except StorytellerError as error:
            self.query_one("#why", Static).update(plain(str(error), "$text-error"))
            return
        self.dismiss(word)


class PickRunsScreen(ModalScreen[tuple[str, ...] | None]):
    """Selects runs to draw in one chart. Returns their names, or None if the dialogue was cancelled."""

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
            yield Static(plain(prompt), markup=False)
            yield SelectionList[str](
                *(Selection(line(name), name, name in self._selected) for name in self._names),
                compact=True,
            )

    def on_mount(self) -> None:
        self.query_one(SelectionList).focus()

    def action_take(self) -> None:
        selected = self.query_one(SelectionList).selected
        self.dismiss(tuple(name for name in self._names if name in selected)[: self._limit])

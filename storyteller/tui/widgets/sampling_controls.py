"""The sampling settings: a row of knobs, changed with the arrow keys or the mouse wheel, or by typing a value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, HorizontalGroup
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError, invalid_value
from storyteller.tui.safe_content import line

Number = int | float
_WIDE_COLUMNS = 120


@dataclass(frozen=True)
class KnobSpec:
    """A sampling setting: its label, range and step."""

    field: str  # the field of `SamplingParams`
    name: str
    step: Number
    least: Number
    most: Number
    special: str = ""
    """The word that is shown and typed for 0 (for the seed: None), if that value has a meaning of its own."""
    hint: str = ""


KNOBS = (
    KnobSpec("temperature", "temperature", 0.1, 0, 100, hint="Below 1 is safer, above 1 is wilder; 0 is greedy"),
    KnobSpec("top_p", "top-p", 0.05, 0.05, 1, hint="Sample from the likeliest tokens that sum to this probability"),
    KnobSpec("top_k", "top-k", 10, 0, 1_000_000, "all", hint="Sample from this many of the likeliest tokens"),
    KnobSpec("min_p", "min-p", 0.01, 0, 0.99, hint="Least probability, as a share of the likeliest token's"),
    KnobSpec("repetition_penalty", "penalty", 0.05, 0.05, 100, hint="Repetition penalty; 1 disables it"),
    KnobSpec("max_tokens", "tokens", 50, 1, 1_000_000, hint="Most tokens to generate at a time"),
    KnobSpec("beams", "beams", 1, 1, 64, hint="Above 1: beam search, which ignores temperature and seed"),
    KnobSpec("seed", "seed", 1, 0, 2**32 - 1, "any", hint="The same seed repeats a story; any: a new one each time"),
)


class Knob(Widget, can_focus=True):
    """One setting: its label and its value."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,plus", "turn(1)", "More", show=False),
        Binding("down,minus", "turn(-1)", "Less", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
        Binding("backspace", "backspace", show=False),
        Binding("delete", "reset", "Default", show=False),
    ]
    DEFAULT_CSS = "Knob { height: 1; width: auto; }"
    ALLOW_SELECT = False

    value: reactive[Number | None] = reactive[Number | None](None, layout=True)
    typed: reactive[str] = reactive("", layout=True)
    """The text being typed; it is applied when enter is pressed or the knob loses focus."""
    invalid: reactive[bool] = reactive(False)  # whether the typed text is not a valid value

    class Turned(Message):
        """The value changed."""

    @dataclass
    class InvalidInput(Message):
        """The typed text is not a valid value; `reason` is one line."""

        reason: str

    def __init__(self, spec: KnobSpec, value: Number | None) -> None:
        super().__init__(id=spec.field.replace("_", "-"))
        self.spec = spec
        self._default: Number | None = getattr(SamplingParams(), spec.field)
        self.set_reactive(Knob.value, value)
        self.tooltip = Content(spec.hint)

    @property
    def shown(self) -> str:
        """The value as it is displayed."""
        if self.value is None or (self.spec.special and self.value == 0 and self._default is not None):
            return self.spec.special
        if isinstance(self.value, int) and not isinstance(self._default, float):
            return f"{self.value}" if self.spec.field == "seed" else f"{self.value:,}"
        return f"{self.value:.2f}".rstrip("0").rstrip(".") if self.value else "0"

    def render(self) -> Content:
        name = line(f"{self.spec.name} ", "$text-muted")
        if self.has_focus:
            text = f"{self.typed}\u258f" if self.typed or self.invalid else self.shown
            return name + line(text, "reverse $error" if self.invalid else "reverse")
        return name + line(self.shown, "bold $primary" if self.value != self._default else "")

    def get_content_width(self, container: object, viewport: object) -> int:  # noqa: ARG002
        return max(self.render().cell_length, len(self.spec.name) + 5)

    def action_turn(self, turns: int) -> None:
        """Change the value by steps; positive ones increase it. A seed of None comes before 0."""
        self.commit()
        spec = self.spec
        if self.value is None:
            self._set(spec.least if turns > 0 else None)
        elif spec.field == "seed" and self.value + turns < 0:
            self._set(None)
        elif spec.step == 1:
            self._set(min(max(self.value + turns, spec.least), spec.most))
        else:
            # Values move to multiples of the step: from 1 token the next is 50, not 51. Half a step (0.499, so that a
            # value on a multiple does not round to itself) makes `round` find the next multiple in either direction.
            multiple = round(self.value / spec.step + turns + (0.499 if turns < 0 else -0.499)) * spec.step
            turned = int(multiple) if isinstance(spec.step, int) else round(multiple, 4)
            self._set(min(max(turned, spec.least), spec.most))

    def action_backspace(self) -> None:
        self.invalid = False
        self.typed = self.typed[:-1]

    def action_reset(self) -> None:
        self.typed, self.invalid = "", False
        self._set(self._default)

    def on_key(self, event: events.Key) -> None:
        character = event.character or ""
        if character and (character in "0123456789." or (self.spec.special and character in self.spec.special)):
            event.stop()
            self.invalid = False
            self.typed = (self.typed + character)[:12]

    def on_blur(self) -> None:
        self.commit()
        self.typed, self.invalid = "", False

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_turn(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_turn(-1)

    def commit(self) -> bool:
        """Apply the typed text; False if it is not a valid value."""
        typed, spec = self.typed, self.spec
        if not typed:
            return not self.invalid
        try:
            value = (0 if self._default is not None else None) if typed == spec.special else self._number(typed)
            changed: dict[str, Any] = {spec.field: value}
            dataclasses.replace(SamplingParams(), **changed)  # validates the value
        except UsageError as error:
            self.invalid = True
            self.post_message(self.InvalidInput(str(error)))
            return False
        self.typed = ""
        self._set(value)
        return True

    def _number(self, typed: str) -> Number:
        try:
            return float(typed) if isinstance(self._default, float) else int(typed)
        except ValueError:
            expected = "a number" if isinstance(self._default, float) else "a whole number"
            raise invalid_value(self.spec.name, typed, expected) from None

    def _set(self, value: Number | None) -> None:
        if value != self.value:
            self.value = value
            self.post_message(self.Turned())


class SamplingControls(Container):
    """All the knobs, in one row if there is room for it, else in two."""

    DEFAULT_CSS = """
    SamplingControls {
        height: auto;
        HorizontalGroup { width: 1fr; }
        Knob { width: 1fr; }
        &.-wide {
            layout: horizontal;
            HorizontalGroup { width: auto; }
            Knob { width: auto; margin-right: 3; }
        }
    }
    """

    def __init__(self, params: SamplingParams) -> None:
        super().__init__()
        self._initial = params

    def compose(self) -> ComposeResult:
        knobs = [Knob(spec, getattr(self._initial, spec.field)) for spec in KNOBS]
        with HorizontalGroup():
            yield from knobs[: len(knobs) // 2]
        with HorizontalGroup():
            yield from knobs[len(knobs) // 2 :]

    @property
    def params(self) -> SamplingParams:
        """The current settings. Raises UsageError if they contradict each other."""
        values: dict[str, Any] = {knob.spec.field: knob.value for knob in self.query(Knob)}
        return dataclasses.replace(self._initial, **values)

    @params.setter
    def params(self, params: SamplingParams) -> None:
        self._initial = params
        for knob in self.query(Knob):
            knob.typed, knob.invalid = "", False
            knob.value = getattr(params, knob.spec.field)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _WIDE_COLUMNS, "-wide")

    def commit(self) -> bool:
        """Apply the typed text of every knob; False if one is not a valid value."""
        committed = [knob.commit() for knob in self.query(Knob)]  # all of them, also after an invalid one
        return all(committed)

"""How a story is told: a row of small knobs, turned with the arrow keys or the wheel, or typed into."""

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
from storyteller.errors import UsageError
from storyteller.tui.safe_content import line

Number = int | float
_WIDE_COLUMNS = 120


@dataclass(frozen=True)
class Dial:
    """One setting: how it is called, how far a turn goes, and what its resting value is called."""

    field: str
    """Of `config.Sample`."""
    name: str
    step: Number
    least: Number
    most: Number
    rest: str = ""
    """What 0 (for the seed: none) is shown as, where it means something else than a number."""
    hint: str = ""


DIALS = (
    Dial("temperature", "temperature", 0.1, 0, 100, hint="Lower is safer, higher is wilder; 0: the likeliest token"),
    Dial("top_p", "top-p", 0.05, 0.05, 1, hint="Only the likeliest tokens that together have this probability"),
    Dial("top_k", "top-k", 10, 0, 1_000_000, "all", hint="Only the so many likeliest tokens"),
    Dial("min_p", "min-p", 0.01, 0, 0.99, hint="Only tokens this likely as a share of the likeliest one; 0: all"),
    Dial("repetition_penalty", "penalty", 0.05, 0.05, 100, hint="Above 1, tokens told already become less likely"),
    Dial("max_tokens", "tokens", 50, 1, 1_000_000, hint="Most tokens told at a time"),
    Dial("beams", "beams", 1, 1, 64, hint="Above 1: a search for the likeliest story, which draws nothing"),
    Dial("seed", "seed", 1, 0, 2**32 - 1, "any", hint="The same seed tells the same story; any: a new one each time"),
)


class Knob(Widget, can_focus=True):
    """One setting, on one line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,plus", "turn(1)", "More", show=False),
        Binding("down,minus", "turn(-1)", "Less", show=False),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
        Binding("backspace", "rub", show=False),
        Binding("delete", "rest", "Default", show=False),
    ]
    DEFAULT_CSS = """
    Knob { height: 1; width: auto; }
    """
    ALLOW_SELECT = False

    value: reactive[Number | None] = reactive[Number | None](None, layout=True)
    typed: reactive[str] = reactive("", layout=True)
    """What is being typed; it counts once enter is pressed or the knob is left."""
    off: reactive[bool] = reactive(False)
    """What was typed is no value."""

    class Turned(Message):
        """The value is another one."""

        def __init__(self, knob: Knob) -> None:
            super().__init__()
            self.knob = knob

    class Refused(Message):
        """What was typed is no value; `why` is one line."""

        def __init__(self, why: str) -> None:
            super().__init__()
            self.why = why

    def __init__(self, dial: Dial, value: Number | None) -> None:
        super().__init__(id=dial.field.replace("_", "-"))
        self.dial = dial
        self._rest: Number | None = getattr(SamplingParams(), dial.field)
        self.set_reactive(Knob.value, value)
        self.tooltip = Content(dial.hint)

    @property
    def shown(self) -> str:
        """The value, as it is read."""
        if self.value is None or (self.dial.rest and self.value == 0 and self._rest is not None):
            return self.dial.rest
        if isinstance(self.value, int) and not isinstance(self._rest, float):
            return f"{self.value}" if self.dial.field == "seed" else f"{self.value:,}"
        return f"{self.value:.2f}".rstrip("0").rstrip(".") if self.value else "0"

    def render(self) -> Content:
        name = line(f"{self.dial.name} ", "$text-muted")
        if self.has_focus:
            text = f"{self.typed}\u258f" if self.typed or self.off else self.shown
            return name + line(text, "reverse $error" if self.off else "reverse")
        return name + line(self.shown, "bold $primary" if self.value != self._rest else "")

    def get_content_width(self, container: object, viewport: object) -> int:  # noqa: ARG002
        return max(self.render().cell_length, len(self.dial.name) + 5)

    def action_turn(self, turns: int) -> None:
        """A step up or down; the seed's way from `any` begins at 0."""
        self._take_typed()
        dial = self.dial
        if self.value is None:
            self._set(dial.least if turns > 0 else None)
        elif dial.field == "seed" and self.value + turns < 0:
            self._set(None)
        else:
            # From 1 token the next is 50, not 51: turns meet the multiples of their step.
            ahead = (self.value / dial.step + turns + (0.499 if turns < 0 else -0.499)) if dial.step != 1 else 0
            turned = round(ahead) * dial.step if dial.step != 1 else self.value + turns
            whole = isinstance(dial.step, int)
            self._set(min(max(int(turned) if whole else round(turned, 4), dial.least), dial.most))

    def action_rub(self) -> None:
        self.off = False
        self.typed = self.typed[:-1]

    def action_rest(self) -> None:
        """Back to the default."""
        self.typed, self.off = "", False
        self._set(self._rest)

    def on_key(self, event: events.Key) -> None:
        character = event.character or ""
        if character and (character in "0123456789." or (self.dial.rest and character in self.dial.rest)):
            event.stop()
            self.off = False
            self.typed = (self.typed + character)[:12]

    def on_focus(self) -> None:
        self.typed, self.off = "", False

    def on_blur(self) -> None:
        self._take_typed()
        self.typed, self.off = "", False

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_turn(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_turn(-1)

    def settle(self) -> bool:
        """Take what was typed; whether it is a value."""
        self._take_typed()
        return not self.off

    def _take_typed(self) -> None:
        typed, dial = self.typed, self.dial
        if not typed:
            return
        try:
            value = (0 if self._rest is not None else None) if typed == dial.rest else self._number(typed)
            _altered(SamplingParams(), {dial.field: value})
        except UsageError as error:
            self.off = True
            self.post_message(self.Refused(str(error)))
            return
        self.typed = ""
        self._set(value)

    def _number(self, typed: str) -> Number:
        try:
            return float(typed) if isinstance(self._rest, float) else int(typed)
        except ValueError:
            wants = "a number" if isinstance(self._rest, float) else "a whole number"
            raise UsageError(f"{self.dial.name} {typed} is off", f"it wants {wants}") from None

    def _set(self, value: Number | None) -> None:
        if value != self.value:
            self.value = value
            self.post_message(self.Turned(self))


class SamplingControls(Container):
    """All the knobs, in one row where there is room for it, else in two."""

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

    def __init__(self, sample: SamplingParams) -> None:
        super().__init__()
        self._first = sample

    def compose(self) -> ComposeResult:
        knobs = [Knob(dial, getattr(self._first, dial.field)) for dial in DIALS]
        with HorizontalGroup():
            yield from knobs[: len(knobs) // 2]
        with HorizontalGroup():
            yield from knobs[len(knobs) // 2 :]

    @property
    def sample(self) -> SamplingParams:
        """The settings. Raises UsageError where they do not fit together."""
        return _altered(self._first, {knob.dial.field: knob.value for knob in self.query(Knob)})

    @sample.setter
    def sample(self, sample: SamplingParams) -> None:
        self._first = sample
        for knob in self.query(Knob):
            knob.typed, knob.off = "", False
            knob.value = getattr(sample, knob.dial.field)

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= _WIDE_COLUMNS, "-wide")

    def settle(self) -> bool:
        """Take what is being typed; whether all of it are values."""
        settled = [knob.settle() for knob in self.query(Knob)]
        return all(settled)


def _altered(sample: SamplingParams, values: dict[str, Any]) -> SamplingParams:
    """`sample` with these values. Raises UsageError where one is off."""
    return dataclasses.replace(sample, **values)

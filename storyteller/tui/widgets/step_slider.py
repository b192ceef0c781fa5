"""A slider over the steps of a run: which steps have a story, and which of them is shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.events import MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

_LINE, _STORY, _MISSING, _CURRENT = "\u2500", "\u2022", "\u25e6", "\u25cf"


class StepSlider(Widget):
    """A row with a dot for each step, filled if it has a story. A click, drag or the wheel picks a step."""

    DEFAULT_CSS = "StepSlider { height: 1; width: 1fr; }"

    @dataclass
    class StepPicked(Message):
        """A step was picked."""

        step: int

    steps: reactive[tuple[int, ...]] = reactive(())  # ascending
    with_story: reactive[frozenset[int]] = reactive(frozenset[int])
    current: reactive[int | None] = reactive[int | None](None)  # the step whose story is shown
    _dragged = False

    def render(self) -> Content:
        width = self.size.width
        if width < 5 or not self.steps:
            return Content.styled(_LINE * max(0, width), "$foreground 20%")
        cells = [_LINE] * (width - 4)
        for step in self.steps:
            column = self._column(step)
            if step in self.with_story or cells[column] == _LINE:
                cells[column] = _STORY if step in self.with_story else _MISSING
        parts = [(cell, "$foreground 25%" if cell == _LINE else "$text-muted") for cell in cells]
        if self.current is not None:
            parts[self._column(self.current)] = (_CURRENT, "bold $primary")
        return Content.assemble(("[", "$text-muted"), " ", *parts, " ", ("]", "$text-muted"))

    def _column(self, step: int) -> int:
        """The column of a step, counted from the first one between the brackets."""
        first, last, columns = self.steps[0], self.steps[-1], self.size.width - 4
        return 0 if last == first else round((step - first) * (columns - 1) / (last - first))

    def _nearest(self, x: int) -> int | None:
        """The step whose dot is nearest to column `x` of the widget."""
        if not self.steps or self.size.width < 5:
            return None
        return min(self.steps, key=lambda step: abs(self._column(step) - (x - 2)))

    def on_mouse_down(self, event: MouseDown) -> None:
        if event.x <= 0 or event.x >= self.size.width - 1:
            self._move(-1 if event.x <= 0 else 1)
            return
        self._dragged = True
        self.capture_mouse()
        self._pick(self._nearest(event.x))

    def on_mouse_move(self, event: MouseMove) -> None:
        if self._dragged:
            self._pick(self._nearest(event.x))

    def on_mouse_up(self, _: MouseUp) -> None:
        self._dragged = False
        self.release_mouse()

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self._move(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self._move(-1)

    def _move(self, by: int) -> None:
        self._pick(step_after(self.steps, self.current, by))

    def _pick(self, step: int | None) -> None:
        if step is not None and step != self.current:
            self.post_message(self.StepPicked(step))


def step_after(steps: Sequence[int], current: int | None, by: int) -> int | None:
    """The step `by` places after `current` in ascending `steps`, clamped to the first and the last one.

    Without a current step it is the last one; without steps it is None.
    """
    if not steps:
        return None
    if current is None:
        return steps[-1]
    place = bisect_left(steps, current)
    if by > 0 and (place == len(steps) or steps[place] != current):
        place -= 1  # `current` lies between two steps, and `place` is already the later one
    return steps[min(max(place + by, 0), len(steps) - 1)]

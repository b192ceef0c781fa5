"""A slider over steps: where stories were told, which of them is shown."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from textual.content import Content
from textual.events import MouseDown, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.message import Message
from textual.widget import Widget

_LINE, _TOLD, _MISSING, _HERE = "\u2500", "\u2022", "\u25e6", "\u25cf"


class StepSlider(Widget):
    """A row with a dot for each step, filled where a story was told; click, drag or the wheel picks one."""

    DEFAULT_CSS = """
    StepSlider { height: 1; width: 1fr; }
    """

    class Picked(Message):
        """A step was picked."""

        def __init__(self, step: int) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._steps: tuple[int, ...] = ()
        self._told: frozenset[int] = frozenset()
        self._here: int | None = None
        self._dragged = False

    def show(self, steps: Sequence[int], told: Sequence[int], here: int | None) -> None:
        """`steps` ascending, those of them that have a story, and the one that is shown."""
        seen = (tuple(steps), frozenset(told), here)
        if seen != (self._steps, self._told, self._here):
            self._steps, self._told, self._here = seen
            self.refresh()

    def render(self) -> Content:
        width = self.size.width
        if width < 5 or not self._steps:
            return Content.styled(_LINE * max(0, width), "$foreground 20%")
        cells = [_LINE] * (width - 4)
        for step in self._steps:
            column = self._column(step)
            if step in self._told or cells[column] == _LINE:
                cells[column] = _TOLD if step in self._told else _MISSING
        here = self._column(self._here) if self._here is not None else None
        left, right = ("[", "]")
        parts: list[Content | tuple[str, str]] = [(left, "$text-muted"), " "]  # type: ignore[list-item]
        for column, cell in enumerate(cells):
            if column == here:
                parts.append((_HERE, "bold $primary"))
            else:
                parts.append((cell, "$foreground 25%" if cell == _LINE else "$text-muted"))
        return Content.assemble(*parts, " ", (right, "$text-muted"))

    def _column(self, step: int) -> int:
        """The column of a step among those between the brackets."""
        first, last, columns = self._steps[0], self._steps[-1], self.size.width - 4
        return 0 if last == first else round((step - first) * (columns - 1) / (last - first))

    def _nearest(self, x: int) -> int | None:
        """The step whose dot is nearest to the column `x` of the widget."""
        if not self._steps or self.size.width < 5:
            return None
        return min(self._steps, key=lambda step: abs(self._column(step) - (x - 2)))

    def on_mouse_down(self, event: MouseDown) -> None:
        if event.x <= 0 or event.x >= self.size.width - 1:
            self._pick(self._beside(-1 if event.x <= 0 else 1))
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
        self._pick(self._beside(1))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self._pick(self._beside(-1))

    def _beside(self, by: int) -> int | None:
        return beside(self._steps, self._here, by)

    def _pick(self, step: int | None) -> None:
        if step is not None and step != self._here:
            self.post_message(self.Picked(step))


def beside(steps: Sequence[int], here: int | None, by: int) -> int | None:
    """The step that is `by` places after `here` among ascending steps, at most the last and at least the first."""
    if not steps:
        return None
    if here is None:
        return steps[-1]
    place = bisect_left(steps, here)
    if by > 0 and (place == len(steps) or steps[place] != here):
        place -= 1  # `here` lies between two of them
    return steps[min(max(place + by, 0), len(steps) - 1)]

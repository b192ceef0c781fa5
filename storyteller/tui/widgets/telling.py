"""A story on the screen while it is told: its model above, its text as it comes, what it took below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Static

from storyteller.text import safe
from storyteller.tui.words import line

_CHUNK_CHARS = 400
"""A paragraph that ends beyond it is drawn no more: what comes then has a widget of its own."""
_MOST_CHUNKS = 300


@dataclass(frozen=True)
class Part:
    """A stretch of a story: told by a model, or given to it."""

    text: str
    told: bool


class StoryText(VerticalScroll):
    """A story's text. While it grows, only its last lines are drawn anew."""

    DEFAULT_CSS = """
    StoryText {
        height: 1fr;
        margin: 1 0;
        scrollbar-size-vertical: 1;
        scrollbar-color: $panel;
        scrollbar-background: $background;
        Static { width: 1fr; max-width: 84; }
    }
    """

    telling: reactive[bool] = reactive(False)
    """Whether more is to come."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[Part] = []
        """The parts of the last chunk, made safe."""
        self._last: Static | None = None
        self._left_out = False
        self._follows = True

    def show(self, parts: Sequence[Part], telling: bool = False, from_start: bool = False) -> None:
        """Show this story in place of the one that is there, at its end or from its start."""
        self.remove_children()
        self._open, self._last, self._left_out = [], None, False
        self.set_reactive(StoryText.telling, telling)
        for part in parts:
            self._take(part)
        self._draw()
        self._follows = not from_start
        if from_start:
            self.scroll_home(animate=False)

    def feed(self, text: str) -> None:
        """What was told since."""
        self._take(Part(text, told=True))
        self._draw()

    def watch_telling(self) -> None:
        self._draw()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        # Textual's own anchor keeps a story that is shorter than its room at the bottom of it.
        super().watch_scroll_y(old_value, new_value)
        if new_value >= self.max_scroll_y:
            self._follows = True
        elif new_value < old_value:
            self._follows = False

    def _to_end(self) -> None:
        if self._follows:
            self.scroll_end(animate=False, immediate=True)

    def _take(self, part: Part) -> None:
        """Add to the last chunk; where that is long enough, begin another behind the next line's end."""
        text = safe(part.text)
        while text:
            length = sum(len(open_.text) for open_ in self._open)
            end = text.find("\n", max(0, _CHUNK_CHARS - length))
            taken, text = (text, "") if end < 0 else (text[:end], text[end + 1 :])
            if taken:
                self._open.append(Part(taken, part.told))
            if end >= 0:
                self._draw(over=True)

    def _draw(self, over: bool = False) -> None:
        """Draw the last chunk; `over`: it will not change any more."""
        if not self.is_attached:
            return
        content = Content.assemble(*((part.text, "" if part.told else "bold") for part in self._open))
        if self.telling and not over:
            content += line("\u258d", "$primary")
        if self._last is None:
            self._last = Static(content, markup=False)
            self.mount(self._last)
            self._drop_oldest()
        else:
            self._last.update(content)
        if over:
            self._last, self._open = None, []
        if self._follows:
            self.call_after_refresh(self._to_end)

    def _drop_oldest(self) -> None:
        """A story without end does not become a screen without end."""
        if len(self.children) > _MOST_CHUNKS:
            first = self.children[0]
            if not self._left_out:
                self._left_out = True
                note = "\u2026 the beginning is not shown here; it is copied and saved all the same"
                self.mount(Static(line(note, "$text-muted"), markup=False), before=first)
                first.remove()
            else:
                self.children[1].remove()


class ModelName(Static, can_focus=False):
    """Which model tells; a click chooses another."""

    DEFAULT_CSS = """
    ModelName { height: 1; width: 1fr; text-overflow: ellipsis; text-wrap: nowrap; }
    """
    ALLOW_SELECT = False

    class Clicked(Message):
        """The model's name was clicked."""

    def __init__(self) -> None:
        super().__init__(markup=False)
        self.tooltip = Content("Choose the model: ctrl+t")

    def on_click(self) -> None:
        self.post_message(self.Clicked())


class StoryPane(Vertical):
    """One model's story."""

    DEFAULT_CSS = """
    StoryPane {
        width: 1fr;
        padding: 0 2;
        .failure { color: $error; height: auto; max-height: 4; max-width: 84; }
        .facts { height: 1; color: $text-muted; text-overflow: ellipsis; text-wrap: nowrap; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    class Chosen(Message):
        """The pane has the focus now, or its model's name was clicked."""

        def __init__(self, pane: StoryPane, model: bool) -> None:
            super().__init__()
            self.pane = pane
            self.model = model

    def __init__(self) -> None:
        super().__init__()
        self.name_line = ModelName()
        self.story = StoryText()
        self.failure = Static(markup=False, classes="failure")
        self.facts = Static(markup=False, classes="facts")

    def compose(self) -> ComposeResult:
        yield self.name_line
        yield self.story
        self.failure.display = False
        yield self.failure
        yield self.facts

    def say(self, name: Content, facts: str, problem: str = "", remedy: str = "") -> None:
        """The lines around the story."""
        self.name_line.update(name)
        self.facts.update(line(facts))
        self.failure.display = bool(problem)
        self.failure.update(line(problem) + Content("\n") + line(remedy, "dim") if remedy else line(problem))

    def on_descendant_focus(self) -> None:
        self.post_message(self.Chosen(self, model=False))

    def on_model_name_clicked(self, message: ModelName.Clicked) -> None:
        message.stop()
        self.post_message(self.Chosen(self, model=True))

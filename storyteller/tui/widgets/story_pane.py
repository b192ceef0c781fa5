"""A story on the screen while it is told: its model above, its text as it comes, what it took below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Offset, Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual
from textual.widgets import Static

from storyteller.text import safe
from storyteller.tui.safe_content import line

_MOST_COLUMNS = 84
"""Wider lines are hard to read."""
_PARAGRAPH_CHARS = 2000
"""A longer paragraph is broken: each piece of it that comes has to be wrapped with all that is there."""
_MOST_ROWS = 2000


@dataclass(frozen=True)
class Part:
    """A stretch of a story: told by a model, or given to it."""

    text: str
    told: bool


@dataclass
class _Paragraph:
    """A line of the story up to its end, made safe, and the rows that it is wrapped to."""

    parts: list[Part]
    rows: list[Strip]
    end: str = ""
    """A newline, where it is whole and was not broken."""


class StoryText(ScrollView, can_focus=True):
    """A story's text. While it grows, its last paragraph alone is wrapped anew.

    It follows the end until somebody scrolls up. Of a very long story the newest part is held.
    """

    DEFAULT_CSS = """
    StoryText {
        height: 1fr;
        margin: 1 0;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
        scrollbar-color: $panel;
        scrollbar-background: $background;
    }
    """
    ALLOW_SELECT = False

    telling: reactive[bool] = reactive(False, init=False)
    """Whether more is to come."""

    def __init__(self) -> None:
        super().__init__()
        self._paragraphs: list[_Paragraph] = [_Paragraph([], [])]
        self._closed_rows: list[Strip] = []
        """Of all paragraphs but the last."""
        self._follows = True
        self._drawn: tuple[int, Offset] | None = None
        """What the rows that are on the screen depend on."""

    @property
    def text(self) -> str:
        """What is shown, as far as it is held."""
        return "".join("".join(part.text for part in each.parts) + each.end for each in self._paragraphs)

    def show(self, parts: Sequence[Part], telling: bool = False, from_start: bool = False) -> None:
        """Show this story in place of the one that is there, at its end or from its start."""
        self._paragraphs, self._closed_rows = [_Paragraph([], [])], []
        self.set_reactive(StoryText.telling, telling)
        self._follows, self._drawn = not from_start, None
        for part in parts:
            self._take(part)
        self._draw()
        if from_start:
            self.scroll_home(animate=False, immediate=True)

    def feed(self, text: str) -> None:
        """What was told since."""
        self._take(Part(text, told=True))
        self._draw()

    def render_line(self, y: int) -> Strip:
        width, style = self.scrollable_content_region.width, self.visual_style.rich_style
        rows, place = self._closed_rows, y + self.scroll_offset.y
        if place >= len(rows):
            rows, place = self._paragraphs[-1].rows, place - len(rows)
        return (rows[place] if place < len(rows) else Strip.blank(width, style)).crop_extend(0, width, style)

    def on_resize(self) -> None:
        self._wrap_all()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        if self.is_attached:
            self._wrap_all()

    def watch_telling(self) -> None:
        self._draw()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value >= self.max_scroll_y:
            self._follows = True
        elif new_value < old_value:
            self._follows = False

    def _take(self, part: Part) -> None:
        """Add to the last paragraph; each line's end begins another."""
        for place, text in enumerate(safe(part.text).split("\n")):
            if place:
                self._close("\n")
            for first in range(0, len(text), _PARAGRAPH_CHARS):
                last = self._paragraphs[-1]
                if sum(len(each.text) for each in last.parts) >= _PARAGRAPH_CHARS:
                    self._close("")
                    last = self._paragraphs[-1]
                piece = text[first : first + _PARAGRAPH_CHARS]
                if last.parts and last.parts[-1].told == part.told:
                    last.parts[-1] = Part(last.parts[-1].text + piece, part.told)
                else:
                    last.parts.append(Part(piece, part.told))

    def _close(self, end: str) -> None:
        """The last paragraph is whole."""
        last = self._paragraphs[-1]
        last.end = end
        last.rows = self._wrap(last, pen=False)
        self._closed_rows += last.rows
        self._paragraphs.append(_Paragraph([], []))
        if len(self._closed_rows) > _MOST_ROWS:
            dropped = 0
            while dropped < _MOST_ROWS // 4:
                dropped += len(self._paragraphs.pop(0).rows)
            del self._closed_rows[:dropped]
            if not self._follows:
                self.scroll_to(y=max(0, self.scroll_y - dropped), animate=False, immediate=True)

    def _draw(self) -> None:
        """Wrap the last paragraph, and stay at the end where that is followed; only what changed is drawn."""
        last, before = self._paragraphs[-1], (len(self._closed_rows), self.scroll_offset)
        old, last.rows = last.rows, self._wrap(last, pen=self.telling)
        size = Size(self.scrollable_content_region.width, len(self._closed_rows) + len(last.rows))
        if size != self.virtual_size:
            self.virtual_size = size
            if self._follows:
                self.scroll_end(animate=False, immediate=True)
        if old and before == self._drawn and self.scroll_offset == before[1]:
            same = next((n for n, rows in enumerate(zip(old, last.rows, strict=False)) if rows[0] != rows[1]), 0)
            first = len(self._closed_rows) + same - self.scroll_offset.y
            self.refresh(Region(0, first, self.size.width, max(len(old), len(last.rows)) - same))
        else:
            self.refresh()
        self._drawn = (len(self._closed_rows), self.scroll_offset)

    def _wrap_all(self) -> None:
        self._closed_rows = []
        self._drawn = None
        for paragraph in self._paragraphs[:-1]:
            paragraph.rows = self._wrap(paragraph, pen=False)
            self._closed_rows += paragraph.rows
        self._draw()

    def _wrap(self, paragraph: _Paragraph, pen: bool) -> list[Strip]:
        width = min(self.scrollable_content_region.width, _MOST_COLUMNS)
        if width <= 0:
            return []
        content = Content.assemble(*((part.text, "" if part.told else "bold") for part in paragraph.parts))
        if pen:
            content += line("\u258d", "$primary")
        if not content:
            return [Strip.blank(width, self.visual_style.rich_style)]
        return Visual.to_strips(self, content, width, None, self.visual_style, apply_selection=False)


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
        for widget, words in ((self.name_line, name), (self.facts, line(facts))):
            if widget.content != words:
                widget.update(words, layout=False)
        failure = line(problem) + Content("\n") + line(remedy, "dim") if remedy else line(problem)
        if self.failure.content != failure:
            self.failure.display = bool(problem)
            self.failure.update(failure)

    def on_descendant_focus(self) -> None:
        self.post_message(self.Chosen(self, model=False))

    def on_model_name_clicked(self, message: ModelName.Clicked) -> None:
        message.stop()
        self.post_message(self.Chosen(self, model=True))

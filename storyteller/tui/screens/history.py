"""The stories told before, newest first: searched, read, and told again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from storyteller.errors import RunError, StorytellerError
from storyteller.inference import story_history
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe_line
from storyteller.tracking.run_index import find_checkpoint
from storyteller.tui.app import StorytellerApp
from storyteller.tui.safe_content import line
from storyteller.tui.widgets.story_pane import Part, StoryText

_MOST_STORIES = 200


@dataclass(frozen=True)
class Retelling:
    """A story of the shelf that was chosen."""

    told: StoryRecord
    model: str
    """What its model is asked for by from here."""
    again: bool
    """Whether it is to be told again, rather than shown as it was."""


class Found(Message):
    """What a search found, or why it could not be made."""

    def __init__(self, contains: str, stories: Sequence[StoryRecord], problem: str = "") -> None:
        super().__init__()
        self.contains = contains
        self.stories = stories
        self.problem = problem


class HistoryScreen(ModalScreen[Retelling | None]):
    """A search over the shelf. Ends with the story that was chosen, or None."""

    DEFAULT_CSS = """
    HistoryScreen {
        align: center middle;
        #history { width: 110; max-width: 94%; height: 90%; padding: 1 2; background: $surface; }
        Input { margin-bottom: 1; border: none; height: 1; padding: 0; background: $surface; }
        OptionList {
            height: 2fr; border: none; padding: 0; background: $surface; scrollbar-size-vertical: 1;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
        StoryText { height: 3fr; scrollbar-background: $surface; }
        .facts, .keys { height: 1; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("ctrl+o", "choose(False)", "Open", priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("pagedown", "move(10)", show=False, priority=True),
        Binding("pageup", "move(-10)", show=False, priority=True),
    ]
    app = getters.app(StorytellerApp)

    def __init__(self) -> None:
        super().__init__()
        self._stories: Sequence[StoryRecord] = ()

    def compose(self) -> ComposeResult:
        with Vertical(id="history"):
            yield Input(placeholder="Search the stories told so far", compact=True)
            yield OptionList(compact=True, markup=False)
            yield StoryText()
            yield Static(markup=False, classes="facts")
            yield Static(
                line("enter tells it again, ctrl+o opens it as it is, esc leaves"), markup=False, classes="keys"
            )

    def on_mount(self) -> None:
        self._search("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._search(event.value)

    def on_input_submitted(self) -> None:
        self.action_choose(again=True)

    def on_option_list_option_selected(self) -> None:
        self.action_choose(again=True)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._read(event.option_index)

    def action_move(self, rows: int) -> None:
        options = self.query_one(OptionList)
        if self._stories:
            options.highlighted = min(max((options.highlighted or 0) + rows, 0), len(self._stories) - 1)

    def action_choose(self, again: bool) -> None:
        """Tell the story again, or show it as it was."""
        place = self.query_one(OptionList).highlighted
        if place is None or place >= len(self._stories):
            return
        told = self._stories[place]
        try:
            model = reference(told, self.app.runs_root)
        except StorytellerError as error:
            if again:
                self.query_one(".facts", Static).update(line(str(error), "$error"))
                return
            model = told.model
        self.dismiss(Retelling(told, model, again))

    def on_found(self, found: Found) -> None:
        if found.contains != self.query_one(Input).value:
            return  # more was typed meanwhile
        self._stories = found.stories
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(_words(told)) for told in found.stories])
        if found.stories:
            options.highlighted = 0
            self._read(0)
        else:
            self.query_one(StoryText).show(())
            nothing = "no story has these words" if found.contains else "no story has been told yet"
            self.query_one(".facts", Static).update(line(found.problem or nothing))

    def _search(self, contains: str) -> None:
        """Look on a thread of its own: the shelf may be long."""

        def look() -> None:
            try:
                found = Found(contains, story_history.recent(_MOST_STORIES, contains))
            except StorytellerError as error:
                found = Found(contains, (), str(error))
            self.post_message(found)

        self.run_worker(look, thread=True, exclusive=True, group="search")

    def _read(self, place: int) -> None:
        if place < len(self._stories):
            told = self._stories[place]
            parts = (Part(told.prompt, told=False), Part(told.text, told=True))
            self.query_one(StoryText).show(parts, from_start=True)
            how = f"{told.model} \u00b7 seed {told.seed} \u00b7 temperature {told.sample.temperature:g}"
            self.query_one(".facts", Static).update(line(f"{how} \u00b7 {told.tokens:,} tokens"))


def reference(told: StoryRecord, runs_root: Path) -> str:
    """What the story's model is asked for by. Raises RunError, CheckpointError where its run is gone."""
    if not told.runs_dir or Path(told.runs_dir) == runs_root.absolute():
        return told.model
    try:
        return str(find_checkpoint(Path(told.runs_dir), told.model))
    except (OSError, ValueError) as error:  # a name that no path can have, a folder that lets nobody in
        shown = safe_line(told.runs_dir, 80)
        raise RunError(f"the runs in {shown} cannot be read", "open the story as it is") from error


def _words(told: StoryRecord) -> Content:
    """When, from which model, and how it begins."""
    when = line(told.time[:16].replace("T", " "), "$text-muted", limit=16)
    model = line(told.model, limit=24)
    gap = Content(" " * (26 - model.cell_length))
    return when + Content("  ") + model + gap + line(" ".join(told.whole[:200].split()), "$text-muted")

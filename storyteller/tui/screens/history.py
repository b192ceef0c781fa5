"""The dialogue of the story history: search the stories kept, read them, and open or regenerate one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from storyteller.errors import RunError, StorytellerError
from storyteller.inference import story_history
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe_line
from storyteller.tracking.run_index import find_checkpoint
from storyteller.tui.base_app import BaseApp
from storyteller.tui.safe_content import line
from storyteller.tui.widgets.story_pane import StoryText, TextSpan

_MAX_STORIES = 200


@dataclass(frozen=True)
class ChosenStory:
    """The story chosen from the history."""

    record: StoryRecord
    model: str  # the reference that opens its model from this app
    regenerate: bool  # True to generate it again, False to show it as it was


class HistoryScreen(ModalScreen[ChosenStory | None]):
    """Searches the story history. Returns the story chosen, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("ctrl+o", "choose(False)", "Open", priority=True),
        Binding("down", "move(1)", show=False, priority=True),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("pagedown", "move(10)", show=False, priority=True),
        Binding("pageup", "move(-10)", show=False, priority=True),
    ]
    app = getters.app(BaseApp)

    def __init__(self) -> None:
        super().__init__()
        self._records: Sequence[StoryRecord] = ()

    def compose(self) -> ComposeResult:
        with Vertical(id="history", classes="list-dialogue"):
            yield Input(placeholder="Search the stories", compact=True)
            yield OptionList(compact=True, markup=False)
            yield StoryText()
            yield Static(markup=False, classes="facts")
            yield Static(
                line("enter regenerates it, ctrl+o opens it as it is, esc closes"), markup=False, classes="keys"
            )

    def on_mount(self) -> None:
        self._search("")

    def on_input_changed(self, event: Input.Changed) -> None:
        self._search(event.value)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def regenerate(self) -> None:
        self.action_choose(regenerate=True)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        self._show(event.option_index)

    def action_move(self, rows: int) -> None:
        options = self.query_one(OptionList)
        if self._records:
            options.highlighted = min(max((options.highlighted or 0) + rows, 0), len(self._records) - 1)

    def action_choose(self, regenerate: bool) -> None:
        """Close with the highlighted story, to be generated again or shown as it was."""
        place = self.query_one(OptionList).highlighted
        if place is None or place >= len(self._records):
            return
        record = self._records[place]
        try:
            model = model_reference(record, self.app.runs_root)
        except StorytellerError as error:
            if regenerate:
                self.query_one(".facts", Static).update(line(str(error), "$error"))
                return
            model = record.model
        self.dismiss(ChosenStory(record, model, regenerate))

    def _search(self, contains: str) -> None:
        """Search in a thread: the history may be long."""

        def search() -> None:
            try:
                self.call_later(self._show_found, contains, story_history.recent(_MAX_STORIES, contains))
            except StorytellerError as error:
                self.call_later(self._show_found, contains, (), str(error))

        self.run_worker(search, thread=True, exclusive=True, group="search")

    def _show_found(self, searched: str, records: Sequence[StoryRecord], problem: str = "") -> None:
        if searched != self.query_one(Input).value:
            return  # the result of an earlier search
        self._records = records
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(_option(record)) for record in records])
        if records:
            options.highlighted = 0
            self._show(0)
        else:
            self.query_one(StoryText).show(())
            nothing = "no story contains this" if searched else "no stories yet"
            self.query_one(".facts", Static).update(line(problem or nothing))

    def _show(self, place: int) -> None:
        if place < len(self._records):
            record = self._records[place]
            spans = (TextSpan(record.prompt, generated=False), TextSpan(record.text, generated=True))
            self.query_one(StoryText).show(spans, from_start=True)
            facts = f"{record.model} \u00b7 seed {record.seed} \u00b7 temperature {record.sample.temperature:g}"
            self.query_one(".facts", Static).update(line(f"{facts} \u00b7 {record.tokens:,} tokens"))


def model_reference(record: StoryRecord, runs_root: Path) -> str:
    """The reference that opens a story's model from this app. Raises RunError or CheckpointError if it is gone."""
    if not record.runs_dir or Path(record.runs_dir) == runs_root.absolute():
        return record.model
    try:
        return str(find_checkpoint(Path(record.runs_dir), record.model))
    except (OSError, ValueError) as error:  # ValueError: a name that no path can have, such as one with a null byte
        folder = safe_line(record.runs_dir, 80)
        raise RunError(f"the runs in {folder} cannot be read", "open the story as it is") from error


def _option(record: StoryRecord) -> Content:
    """The time, the model, and the beginning of the story, in one line."""
    when = line(record.time[:16].replace("T", " "), "$text-muted", limit=16)
    model = line(record.model, limit=24)
    gap = Content(" " * (26 - model.cell_length))
    return when + Content("  ") + model + gap + line(" ".join(record.whole[:200].split()), "$text-muted")

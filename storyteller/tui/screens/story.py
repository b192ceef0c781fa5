"""The story screen: generates stories from one prompt with up to three models side by side."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from storyteller.errors import StorytellerError, UsageError
from storyteller.inference import story_history
from storyteller.inference.background import Ended, Event, TextPiece
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe
from storyteller.tracking.run_index import default_model, newest_step
from storyteller.tui.base_app import BaseApp
from storyteller.tui.safe_content import line
from storyteller.tui.screens.dialogues import ask
from storyteller.tui.screens.history import ChosenStory, HistoryScreen
from storyteller.tui.screens.save import SaveScreen
from storyteller.tui.story_columns import (
    MAX_COLUMNS,
    MAX_VARIANTS,
    StoryColumn,
    Variants,
    to_record,
    version_from_record,
)
from storyteller.tui.story_requests import StoryRequests
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.model_picker import ModelPicker
from storyteller.tui.widgets.prompt_box import PromptBox
from storyteller.tui.widgets.sampling_controls import Knob, SamplingControls
from storyteller.tui.widgets.story_pane import StoryPane, TextSpan
from storyteller.tui.widgets.story_row import StoryRow
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

_NO_STORY = "there is no story yet: enter generates one"


class StoryScreen(Screen[None]):
    """Enter generates a story in every column. Each finished story is kept in the story history."""

    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-tall")]  # noqa: RUF012  Textual's own
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "tell", "Tell"),
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+n", "again", "Again", priority=True),
        Binding("ctrl+o", "more", "More", priority=True),
        Binding("ctrl+t", "model", "Model", priority=True),
        Binding("ctrl+b", "add_model", "Add model", priority=True),
        Binding("ctrl+z", "undo", "Undo", priority=True),
        Binding("ctrl+e", "edit", "Edit", priority=True),
        Binding("ctrl+f", "fork", "Fork", priority=True),
        Binding("ctrl+y", "copy", "Copy", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("ctrl+r,ctrl+h", "history", "History", priority=True),
        Binding("ctrl+w", "close_column", "Close", priority=True),
        Binding("alt+right,ctrl+pagedown", "variant(1)", "Next variant", show=False, priority=True),
        Binding("alt+left,ctrl+pageup", "variant(-1)", "Previous variant", show=False, priority=True),
    ]
    AUTO_FOCUS = "#prompt"
    app = getters.app(BaseApp)

    def __init__(self, model: str | None = None, prompt: str = "") -> None:
        """`model` is a run, `run@step`, a folder or a Hub name; None is the newest run's model, or else the starter."""
        super().__init__()
        self._model = model
        self._prompt = prompt
        self.variants = Variants()
        self._requests = StoryRequests(lambda: self.app.generation_client, lambda: self.call_later(self._take_events))
        self._has_invalid_input = False  # whether the message shown is about a knob's input
        self._hinted = (False, False)  # the state on which the key hints depend

    def compose(self) -> ComposeResult:
        yield ViewBar("story")
        yield PromptBox(self._prompt)
        yield SamplingControls(dataclasses.replace(self.app.settings.sampling_params(), seed=None))
        yield TabBar([("0", "1")], id="variants")
        yield StoryRow(self.app.runs_root)
        yield Static(markup=False, classes="message")
        yield KeyHints()

    def on_mount(self) -> None:
        self._add(self._model if self._model is not None else default_model(self.app.runs_root))

    def on_unmount(self) -> None:
        self._requests.stop_all()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Disable keys that would do nothing. While nothing is generated, escape goes back to the view before."""
        return {"stop": self.variants.is_generating, "close_column": self.variants.can_close}.get(action, True)

    # --- generating ---------------------------------------------------------------------------------------------------

    def action_tell(self) -> None:
        """Generate from the prompt in every column; without a prompt, continue the stories."""
        if not self.query_one(SamplingControls).commit():
            return
        prompt = self.query_one(PromptBox).prompt
        if prompt.strip():
            self._generate(lambda _: (TextSpan(prompt, generated=False),))
        elif any(column.version.text for column in self.variants.columns):
            self.action_more()
        else:
            self._say("write how the story begins, such as Once upon a time")

    on_prompt_box_entered = action_tell

    def action_more(self) -> None:
        """Continue each column's story."""
        if not any(column.version.text for column in self.variants.columns):
            self._say(_NO_STORY)
            return
        self._generate(lambda column: column.version.spans, goes_on=True)

    def action_again(self) -> None:
        """Generate the newest part of each story again, with another seed."""
        requested = [column.version for column in self.variants.columns if column.version.request]
        if not requested:
            self.action_tell()
            return
        goes_on = any(version.request and version.request.goes_on for version in requested)
        first = requested[0].prefix  # a column added since then begins like the first of the others
        self._generate(lambda column: column.version.prefix if column.version.request else first, goes_on=goes_on)

    def _generate(self, prefix: Callable[[StoryColumn], tuple[TextSpan, ...]], *, goes_on: bool = False) -> None:
        """Generate in every column, with the same seed."""
        sampling = self.query_one(SamplingControls)
        if not sampling.commit():
            return
        try:
            params = sampling.params
        except UsageError as error:
            self._say(str(error))
            return
        self._say("")
        if self.app.settings.remember_sampling(params):
            self.app.save_settings()
        if params.seed is None:
            params = dataclasses.replace(params, seed=secrets.randbits(32))
        self.action_stop()
        for column in self.variants.columns:
            self._requests.begin(column, prefix(column), params, goes_on=goes_on)
        self._show_all()

    def action_stop(self) -> None:
        """Stop generating in this variant."""
        self._requests.stop(self.variants.columns)

    # --- versions and variants ----------------------------------------------------------------------------------------

    def action_undo(self) -> None:
        """Stop generating, and go back to the previous version of each column."""
        self.action_stop()
        undone = self.variants.undo()
        self._say("" if undone else "there is nothing to undo")
        self._show_all()

    def action_edit(self) -> None:
        """Copy the story to the prompt, to change it there; enter continues it."""
        if not (text := self._text()):
            return
        self.action_stop()
        box = self.query_one(PromptBox)
        box.prompt = text
        box.focus()
        self._say("change the story as you like; enter continues it")

    def action_fork(self) -> None:
        """Copy this variant, and show the copy."""
        if len(self.variants) == MAX_VARIANTS:
            self._say(f"there are {MAX_VARIANTS} variants, the maximum: ctrl+w closes one")
        else:
            self.variants.fork()
            self._lay_out()

    def action_variant(self, steps: int) -> None:
        self._show_variant((self.variants.shown + steps) % len(self.variants))

    def _show_variant(self, variant: int) -> None:
        self.variants.show(variant)
        self._lay_out()

    # --- models -------------------------------------------------------------------------------------------------------

    def action_model(self) -> None:
        """Choose another model for the column."""
        column = self.variants.column

        def choose(model: str) -> None:
            self._set_model(column, model)
            self._prepare(model)
            self._show_all()

        ask(self.app, ModelPicker(column.model), choose)

    def action_add_model(self) -> None:
        """Add a column with another model, which gets the same prompt and seed."""
        if len(self.variants.columns) == MAX_COLUMNS:
            self._say(f"there are {MAX_COLUMNS} models, the maximum: ctrl+w closes a column")
        else:
            ask(self.app, ModelPicker(""), self._add)

    def action_close_column(self) -> None:
        """Close the column; with the last column, close the variant."""
        self._requests.stop([self.variants.column])
        self.variants.close()
        self._lay_out()

    def _add(self, model: str) -> None:
        self.variants.add(StoryColumn(model, newest=newest_step(self.app.runs_root, model)))
        self._prepare(model)
        self._lay_out()

    def _set_model(self, column: StoryColumn, model: str, compute_type: str = "fp32") -> None:
        column.model, column.compute_type = model, compute_type
        column.newest = newest_step(self.app.runs_root, model)

    def _prepare(self, model: str) -> None:
        """Open a local model before its first story is requested; models of the Hub wait for a request."""
        if "/" not in model:
            self.app.generation_client.prepare(model)

    # --- copy, save, history ------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Copy the column's story to the terminal's clipboard."""
        if text := self._text():
            self.app.copy_to_clipboard(safe(text))
            self._say(f"copied: {len(text):,} characters")

    def action_save(self) -> None:
        """Save the column's story to a file."""
        if text := self._text():
            ask(self.app, SaveScreen(text), lambda path: self._say(f"saved as {path}"))

    def _text(self) -> str:
        """The column's story. If it is empty, a message says so."""
        text = self.variants.column.version.text
        if not text:
            self._say(_NO_STORY)
        return text

    def action_history(self) -> None:
        ask(self.app, HistoryScreen(), self._open)

    def _open(self, chosen: ChosenStory) -> None:
        """Show a story of the history in the column, or generate it again with its model, parameters and seed."""
        record = chosen.record
        self.action_stop()
        self.query_one(PromptBox).prompt = record.prompt
        self.query_one(SamplingControls).params = record.sample
        column = self.variants.column
        self._set_model(column, chosen.model, record.compute_type)
        self._say("")
        if chosen.regenerate:
            prefix = (TextSpan(record.prompt, generated=False),)
            self._requests.begin(column, prefix, record.sample, goes_on=record.goes_on)
        else:
            column.push(version_from_record(record, column.model))
        self._show_all()

    # --- messages -----------------------------------------------------------------------------------------------------

    def _take_events(self) -> None:
        for column, version, event in self._requests.take_events():
            if isinstance(event, Ended) and version.generated and version.request is not None:
                self._keep(to_record(version, version.request, event, self.app.runs_root))
            if column.version is version:
                self._update_pane(column, event)
        self._show_details()

    def _update_pane(self, column: StoryColumn, event: Event) -> None:
        """Update the column's pane, if the column is shown."""
        for pane, shown in self.query_one(StoryRow).panes:
            if shown is column:
                if isinstance(event, TextPiece):
                    pane.story.append(event.text)
                pane.story.is_generating = column.version.ticket is not None

    def _keep(self, record: StoryRecord) -> None:
        """Add the story to the history, in the background; a message says if the disk refuses it."""

        def keep() -> None:
            try:
                story_history.keep(record)
            except StorytellerError as error:
                self.app.call_from_thread(self._say, error.problem)

        self.run_worker(keep, thread=True, exit_on_error=False)

    def on_story_pane_activated(self, message: StoryPane.Activated) -> None:
        panes = [pane for pane, _ in self.query_one(StoryRow).panes]
        if message.pane in panes:
            self.variants.chosen = panes.index(message.pane)
            self._show_details()
            if message.pick_model:
                self.action_model()

    def on_tab_bar_tab_clicked(self, message: TabBar.TabClicked) -> None:
        self._show_variant(int(message.tab))

    def on_story_row_steps_changed(self, message: StoryRow.StepsChanged) -> None:
        self.variants.set_newest_steps(message.steps)
        self._show_details()

    def on_knob_invalid_input(self, message: Knob.InvalidInput) -> None:
        self._has_invalid_input = True
        self._say(message.reason)

    def on_knob_turned(self) -> None:
        if self._has_invalid_input:
            self._has_invalid_input = False
            self._say("")

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """Create a pane for each column of the variant, which has changed."""
        self._say("")
        self.query_one(StoryRow).lay_out(self.variants.columns)
        self.call_after_refresh(self._show_all)

    def _show_all(self) -> None:
        self.query_one(StoryRow).show()
        tabs = self.query_one(TabBar)
        tabs.tabs = [(str(place), f"variant {place + 1}") for place in range(len(self.variants))]
        tabs.chosen = str(self.variants.shown)
        tabs.display = len(self.variants) > 1
        self._show_details()

    def _show_details(self) -> None:
        """Show what is known of each story, and the keys that apply now."""
        self.query_one(StoryRow).show_details(self.variants.chosen)
        hinted = (self.variants.is_generating, self.variants.can_close)
        if hinted != self._hinted:
            self._hinted = hinted
            self.refresh_bindings()

    def _say(self, text: str) -> None:
        """Show a message above the key hints; an empty one hides it."""
        message = self.query_one(".message", Static)
        message.update(line(text))
        message.display = bool(text)

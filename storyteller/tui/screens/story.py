"""The Story view: a prompt, one to three models, and what they make of it, word by word."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static

from storyteller.errors import StorytellerError, UsageError
from storyteller.inference import story_history
from storyteller.inference.background import Ended, Event, TextPiece
from storyteller.inference.story_history import StoryRecord
from storyteller.text import safe
from storyteller.tracking.run_index import default_model, newest_step
from storyteller.tui.app import StorytellerApp
from storyteller.tui.safe_content import line
from storyteller.tui.screens.history import HistoryScreen, Retelling
from storyteller.tui.screens.save import SaveScreen
from storyteller.tui.story_columns import MOST_COLUMNS, MOST_VARIANTS, StoryColumn, Variants, for_shelf, from_shelf
from storyteller.tui.story_requests import StoryRequests
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.model_picker import ModelPicker
from storyteller.tui.widgets.prompt_box import PromptBox
from storyteller.tui.widgets.sampling_controls import Knob, SamplingControls
from storyteller.tui.widgets.story_pane import Part, StoryPane
from storyteller.tui.widgets.story_row import StoryRow
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

_NO_STORY = "there is no story yet: enter tells one"


class Heard(Message):
    """The booth has said something."""


class StoryScreen(Screen[None]):
    """Telling stories. Enter begins one in every column; what is told is kept on the shelf."""

    DEFAULT_CSS = """
    StoryScreen {
        #prompt { margin: 1 1 0 1; }
        SamplingControls { margin: 1 2; }
        TabBar { margin: 0 2 1 2; display: none; }
        .said { height: auto; max-height: 2; padding: 0 2; color: $warning; display: none; }
        &.-low {
            #prompt { margin: 0 1; max-height: 2; }
            StoryText, TabBar { margin-top: 0; margin-bottom: 0; }
            SamplingControls { display: none; }
        }
    }
    """
    VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-tall")]  # noqa: RUF012  Textual's own
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "tell", "Tell"),
        Binding("escape", "stop", "Stop"),
        Binding("ctrl+n", "again", "Again", priority=True),
        Binding("ctrl+o", "more", "More", priority=True),
        Binding("ctrl+t", "model", "Model", priority=True),
        Binding("ctrl+b", "beside", "Beside", priority=True),
        Binding("ctrl+z", "undo", "Undo", priority=True),
        Binding("ctrl+e", "edit", "Edit", priority=True),
        Binding("ctrl+f", "fork", "Fork", priority=True),
        Binding("ctrl+y", "copy", "Copy", priority=True),
        Binding("ctrl+s", "save", "Save", priority=True),
        Binding("ctrl+r,ctrl+h", "history", "History", priority=True),
        Binding("ctrl+w", "close_column", "Close", priority=True),
        Binding("alt+right,ctrl+pagedown", "variant(1)", "Next variant", show=False, priority=True),
        Binding("alt+left,ctrl+pageup", "variant(-1)", "Earlier variant", show=False, priority=True),
    ]
    AUTO_FOCUS = "#prompt"
    app = getters.app(StorytellerApp)

    def __init__(self, model: str | None = None, prompt: str = "") -> None:
        """`model` as it is named everywhere; None: the newest run's, else the starter."""
        super().__init__()
        self._model = model
        self._prompt = prompt
        self._variants = Variants()
        self._tellings = StoryRequests(lambda: self.app.booth, self._ring)
        self._refused = ""
        """What a knob did not take."""
        self._keys = (False, 0, 0)
        """What the keys that are hinted at depend on."""

    # --- what is shown ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield ViewBar("story")
        yield PromptBox(self._prompt)
        yield SamplingControls(dataclasses.replace(self.app.settings.sample(), seed=None))
        yield TabBar([("0", "1")], id="variants")
        yield StoryRow(self.app.runs_root)
        yield Static(markup=False, classes="said")
        yield KeyHints()

    def on_mount(self) -> None:
        model = self._model if self._model is not None else default_model(self.app.runs_root)
        self._add(model)

    def on_unmount(self) -> None:
        self._tellings.stop_all()

    @property
    def columns(self) -> list[StoryColumn]:
        """The columns of the variant that is shown."""
        return self._variants.columns

    @property
    def column(self) -> StoryColumn:
        """The column that copy, save, edit and the model picker are about."""
        return self._variants.column

    @property
    def telling(self) -> bool:
        """Whether a story of this variant is being told."""
        return self._variants.telling

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Keys that would do nothing now are not hinted at; escape leads back while nothing is told."""
        if action == "stop":
            return self.telling
        if action == "close_column":
            return self._variants.can_close
        return True

    # --- telling ------------------------------------------------------------------------------------------------------

    def action_tell(self) -> None:
        """Begin a story with the prompt in every column; without a prompt, go on with what is there."""
        if not self.query_one(SamplingControls).settle():
            return
        prompt = self.query_one(PromptBox).prompt
        if prompt.strip():
            self._tell_all(lambda _: (Part(prompt, told=False),))
        elif any(column.page.text for column in self.columns):
            self.action_more()
        else:
            self._say("write how the story begins, such as Once upon a time")

    def action_more(self) -> None:
        """Go on with each column's story."""
        if not any(column.page.text for column in self.columns):
            self._say(_NO_STORY)
            return
        self._tell_all(lambda column: column.page.parts, goes_on=True)

    def action_again(self) -> None:
        """Tell the newest part of each story anew, with another seed."""
        told = [column.page for column in self.columns if column.page.asked]
        if not told:
            self.action_tell()
            return
        went_on = any(page.asked and page.asked.goes_on for page in told)
        # A column that was put beside the others since begins as they do.
        self._tell_all(lambda column: (column.page if column.page.asked else told[0]).before, goes_on=went_on)

    def _tell_all(self, before: Callable[[StoryColumn], tuple[Part, ...]], *, goes_on: bool = False) -> None:
        """Tell in every column, with one seed."""
        sampling = self.query_one(SamplingControls)
        if not sampling.settle():
            return
        try:
            sample = sampling.sample
        except UsageError as error:
            self._say(str(error))
            return
        self._say("")
        if self.app.settings.remember(sample):
            self.app.save_settings()
        if sample.seed is None:
            sample = dataclasses.replace(sample, seed=secrets.randbits(32))
        self.action_stop()
        for column in self.columns:
            self._tellings.begin(column, before(column), sample, goes_on=goes_on)
        self._show_all()

    def action_stop(self) -> None:
        """Stop what is being told in this variant."""
        self._tellings.stop(self.columns)

    # --- changing it --------------------------------------------------------------------------------------------------

    def action_undo(self) -> None:
        """Back to what each column was before; what is being told is stopped."""
        self.action_stop()
        if not self._variants.undo():
            self._say("there is nothing to undo")
            return
        self._say("")
        self._show_all()

    def action_edit(self) -> None:
        """Take the story into the prompt, to be changed there; enter goes on from it."""
        if not (text := self._text()):
            return
        self.action_stop()
        box = self.query_one(PromptBox)
        box.prompt = text
        box.focus()
        self._say("change the story as you like; enter goes on from its end")

    def action_fork(self) -> None:
        """Another variant that begins as this one stands; this one stays as it is."""
        if len(self._variants) == MOST_VARIANTS:
            self._say(f"{MOST_VARIANTS} variants are the most: ctrl+w closes one")
            return
        self._variants.fork()
        self._turned()

    def action_variant(self, steps: int) -> None:
        self._turn_to((self._variants.shown + steps) % len(self._variants))

    def _turn_to(self, variant: int) -> None:
        self._variants.turn_to(variant)
        self._turned()

    def _turned(self) -> None:
        """Show the variant that was turned to."""
        self._say("")
        self._lay_out()

    # --- models -------------------------------------------------------------------------------------------------------

    def action_model(self) -> None:
        """Choose the model of the column."""
        column = self.column

        def choose(model: str) -> None:
            self._set_model(column, model)
            self._prepare(model)
            self._show_all()

        self._pick_model(column.model, choose)

    def action_beside(self) -> None:
        """Put another model beside: the same prompt, the same seed."""
        if len(self.columns) == MOST_COLUMNS:
            self._say(f"{MOST_COLUMNS} models are the most: ctrl+w closes a column")
            return

        self._pick_model("", self._add)

    def action_close_column(self) -> None:
        """Close the column; the variant, where it is its last."""
        self._tellings.stop([self.column])
        self._variants.close()
        self._turned()

    def _pick_model(self, lit: str, choose: Callable[[str], None]) -> None:
        self.app.push_screen(ModelPicker(lit), lambda model: choose(model) if model is not None else None)

    def _add(self, model: str) -> None:
        """Put a column of this model beside those there are."""
        self._variants.add(StoryColumn(model, newest=newest_step(self.app.runs_root, model)))
        self._prepare(model)
        self._lay_out()

    def _set_model(self, column: StoryColumn, model: str, numbers: str = "fp32") -> None:
        column.model, column.numbers = model, numbers
        column.newest = newest_step(self.app.runs_root, model)

    def _prepare(self, model: str) -> None:
        """Open a model that is here ahead of its first story."""
        if "/" not in model:
            self.app.booth.prepare(model)

    # --- taking it elsewhere ------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Copy the column's story to the terminal's clipboard."""
        if text := self._text():
            self.app.copy_to_clipboard(safe(text))
            self._say(f"copied: {len(text):,} characters")

    def action_save(self) -> None:
        """Save the column's story to a file."""
        if not (text := self._text()):
            return

        def saved(path: Path | None) -> None:
            if path is not None:
                self._say(f"saved as {path}")

        self.app.push_screen(SaveScreen(text), saved)

    def _text(self) -> str:
        """The column's story; where there is none, that is said."""
        text = self.column.page.text
        if not text:
            self._say(_NO_STORY)
        return text

    def action_history(self) -> None:
        """Stories told before."""

        def chosen(retelling: Retelling | None) -> None:
            if retelling is not None:
                self._retell(retelling)

        self.app.push_screen(HistoryScreen(), chosen)

    def _retell(self, retelling: Retelling) -> None:
        """Show a story of the shelf in the column, or tell it again with the same model, settings and seed."""
        told = retelling.told
        self.action_stop()
        self.query_one(PromptBox).prompt = told.prompt
        self.query_one(SamplingControls).sample = told.sample
        column = self.column
        self._set_model(column, retelling.model, told.numbers)
        self._say("")
        if retelling.again:
            self._tellings.begin(column, (Part(told.prompt, told=False),), told.sample, goes_on=told.goes_on)
        else:
            column.turn(from_shelf(told, column.model))
        self._show_all()

    # --- what is heard ------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        """Called on the booth's thread."""
        self.post_message(Heard())

    def on_heard(self) -> None:
        for column, page, event in self._tellings.heard():
            if isinstance(event, Ended) and page.told and page.asked is not None:
                self._keep(for_shelf(page, page.asked, event, self.app.runs_root))
            if column.page is page:
                self._feed(column, event)
        self._show_lines()

    def _feed(self, column: StoryColumn, event: Event) -> None:
        """Have the column's pane show what was told, where it is shown."""
        pane = next((pane for pane, shown in self.query_one(StoryRow).panes if shown is column), None)
        if pane is not None:
            if isinstance(event, TextPiece):
                pane.story.feed(event.text)
            pane.story.telling = column.page.ticket is not None

    def _keep(self, told: StoryRecord) -> None:
        """Put the story on the shelf; a disk that does not take it is told of."""

        def keep() -> None:
            try:
                story_history.keep(told)
            except StorytellerError as error:
                self.app.call_from_thread(self._say, error.problem)

        self.run_worker(keep, thread=True, exit_on_error=False)

    def on_prompt_box_entered(self) -> None:
        self.action_tell()

    def on_story_pane_chosen(self, message: StoryPane.Chosen) -> None:
        panes = [pane for pane, _ in self.query_one(StoryRow).panes]
        if message.pane in panes:
            self._variants.chosen = panes.index(message.pane)
            self._show_lines()
            if message.model:
                self.action_model()

    def on_tab_bar_picked(self, message: TabBar.Picked) -> None:
        self._turn_to(int(message.tab))

    def on_story_row_steps_seen(self, message: StoryRow.StepsSeen) -> None:
        self._variants.see_newest(message.steps)
        self._show_lines()

    def on_knob_refused(self, message: Knob.Refused) -> None:
        self._refused = message.why
        self._say(message.why)

    def on_knob_turned(self) -> None:
        if self._refused:
            self._refused = ""
            self._say("")

    # --- what is shown ------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        """A pane for each column of the variant, each showing its story."""
        self.query_one(StoryRow).lay_out(self.columns)
        self.call_after_refresh(self._show_all)

    def _show_all(self) -> None:
        self.query_one(StoryRow).show()
        tabs = self.query_one(TabBar)
        tabs.tabs = [(str(place), f"variant {place + 1}") for place in range(len(self._variants))]
        tabs.chosen = str(self._variants.shown)
        tabs.display = len(self._variants) > 1
        self._show_lines()

    def _show_lines(self) -> None:
        """The lines around the stories."""
        self.query_one(StoryRow).show_lines(self._variants.chosen)
        keys = (self.telling, len(self.columns), len(self._variants))
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    def _say(self, text: str) -> None:
        """A line above the hints, until the next thing is done."""
        said = self.query_one(".said", Static)
        said.update(line(text))
        said.display = bool(text)

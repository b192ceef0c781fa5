"""The Story view: a prompt, one to three models, and what they make of it, word by word."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from textual import events, getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Static, TextArea
from textual.widgets.text_area import Edit, EditResult

from storyteller import shelf
from storyteller.booth import Ended, Event, Failed, Note, Opened, Piece
from storyteller.config import Sample
from storyteller.errors import StorytellerError, UsageError
from storyteller.shelf import Told
from storyteller.text import safe
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.history import HistoryScreen, Retelling
from storyteller.tui.screens.save import SaveScreen
from storyteller.tui.widgets.hints import Hints
from storyteller.tui.widgets.model_picker import ModelPicker, default_model, newest_step
from storyteller.tui.widgets.sampling import Knob, Sampling
from storyteller.tui.widgets.tab_line import TabLine
from storyteller.tui.widgets.telling import Part, StoryPane
from storyteller.tui.widgets.top import Top
from storyteller.tui.words import line

_MOST_COLUMNS = 3
_MOST_VARIANTS = 9
_MOST_PAGES = 100
_LOOK_SECONDS = 1.0
_GUIDE = (
    Part("enter", told=False),
    Part(" tells a story that begins with the words above, a new one each time\n", told=True),
    Part("tab", told=False),
    Part(" leads to the knobs, which the arrows turn\n", told=True),
    Part("ctrl+t", told=False),
    Part(" chooses who tells: any checkpoint of any run, or a model of the Hugging Face Hub\n", told=True),
    Part("f1", told=False),
    Part(" shows every key", told=True),
)
"""What stands where no story is yet."""
_OURS = {"ctrl+e", "ctrl+w", "ctrl+y", "ctrl+z"}
"""Keys that a text area has other uses for."""


@dataclass(frozen=True)
class Asked:
    """What a story was asked for with."""

    model: str
    sample: Sample
    """With the seed."""
    goes_on: bool
    """The prompt was a story so far."""
    numbers: str


@dataclass
class Page:
    """One state of a story in one column: what was there, what was told after it, and how."""

    before: tuple[Part, ...] = ()
    """What the model was given."""
    asked: Asked | None = None
    """None: nothing was told."""
    told: str = ""
    label: str = ""
    """What the model turned out to be: `run@step`."""
    cut: bool = False
    ticket: int | None = None
    """Of the story while it is told."""
    tokens: int = 0
    seconds: float = 0.0
    opened_at: float | None = None
    """`time.monotonic` of the model's being open."""
    outcome: str = ""
    note: str = ""
    failure: tuple[str, str] | None = None

    @property
    def prompt(self) -> str:
        """The text that the model was given."""
        return "".join(part.text for part in self.before)

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.before, Part(self.told, told=True)) if self.told else self.before

    @property
    def text(self) -> str:
        """The whole story."""
        return self.prompt + self.told


@dataclass
class Column:
    """One model's story, and what it was before."""

    model: str
    """As it is asked for: a run alone means its newest checkpoint."""
    numbers: str = "fp32"
    """What it computes with."""
    pages: list[Page] = field(default_factory=lambda: [Page()])
    newest: int | None = None
    """The step of its run's newest checkpoint."""

    @property
    def page(self) -> Page:
        return self.pages[-1]

    def turn(self, page: Page) -> None:
        self.pages = [*self.pages[-_MOST_PAGES:], page]

    def copy(self) -> Column:
        """The same story, to be gone on with in another way; what is still being told stays where it is."""
        pages = [dataclasses.replace(page, ticket=None, outcome=page.outcome or "forked") for page in self.pages]
        return Column(self.model, self.numbers, pages, self.newest)


class Heard(Message):
    """The booth has said something; it lies in the inbox."""


class StepsSeen(Message):
    """The newest steps of the models that are shown."""

    def __init__(self, steps: dict[str, int | None]) -> None:
        super().__init__()
        self.steps = steps


_KEPT_KEYS = [
    binding for binding in TextArea.BINDINGS if isinstance(binding, Binding) and not {*binding.key.split(",")} & _OURS
]


class PromptBox(TextArea, inherit_bindings=False):
    """How the story begins. Enter tells it; ctrl+j makes a new line. It grows with its text."""

    DEFAULT_CSS = """
    PromptBox {
        height: auto; min-height: 1; max-height: 6; padding: 0 1 0 0;
        border: none; border-left: outer $panel; background: $surface; scrollbar-size-vertical: 1;
        &:focus { border: none; border-left: outer $primary; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *_KEPT_KEYS,
        Binding("ctrl+j,shift+enter,alt+enter", "new_line", "New line", show=False),
    ]

    class Entered(Message):
        """Enter was pressed."""

    def __init__(self, text: str) -> None:
        super().__init__(safe(text), highlight_cursor_line=False, placeholder="Once upon a time \u2026", id="prompt")
        self._given = text

    @property
    def prompt(self) -> str:
        """The text as it was given, where it was not changed since; else as it stands."""
        return self._given if self.text == safe(self._given) else self.text

    @prompt.setter
    def prompt(self, text: str) -> None:
        self._given = text
        self.load_text(safe(text))
        self.move_cursor(self.document.end)

    def edit(self, edit: Edit) -> EditResult:
        edit.text = safe(edit.text.replace("\r\n", "\n").replace("\r", "\n"))
        return super().edit(edit)

    def action_new_line(self) -> None:
        self.insert("\n")

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Entered())
        else:
            await super()._on_key(event)


class StoryScreen(Screen[None]):
    """Telling stories. Enter begins one in every column; what is told is kept on the shelf."""

    DEFAULT_CSS = """
    StoryScreen {
        #prompt { margin: 1 1 0 1; }
        Sampling { margin: 1 2; }
        TabLine { margin: 0 2 1 2; display: none; }
        #columns { height: 1fr; }
        #columns.several StoryPane.chosen ModelName { text-style: underline; }
        .said { height: auto; max-height: 2; padding: 0 2; color: $warning; display: none; }
        &.-low {
            #prompt { margin: 0 1; max-height: 2; }
            StoryText, TabLine { margin-top: 0; margin-bottom: 0; }
            Sampling { display: none; }
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
        self._variants: list[list[Column]] = []
        self._variant = 0
        self._chosen = 0
        self._inbox: deque[Event] = deque()
        self._rung = threading.Event()
        self._refused = ""
        """What a knob did not take."""
        self._keys = (False, 0, 0)
        """What the keys that are hinted at depend on."""
        self._pages: dict[int, tuple[Column, Page]] = {}
        """The stories that are being told, by their tickets."""

    # --- what is shown ------------------------------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        yield Top("story")
        yield PromptBox(self._prompt)
        yield Sampling(dataclasses.replace(self.app.settings.sample(), seed=None))
        yield TabLine([("0", "1")], id="variants")
        yield Horizontal(id="columns")
        yield Static(markup=False, classes="said")
        yield Hints()

    def on_mount(self) -> None:
        model = self._model if self._model is not None else default_model(self.app.runs_root)
        self._variants = [[Column(model, newest=newest_step(self.app.runs_root, model))]]
        self._lay_out()
        self._prepare(model)
        self.set_interval(_LOOK_SECONDS, self._look)

    def on_unmount(self) -> None:
        for ticket in self._pages:
            self.app.booth.cancel(ticket)

    @property
    def columns(self) -> list[Column]:
        """The columns of the variant that is shown."""
        return self._variants[self._variant]

    @property
    def column(self) -> Column:
        """The column that copy, save, edit and the model picker are about."""
        return self.columns[min(self._chosen, len(self.columns) - 1)]

    @property
    def telling(self) -> bool:
        """Whether a story of this variant is being told."""
        return any(column.page.ticket is not None for column in self.columns)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Keys that would do nothing now are not hinted at; escape leads back while nothing is told."""
        if action == "stop":
            return self.telling if self._variants else False
        if action == "close_column":
            return bool(self._variants) and (len(self.columns) > 1 or len(self._variants) > 1)
        return True

    def _lay_out(self) -> None:
        """A pane for each column of the variant, each showing its story."""
        row = self.query_one("#columns", Horizontal)
        panes = list(row.query(StoryPane))
        for pane in panes[len(self.columns) :]:
            pane.remove()
        new = [StoryPane() for _ in self.columns[len(panes) :]]
        if new:
            row.mount(*new)
        self.call_after_refresh(self._show_all)

    @property
    def _panes(self) -> list[StoryPane]:
        return list(self.query_one("#columns", Horizontal).query(StoryPane))[: len(self.columns)]

    def _show_all(self) -> None:
        for pane, column in zip(self._panes, self.columns, strict=False):
            pane.story.show(column.page.parts or _GUIDE, telling=column.page.ticket is not None)
        tabs = self.query_one(TabLine)
        tabs.tabs = [(str(place), f"variant {place + 1}") for place in range(len(self._variants))]
        tabs.chosen = str(self._variant)
        tabs.display = len(self._variants) > 1
        self._show_lines()

    def _show_lines(self) -> None:
        """The lines around the stories."""
        self.query_one("#columns").set_class(len(self.columns) > 1, "several")
        for place, (pane, column) in enumerate(zip(self._panes, self.columns, strict=False)):
            problem, remedy = column.page.failure or ("", "")
            pane.set_class(place == self._chosen, "chosen")
            pane.say(_name_line(column), _facts(column.page, column.model), problem, remedy)
        keys = (self.telling, len(self.columns), len(self._variants))
        if keys != self._keys:
            self._keys = keys
            self.refresh_bindings()

    def _say(self, text: str) -> None:
        """A line above the hints, until the next thing is done."""
        said = self.query_one(".said", Static)
        said.update(line(text))
        said.display = bool(text)

    def on_story_pane_chosen(self, message: StoryPane.Chosen) -> None:
        panes = self._panes
        if message.pane in panes:
            self._chosen = panes.index(message.pane)
            self._show_lines()
            if message.model:
                self.action_model()

    # --- telling ------------------------------------------------------------------------------------------------------

    def on_prompt_box_entered(self) -> None:
        self.action_tell()

    def action_tell(self) -> None:
        """Begin a story with the prompt in every column; without a prompt, go on with what is there."""
        if not self.query_one(Sampling).settle():
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
            self._say("there is no story yet: enter tells one")
            return
        self._tell_all(lambda column: column.page.parts, goes_on=True)

    def action_again(self) -> None:
        """Tell the newest part of each story anew, with another seed."""
        if not any(column.page.asked for column in self.columns):
            self.action_tell()
            return
        went_on = any(column.page.asked and column.page.asked.goes_on for column in self.columns)
        self._tell_all(lambda column: column.page.before, goes_on=went_on)

    def _tell_all(self, before: Callable[[Column], tuple[Part, ...]], *, goes_on: bool = False) -> None:
        """Tell in every column, with one seed."""
        sampling = self.query_one(Sampling)
        if not sampling.settle():
            return
        try:
            sample = sampling.sample
        except UsageError as error:
            self._say(str(error))
            return
        self._say("")
        self._remember(sample)
        if sample.seed is None:
            sample = dataclasses.replace(sample, seed=secrets.randbits(32))
        self.action_stop()
        for column in self.columns:
            self._tell(column, before(column), sample, goes_on=goes_on)
        self._show_all()

    def _tell(self, column: Column, before: tuple[Part, ...], sample: Sample, *, goes_on: bool) -> None:
        page = Page(before, Asked(column.model, sample, goes_on, column.numbers))
        column.turn(page)
        page.ticket = self.app.booth.tell(
            column.model, page.prompt, sample, self._hear, goes_on=goes_on, numbers=column.numbers
        )
        self._pages[page.ticket] = (column, page)

    def action_stop(self) -> None:
        """Stop what is being told in this variant."""
        for column in self.columns:
            if column.page.ticket is not None:
                self.app.booth.cancel(column.page.ticket)

    def _hear(self, event: Event) -> None:
        """Called on the booth's thread: one message to the screen for all that has come since the last."""
        self._inbox.append(event)
        if not self._rung.is_set():
            self._rung.set()
            self.post_message(Heard())

    def on_heard(self) -> None:
        self._rung.clear()
        while self._inbox:
            self._take(self._inbox.popleft())
        self._show_lines()

    def _take(self, event: Event) -> None:
        column, page = self._pages.get(event.ticket, (None, None))
        if column is None or page is None:
            return
        if isinstance(event, Piece):
            page.told += event.text
            page.tokens, page.note = event.tokens, ""
        elif isinstance(event, Opened):
            page.label, page.cut, page.opened_at, page.note = event.label, event.cut, time.monotonic(), ""
        elif isinstance(event, Note):
            page.note = event.text
        else:
            self._end(page, event)
        pane = next((pane for pane, shown in zip(self._panes, self.columns, strict=False) if shown is column), None)
        if pane is not None and column.page is page:
            if isinstance(event, Piece):
                pane.story.feed(event.text)
            pane.story.telling = page.ticket is not None

    def _end(self, page: Page, last: Ended | Failed) -> None:
        del self._pages[last.ticket]
        page.ticket = None
        page.note = ""
        if isinstance(last, Failed):
            page.failure, page.outcome = (last.problem, last.remedy), "failed"
            return
        page.tokens, page.seconds = last.tokens, last.seconds
        page.outcome = "stopped" if last.stopped else "the end" if last.finished else "cut short"
        if page.told:
            self._keep(page, last)

    def _keep(self, page: Page, last: Ended) -> None:
        """Put the story on the shelf; a disk that does not take it is told of."""
        assert page.asked is not None  # noqa: S101
        name, runs_dir = _naming(page.asked.model, page.label, self.app.runs_root)
        told = Told(
            model=name,
            runs_dir=runs_dir,
            prompt=page.prompt,
            text=page.told,
            sample=page.asked.sample,
            numbers=page.asked.numbers,
            tokens=last.tokens,
            seconds=last.seconds,
            finished=last.finished,
            goes_on=page.asked.goes_on or page.cut,
        )

        def keep() -> None:
            try:
                shelf.keep(told)
            except StorytellerError as error:
                self.app.call_from_thread(self._say, error.problem)

        self.run_worker(keep, thread=True, exit_on_error=False)

    def _remember(self, sample: Sample) -> None:
        """The settings are there again the next time, but for the seed."""
        kept = {key: value for key, value in dataclasses.asdict(sample).items() if key not in ("stop", "seed")}
        if self.app.settings.sampling != kept:
            self.app.settings.sampling = kept
            self.app.save_settings()

    # --- changing it --------------------------------------------------------------------------------------------------

    def action_undo(self) -> None:
        """Back to what each column was before; what is being told is stopped."""
        self.action_stop()
        if all(len(column.pages) == 1 for column in self.columns):
            self._say("there is nothing to undo")
            return
        self._say("")
        for column in self.columns:
            if len(column.pages) > 1:
                column.pages.pop()
        self._show_all()

    def action_edit(self) -> None:
        """Take the story into the prompt, to be changed there; enter goes on from it."""
        text = self.column.page.text
        if not text:
            self._say("there is no story yet: enter tells one")
            return
        self.action_stop()
        box = self.query_one(PromptBox)
        box.prompt = text
        box.focus()
        self._say("change the story as you like; enter goes on from its end")

    def action_fork(self) -> None:
        """Another variant that begins as this one stands; this one stays as it is."""
        if len(self._variants) == _MOST_VARIANTS:
            self._say(f"{_MOST_VARIANTS} variants are the most: ctrl+w closes one")
            return
        self._variants.insert(self._variant + 1, [column.copy() for column in self.columns])
        self._turn_to(self._variant + 1)

    def action_variant(self, steps: int) -> None:
        self._turn_to((self._variant + steps) % len(self._variants))

    def on_tab_line_picked(self, message: TabLine.Picked) -> None:
        self._turn_to(int(message.tab))

    def _turn_to(self, variant: int) -> None:
        self._variant = variant
        self._chosen = min(self._chosen, len(self.columns) - 1)
        self._say("")
        self._lay_out()

    # --- models -------------------------------------------------------------------------------------------------------

    def action_model(self) -> None:
        """Choose the model of the column."""
        column = self.column

        def choose(model: str | None) -> None:
            if model is not None:
                column.model, column.numbers = model, "fp32"
                column.newest = newest_step(self.app.runs_root, model)
                self._prepare(model)
                self._show_all()

        self.app.push_screen(ModelPicker(column.model), choose)

    def action_beside(self) -> None:
        """Put another model beside: the same prompt, the same seed."""
        if len(self.columns) == _MOST_COLUMNS:
            self._say(f"{_MOST_COLUMNS} models are the most: ctrl+w closes a column")
            return

        def choose(model: str | None) -> None:
            if model is not None:
                self.columns.append(Column(model, newest=newest_step(self.app.runs_root, model)))
                self._chosen = len(self.columns) - 1
                self._prepare(model)
                self._lay_out()

        self.app.push_screen(ModelPicker(""), choose)

    def action_close_column(self) -> None:
        """Close the column; the variant, where it is its last."""
        column = self.column
        if column.page.ticket is not None:
            self.app.booth.cancel(column.page.ticket)
        if len(self.columns) > 1:
            self.columns.remove(column)
        elif len(self._variants) > 1:
            del self._variants[self._variant]
        self._turn_to(min(self._variant, len(self._variants) - 1))

    def _prepare(self, model: str) -> None:
        """Open a model that is here ahead of its first story."""
        if "/" not in model:
            self.app.booth.prepare(model)

    def _look(self) -> None:
        """See whether a run that is shown has a newer checkpoint; on a thread, since disks may be slow."""
        if not self.is_current:
            return
        shown = {column.model: column.newest for column in self.columns}
        root = self.app.runs_root

        def look() -> None:
            seen = {model: newest_step(root, model) for model in shown}
            if seen != shown:
                self.post_message(StepsSeen(seen))

        self.run_worker(look, thread=True, exclusive=True, group="look")

    def on_steps_seen(self, message: StepsSeen) -> None:
        for columns in self._variants:
            for column in columns:
                column.newest = message.steps.get(column.model, column.newest)
        self._show_lines()

    # --- taking it elsewhere ------------------------------------------------------------------------------------------

    def action_copy(self) -> None:
        """Copy the column's story to the terminal's clipboard."""
        text = self.column.page.text
        if text:
            self.app.copy_to_clipboard(safe(text))
            self._say(f"copied: {len(text):,} characters")
        else:
            self._say("there is no story yet: enter tells one")

    def action_save(self) -> None:
        """Save the column's story to a file."""
        text = self.column.page.text
        if not text:
            self._say("there is no story yet: enter tells one")
            return

        def saved(path: Path | None) -> None:
            if path is not None:
                self._say(f"saved as {path}")

        self.app.push_screen(SaveScreen(text), saved)

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
        self.query_one(Sampling).sample = told.sample
        column = self.column
        column.model, column.numbers = retelling.model, told.numbers
        column.newest = newest_step(self.app.runs_root, column.model)
        before = (Part(told.prompt, told=False),)
        self._say("")
        if retelling.again:
            self._tell(column, before, told.sample, goes_on=told.goes_on)
        else:
            asked = Asked(column.model, told.sample, told.goes_on, told.numbers)
            outcome = "the end" if told.finished else "from the shelf"
            page = Page(before, asked, told.text, told.model, tokens=told.tokens, seconds=told.seconds, outcome=outcome)
            column.turn(page)
        self._show_all()

    def on_knob_refused(self, message: Knob.Refused) -> None:
        self._refused = message.why
        self._say(message.why)

    def on_knob_turned(self) -> None:
        if self._refused:
            self._refused = ""
            self._say("")


def _name_line(column: Column) -> Content:
    """The column's model, and the step that it would be told from now."""
    page = column.page
    label = page.label if page.asked is not None and page.asked.model == column.model else ""
    name = line(label or column.model, "bold $primary") + line(" \u25be", "$text-muted")
    if column.newest is None or ("@" in column.model and not column.model.endswith("@latest")):
        return name
    step = label.rpartition("@")[2]
    if not label:
        return name + line(f"  the newest, step {column.newest:,}", "$text-muted")
    if step.isdecimal() and int(step) < column.newest:
        return name + line(f"  step {column.newest:,} is there: ctrl+n", "$secondary")
    return name


def _facts(page: Page, model: str) -> str:
    """Seed, tokens and speed, as far as they are known."""
    if page.asked is None or (page.failure is not None and not page.told):
        return ""
    if page.note:
        return page.note
    sample = page.asked.sample
    seconds = page.seconds
    if page.ticket is not None:
        if page.opened_at is None:
            return "opening the model \u2026"
        seconds = time.monotonic() - page.opened_at
    words = [f"told by {page.label}"] if page.label and page.asked.model != model else []
    words += [f"seed {sample.seed}" if sample.draws else "greedy" if sample.beams == 1 else f"{sample.beams} beams"]
    words.append(f"{page.tokens:,} tokens")
    if page.tokens > 1 and seconds > 0.02:
        speed = page.tokens / seconds
        words.append(f"{speed:,.{0 if speed >= 10 else 1}f} tokens/s")
    words.append(page.outcome or "telling \u2026")
    if page.cut:
        words.append("from the newest part of the prompt")
    return " \u00b7 ".join(words)


def _naming(model: str, label: str, runs_root: Path) -> tuple[str, str]:
    """What names these very weights again: the model, and where its run lies."""
    if "/" in model or model.startswith((".", "~")):
        folder = Path(model).expanduser()
        return (str(folder.absolute()) if folder.is_dir() else model), ""
    return (label, str(runs_root.absolute())) if "@" in label else (model, "")

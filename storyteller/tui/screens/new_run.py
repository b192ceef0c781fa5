"""The form of a new run: presets and the common options, checked as they are typed; it starts the training process."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.screen import Screen
from textual.widgets import Input, Static

from storyteller.config.configs import Config
from storyteller.config.presets import PRESET_NOTES, PRESETS, resolve
from storyteller.errors import StorytellerError, UsageError
from storyteller.text import safe_line
from storyteller.tracking.run_folder import check_name
from storyteller.tui.app import StorytellerApp
from storyteller.tui.safe_content import line, plain
from storyteller.tui.widgets.choice import Choice
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.view_bar import ViewBar

BUDGETS = ("minutes", "steps", "epochs", "tokens")
_SAY_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Field:
    """A row of the form: an option of `storyteller train`."""

    name: str
    label: str
    key: str
    """The setting's dotted name; empty for what is no setting."""
    note: str
    options: tuple[str, ...] = ()
    """The words to choose from; none: something to type."""

    @property
    def flag(self) -> str:
        return f"--{self.name}"


FIELDS = (
    Field("preset", "preset", "", "", tuple(PRESETS)),
    Field("name", "name", "", "a-z 0-9 . _ -"),
    Field("data", "stories", "data.source", "auto, tinystories, bundled, or files"),
    Field("budget", "train for", "", "what the budget counts", BUDGETS),
    Field("amount", "how many", "", ""),
    Field("batch-size", "batch size", "train.batch_size", "rows in one forward pass"),
    Field("context", "context", "model.context", "tokens seen at once"),
    Field("layers", "layers", "model.n_layer", "transformer blocks"),
    Field("width", "width", "model.n_embd", "of the model; heads divide it"),
    Field("heads", "heads", "model.n_head", "attention heads"),
    Field("lr", "learning rate", "train.lr", "AdamW's peak"),
    Field("seed", "seed", "train.seed", "weights, order and samples"),
    Field("precision", "precision", "train.precision", "", ("auto", "fp32", "bf16", "fp16")),
    Field("wandb", "W&B", "mirror.wandb", "", ("auto", "online", "offline", "off")),
)


class NewRunScreen(Screen[None]):
    """What is left empty keeps the preset's value, which stands there dimly."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "Start training", priority=True),
        # Before the focused part hears of them: keys typed ahead then go where they were meant to.
        Binding("down,tab", "app.focus_next", "The next field", show=False, priority=True),
        Binding("up,shift+tab", "app.focus_previous", "The field before", show=False, priority=True),
        Binding("escape", "leave", "Back"),
    ]
    AUTO_FOCUS = "#name"
    PLAIN_COMMAND = "storyteller train"

    app = getters.app(StorytellerApp)

    def __init__(self) -> None:
        super().__init__()
        self._starting = False
        self._begun_at = 0.0

    def compose(self) -> ComposeResult:
        yield ViewBar()
        with VerticalScroll(id="form", can_focus=False):
            yield Static(line("A new run", "bold"), id="form-title")
            for field in FIELDS:
                with Horizontal(classes="row"):
                    yield Static(line(field.label), classes="label")
                    if field.options:
                        yield Choice(field.options, id=field.name)
                    else:
                        yield Input(id=field.name, compact=True)
                    yield Static("", id=f"{field.name}-note", classes="note", markup=False)
            yield Static("", id="command", markup=False)
            yield Static("", id="progress", markup=False)
        yield KeyHints()

    def on_mount(self) -> None:
        self._check()

    def on_resize(self) -> None:
        self.set_class(self.size.height >= 42, "-roomy")
        self.set_class(self.size.width < 64, "-narrow")

    # --- what was typed -----------------------------------------------------------------------------------------------

    def _typed(self, name: str) -> str:
        return self.query_one(f"#{name}", Input).value.strip()

    def _chosen(self, name: str) -> str:
        return self.query_one(f"#{name}", Choice).value

    def _options(self) -> dict[str, Any]:
        """The options given, by the settings' dotted names; paths of stories are not looked at."""
        preset = resolve(self._chosen("preset"), {}).to_json()
        given: dict[str, Any] = {}
        for field in FIELDS:
            if field.options and field.key:
                section, _, key = field.key.partition(".")
                if (word := self._chosen(field.name)) != preset[section][key]:
                    given[field.key] = word
            elif field.key and (typed := self._typed(field.name)):
                given[field.key] = tuple(_words(typed)) if field.name == "data" else typed
        if amount := self._typed("amount"):
            given[f"train.{self._chosen('budget')}"] = amount
        elif self._chosen("budget") != _budget_of(preset)[0]:
            raise UsageError(f"--{self._chosen('budget')} wants a number", "how many?")
        return given

    def command(self) -> list[str]:
        """The same run as words at a shell."""
        words = ["storyteller", "train"]
        preset = resolve(self._chosen("preset"), {}).to_json()
        if self._chosen("preset") != "quick":
            words += ["--preset", self._chosen("preset")]
        if name := self._typed("name"):
            words += ["--name", name]
        for path in _words(self._typed("data")):
            words += ["--data", path]
        if amount := self._typed("amount"):
            words += [f"--{self._chosen('budget')}", amount]
        for field in FIELDS[5:]:
            if not field.options and (typed := self._typed(field.name)):
                words += [field.flag, typed]
            elif field.options:
                section, _, key = field.key.partition(".")
                if (word := self._chosen(field.name)) != preset[section][key]:
                    words += [field.flag, word]
        return words

    def _config(self) -> Config:
        """What the form asks for. Raises UsageError, naming the option that is off."""
        if name := self._typed("name"):
            check_name(name)
        return resolve(self._chosen("preset"), self._options())

    def on_input_changed(self, _event: Input.Changed) -> None:
        self._check()

    def on_input_submitted(self, _event: Input.Submitted) -> None:
        self.action_start()

    def on_choice_changed(self, event: Choice.Changed) -> None:
        if event.choice.id == "preset":
            budget, _ = _budget_of(resolve(event.value, {}).to_json())
            if not self._typed("amount"):
                self.query_one("#budget", Choice).value = budget
        self._check()

    def _check(self) -> bool:
        """Show what the preset has, the command, and the first thing that is off; whether nothing is."""
        preset = resolve(self._chosen("preset"), {}).to_json()
        budget, amount = _budget_of(preset)
        try:
            comes_to, trouble = self._config().to_json(), None
        except StorytellerError as error:
            comes_to, trouble = preset, error
        for field in FIELDS:
            if not field.options:
                section, _, key = field.key.partition(".")
                default = (
                    "three words and a date" if field.name == "name" else _shown(comes_to[section][key]) if key else ""
                )
                if field.name == "amount":
                    default = _shown(amount) if self._chosen("budget") == budget else ""
                self.query_one(f"#{field.name}", Input).placeholder = default
            self._note(field.name, "")
        self._note("preset", PRESET_NOTES[self._chosen("preset")])
        self._note("amount", f"{self._chosen('budget')}")
        self.query_one("#command", Static).update(line(shlex.join(self.command()), "$text-muted"))
        if trouble is not None:
            self._refuse(trouble)
            return False
        if not self._starting:
            self._say("")
        return True

    def _note(self, name: str, note: str, trouble: bool = False) -> None:
        field = next(field for field in FIELDS if field.name == name)
        self.query_one(f"#{name}-note", Static).update(line(note or field.note, "$text-error" if trouble else ""))

    def _refuse(self, error: StorytellerError) -> None:
        """Say what is off, whole below, and its remedy at the field."""
        name = field_of(str(error))
        if name is not None:
            self._note(name, error.remedy or error.problem, trouble=True)
        self._say(str(error), trouble=True)

    def _say(self, text: str, trouble: bool = False) -> None:
        self.query_one("#progress", Static).update(plain(text, "$text-error" if trouble else "$text-success"))

    # --- starting -----------------------------------------------------------------------------------------------------

    def action_start(self) -> None:
        if self._starting or not self._check():
            return
        self._starting, self._begun_at = True, time.monotonic()
        self._say("starting \u2026")
        given = (self._typed("name") or None, self._chosen("preset"), self._options(), self.command())
        threading.Thread(target=self._start, args=given, name="start", daemon=True).start()

    def _start(self, name: str | None, preset: str, options: dict[str, Any], command: list[str]) -> None:
        """On a thread of its own: all of it up to the training process's first step."""
        from storyteller.launch import run_plan, start
        from storyteller.tracking import wandb_mirror

        try:
            options = options | {"data.source": run_plan.source(options.get("data.source"))}
            config = resolve(preset, options)
            mode, why = wandb_mirror.choose_mode(config.mirror.wandb)
            folder = run_plan.plan(self.app.runs_root, name, config, command)
            try:
                process = run_plan.begin(folder, mode, self.app.say)
                # Reaped as it ends, whenever that is.
                threading.Thread(target=process.wait, name="reap", daemon=True).start()
                saying = threading.Event()
                threading.Thread(target=self._report, args=(folder, why, saying), name="report", daemon=True).start()
                try:
                    start.wait_ready(folder, process)
                finally:
                    saying.set()
            except BaseException:
                run_plan.drop_unbegun(folder)
                raise
        except StorytellerError as error:
            self._from_thread(self._failed, error)
        except OSError as error:
            self._from_thread(self._failed, UsageError(f"the run cannot be started ({error.strerror or error})"))
        else:
            self._from_thread(self._started, folder.name)

    def _report(self, folder: Any, why: str, over: threading.Event) -> None:
        """What the process says while it gets ready."""
        from storyteller.tracking import log_file

        while not over.wait(_SAY_EVERY_SECONDS):
            last = next(iter(log_file.log_tail(folder, 1)), why)
            waited = time.monotonic() - self._begun_at
            self._from_thread(self._progress, f"{folder.name} gets ready, {waited:.0f} s\n{safe_line(last, 300)}")

    def _from_thread(self, call: Any, *arguments: Any) -> None:
        if self.app.is_running:
            self.app.call_from_thread(call, *arguments)

    @property
    def _is_shown(self) -> bool:
        return self.is_attached and self in self.app.screen_stack

    def _progress(self, text: str) -> None:
        if self._is_shown and self._starting:
            self._say(text)

    def _failed(self, error: StorytellerError) -> None:
        self._starting = False
        if self._is_shown:
            self._refuse(error)
        else:
            self.app.say(str(error), "error")

    def _started(self, name: str) -> None:
        self._starting = False
        if self._is_shown:
            self.app.open_run(name)
        else:
            self.app.say(f"{name} is training")

    def action_leave(self) -> None:
        if self._starting:
            self.app.say("the run goes on getting ready")
        self.app.pop_screen()


def field_of(problem: str) -> str | None:
    """The form's field that an error is about."""
    first = problem.split(":")[0]
    words = set(first.replace(",", " ").split())
    for field in FIELDS:
        if field.flag in words or (field.key and field.key in words):
            return field.name
    if any(f"--{budget}" in words or f"train.{budget}" in words for budget in BUDGETS):
        return "amount"
    return "name" if "named" in words or "run's" in words or "name" in words else None


def _budget_of(preset: dict[str, Any]) -> tuple[str, Any]:
    return next((name, preset["train"][name]) for name in BUDGETS if preset["train"][name] is not None)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(typed: str) -> list[str]:
    """Paths as at a shell: parted by spaces, quoted where they hold one."""
    try:
        return shlex.split(typed)
    except ValueError:  # a quotation mark without its other
        return [typed]

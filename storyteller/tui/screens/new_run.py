"""The form for a new run: a preset and the common options, checked as they are typed, and the start of the run."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Mapping
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
from storyteller.tracking.run_folder import RunFolder, check_name
from storyteller.tui.base_app import BaseApp
from storyteller.tui.run_actions import start_and_wait
from storyteller.tui.safe_content import line, plain
from storyteller.tui.widgets.choice import Choice
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.view_bar import ViewBar

BUDGETS = ("minutes", "steps", "epochs", "tokens")
_REPORT_EVERY_SECONDS = 0.2


@dataclass(frozen=True)
class Field:
    """A row of the form: an option of `storyteller train`."""

    name: str
    label: str
    key: str  # the dotted name of the config field; empty if the option sets none
    note: str
    options: tuple[str, ...] = ()  # the choices; empty for a text field

    def default(self, config: Mapping[str, Any]) -> Any:
        """The field's value in a config."""
        section, _, key = self.key.partition(".")
        return config[section][key]


FIELDS = (
    Field("preset", "preset", "", "", tuple(PRESETS)),
    Field("name", "name", "", "a-z 0-9 . _ -"),
    Field("data", "stories", "data.source", "auto, tinystories, bundled, or paths"),
    Field("budget", "train for", "", "unit of the budget", BUDGETS),
    Field("amount", "how many", "", ""),
    Field("batch-size", "batch size", "train.batch_size", "sequences per forward pass"),
    Field("context", "context", "model.context", "tokens per sequence"),
    Field("layers", "layers", "model.n_layer", "transformer blocks"),
    Field("width", "width", "model.n_embd", "a multiple of the heads"),
    Field("heads", "heads", "model.n_head", "attention heads"),
    Field("lr", "learning rate", "train.lr", "peak of the schedule"),
    Field("seed", "seed", "train.seed", "weights, data order, samples"),
    Field("precision", "precision", "train.precision", "", ("auto", "fp32", "bf16", "fp16")),
    Field("wandb", "W&B", "mirror.wandb", "", ("auto", "online", "offline", "off")),
)


class NewRunScreen(Screen[None]):
    """Empty fields keep the preset's values, which are shown as placeholders."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "Start training", priority=True),
        # Handled before the focused field gets them, so that keys typed ahead reach the field they were meant for.
        Binding("down,tab", "app.focus_next", "Next field", show=False, priority=True),
        Binding("up,shift+tab", "app.focus_previous", "Previous field", show=False, priority=True),
        Binding("escape", "leave", "Back"),
    ]
    AUTO_FOCUS = "#name"
    COMMAND = "storyteller train"

    app = getters.app(BaseApp)

    def __init__(self) -> None:
        super().__init__()
        self._starting = False
        self._started_at = 0.0

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

    def on_resize(self) -> None:
        self.set_class(self.size.height >= 42, "-roomy")
        self.set_class(self.size.width < 64, "-narrow")

    # --- the options --------------------------------------------------------------------------------------------------

    def _value(self, name: str) -> str:
        """The text or the choice of a field."""
        widget = self.query_one(f"#{name}")
        return widget.value if isinstance(widget, Choice) else self.query_one(f"#{name}", Input).value.strip()

    def _preset(self) -> dict[str, Any]:
        """The config of the chosen preset."""
        return resolve(self._value("preset"), {}).to_json()

    def _changed(self) -> dict[Field, str]:
        """The options of the config that differ from the preset, with their text."""
        preset = self._preset()
        values = {field: self._value(field.name) for field in FIELDS if field.key}
        return {
            field: value for field, value in values.items() if value != (field.default(preset) if field.options else "")
        }

    def _options(self) -> dict[str, Any]:
        """The options given, by dotted name. The paths of stories are not checked."""
        given: dict[str, Any] = {field.key: text for field, text in self._changed().items()}
        if "data.source" in given:
            given["data.source"] = tuple(_words(given["data.source"]))
        budget = self._value("budget")
        if amount := self._value("amount"):
            given[f"train.{budget}"] = amount
        elif budget != _budget_of(self._preset())[0]:
            raise UsageError(f"--{budget} needs a number", "how many?")
        return given

    def command(self) -> list[str]:
        """The words of the shell command that starts the same run."""
        words = ["storyteller", "train"]
        if self._value("preset") != "quick":
            words += ["--preset", self._value("preset")]
        if name := self._value("name"):
            words += ["--name", name]
        for path in _words(self._value("data")):
            words += ["--data", path]
        if amount := self._value("amount"):
            words += [f"--{self._value('budget')}", amount]
        for field, text in self._changed().items():
            if field.name != "data":
                words += [f"--{field.name}", text]
        return words

    def _config(self) -> Config:
        """The config of the run. Raises UsageError that names the invalid option."""
        if name := self._value("name"):
            check_name(name)
        return resolve(self._value("preset"), self._options())

    def on_choice_changed(self, event: Choice.Changed) -> None:
        if event.choice.id == "preset" and not self._value("amount"):
            self.query_one("#budget", Choice).value, _ = _budget_of(self._preset())
        self._check()

    def _check(self) -> bool:
        """Show the defaults, the command and the first error. Returns whether there is none."""
        resolved, error = self._preset(), None
        try:
            resolved = self._config().to_json()
        except StorytellerError as problem:
            error = problem
        for field in FIELDS:
            if not field.options:
                self.query_one(f"#{field.name}", Input).placeholder = self._placeholder(field, resolved)
            self._note(field.name, field.note)
        self._note("preset", PRESET_NOTES[self._value("preset")])
        self._note("amount", self._value("budget"))
        self.query_one("#command", Static).update(line(shlex.join(self.command()), "$text-muted"))
        if error is not None:
            self._show_error(error)
        elif not self._starting:
            self._say("")
        return error is None

    on_mount = on_input_changed = _check

    def _placeholder(self, field: Field, resolved: Mapping[str, Any]) -> str:
        """The value that an empty field stands for."""
        if field.name == "name":
            return "three words and a date"
        if field.name == "amount":
            budget, amount = _budget_of(self._preset())
            return _shown(amount) if self._value("budget") == budget else ""
        return _shown(field.default(resolved))

    def _note(self, name: str, note: str, style: str = "") -> None:
        self.query_one(f"#{name}-note", Static).update(line(note, style))

    def _show_error(self, error: StorytellerError) -> None:
        """Show the whole error below the form, and its remedy at the field."""
        name = field_of(str(error))
        if name is not None:
            self._note(name, error.remedy or error.problem, "$text-error")
        self._say(str(error), is_error=True)

    def _say(self, text: str, is_error: bool = False) -> None:
        self.query_one("#progress", Static).update(plain(text, "$text-error" if is_error else "$text-success"))

    # --- starting -----------------------------------------------------------------------------------------------------

    def action_start(self) -> None:
        if self._starting or not self._check():
            return
        self._starting, self._started_at = True, time.monotonic()
        self._say("starting \u2026")
        given = (self._value("name") or None, self._value("preset"), self._options(), self.command())
        threading.Thread(target=self._start, args=given, name="start", daemon=True).start()

    on_input_submitted = action_start

    def _start(self, name: str | None, preset: str, options: dict[str, Any], command: list[str]) -> None:
        """Runs on a thread of its own until the training process has taken its first step."""
        from storyteller.launch import run_plan
        from storyteller.tracking import wandb_mirror

        try:
            options = options | {"data.source": run_plan.parse_source(options.get("data.source"))}
            config = resolve(preset, options)
            mode, reason = wandb_mirror.choose_mode(config.mirror.wandb)
            folder = run_plan.create_run(self.app.runs_root, name, config, command)
            is_ready = threading.Event()
            threading.Thread(target=self._report, args=(folder, reason, is_ready), daemon=True).start()
            try:
                start_and_wait(folder, mode, self.app.say)
            except BaseException:
                run_plan.remove_unstarted(folder)
                raise
            finally:
                is_ready.set()
        except StorytellerError as error:
            self.app.call_later(self._failed, error)
        except OSError as error:
            self.app.call_later(self._failed, UsageError(f"the run cannot be started ({error.strerror or error})"))
        else:
            self.app.call_later(self._started, folder.name)

    def _report(self, folder: RunFolder, reason: str, is_ready: threading.Event) -> None:
        """Show the newest line of the process's log until it is ready; `reason` is shown before there is one."""
        from storyteller.tracking import log_file

        while not is_ready.wait(_REPORT_EVERY_SECONDS):
            last = next(iter(log_file.last_lines(folder, 1)), reason)
            waited = time.monotonic() - self._started_at
            shown = f"{folder.name} is starting, {waited:.0f} s\n{safe_line(last, 300)}"
            self.app.call_later(self._progress, shown)

    @property
    def _is_shown(self) -> bool:
        return self.is_attached and self in self.app.screen_stack

    def _progress(self, text: str) -> None:
        if self._is_shown and self._starting:
            self._say(text)

    def _failed(self, error: StorytellerError) -> None:
        self._starting = False
        if self._is_shown:
            self._show_error(error)
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
            self.app.say("the run keeps starting in the background")
        self.app.pop_screen()


def field_of(problem: str) -> str | None:
    """The name of the form field that an error is about; None if it is about none of them."""
    first = problem.split(":")[0]
    words = set(first.replace(",", " ").split())
    for field in FIELDS:
        if f"--{field.name}" in words or (field.key and field.key in words):
            return field.name
    if any(f"--{budget}" in words or f"train.{budget}" in words for budget in BUDGETS):
        return "amount"
    return "name" if "named" in words or "run's" in words or "name" in words else None


def _budget_of(preset: Mapping[str, Any]) -> tuple[str, Any]:
    return next((name, preset["train"][name]) for name in BUDGETS if preset["train"][name] is not None)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(typed: str) -> list[str]:
    """Split paths as a shell does: at spaces, unless they are quoted."""
    try:
        return shlex.split(typed)
    except ValueError:  # an unclosed quotation mark
        return [typed]

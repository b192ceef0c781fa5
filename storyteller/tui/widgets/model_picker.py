"""A dialogue to choose a model: any checkpoint of any run, the starter, or a model from the Hugging Face Hub."""

from __future__ import annotations

import re
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
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from storyteller.config.configs import STARTER
from storyteller.errors import StorytellerError
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import list_runs, readable_steps
from storyteller.tracking.run_status import seen_state
from storyteller.tui.base_app import BaseApp
from storyteller.tui.safe_content import line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MAX_SHOWN = 500
_CHECK_SECONDS = 1.0


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be chosen."""

    reference: str  # what `--model` takes: `run`, `run@step`, a folder, `owner/name` or `starter`
    name: str
    detail: str = ""
    of_run: bool = False  # whether it is a single checkpoint, listed below its run


def list_models(root: Path) -> list[ModelChoice]:
    """List each run and its checkpoints, the newest ones first, and then the starter."""
    of_runs = [choice for run in list_runs(root) for choice in _choices_of(run)]
    return [*of_runs, ModelChoice(STARTER, STARTER, "comes with storyteller")]


def _choices_of(run: RunFolder) -> list[ModelChoice]:
    figures = {step: _bpb(run, step) for step in readable_steps(run)}
    if not figures:
        return []
    best = min((bpb for bpb in figures.values() if bpb is not None), default=None)
    newest = max(figures)
    of_run = []
    for step, bpb in sorted(figures.items(), reverse=True):
        detail = "" if bpb is None else f"{bpb:.3f} bits per byte"
        if bpb is not None and bpb == best and len(figures) > 1:
            detail += " \u00b7 best"
        of_run.append(ModelChoice(f"{run.name}@{step}", f"@{step}", detail, of_run=True))
    return [ModelChoice(run.name, run.name, f"newest checkpoint, step {newest:,} \u00b7 {seen_state(run)}"), *of_run]


def _bpb(run: RunFolder, step: int) -> float | None:
    """The held-out bits per byte in the checkpoint's manifest, if it has them."""
    try:
        value = checkpoint_folders.manifest(run.checkpoint(step)).get(checkpoint_folders.BEST_BY)
    except StorytellerError:
        return None
    return value if isinstance(value, float) else None


def matching(found: Sequence[ModelChoice], typed: str) -> list[ModelChoice]:
    """Filter the choices by the typed words, up to `_MAX_SHOWN`.

    Typed text that looks like a model of the Hub or a folder is itself the first choice.
    """
    words = typed.casefold().split()
    fit = [one for one in found if all(word in one.reference.casefold() for word in words)]
    return [*_typed(typed.strip()), *fit[:_MAX_SHOWN]]


def _typed(name: str) -> list[ModelChoice]:
    if not name or "\0" in name:
        return []
    if name.startswith((".", "~", "/")):
        return [ModelChoice(name, name, "a folder")]
    return [ModelChoice(name, name, "from the Hugging Face Hub")] if _HUB_ID.fullmatch(name) else []


@dataclass
class ModelsListed(Message):
    """The list of models has changed."""

    found: list[ModelChoice]


class ModelPicker(ModalScreen[str | None]):
    """A list of models with a filter. Returns the reference of the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("pagedown", "move(10)", "Down", show=False, priority=True),
        Binding("pageup", "move(-10)", "Up", show=False, priority=True),
    ]
    app = getters.app(BaseApp)

    def __init__(self, chosen: str) -> None:
        """`chosen` is the reference of the model highlighted at first."""
        super().__init__()
        self._chosen = chosen
        self._found: list[ModelChoice] = []
        self._shown: list[ModelChoice] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="picker", classes="list-dialogue"):
            yield Input(placeholder="Type to filter, or enter owner/name of a Hugging Face model", compact=True)
            yield OptionList(compact=True, markup=False)

    def on_mount(self) -> None:
        self.on_models_listed(ModelsListed(list_models(self.app.runs_root)))
        self.set_interval(_CHECK_SECONDS, self._check_models)

    def _check_models(self) -> None:
        """Look for new runs and checkpoints, on a thread because disks may be slow."""
        root, known = self.app.runs_root, self._found

        def check() -> None:
            if (found := list_models(root)) != known:
                self.post_message(ModelsListed(found))

        self.run_worker(check, thread=True, exclusive=True, group="check")

    def on_models_listed(self, message: ModelsListed) -> None:
        self._found = message.found
        self._show()

    def on_input_submitted(self) -> None:
        highlighted = self.query_one(OptionList).highlighted
        if highlighted is not None and highlighted < len(self._shown):
            self.dismiss(self._shown[highlighted].reference)
        elif typed := self.query_one(Input).value.strip():
            self.dismiss(typed)  # if there is no such model, generating reports it

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index].reference)

    def action_move(self, rows: int) -> None:
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = min(max((options.highlighted or 0) + rows, 0), len(self._shown) - 1)

    def _show(self) -> None:
        """Show the matching models. The highlighted one stays highlighted if it is still listed."""
        options = self.query_one(OptionList)
        typed = self.query_one(Input).value
        selected = None if typed else self._chosen
        if self._shown and options.highlighted is not None and not _typed(typed.strip()):
            selected = self._shown[options.highlighted].reference
        self._shown = matching(self._found, typed)
        options.clear_options()
        options.add_options(
            [Option(_row(one, above)) for one, above in zip(self._shown, [None, *self._shown], strict=False)]
        )
        places = {one.reference: place for place, one in enumerate(self._shown)}
        if self._shown:
            options.highlighted = places.get(selected or "", 0)

    on_input_changed = _show


def _row(choice: ModelChoice, above: ModelChoice | None) -> Content:
    """A row of the list. A checkpoint below its run shows only its step, otherwise its whole reference."""
    run = choice.reference.rpartition("@")[0]
    under = choice.of_run and above is not None and run in (above.reference, above.reference.rpartition("@")[0])
    name = line(f"  {choice.name}" if under else choice.reference, "" if choice.of_run else "bold", limit=44)
    gap = Content(" " * max(2, 46 - name.cell_length))
    return name + gap + line(choice.detail, "$text-muted")

"""Choosing who tells: any checkpoint of any run, the starter, or a model of the Hugging Face Hub."""

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
from storyteller.tracking.run_index import list_runs, seen_steps
from storyteller.tracking.run_status import seen_state
from storyteller.tui.app import StorytellerApp
from storyteller.tui.safe_content import line

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_MOST_SHOWN = 500
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be told from."""

    reference: str
    """What it is asked for by."""
    name: str
    detail: str = ""
    of_run: bool = False
    """A step of the run above it."""


def choices(root: Path) -> list[ModelChoice]:
    """Every model that is here: each run's newest checkpoint and its others, the newest run first, and the starter."""
    found = []
    for run in list_runs(root):
        found += _choices_of(run)
    return [*found, ModelChoice(STARTER, STARTER, "comes with storyteller")]


def _choices_of(run: RunFolder) -> list[ModelChoice]:
    figures = {step: _bpb(run, step) for step in seen_steps(run)}
    if not figures:
        return []
    best = min((bpb for bpb in figures.values() if bpb is not None), default=None)
    newest = max(figures)
    of_run = [
        ModelChoice(
            f"{run.name}@{step}",
            f"@{step}",
            _detail(bpb, "the best" if best is not None and bpb == best and len(figures) > 1 else ""),
            of_run=True,
        )
        for step, bpb in sorted(figures.items(), reverse=True)
    ]
    return [ModelChoice(run.name, run.name, f"the newest, step {newest:,} \u00b7 {seen_state(run)}"), *of_run]


def _bpb(run: RunFolder, step: int) -> float | None:
    """Bits per byte of the checkpoint, as far as its manifest says."""
    try:
        value = checkpoint_folders.manifest(run.checkpoint(step)).get(checkpoint_folders.BEST_BY)
    except StorytellerError:
        return None
    return value if isinstance(value, float) else None


def _detail(bpb: float | None, more: str) -> str:
    return " \u00b7 ".join(filter(None, ("" if bpb is None else f"{bpb:.3f} bits per byte", more)))


def matching(found: Sequence[ModelChoice], typed: str) -> list[ModelChoice]:
    """The choices that hold every word of what was typed; what looks like a model of the Hub, or a folder, comes first.

    The first `_MOST_SHOWN` of them.
    """
    words = typed.casefold().split()
    fit = [one for one in found if all(word in one.reference.casefold() for word in words)]
    return [*_typed(typed.strip()), *fit[:_MOST_SHOWN]]


def _typed(name: str) -> list[ModelChoice]:
    if not name or "\0" in name:
        return []
    if name.startswith((".", "~", "/")):
        return [ModelChoice(name, name, "a folder")]
    return [ModelChoice(name, name, "from the Hugging Face Hub")] if _HUB_ID.fullmatch(name) else []


class ModelsSeen(Message):
    """The models as they are now."""

    def __init__(self, found: list[ModelChoice]) -> None:
        super().__init__()
        self.found = found


class ModelPicker(ModalScreen[str | None]):
    """A list to choose from; typing filters it. Ends with the model's name, or None."""

    DEFAULT_CSS = """
    ModelPicker {
        align: center middle;
        #picker {
            width: 84; max-width: 94%; height: 24; max-height: 84%;
            padding: 1 2; background: $surface;
        }
        Input { margin-bottom: 1; border: none; height: 1; padding: 0; background: $surface; }
        OptionList {
            height: 1fr; border: none; padding: 0; background: $surface; scrollbar-size-vertical: 1;
            text-wrap: nowrap; text-overflow: ellipsis;
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Back"),
        Binding("down", "move(1)", "Down", show=False, priority=True),
        Binding("up", "move(-1)", "Up", show=False, priority=True),
        Binding("pagedown", "move(10)", "Down", show=False, priority=True),
        Binding("pageup", "move(-10)", "Up", show=False, priority=True),
    ]
    app = getters.app(StorytellerApp)

    def __init__(self, chosen: str) -> None:
        """`chosen` is lit at first."""
        super().__init__()
        self._chosen = chosen
        self._found: list[ModelChoice] = []
        self._shown: list[ModelChoice] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="picker"):
            yield Input(placeholder="Type to filter, or owner/name of a model on the Hugging Face Hub", compact=True)
            yield OptionList(compact=True, markup=False)

    def on_mount(self) -> None:
        self._see(choices(self.app.runs_root))
        self.set_interval(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """See whether there are other runs and checkpoints by now; on a thread, since disks may be slow."""
        root, known = self.app.runs_root, self._found

        def look() -> None:
            if (found := choices(root)) != known:
                self.post_message(ModelsSeen(found))

        self.run_worker(look, thread=True, exclusive=True, group="look")

    def on_models_seen(self, seen: ModelsSeen) -> None:
        self._see(seen.found)

    def on_input_changed(self) -> None:
        self._show()

    def on_input_submitted(self) -> None:
        lit = self.query_one(OptionList).highlighted
        if lit is not None and lit < len(self._shown):
            self.dismiss(self._shown[lit].reference)
        elif typed := self.query_one(Input).value.strip():
            self.dismiss(typed)  # whoever tells says what is off

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index].reference)

    def action_move(self, rows: int) -> None:
        options = self.query_one(OptionList)
        if self._shown:
            options.highlighted = min(max((options.highlighted or 0) + rows, 0), len(self._shown) - 1)

    def _see(self, found: list[ModelChoice]) -> None:
        self._found = found
        self._show()

    def _show(self) -> None:
        """Show what fits what was typed; the same model stays lit where it is still there."""
        options = self.query_one(OptionList)
        lit = self._shown[options.highlighted].reference if self._shown and options.highlighted is not None else None
        typed = self.query_one(Input).value
        wanted = lit if lit is not None and not _typed(typed.strip()) else None if typed else self._chosen
        self._shown = matching(self._found, typed)
        options.clear_options()
        options.add_options(
            [Option(_words(one, above)) for one, above in zip(self._shown, [None, *self._shown], strict=False)]
        )
        places = {one.reference: place for place, one in enumerate(self._shown)}
        if self._shown:
            options.highlighted = places.get(wanted or "", 0)


def _words(choice: ModelChoice, above: ModelChoice | None) -> Content:
    """A row; a step stands under its run, or with its whole name where that is not above it."""
    run = choice.reference.rpartition("@")[0]
    under = choice.of_run and above is not None and run in (above.reference, above.reference.rpartition("@")[0])
    name = line(f"  {choice.name}" if under else choice.reference, "" if choice.of_run else "bold", limit=44)
    gap = Content(" " * max(2, 46 - name.cell_length))
    return name + gap + line(choice.detail, "$text-muted")

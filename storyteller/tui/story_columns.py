"""The state of the Story view: variants of a story, each with a column per model and its earlier versions (undo).

Nothing here draws or generates. The Story screen shows the state and applies the generation client's events to it.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, ModelOpened, Note, TextPiece
from storyteller.inference.story_history import StoryRecord
from storyteller.tui.widgets.story_pane import TextSpan

MAX_COLUMNS = 3
MAX_VARIANTS = 9
_MAX_VERSIONS = 100


@dataclass(frozen=True)
class StoryRequest:
    """How a story was requested."""

    model: str
    params: SamplingParams  # with a seed
    goes_on: bool  # whether the prompt is a story that is continued
    compute_type: str


@dataclass
class StoryVersion:
    """One state of a column's story: the text given to the model, and what the model generated after it."""

    prefix: tuple[TextSpan, ...] = ()  # what the model was given
    request: StoryRequest | None = None  # None if nothing was generated
    generated: str = ""
    label: str = ""  # the model that was opened, as `run@step`
    truncated: bool = False  # whether the model was given only the newest part of the prompt
    ticket: int | None = None  # the generation client's ticket while the story is generated, else None
    tokens: int = 0
    seconds: float = 0.0
    opened_at: float | None = None  # when the model was open, in `time.monotonic` seconds
    outcome: str = ""
    note: str = ""
    failure: tuple[str, str] | None = None  # the problem and its remedy

    @property
    def prompt(self) -> str:
        return "".join(span.text for span in self.prefix)

    @property
    def spans(self) -> tuple[TextSpan, ...]:
        return (*self.prefix, TextSpan(self.generated, generated=True)) if self.generated else self.prefix

    @property
    def text(self) -> str:
        return self.prompt + self.generated

    def apply(self, event: Event) -> None:
        """Update this version with an event of its story."""
        if isinstance(event, TextPiece):
            self.generated += event.text
            self.tokens, self.note = event.tokens, ""
        elif isinstance(event, ModelOpened):
            self.label, self.truncated, self.opened_at, self.note = event.label, event.cut, time.monotonic(), ""
        elif isinstance(event, Note):
            self.note = event.text
        else:
            self._finish(event)

    def _finish(self, event: Ended | Failed) -> None:
        self.ticket = None
        self.note = ""
        if isinstance(event, Failed):
            self.failure, self.outcome = (event.problem, event.remedy), "failed"
            return
        self.tokens, self.seconds = event.tokens, event.seconds
        self.outcome = "stopped" if event.stopped else "the end" if event.finished else "limit reached"


@dataclass
class StoryColumn:
    """The story of one model, with its earlier versions."""

    model: str  # the model as it is requested; the name of a run stands for its newest checkpoint
    compute_type: str = "fp32"
    versions: list[StoryVersion] = field(default_factory=lambda: [StoryVersion()])
    newest: int | None = None  # the step of the run's newest checkpoint; None for a model that is no run

    @property
    def version(self) -> StoryVersion:
        return self.versions[-1]

    def push(self, version: StoryVersion) -> None:
        self.versions = [*self.versions[-_MAX_VERSIONS:], version]

    def copy(self) -> StoryColumn:
        """Copy the story for another variant. A story being generated continues only in the original."""
        versions = [dataclasses.replace(each, ticket=None, outcome=each.outcome or "forked") for each in self.versions]
        return StoryColumn(self.model, self.compute_type, versions, self.newest)


class Variants:
    """All variants and their columns; one variant is shown, and one of its columns is chosen. Empty until `add`."""

    def __init__(self) -> None:
        self._all: list[list[StoryColumn]] = []
        self.shown = 0  # the index of the shown variant
        self.chosen = 0
        """The index of the chosen column: the one that copy, save, edit and the model picker use."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def columns(self) -> list[StoryColumn]:
        """The columns of the shown variant."""
        return self._all[self.shown] if self._all else []

    @property
    def column(self) -> StoryColumn:
        return self.columns[min(self.chosen, len(self.columns) - 1)]

    @property
    def is_generating(self) -> bool:
        """Whether a story of the shown variant is being generated."""
        return any(column.version.ticket is not None for column in self.columns)

    @property
    def can_close(self) -> bool:
        """Whether another column remains when one is closed."""
        return len(self.columns) > 1 or len(self._all) > 1

    def add(self, column: StoryColumn) -> None:
        """Add a column to the shown variant, and choose it."""
        if not self._all:
            self._all.append([])
        self.columns.append(column)
        self.chosen = len(self.columns) - 1

    def close(self) -> None:
        """Close the chosen column; with the last one of a variant, close the variant."""
        if len(self.columns) > 1:
            self.columns.remove(self.column)
        elif len(self._all) > 1:
            del self._all[self.shown]
        self.show(min(self.shown, len(self._all) - 1))

    def fork(self) -> None:
        """Copy the shown variant, and show the copy."""
        self._all.insert(self.shown + 1, [column.copy() for column in self.columns])
        self.show(self.shown + 1)

    def show(self, variant: int) -> None:
        self.shown = variant
        self.chosen = min(self.chosen, len(self.columns) - 1)

    def undo(self) -> bool:
        """Go back by one version in each shown column; False if none has an earlier version."""
        undoable = [column for column in self.columns if len(column.versions) > 1]
        for column in undoable:
            column.versions.pop()
        return bool(undoable)

    def set_newest_steps(self, steps: dict[str, int | None]) -> None:
        """Set the newest checkpoint's step by model name."""
        for columns in self._all:
            for column in columns:
                column.newest = steps.get(column.model, column.newest)


def status_text(version: StoryVersion, model: str) -> str:
    """The seed, token count, speed and outcome, as far as they are known.

    `model` is the column's current model; another model that generated this version is named.
    """
    if version.request is None or (version.failure is not None and not version.generated):
        return ""
    if version.note:
        return version.note
    params = version.request.params
    seconds = version.seconds
    if version.ticket is not None:
        if version.opened_at is None:
            return "opening the model \u2026"
        seconds = time.monotonic() - version.opened_at
    words = [f"by {version.label}"] if version.label and version.request.model != model else []
    words += [f"seed {params.seed}" if params.draws else "greedy" if params.beams == 1 else f"{params.beams} beams"]
    words.append(f"{version.tokens:,} tokens")
    if version.tokens > 1 and seconds > 0.02:
        speed = version.tokens / seconds
        words.append(f"{speed:,.{0 if speed >= 10 else 1}f} tokens/s")
    words.append(version.outcome or "generating \u2026")
    if version.truncated:
        words.append("prompt truncated to its newest part")
    return " \u00b7 ".join(words)


def to_record(version: StoryVersion, request: StoryRequest, event: Ended, runs_root: Path) -> StoryRecord:
    """The record that the story history keeps, with the model named so that the same weights can be opened again."""
    name, runs_dir = _naming(request.model, version.label, runs_root)
    return StoryRecord(
        model=name,
        runs_dir=runs_dir,
        prompt=version.prompt,
        text=version.generated,
        sample=request.params,
        compute_type=request.compute_type,
        tokens=event.tokens,
        seconds=event.seconds,
        finished=event.finished,
        goes_on=request.goes_on or version.truncated,
    )


def version_from_record(record: StoryRecord, model: str) -> StoryVersion:
    """A version with a story from the history; `model` names its weights in this app."""
    request = StoryRequest(model, record.sample, record.goes_on, record.compute_type)
    outcome = "the end" if record.finished else "from the history"
    prefix = (TextSpan(record.prompt, generated=False),)
    return StoryVersion(
        prefix, request, record.text, record.model, tokens=record.tokens, seconds=record.seconds, outcome=outcome
    )


def _naming(model: str, label: str, runs_root: Path) -> tuple[str, str]:
    """The model name and runs folder that open the same weights again; the folder is "" for a model of no run."""
    if "/" in model or model.startswith((".", "~")):
        folder = Path(model).expanduser()
        return (str(folder.absolute()) if folder.is_dir() else model), ""
    return (label, str(runs_root.absolute())) if "@" in label else (model, "")

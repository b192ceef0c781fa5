"""Stories side by side: a column for each model, a column's story as it became what it is, and the variants of it all.

Nothing here draws or asks: the Story view does, and hands on what the booth says.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, ModelOpened, Note, TextPiece
from storyteller.inference.story_history import StoryRecord
from storyteller.tui.widgets.story_pane import Part

MOST_COLUMNS = 3
MOST_VARIANTS = 9
_MOST_PAGES = 100


@dataclass(frozen=True)
class StoryRequest:
    """What a story was asked for with."""

    model: str
    sample: SamplingParams
    """With the seed."""
    goes_on: bool
    """The prompt was a story so far."""
    numbers: str


@dataclass
class Page:
    """One state of a story in one column: what was there, what was told after it, and how."""

    before: tuple[Part, ...] = ()
    """What the model was given."""
    asked: StoryRequest | None = None
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

    def hear(self, event: Event) -> None:
        """Take what the booth says of this story."""
        if isinstance(event, TextPiece):
            self.told += event.text
            self.tokens, self.note = event.tokens, ""
        elif isinstance(event, ModelOpened):
            self.label, self.cut, self.opened_at, self.note = event.label, event.cut, time.monotonic(), ""
        elif isinstance(event, Note):
            self.note = event.text
        else:
            self._end(event)

    def _end(self, last: Ended | Failed) -> None:
        self.ticket = None
        self.note = ""
        if isinstance(last, Failed):
            self.failure, self.outcome = (last.problem, last.remedy), "failed"
            return
        self.tokens, self.seconds = last.tokens, last.seconds
        self.outcome = "stopped" if last.stopped else "the end" if last.finished else "cut short"


@dataclass
class StoryColumn:
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

    def copy(self) -> StoryColumn:
        """The same story, to be gone on with in another way; what is still being told stays where it is."""
        pages = [dataclasses.replace(page, ticket=None, outcome=page.outcome or "forked") for page in self.pages]
        return StoryColumn(self.model, self.numbers, pages, self.newest)


class Variants:
    """The variants, of which one is shown, with its columns, of which one is chosen. None before the first `add`."""

    def __init__(self) -> None:
        self._all: list[list[StoryColumn]] = []
        self.shown = 0
        """Which variant."""
        self.chosen = 0
        """Which of its columns: the one that copy, save, edit and the model picker are about."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def columns(self) -> list[StoryColumn]:
        """The columns of the variant that is shown."""
        return self._all[self.shown] if self._all else []

    @property
    def column(self) -> StoryColumn:
        """The column that is chosen."""
        return self.columns[min(self.chosen, len(self.columns) - 1)]

    @property
    def telling(self) -> bool:
        """Whether a story of the variant that is shown is being told."""
        return any(column.page.ticket is not None for column in self.columns)

    @property
    def can_close(self) -> bool:
        """Whether something stays where a column is closed."""
        return len(self.columns) > 1 or len(self._all) > 1

    def add(self, column: StoryColumn) -> None:
        """Put a column beside those of the variant, and choose it."""
        if not self._all:
            self._all.append([])
        self.columns.append(column)
        self.chosen = len(self.columns) - 1

    def close(self) -> None:
        """Close the chosen column; the variant, where it is its last."""
        if len(self.columns) > 1:
            self.columns.remove(self.column)
        elif len(self._all) > 1:
            del self._all[self.shown]
        self.turn_to(min(self.shown, len(self._all) - 1))

    def fork(self) -> None:
        """Show another variant that begins as this one stands; this one stays as it is."""
        self._all.insert(self.shown + 1, [column.copy() for column in self.columns])
        self.turn_to(self.shown + 1)

    def turn_to(self, variant: int) -> None:
        """Show this one."""
        self.shown = variant
        self.chosen = min(self.chosen, len(self.columns) - 1)

    def undo(self) -> bool:
        """Turn each column that is shown back by a page; whether there was any to turn."""
        there = [column for column in self.columns if len(column.pages) > 1]
        for column in there:
            column.pages.pop()
        return bool(there)

    def see_newest(self, steps: dict[str, int | None]) -> None:
        """Take the newest steps of models."""
        for columns in self._all:
            for column in columns:
                column.newest = steps.get(column.model, column.newest)


def facts(page: Page, model: str) -> str:
    """Seed, tokens and speed, as far as they are known; `model` is the one that the column is set to now."""
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


def for_shelf(page: Page, asked: StoryRequest, last: Ended, runs_root: Path) -> StoryRecord:
    """The story that ended as the shelf keeps it, named so that these very weights are found again."""
    name, runs_dir = _naming(asked.model, page.label, runs_root)
    return StoryRecord(
        model=name,
        runs_dir=runs_dir,
        prompt=page.prompt,
        text=page.told,
        sample=asked.sample,
        numbers=asked.numbers,
        tokens=last.tokens,
        seconds=last.seconds,
        finished=last.finished,
        goes_on=asked.goes_on or page.cut,
    )


def from_shelf(told: StoryRecord, model: str) -> Page:
    """A story of the shelf as a page; `model` is what names its weights here."""
    asked = StoryRequest(model, told.sample, told.goes_on, told.numbers)
    outcome = "the end" if told.finished else "from the shelf"
    before = (Part(told.prompt, told=False),)
    return Page(before, asked, told.text, told.model, tokens=told.tokens, seconds=told.seconds, outcome=outcome)


def _naming(model: str, label: str, runs_root: Path) -> tuple[str, str]:
    """What names these very weights again: the model, and where its run lies."""
    if "/" in model or model.startswith((".", "~")):
        folder = Path(model).expanduser()
        return (str(folder.absolute()) if folder.is_dir() else model), ""
    return (label, str(runs_root.absolute())) if "@" in label else (model, "")

"""The columns of the runs: what each cell says, its width, what it is sorted by, and which ones fold away first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.tracking.run_index import RunSummary
    from storyteller.tracking.run_status import Seen

Piece = tuple[str, str]
"""Text, and the name of its style."""

STATES: dict[Seen, tuple[str, str, str]] = {
    "starting": ("◌", "starting", "busy"),
    "running": ("●", "running", "good"),
    "waiting": ("◔", "waiting", "busy"),
    "stopping": ("◐", "stopping", "busy"),
    "finished": ("✓", "finished", "rest"),
    "stopped": ("■", "stopped", "dim"),
    "failed": ("✗", "failed", "bad"),
    "died": ("†", "died", "bad"),
}
"""A run's state as a glyph, a word and a style: colour alone never tells two apart."""


@dataclass(frozen=True)
class Row:
    """One run as the table shows it."""

    summary: RunSummary
    losses: tuple[float, ...] = ()
    """Training loss, evenly over the run so far."""
    age_seconds: float | None = None

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def is_living(self) -> bool:
        from storyteller.tracking.run_status import LIVING

        return self.summary.state in LIVING


@dataclass(frozen=True)
class Column:
    name: str
    title: str
    fold: int
    """The higher, the earlier it gives way; 0 stays."""
    narrow: int
    """The least room it takes, in cells."""
    wide: int
    """The most room it makes use of."""
    write: Callable[[Row, int, Cells], list[Piece]]
    key: Callable[[Row], float | str | None]
    is_right: bool = False
    gap: bool = True
    descending: bool = False
    """Whether the order begins with the greatest."""

    def cell(self, row: Row, width: int, marked: bool, cells: Cells) -> list[Piece]:
        if self.name == "mark":
            return [("▌ " if cells != "ascii" else "* ", "accent")] if marked else []
        return self.write(row, width, cells)


def _nothing(_row: Row, _width: int, _cells: Cells) -> list[Piece]:
    return []


def _unsorted(_row: Row) -> None:
    return None


def _name(row: Row, width: int, _cells: Cells) -> list[Piece]:
    return [(safe_line(row.name, width), "strong" if row.is_living else "plain")]


def _glyph(row: Row, _width: int, _cells: Cells) -> list[Piece]:
    glyph, _, style = STATES[row.summary.state]
    return [(glyph + " ", style)]


def _state(row: Row, width: int, _cells: Cells) -> list[Piece]:
    _, word, style = STATES[row.summary.state]
    return [(word[:width], style)]


def _preset(row: Row, width: int, _cells: Cells) -> list[Piece]:
    return [(safe_line(row.summary.preset or "", width), "dim")]


def _progress(row: Row, width: int, cells: Cells) -> list[Piece]:
    progress = row.summary.progress
    if progress is None:
        return []
    percent = f"{math.floor(100 * progress)} %".rjust(5)
    bar = width - 6
    if bar < 4:
        return [(percent, "plain")]
    full, rail = ("=", "-") if cells == "ascii" else ("━", "─")
    done = min(bar, round(progress * bar))
    style = "bar" if row.is_living else "rail"
    return [
        (full * done, style),
        (rail * (bar - done) if row.is_living else " " * (bar - done), "rail"),
        (" " + percent, "plain" if row.is_living else "dim"),
    ]


def _steps(row: Row, _width: int, _cells: Cells) -> list[Piece]:
    return [(f"{row.summary.step:,}", "plain")] if row.summary.step is not None else []


def _bits(row: Row, _width: int, _cells: Cells) -> list[Piece]:
    return [(f"{row.summary.eval_bpb:.4f}"[:9], "strong")] if row.summary.eval_bpb is not None else []


def _loss(row: Row, width: int, cells: Cells) -> list[Piece]:
    from storyteller.tui.widgets.sparkline import spark  # not before there are runs to draw: the first frame has none

    return [(spark(row.losses, width, cells, log=True), "spark" if row.is_living else "rest")]


def _speed(row: Row, _width: int, _cells: Cells) -> list[Piece]:
    speed = row.summary.tokens_per_second
    return [(f"{speed:,.0f}"[:9], "plain" if row.is_living else "dim")] if speed is not None else []


def _left(row: Row, width: int, _cells: Cells) -> list[Piece]:
    return [(short(row.summary.eta_seconds)[:width], "plain")] if row.summary.eta_seconds is not None else []


def _age(row: Row, width: int, _cells: Cells) -> list[Piece]:
    return [(short(row.age_seconds)[:width], "dim")] if row.age_seconds is not None else []


def short(seconds: float | None) -> str:
    """A time in at most six characters, by whole minutes from ten minutes on."""
    if seconds is None:
        return ""
    from storyteller.charts.ticks import duration

    seconds = max(0.0, round(seconds))
    return duration(seconds // 60 * 60 if 600 <= seconds < 36_000 else seconds)


COLUMNS: tuple[Column, ...] = (
    Column("mark", "", 0, 2, 2, _nothing, _unsorted, gap=False),
    Column("glyph", "", 0, 2, 2, _glyph, _unsorted, gap=False),
    Column("name", "RUN", 0, 16, 40, _name, lambda row: row.name),
    Column("state", "STATE", 2, 8, 8, _state, lambda row: list(STATES).index(row.summary.state)),
    Column("preset", "PRESET", 9, 7, 9, _preset, lambda row: row.summary.preset),
    Column("progress", "PROGRESS", 1, 11, 22, _progress, lambda row: row.summary.progress, descending=True),
    Column("steps", "STEPS", 6, 7, 9, _steps, lambda row: row.summary.step, is_right=True, descending=True),
    Column("bits", "BITS/BYTE", 1, 9, 9, _bits, lambda row: row.summary.eval_bpb, is_right=True),
    Column("loss", "LOSS", 4, 8, 30, _loss, lambda row: row.summary.train_loss),
    Column("speed", "TOKENS/S", 7, 8, 9, _speed, lambda row: row.summary.tokens_per_second, True, descending=True),
    Column("left", "LEFT", 3, 6, 6, _left, lambda row: row.summary.eta_seconds, is_right=True),
    Column("age", "AGE", 8, 6, 6, _age, lambda row: row.age_seconds, is_right=True),
)
_FOLD_FOR_NAMES = 6
"""Columns that fold as early as this give way to the whole name."""
SORTABLE = tuple(column.name for column in COLUMNS if column.title)


def fit(rows: Sequence[Row], width: int) -> list[tuple[Column, int]]:
    """The columns that `width` cells hold, and how wide each is; the least needed fold away first."""
    longest = max((len(row.name) for row in rows), default=0)
    wishes = {column.name: column.wide for column in COLUMNS} | {"name": min(40, max(12, longest))}
    shown = list(COLUMNS)
    # Names that are whole are worth more than the last columns, but not more than the first.
    for whole, keeps in (({"name": min(26, wishes["name"])}, _FOLD_FOR_NAMES), ({}, 1)):
        while _total(shown, whole) > width and (foldable := [column for column in shown if column.fold >= keeps]):
            shown.remove(max(foldable, key=lambda column: column.fold))
    widths = {column.name: column.narrow for column in shown}
    # What is left over goes to names first, so that they are whole, then to the bar and the line of the loss.
    for name in ("name", "progress", "loss", "speed", "preset", "steps"):
        if name in widths:
            spare = width - _total(shown, widths)
            widths[name] += max(0, min(spare, wishes[name] - widths[name]))
    if width < _total(shown, widths):
        widths["name"] = max(1, widths["name"] - (_total(shown, widths) - width))
    return [(column, widths[column.name]) for column in shown]


def _total(columns: Sequence[Column], widths: dict[str, int]) -> int:
    return sum(widths.get(column.name, column.narrow) + (2 if column.gap else 0) for column in columns) - 2


def ordered(rows: Sequence[Row], by: str, is_reversed: bool) -> list[Row]:
    """The rows sorted by a column; those it says nothing of come last, and equals stay as they came."""
    column = next((column for column in COLUMNS if column.name == by), COLUMNS[-1])
    known = [row for row in rows if column.key(row) is not None]
    unknown = [row for row in rows if column.key(row) is None]
    known.sort(key=column.key, reverse=column.descending != is_reversed)  # type: ignore[arg-type]
    return [*known, *unknown]

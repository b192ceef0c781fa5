"""The columns of the runs table: their cells, widths and sort keys, and which are hidden where room is short."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.tracking.run_index import RunSummary
    from storyteller.tracking.run_status import RunState

StyledText = tuple[str, str]  # text, and the name of its style

STATES: dict[RunState, tuple[str, str, str]] = {
    "starting": ("◌", "starting", "busy"),
    "running": ("●", "running", "good"),
    "waiting": ("◔", "waiting", "busy"),
    "stopping": ("◐", "stopping", "busy"),
    "finished": ("✓", "finished", "rest"),
    "stopped": ("■", "stopped", "dim"),
    "failed": ("✗", "failed", "bad"),
    "died": ("†", "died", "bad"),
}
"""A run's state as a glyph, a word and a style, so that states can be distinguished without colour."""


@dataclass(frozen=True)
class RunRow:
    """What the table shows of one run."""

    summary: RunSummary
    losses: tuple[float, ...] = ()  # training losses at even intervals over the run so far, for the sparkline
    age_seconds: float | None = None

    @property
    def name(self) -> str:
        return self.summary.name

    @property
    def is_living(self) -> bool:
        from storyteller.tracking.run_status import LIVING

        return self.summary.state in LIVING


@dataclass(frozen=True)
class RunColumn:
    name: str
    title: str
    fold: int  # columns with a higher number are hidden first where the table is too wide; 0 is never hidden
    narrow: int  # least width in cells
    wide: int  # greatest width in cells
    write: Callable[[RunRow, int, Cells], list[StyledText]]
    key: Callable[[RunRow], float | str | None]  # the value to sort by
    is_right: bool = False
    gap: bool = True
    descending: bool = False  # whether the greatest value comes first

    def cell(self, row: RunRow, width: int, marked: bool, cells: Cells) -> list[StyledText]:
        if self.name == "mark":
            return [("▌ " if cells != "ascii" else "* ", "accent")] if marked else []
        return self.write(row, width, cells)


def _name(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    return [(safe_line(row.name, width), "strong" if row.is_living else "plain")]


def _glyph(row: RunRow, _width: int, _cells: Cells) -> list[StyledText]:
    glyph, _, style = STATES[row.summary.state]
    return [(glyph + " ", style)]


def _state(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    _, word, style = STATES[row.summary.state]
    return [(word[:width], style)]


def _preset(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    return [(safe_line(row.summary.preset or "", width), "dim")]


def _progress(row: RunRow, width: int, cells: Cells) -> list[StyledText]:
    progress = row.summary.progress
    if progress is None:
        return []
    percent = f"{math.floor(100 * progress)} %".rjust(5)
    bar = width - 6
    if bar < 4:
        return [(percent, "plain")]
    done, rest = progress_bar(progress, bar, cells)
    return [
        (done, "bar" if row.is_living else "rail"),
        (rest if row.is_living else " " * len(rest), "rail"),
        (" " + percent, "plain" if row.is_living else "dim"),
    ]


def progress_bar(progress: float, columns: int, cells: Cells) -> tuple[str, str]:
    """The done and the remaining part of a bar; `progress` is a share from 0 to 1."""
    full, rail = ("=", "-") if cells == "ascii" else ("━", "─")
    done = min(columns, round(progress * columns))
    return full * done, rail * (columns - done)


def _steps(row: RunRow, _width: int, _cells: Cells) -> list[StyledText]:
    return [(f"{row.summary.step:,}", "plain")] if row.summary.step is not None else []


def _bits(row: RunRow, _width: int, _cells: Cells) -> list[StyledText]:
    return [(f"{row.summary.eval_bpb:.4f}"[:9], "strong")] if row.summary.eval_bpb is not None else []


def _loss(row: RunRow, width: int, cells: Cells) -> list[StyledText]:
    from storyteller.tui.widgets.sparkline import spark  # imported here because the app's first frame shows no runs

    return [(spark(row.losses, width, cells, log=True), "spark" if row.is_living else "rest")]


def _speed(row: RunRow, _width: int, _cells: Cells) -> list[StyledText]:
    speed = row.summary.tokens_per_second
    return [(f"{speed:,.0f}"[:9], "plain" if row.is_living else "dim")] if speed is not None else []


def _left(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    return [(short_duration(row.summary.eta_seconds)[:width], "plain")] if row.summary.eta_seconds is not None else []


def _age(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    return [(short_duration(row.age_seconds)[:width], "dim")] if row.age_seconds is not None else []


def short_duration(seconds: float | None) -> str:
    """A duration in at most six characters; from ten minutes to ten hours without seconds."""
    if seconds is None:
        return ""
    from storyteller.charts.ticks import format_duration

    seconds = max(0.0, round(seconds))
    return format_duration(seconds // 60 * 60 if 600 <= seconds < 36_000 else seconds)


COLUMNS: tuple[RunColumn, ...] = (
    RunColumn("mark", "", 0, 2, 2, lambda *_: [], lambda _: None, gap=False),
    RunColumn("glyph", "", 0, 2, 2, _glyph, lambda _: None, gap=False),
    RunColumn("name", "RUN", 0, 16, 40, _name, lambda row: row.name),
    RunColumn("state", "STATE", 2, 8, 8, _state, lambda row: list(STATES).index(row.summary.state)),
    RunColumn("preset", "PRESET", 9, 7, 9, _preset, lambda row: row.summary.preset),
    RunColumn("progress", "PROGRESS", 1, 11, 22, _progress, lambda row: row.summary.progress, descending=True),
    RunColumn("steps", "STEPS", 6, 7, 9, _steps, lambda row: row.summary.step, is_right=True, descending=True),
    RunColumn("bits", "BITS/BYTE", 1, 9, 9, _bits, lambda row: row.summary.eval_bpb, is_right=True),
    RunColumn("loss", "LOSS", 4, 8, 30, _loss, lambda row: row.summary.train_loss),
    RunColumn("speed", "TOKENS/S", 7, 8, 9, _speed, lambda row: row.summary.tokens_per_second, True, descending=True),
    RunColumn("left", "LEFT", 3, 6, 6, _left, lambda row: row.summary.eta_seconds, is_right=True),
    RunColumn("age", "AGE", 8, 6, 6, _age, lambda row: row.age_seconds, is_right=True),
)
_FOLD_FOR_NAMES = 6  # columns with at least this `fold` are hidden if names would be cut otherwise
SORTABLE = tuple(column.name for column in COLUMNS if column.title)


def fit(rows: Sequence[RunRow], width: int) -> list[tuple[RunColumn, int]]:
    """Choose the columns that fit into `width` cells, and the width of each."""
    longest = max((len(row.name) for row in rows), default=0)
    wanted = {column.name: column.wide for column in COLUMNS} | {"name": min(40, max(12, longest))}
    shown = list(COLUMNS)
    # First hide the less important columns until whole names fit, then any until shortened names fit.
    for required, least_fold in (({"name": min(26, wanted["name"])}, _FOLD_FOR_NAMES), ({}, 1)):
        while _total(shown, required) > width and (foldable := [each for each in shown if each.fold >= least_fold]):
            shown.remove(max(foldable, key=lambda column: column.fold))
    widths = {column.name: column.narrow for column in shown}
    # Spare room goes to the names first, then to the progress bar and the loss.
    for name in ("name", "progress", "loss", "speed", "preset", "steps"):
        if name in widths:
            spare = width - _total(shown, widths)
            widths[name] += max(0, min(spare, wanted[name] - widths[name]))
    if width < _total(shown, widths):
        widths["name"] = max(1, widths["name"] - (_total(shown, widths) - width))
    return [(column, widths[column.name]) for column in shown]


def _total(columns: Sequence[RunColumn], widths: dict[str, int]) -> int:
    return sum(widths.get(column.name, column.narrow) + (2 if column.gap else 0) for column in columns) - 2


def ordered(rows: Sequence[RunRow], by: str, is_reversed: bool) -> list[RunRow]:
    """Sort rows by a column; rows without a value come last. The sort is stable."""
    column = next((column for column in COLUMNS if column.name == by), COLUMNS[-1])
    known = [row for row in rows if column.key(row) is not None]
    unknown = [row for row in rows if column.key(row) is None]
    known.sort(key=column.key, reverse=column.descending != is_reversed)  # type: ignore[arg-type]
    return [*known, *unknown]

"""The columns of the runs table: their cells, widths and sort keys, and which are hidden where room is short."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.tracking.run_index import RunSummary

StyledText = tuple[str, str]  # text, and the name of its style

STATES: dict[str, tuple[str, str, str]] = {
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
STATE_COLORS = {
    "good": "$text-success",
    "busy": "$text-warning",
    "rest": "$text-secondary",
    "dim": "$text-muted",
    "bad": "$text-error",
}


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
    """A column. Its cells show the formatted value, unless `write` draws them."""

    name: str
    title: str
    fold: int  # columns with a higher number are hidden first where the table is too wide; 0 is never hidden
    narrow: int  # least width in cells
    wide: int  # greatest width in cells
    value: Callable[[RunRow], Any]  # the value to show and to sort by, or None
    format: Callable[[Any], str] | None = None  # of a number; numbers are aligned to the right
    style: str = "plain"
    ended_style: str = ""  # for a run that has ended, if it differs
    write: Callable[[RunRow, int, Cells], list[StyledText]] | None = None
    gap: bool = True
    descending: bool = False  # whether the greatest value comes first

    def cell(self, row: RunRow, width: int, marked: bool, cells: Cells) -> list[StyledText]:
        if self.name == "mark":
            return [("▌ " if cells != "ascii" else "* ", "accent")] if marked else []
        if self.write is not None:
            return self.write(row, width, cells)
        value = self.value(row)
        if value is None:
            return []
        text = str(value) if self.format is None else self.format(value)
        return [(safe_line(text, width), self.style if row.is_living else self.ended_style or self.style)]


def _glyph(row: RunRow, _width: int, _cells: Cells) -> list[StyledText]:
    glyph, _, style = STATES[row.summary.state]
    return [(glyph + " ", style)]


def _state(row: RunRow, width: int, _cells: Cells) -> list[StyledText]:
    _, word, style = STATES[row.summary.state]
    return [(word[:width], style)]


def _progress(row: RunRow, width: int, cells: Cells) -> list[StyledText]:
    progress = row.summary.progress
    if progress is None:
        return []
    percent = f"{math.floor(100 * progress)} %".rjust(5)
    bar = width - 6
    if bar < 4:
        return [(percent, "plain")]
    done, rest = progress_bar(progress, bar, cells)
    if not row.is_living:
        return [(done, "rail"), (" " * len(rest), "rail"), (" " + percent, "dim")]
    return [(done, "bar"), (rest, "rail"), (" " + percent, "plain")]


def _loss(row: RunRow, width: int, cells: Cells) -> list[StyledText]:
    from storyteller.tui.widgets.sparkline import spark  # imported here because the app's first frame shows no runs

    return [(spark(row.losses, width, cells, log=True), "spark" if row.is_living else "rest")]


def progress_bar(progress: float, columns: int, cells: Cells) -> tuple[str, str]:
    """The done and the remaining part of a bar; `progress` is a share from 0 to 1."""
    full, rail = ("=", "-") if cells == "ascii" else ("━", "─")
    done = min(columns, round(progress * columns))
    return full * done, rail * (columns - done)


def short_duration(seconds: float | None) -> str:
    """A duration in at most six characters; from ten minutes to ten hours without seconds."""
    if seconds is None:
        return ""
    from storyteller.charts.ticks import format_duration

    seconds = max(0.0, round(seconds))
    return format_duration(seconds // 60 * 60 if 600 <= seconds < 36_000 else seconds)


_WHOLE = "{:,.0f}".format
COLUMNS = (
    RunColumn("mark", "", 0, 2, 2, lambda _: None, gap=False),
    RunColumn("glyph", "", 0, 2, 2, lambda _: None, write=_glyph, gap=False),
    RunColumn("name", "RUN", 0, 16, 40, lambda row: row.name, None, "strong", "plain"),
    RunColumn("state", "STATE", 2, 8, 8, lambda row: list(STATES).index(row.summary.state), write=_state),
    RunColumn("preset", "PRESET", 9, 7, 9, lambda row: row.summary.preset, None, "dim"),
    RunColumn("progress", "PROGRESS", 1, 11, 22, lambda row: row.summary.progress, write=_progress, descending=True),
    RunColumn("steps", "STEPS", 6, 7, 9, lambda row: row.summary.step, _WHOLE, descending=True),
    RunColumn("bits", "BITS/BYTE", 1, 9, 9, lambda row: row.summary.eval_bpb, "{:.4f}".format, "strong"),
    RunColumn("loss", "LOSS", 4, 8, 30, lambda row: row.summary.train_loss, write=_loss),
    RunColumn(
        "speed", "TOKENS/S", 7, 8, 9, lambda row: row.summary.tokens_per_second, _WHOLE, "plain", "dim", descending=True
    ),
    RunColumn("left", "LEFT", 3, 6, 6, lambda row: row.summary.eta_seconds, short_duration),
    RunColumn("age", "AGE", 8, 6, 6, lambda row: row.age_seconds, short_duration, "dim"),
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
    known = [row for row in rows if column.value(row) is not None]
    unknown = [row for row in rows if column.value(row) is None]
    known.sort(key=column.value, reverse=column.descending != is_reversed)
    return [*known, *unknown]

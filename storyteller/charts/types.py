"""The types of charts: series, view and marks go in, a picture comes out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

Number = TypeVar("Number", "float", "NDArray[float64]")

Cells = Literal["braille", "blocks", "ascii"]
Unit = Literal["number", "seconds"]
Run = tuple[str, str]  # a piece of a row: its text, and its style, one of `STYLES`

PALETTE = 8
_COLORS = range(PALETTE)
STYLES = ("", "axis", "label", "cursor", "mark", "grid", *(f"line{i}" for i in _COLORS), *(f"dim{i}" for i in _COLORS))
"""`lineN` is the N-th colour of the palette, `dimN` the same colour faded; `grid` is fainter than `axis`."""
AXIS, LABEL, CURSOR, MARK, GRID, LINE, DIM = 1, 2, 3, 4, 5, 6, 6 + PALETTE

DOTS: dict[Cells, tuple[int, int]] = {"braille": (2, 4), "blocks": (2, 2), "ascii": (1, 1)}
"""Dots per cell: horizontally and vertically."""
SERIES_GLYPHS = "*+xo#@%&"
"""The character of each colour in ascii charts."""


class StyledRow(NamedTuple):
    """A row as text, and the index into `STYLES` of each of its cells."""

    text: str
    styles: bytes

    def runs(self) -> list[Run]:
        """Splits the row into runs of the same style."""
        same = re.finditer(rb"(.)\1*", self.styles, re.DOTALL)
        return [(self.text[run.start() : run.end()], STYLES[run.group()[0]]) for run in same]


@dataclass(frozen=True)
class Series:
    """A line. Values that are not finite, or not above 0 on a logarithmic axis, leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int  # index into the palette of 8
    low: Sequence[float] | None = None
    """The lower edge, per point, of a band drawn dim behind the line. Needs `high`."""
    high: Sequence[float] | None = None
    dim: bool = False  # drawn faded, behind the others


@dataclass(frozen=True)
class Marks:
    """Marks on the x axis, such as checkpoints."""

    x: Sequence[float]
    glyph: str
    name: str = ""


@dataclass(frozen=True)
class View:
    """The visible range; None fits the data."""

    x_begin: float | None = None
    x_end: float | None = None
    y_begin: float | None = None
    y_end: float | None = None
    log_y: bool = False
    cursor_x: float | None = None


@dataclass(frozen=True)
class Frame:
    """The position of the plot within a picture, in cells, and the ranges of its axes."""

    left: int
    top: int
    columns: int
    rows: int
    x_begin: float
    x_end: float
    y_begin: float
    y_end: float
    log_y: bool = False

    def x_at(self, column: float) -> float:
        """The x at the centre of a column of the picture, counted from 0 at the left."""
        if self.columns < 2:
            return self.x_begin
        share = (column - self.left) / (self.columns - 1)
        return self.x_begin * (1 - share) + self.x_end * share

    def column_of(self, x: float) -> int | None:
        """The column of the picture that contains `x`; None if it is not visible."""
        dot = dot_of(x, self.x_begin, self.x_end, self.columns)
        return None if dot is None else self.left + dot

    def row_of(self, y: float, cells: Cells) -> int | None:
        """The row of the plot that contains `y`; None if it is not visible."""
        if self.log_y and y <= 0:
            return None
        scale = math.log10 if self.log_y else float
        down = DOTS[cells][1]
        dot = dot_of(scale(y), scale(self.y_end), scale(self.y_begin), self.rows * down)
        return None if dot is None else dot // down

    def empty_row(self, on_grid: bool, cursor: int | None, cells: Cells) -> StyledRow:
        """A row of the plot with only the grid line, if it is on one, and the cursor, a column of the picture."""
        glyph, cursor_glyph = (" ", "|") if cells == "ascii" else ("\u2508", "\u2502")
        text, styles = (glyph if on_grid else " ") * self.columns, bytes([GRID if on_grid else 0]) * self.columns
        if cursor is None:
            return StyledRow(text, styles)
        at = cursor - self.left
        return StyledRow(text[:at] + cursor_glyph + text[at + 1 :], styles[:at] + bytes([CURSOR]) + styles[at + 1 :])


@dataclass(frozen=True)
class Picture:
    """A drawn chart. All rows have the requested width."""

    rows: list[list[Run]]
    frame: Frame

    def plain(self) -> str:
        """The text without styles, one line per row."""
        return "".join("".join(text for text, _ in row).rstrip() + "\n" for row in self.rows)


def dot_of(value: float, begin: float, end: float, dots: int) -> int | None:
    """The index of a value among `dots` places from `begin` to `end`; None if it is outside."""
    if dots < 1 or not math.isfinite(value):
        return None
    place = fraction(value, begin, end) * (dots - 1) + 0.5
    return math.floor(place) if 0 <= place < dots else None


def fraction(value: Number, begin: float, end: float) -> Number:
    """The position of a value, or an array of them, between `begin` (0) and `end` (1).

    All terms are halved first: the difference of two very large floats would overflow.
    """
    return (value / 2 - begin / 2) / (end / 2 - begin / 2)

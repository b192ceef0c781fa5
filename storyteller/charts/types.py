"""What a chart is made of, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Cells = Literal["braille", "blocks", "ascii"]
Unit = Literal["number", "seconds"]
Run = tuple[str, str]
"""A piece of a row: its text, and the name of its style, one of `STYLES`."""

PALETTE = 8
STYLES = (
    "",
    "axis",
    "label",
    "cursor",
    "mark",
    "grid",
    *(f"line{number}" for number in range(PALETTE)),
    *(f"dim{number}" for number in range(PALETTE)),
)
"""`lineN` is the N-th colour of the palette, `dimN` the same faded, `grid` fainter than `axis`."""
AXIS, LABEL, CURSOR, MARK, GRID, LINE, DIM = 1, 2, 3, 4, 5, 6, 6 + PALETTE

DOTS: dict[Cells, tuple[int, int]] = {"braille": (2, 4), "blocks": (2, 2), "ascii": (1, 1)}
"""Dots a cell: across, and down."""
SERIES_GLYPHS = "*+xo#@%&"
"""What each colour of the palette is drawn with in ascii."""


@dataclass(frozen=True)
class Series:
    """A line. Points that are no finite numbers, or not above 0 on a logarithmic axis, leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int
    """Index into the palette of 8."""
    low: Sequence[float] | None = None
    """The lower edge of a band that lies dim behind the line, a value a point; with `high`."""
    high: Sequence[float] | None = None
    dim: bool = False
    """Drawn faded, behind the others."""


@dataclass(frozen=True)
class Marks:
    """Places on the x axis: checkpoints, resumes."""

    x: Sequence[float]
    glyph: str
    name: str = ""


@dataclass(frozen=True)
class View:
    """What part of the plane is seen; None fits the data."""

    x_begin: float | None = None
    x_end: float | None = None
    y_begin: float | None = None
    y_end: float | None = None
    log_y: bool = False
    cursor_x: float | None = None


@dataclass(frozen=True)
class Frame:
    """Where in a picture the plot lies, in cells, and what it spans."""

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
        """The x under the middle of a cell of the picture (0 is the leftmost column of the picture)."""
        if self.columns < 2:
            return self.x_begin
        share = (column - self.left) / (self.columns - 1)
        return self.x_begin * (1 - share) + self.x_end * share

    def column_of(self, x: float) -> int | None:
        """The column of the picture in which `x` lies; None where it is out of sight."""
        dot = dot_of(x, self.x_begin, self.x_end, self.columns)
        return None if dot is None else self.left + dot


@dataclass(frozen=True)
class Picture:
    """A drawn chart: each row is as wide as was asked for, whatever it is made of."""

    rows: list[list[Run]]
    frame: Frame

    def plain(self) -> str:
        """The text alone, its rows ended by newlines."""
        return "".join("".join(text for text, _ in row).rstrip() + "\n" for row in self.rows)


def dot_of(value: float, begin: float, end: float, dots: int) -> int | None:
    """Which of `dots` places from `begin` to `end` a value falls on; None outside of them."""
    if dots < 1 or not math.isfinite(value):
        return None
    # halves, so that the distance of two huge numbers stays finite
    place = (value / 2 - begin / 2) / (end / 2 - begin / 2) * (dots - 1) + 0.5
    return math.floor(place) if 0 <= place < dots else None

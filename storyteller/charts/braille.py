"""Draws the plot: rasterizes lines and bands to dots, and packs the dots into the characters of the cells.

A braille character shows a grid of 2 x 4 dots, and its code point is U+2800 plus one bit per raised dot. So a plot of
R x C cells is a boolean array of 4R x 2C dots. Lines and bands are rasterized to vertical spans, one or more for each
column of dots: as fast as array operations are, and without gaps in steep lines. All spans are filled at once
(`_fill_spans`), the dots of each cell are packed into a number (`_pack_cells`), and the number gives the character.
A cell has one colour, that of the line with most dots in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import bool_, float64, int64, uint8, uint32
from numpy.typing import NDArray

from storyteller.charts.scales import FAR, Trace
from storyteller.charts.types import (
    CURSOR,
    DIM,
    DOTS,
    LINE,
    PALETTE,
    SERIES_GLYPHS,
    Cells,
    Frame,
    Run,
    StyledRow,
    fraction,
)

# The bit of each dot, [column][row], in the number of a cell. Braille numbers dots 1-3 down the left column and 4-6
# down the right one; the fourth row was added later, as 7 and 8 (Unicode standard, "Braille Patterns").
_BITS: dict[Cells, tuple[tuple[int, ...], ...]] = {
    "braille": ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)),
    "blocks": ((1, 2), (4, 8)),
    "ascii": ((1,),),
}
_QUADRANTS = " ▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"


def draw_plot(
    empty: Sequence[StyledRow], traces: Sequence[Trace], frame: Frame, cells: Cells, patterns: bool
) -> list[list[Run]]:
    """Draws the traces over the rows of an empty plot."""
    text = "".join(text for text, _ in empty).encode("utf-32-le")
    glyphs = np.frombuffer(text, dtype="<u4").astype(np.uint32).reshape(frame.rows, frame.columns)
    styles = np.frombuffer(b"".join(row for _, row in empty), dtype=np.uint8).copy().reshape(glyphs.shape)
    _draw_bands(traces, frame, glyphs, styles, cells)
    _draw_lines(traces, frame, glyphs, styles, cells, patterns)
    return [
        StyledRow(line.astype("<u4").tobytes().decode("utf-32-le"), row.tobytes()).runs()
        for line, row in zip(glyphs, styles, strict=True)
    ]


def _draw_bands(
    traces: Sequence[Trace], frame: Frame, glyphs: NDArray[uint32], styles: NDArray[uint8], cells: Cells
) -> None:
    """Draws the bands. A cell takes the colour of the band with most dots in it."""
    union, most, winner = np.zeros((3, *glyphs.shape), dtype=np.uint8)
    for trace in traces:
        if trace.low is None or trace.high is None or trace.series.dim:
            continue
        bits = _pack_cells(_band(trace, trace.low, trace.high, frame, cells), cells)
        count = np.bitwise_count(bits)
        wins = count > most
        winner[wins] = trace.series.color % PALETTE
        most = np.maximum(most, count)
        union |= bits
    lit = (union > 0) & (styles != CURSOR)
    glyphs[lit] = _glyphs(union, winner, cells, dim=True)[lit]
    styles[lit] = DIM + winner[lit]


def _draw_lines(
    traces: Sequence[Trace], frame: Frame, glyphs: NDArray[uint32], styles: NDArray[uint8], cells: Cells, patterns: bool
) -> None:
    """Draws the lines. A cell takes the colour of the line with most dots in it; dim lines yield to the others."""
    union, most, style, color = np.zeros((4, *glyphs.shape), dtype=np.uint8)
    column = np.arange(glyphs.shape[1]) % 2
    for number, trace in enumerate(traces):
        dots = _stroke(trace, frame, cells)
        if patterns:  # clear columns of dots, so that lines differ by their dashes
            on, off = _DASHES[trace.series.color % len(_DASHES)]
            for begin in range(on, on + off):
                dots[:, begin :: on + off] = False
        bits = _pack_cells(dots, cells)
        # A line that is not dim scores 16 more, which beats the 8 dots that a dim one can have. Where two lines tie, as
        # flat lines do that run through the same cells, their colours alternate by column, so that both can be seen.
        score = np.where(bits > 0, np.bitwise_count(bits) + (0 if trace.series.dim else 16), 0).astype(np.uint8)
        wins = (score > most) | ((score == most) & (score > 0) & (column == number % 2))
        color[wins] = trace.series.color % PALETTE
        style[wins] = (DIM if trace.series.dim else LINE) + trace.series.color % PALETTE
        most = np.maximum(most, score)
        union |= bits
    lit = union > 0
    glyphs[lit] = _glyphs(union, color, cells, dim=False)[lit]
    styles[lit] = style[lit]


_DASHES = ((1, 0), (6, 4), (2, 4), (10, 4), (4, 2), (2, 2), (12, 8), (2, 8))
"""Columns of dots that are drawn and left out, per colour."""


def _dots_of(trace: Trace, values: NDArray[float64], frame: Frame, cells: Cells) -> tuple[Any, Any, Any]:
    """The column and row of the dot of each point, and which points are finite. Points may lie outside the plot."""
    across, down = DOTS[cells]
    y_begin, y_end = frame.y_begin, frame.y_end
    if frame.log_y:
        y_begin, y_end = math.log10(y_begin), math.log10(y_end)
    with np.errstate(all="ignore"):
        # Clipped, so that a point far outside the plot stays in the range of int64; row 0 is at the top.
        u = np.clip(fraction(trace.x, frame.x_begin, frame.x_end) * (frame.columns * across - 1), -FAR, FAR)
        v = np.clip(fraction(values, y_end, y_begin) * (frame.rows * down - 1), -FAR, FAR)
        there = np.isfinite(u) & np.isfinite(v)
        column = np.floor(np.where(there, u, 0.0) + 0.5).astype(np.int64)
        row = np.floor(np.where(there, v, 0.0) + 0.5).astype(np.int64)
    return column, row, there


def _stroke(trace: Trace, frame: Frame, cells: Cells) -> NDArray[bool_]:
    """Rasterizes a line to dots [row, column].

    Flat segments (less than 45 degrees in dots) get one dot per column. Steep ones get a vertical span per column, so
    that they have at least one dot per row and no gaps.
    """
    column, row, there = _dots_of(trace, trace.y, frame, cells)
    across, down = DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    segment, at = _crossed_columns(column, there, wide)
    begin_row, end_row = row[segment], row[segment + 1]
    begin, end = column[segment], column[segment + 1]
    run, rise = end - begin, end_row - begin_row
    flat = np.abs(rise) <= np.abs(run)
    slope = rise / np.where(run == 0, 1, run)
    middle = np.floor(begin_row + (at - begin) * slope + 0.5)
    # A steep segment passes through several rows while it crosses a column, which extends half a dot to either side of
    # its centre: the span is from the row where it enters the column to the row where it leaves. The right edge is
    # excluded (1e-9), so that a row exactly on the edge belongs to one column only.
    left, right = np.minimum(begin, end), np.maximum(begin, end)
    enter = begin_row + (np.maximum(at - 0.5, left) - begin) * slope
    leave = begin_row + (np.minimum(at + (0.5 - 1e-9), right) - begin) * slope
    first = np.where(flat, middle, np.ceil(np.minimum(enter, leave)))
    last = np.where(flat, middle, np.floor(np.maximum(enter, leave)))
    vertical = run == 0
    first = np.where(vertical, np.minimum(begin_row, end_row), first).astype(np.int64)
    last = np.where(vertical, np.maximum(begin_row, end_row), last).astype(np.int64)
    # Each visible point also gets a dot of its own, or points between two gaps would not appear at all.
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    return _fill_spans(wide, high, (at, first, last), (column[alone], row[alone], row[alone]))


def _band(trace: Trace, low: NDArray[float64], high: NDArray[float64], frame: Frame, cells: Cells) -> NDArray[bool_]:
    """Rasterizes the area between `low` and `high` to dots [row, column], interpolating both edges between points."""
    across, down = DOTS[cells]
    wide, tall = frame.columns * across, frame.rows * down
    column, lower, there = _dots_of(trace, low, frame, cells)
    _, upper, also = _dots_of(trace, high, frame, cells)
    there &= also
    segment, at = _crossed_columns(column, there, wide)
    run = column[segment + 1] - column[segment]
    share = (at - column[segment]) / np.where(run == 0, 1, run)
    top = np.floor(upper[segment] + (upper[segment + 1] - upper[segment]) * share + 0.5).astype(np.int64)
    bottom = np.floor(lower[segment] + (lower[segment + 1] - lower[segment]) * share + 0.5).astype(np.int64)
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    points = column[alone], np.minimum(upper, lower)[alone], np.maximum(upper, lower)[alone]
    return _fill_spans(wide, tall, (at, np.minimum(top, bottom), np.maximum(top, bottom)), points)


def _crossed_columns(column: NDArray[int64], there: NDArray[bool_], wide: int) -> tuple[NDArray[int64], NDArray[int64]]:
    """Every visible column of dots that a segment between two adjacent points crosses: (segment, column) pairs."""
    segments = np.flatnonzero(there[:-1] & there[1:])
    one, other = column[segments], column[segments + 1]
    first, last = np.maximum(np.minimum(one, other), 0), np.minimum(np.maximum(one, other), wide - 1)
    count = np.maximum(last - first + 1, 0)
    # Without a loop: repeat each segment once per column, and number its repetitions from its first column on.
    which = np.repeat(np.arange(len(segments)), count)
    at = first[which] + np.arange(len(which)) - (np.cumsum(count) - count)[which]
    return segments[which], at


def _fill_spans(wide: int, high: int, *spans: tuple[NDArray[int64], ...]) -> NDArray[bool_]:
    """Returns dots [row, column], set in each span: its column, first and last row. Spans are clipped to the plot."""
    column, first, last = map(np.concatenate, zip(*spans, strict=True))
    first, last = np.maximum(first, 0), np.minimum(last, high - 1)
    visible = first <= last
    column = column[visible]
    # Count +1 where a span begins and -1 below its end: the running sum down a column is the number of spans that cover
    # a dot. This costs the same for any number of overlapping spans.
    edges = np.bincount(first[visible] * wide + column, minlength=(high + 1) * wide)
    edges -= np.bincount((last[visible] + 1) * wide + column, minlength=(high + 1) * wide)
    dots: NDArray[bool_] = edges.astype(np.int32).reshape(high + 1, wide).cumsum(axis=0, dtype=np.int32)[:high] > 0
    return dots


def _pack_cells(dots: NDArray[bool_], cells: Cells) -> NDArray[uint8]:
    """Packs the dots of each cell into a number, one bit per dot (`_BITS`); shape [row, column] of cells."""
    across, down = DOTS[cells]
    bits = np.zeros((dots.shape[0] // down, dots.shape[1] // across), dtype=np.uint8)
    for right, column in enumerate(_BITS[cells]):
        for below, bit in enumerate(column):
            bits |= dots[below::down, right::across].view(np.uint8) * np.uint8(bit)
    return bits


def _glyphs(bits: NDArray[uint8], color: NDArray[uint8], cells: Cells, *, dim: bool) -> NDArray[uint32]:
    """The character of each cell, as a code point."""
    if cells == "braille":
        return bits.astype(np.uint32) + 0x2800
    if cells == "blocks":
        return np.array([ord(glyph) for glyph in _QUADRANTS], dtype=np.uint32)[bits]
    if dim:
        return np.full(bits.shape, ord("."), dtype=np.uint32)
    return np.array([ord(glyph) for glyph in SERIES_GLYPHS], dtype=np.uint32)[color]

"""The plot itself: the dots of lines and bands, and the glyph and colour of each cell."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storyteller.charts.scales import FAR, Trace
from storyteller.charts.types import (
    CURSOR,
    DIM,
    DOTS,
    GRID,
    LINE,
    PALETTE,
    SERIES_GLYPHS,
    STYLES,
    Cells,
    Frame,
    Run,
    dot_of,
)

if TYPE_CHECKING:
    from numpy import bool_, float64, int64, uint8, uint32
    from numpy.typing import NDArray

# The bit of the dot at [across][down] in the number that picks the glyph.
_BITS: dict[Cells, tuple[tuple[int, ...], ...]] = {
    "braille": ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)),
    "blocks": ((1, 2), (4, 8)),
    "ascii": ((1,),),
}
_QUADRANTS = " ▘▖▌▝▀▞▛▗▚▄▙▐▜▟█"


def row_of(value: float, frame: Frame, cells: Cells) -> int | None:
    """The row of the plot in which a value of y lies."""
    if frame.log_y and value <= 0:
        return None
    down = DOTS[cells][1]
    y_begin, y_end = frame.y_begin, frame.y_end
    if frame.log_y:
        value, y_begin, y_end = math.log10(value), math.log10(y_begin), math.log10(y_end)
    dot = dot_of(value, y_end, y_begin, frame.rows * down)
    return None if dot is None else dot // down


def draw_plot(
    traces: Sequence[Trace], frame: Frame, grid: set[int], cursor: int | None, cells: Cells, patterns: bool
) -> list[list[Run]]:
    """The rows of the plot."""
    if frame.columns < 1 or frame.rows < 1:
        return [[] for _ in range(frame.rows)]
    bare = [_bare_row(frame, row in grid, cursor, cells) for row in range(frame.rows)]
    if not traces:
        return [styled_runs(text, styles) for text, styles in bare]
    import numpy as np

    text = "".join(text for text, _ in bare).encode("utf-32-le")
    glyphs = np.frombuffer(text, dtype="<u4").astype(np.uint32).reshape(frame.rows, frame.columns)
    styles = np.frombuffer(b"".join(row for _, row in bare), dtype=np.uint8).copy().reshape(glyphs.shape)
    _put_bands(traces, frame, glyphs, styles, cells)
    _put_lines(traces, frame, glyphs, styles, cells, patterns)
    return [
        styled_runs(line.astype("<u4").tobytes().decode("utf-32-le"), row.tobytes())
        for line, row in zip(glyphs, styles, strict=True)
    ]


def _bare_row(frame: Frame, on_grid: bool, cursor: int | None, cells: Cells) -> tuple[str, bytes]:
    """A row of the plot without its lines: grid and cursor alone."""
    text = ("\u2508" if cells != "ascii" else " ") * frame.columns if on_grid else " " * frame.columns
    styles = bytes([GRID if on_grid else 0]) * frame.columns
    if cursor is not None:
        at = cursor - frame.left
        text = text[:at] + ("\u2502" if cells != "ascii" else "|") + text[at + 1 :]
        styles = styles[:at] + bytes([CURSOR]) + styles[at + 1 :]
    return text, styles


def _put_bands(
    traces: Sequence[Trace], frame: Frame, glyphs: NDArray[uint32], styles: NDArray[uint8], cells: Cells
) -> None:
    import numpy as np

    union = np.zeros(glyphs.shape, dtype=np.uint8)
    most = np.zeros(glyphs.shape, dtype=np.uint8)
    winner = np.zeros(glyphs.shape, dtype=np.uint8)
    for trace in traces:
        if trace.low is None or trace.high is None or trace.series.dim:
            continue
        bits = _bits(_band(trace, frame, cells), cells)
        count = _popcount(bits)
        wins = count > most
        winner[wins] = trace.series.color % PALETTE
        most = np.maximum(most, count)
        union |= bits
    lit = (union > 0) & (styles != CURSOR)
    glyphs[lit] = _glyphs(union, winner, cells, dim=True)[lit]
    styles[lit] = DIM + winner[lit]


def _put_lines(
    traces: Sequence[Trace],
    frame: Frame,
    glyphs: NDArray[uint32],
    styles: NDArray[uint8],
    cells: Cells,
    patterns: bool,
) -> None:
    """Every dot of every line; a cell is of the colour of the line that has most dots in it, faded lines last.

    Lines that share their cells evenly, as two flat ones do that run close to each other, take turns.
    """
    import numpy as np

    union = np.zeros(glyphs.shape, dtype=np.uint8)
    most = np.zeros(glyphs.shape, dtype=np.uint8)
    style = np.zeros(glyphs.shape, dtype=np.uint8)
    color = np.zeros(glyphs.shape, dtype=np.uint8)
    column = np.arange(glyphs.shape[1]) % 2
    for number, trace in enumerate(traces):
        dots = _stroke(trace, frame, cells)
        if patterns:
            _apply_pattern(dots, trace.series.color)
        bits = _bits(dots, cells)
        score = np.where(bits > 0, _popcount(bits) + (0 if trace.series.dim else 16), 0).astype(np.uint8)
        wins = (score > most) | ((score == most) & (score > 0) & (column == number % 2))
        color[wins] = trace.series.color % PALETTE
        style[wins] = (DIM if trace.series.dim else LINE) + trace.series.color % PALETTE
        most = np.maximum(most, score)
        union |= bits
    lit = union > 0
    glyphs[lit] = _glyphs(union, color, cells, dim=False)[lit]
    styles[lit] = style[lit]


def _apply_pattern(dots: NDArray[bool_], color: int) -> None:
    """Leave columns of dots out, each line by a rhythm of its own."""
    on, off = _RHYTHMS[color % len(_RHYTHMS)]
    for column in range(on, on + off):
        dots[:, column :: on + off] = False


_RHYTHMS = ((1, 0), (6, 4), (2, 4), (10, 4), (4, 2), (2, 2), (12, 8), (2, 8))
"""Columns of dots lit and left out, a colour each."""


def _places(trace: Trace, values: NDArray[float64], frame: Frame, cells: Cells) -> tuple[Any, Any, Any]:
    """The dot of each point as whole numbers (column, row), and which points there are."""
    import numpy as np

    across, down = DOTS[cells]
    y_begin, y_end = frame.y_begin, frame.y_end
    if frame.log_y:
        y_begin, y_end = math.log10(y_begin), math.log10(y_end)
    with np.errstate(all="ignore"):
        share_x = (trace.x / 2 - frame.x_begin / 2) / (frame.x_end / 2 - frame.x_begin / 2)
        share_y = (values / 2 - y_end / 2) / (y_begin / 2 - y_end / 2)
        u = np.clip(share_x * (frame.columns * across - 1), -FAR, FAR)
        v = np.clip(share_y * (frame.rows * down - 1), -FAR, FAR)
        there = np.isfinite(u) & np.isfinite(v)
        column = np.floor(np.where(there, u, 0.0) + 0.5).astype(np.int64)
        row = np.floor(np.where(there, v, 0.0) + 0.5).astype(np.int64)
    return column, row, there


def _stroke(trace: Trace, frame: Frame, cells: Cells) -> NDArray[bool_]:
    """The dots of a line: its points, and what joins them; one dot a column where it is flat, one a row where steep."""
    import numpy as np

    column, row, there = _places(trace, trace.y, frame, cells)
    across, down = DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    which, at = _crossed(column, there, wide)
    begin_row, end_row = row[which], row[which + 1]
    begin, end = column[which], column[which + 1]
    reach, rise = end - begin, end_row - begin_row
    flat = np.abs(rise) <= np.abs(reach)
    slope = rise / np.where(reach == 0, 1, reach)
    middle = np.floor(begin_row + (at - begin) * slope + 0.5)
    # steep: the rows whose place on the line falls into this column, an edge belonging to the column after it
    reach_low, reach_high = np.minimum(begin, end), np.maximum(begin, end)
    enter = begin_row + (np.maximum(at - 0.5, reach_low) - begin) * slope
    leave = begin_row + (np.minimum(at + (0.5 - 1e-9), reach_high) - begin) * slope
    first = np.where(flat, middle, np.ceil(np.minimum(enter, leave)))
    last = np.where(flat, middle, np.floor(np.maximum(enter, leave)))
    upright = reach == 0
    first = np.where(upright, np.minimum(begin_row, end_row), first).astype(np.int64)
    last = np.where(upright, np.maximum(begin_row, end_row), last).astype(np.int64)
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    return _filled_spans(
        np.concatenate([at, column[alone]]),
        np.concatenate([first, row[alone]]),
        np.concatenate([last, row[alone]]),
        wide,
        high,
    )


def _band(trace: Trace, frame: Frame, cells: Cells) -> NDArray[bool_]:
    """The dots between low and high, filled from point to point."""
    import numpy as np

    assert trace.low is not None  # noqa: S101
    assert trace.high is not None  # noqa: S101
    across, down = DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    column, lower, there = _places(trace, trace.low, frame, cells)
    _, upper, also = _places(trace, trace.high, frame, cells)
    there &= also
    which, at = _crossed(column, there, wide)
    reach = column[which + 1] - column[which]
    share = (at - column[which]) / np.where(reach == 0, 1, reach)
    top = np.floor(upper[which] + (upper[which + 1] - upper[which]) * share + 0.5).astype(np.int64)
    bottom = np.floor(lower[which] + (lower[which + 1] - lower[which]) * share + 0.5).astype(np.int64)
    alone = np.flatnonzero(there & (column >= 0) & (column < wide))
    tops, bottoms = np.concatenate([top, upper[alone]]), np.concatenate([bottom, lower[alone]])
    return _filled_spans(
        np.concatenate([at, column[alone]]), np.minimum(tops, bottoms), np.maximum(tops, bottoms), wide, high
    )


def _crossed(column: NDArray[int64], there: NDArray[bool_], wide: int) -> tuple[NDArray[int64], NDArray[int64]]:
    """Every column of dots in sight that a join between neighbouring points crosses: the join's number, the column."""
    import numpy as np

    joins = np.flatnonzero(there[:-1] & there[1:])
    one, other = column[joins], column[joins + 1]
    first, last = np.maximum(np.minimum(one, other), 0), np.minimum(np.maximum(one, other), wide - 1)
    count = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(joins)), count)
    at = first[which] + np.arange(len(which)) - (np.cumsum(count) - count)[which]
    return joins[which], at


def _filled_spans(
    column: NDArray[int64], first: NDArray[int64], last: NDArray[int64], wide: int, high: int
) -> NDArray[bool_]:
    """Dots [row, column] of which each span, from its first row to its last, is lit; what is out of sight is cut."""
    import numpy as np

    first, last = np.maximum(first, 0), np.minimum(last, high - 1)
    seen = first <= last
    column = column[seen]
    # where spans begin less where they end, summed up downwards: above zero inside any of them
    edges = np.bincount(first[seen] * wide + column, minlength=(high + 1) * wide)
    edges -= np.bincount((last[seen] + 1) * wide + column, minlength=(high + 1) * wide)
    dots: NDArray[bool_] = edges.astype(np.int32).reshape(high + 1, wide).cumsum(axis=0, dtype=np.int32)[:high] > 0
    return dots


def _bits(dots: NDArray[bool_], cells: Cells) -> NDArray[uint8]:
    """[row, column] of cells: the number that picks the glyph."""
    import numpy as np

    across, down = DOTS[cells]
    bits = np.zeros((dots.shape[0] // down, dots.shape[1] // across), dtype=np.uint8)
    for right, column in enumerate(_BITS[cells]):
        for below, bit in enumerate(column):
            bits |= dots[below::down, right::across].view(np.uint8) * np.uint8(bit)
    return bits


def _popcount(bits: NDArray[uint8]) -> NDArray[uint8]:
    import numpy as np

    return np.bitwise_count(bits)


def _glyphs(bits: NDArray[uint8], color: NDArray[uint8], cells: Cells, *, dim: bool) -> NDArray[uint32]:
    """The character of each cell, as its code point."""
    import numpy as np

    if cells == "braille":
        return bits.astype(np.uint32) + 0x2800
    if cells == "blocks":
        return np.array([ord(glyph) for glyph in _QUADRANTS], dtype=np.uint32)[bits]
    if dim:
        return np.full(bits.shape, ord("."), dtype=np.uint32)
    return np.array([ord(glyph) for glyph in SERIES_GLYPHS], dtype=np.uint32)[color]


def styled_runs(text: str, styles: bytes) -> list[Run]:
    """A row as pieces of one style each."""
    return [(text[run.start() : run.end()], STYLES[run.group()[0]]) for run in _SAME.finditer(styles)]


_SAME = re.compile(rb"(.)\1*", re.DOTALL)

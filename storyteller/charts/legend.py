"""Draws what surrounds the plot: the legend, the y labels and the x axis."""

from __future__ import annotations

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

from storyteller.charts.scales import number
from storyteller.charts.ticks import format_number, format_x, ticks
from storyteller.charts.types import (
    AXIS,
    CURSOR,
    LABEL,
    MARK,
    PALETTE,
    SERIES_GLYPHS,
    Cells,
    Frame,
    Marks,
    Run,
    Series,
    StyledRow,
    Unit,
)
from storyteller.text import safe_line


def add_y_labels(plot: list[list[Run]], labels: Sequence[tuple[int, str]], gutter: int) -> list[list[Run]]:
    if not gutter:
        return plot
    by_row = dict(reversed(labels))  # of two labels in one row, the first wins
    return [
        [(by_row.get(row, "").rjust(gutter - 1) + " ", "label" if row in by_row else ""), *runs]
        for row, runs in enumerate(plot)
    ]


def draw_x_axis(
    frame: Frame, cursor_x: float | None, marks: Sequence[Marks], x_name: str, x_unit: Unit, cells: Cells
) -> list[list[Run]]:
    """Returns two rows: the axis with ticks and marks, and the labels.

    Labels are placed in order of priority (cursor, name of the axis, ticks) and left out where they would overlap.
    """
    width = frame.left + frame.columns
    ascii_only = cells == "ascii"
    line = bytearray([0] * frame.left + [AXIS] * frame.columns)
    text = list(" " * frame.left + ("-" if ascii_only else "\u2500") * frame.columns)
    labels, label_styles = [" "] * width, bytearray(width)
    taken = [False] * (width + 1)

    def put(words: str, start: int, style: int) -> None:
        end = start + len(words)
        if start < 0 or end > width or any(taken[max(0, start - 1) : end + 1]):
            return
        labels[start:end] = list(words)
        label_styles[start:end] = bytes([style]) * len(words)
        taken[start:end] = [True] * len(words)

    cursor = frame.column_of(cursor_x) if cursor_x is not None else None
    if cursor is not None and cursor_x is not None:
        words = f" {format_x(cursor_x, x_unit)} "
        put(words, min(max(cursor - len(words) // 2, 0), max(0, width - len(words))), CURSOR)
    name = fit(x_name, max(0, frame.columns // 3), cells)
    put(name, width - len(name), LABEL)
    for value, label in ticks(frame.x_begin, frame.x_end, max(2, min(frame.columns // 12, 10)), unit=x_unit):
        column = frame.column_of(value)
        if column is None:
            continue
        text[column] = "+" if ascii_only else "\u252c"
        put(label, min(max(column - (len(label) - 1) // 2, 0), max(0, width - len(label))), LABEL)
    for kind, each in enumerate(marks):
        glyph = fit(each.glyph[:1], 1, "braille") or "^"
        if ascii_only and not glyph.isascii():
            glyph = "^!~v"[kind % 4]
        for x in each.x:
            column = frame.column_of(number(x))
            if column is not None:
                text[column], line[column] = glyph, MARK
    if cursor is not None:
        text[cursor], line[cursor] = ("|" if ascii_only else "\u2534"), CURSOR
    return [StyledRow("".join(text), bytes(line)).runs(), StyledRow("".join(labels), bytes(label_styles)).runs()]


def value_at(series: Series, x: float, tolerance: float = 0.0) -> float | None:
    """The y of the point nearest to `x`; None if `x` is more than `tolerance` outside `series.x`, which must ascend."""
    length = min(len(series.x), len(series.y))
    if not length or not math.isfinite(x):
        return None
    try:
        if not series.x[0] - tolerance <= x <= series.x[length - 1] + tolerance:
            return None
        after = bisect_left(series.x, x, 0, length)
        near = [at for at in (after - 1, after) if 0 <= at < length]
        found = number(series.y[min(near, key=lambda at: abs(series.x[at] - x))])
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def last_value(series: Series) -> float | None:
    """The last finite y."""
    shared = range(min(len(series.x), len(series.y)) - 1, -1, -1)
    return next((value for at in shared if math.isfinite(value := number(series.y[at]))), None)


def swatch(color: int, cells: Cells = "braille", patterns: bool = False) -> str:
    """Two cells that show the look of a line in a legend."""
    if cells == "ascii":
        return SERIES_GLYPHS[color % PALETTE] * 2
    return _SWATCHES[color % PALETTE] if patterns else _SWATCHES[0]


_SWATCHES = ("━━", "╸╸", "··", "━╸", "┅┅", "┉┉", "━ ", "· ")


def draw_legend(
    series: Sequence[Series],
    cursor_x: float | None,
    x_begin: float,
    x_end: float,
    columns: int,
    most_rows: int,
    y_name: str,
    cells: Cells,
    patterns: bool,
) -> list[list[Run]]:
    """The legend: the name of the y axis, and for each line its swatch, name and value (at the cursor, or the last)."""
    tolerance = (x_end / 2 - x_begin / 2) / max(1, columns)
    title = fit(y_name, columns, cells)
    keys: list[tuple[str, str, str, str]] = []
    for each in series:
        value = last_value(each) if cursor_x is None else value_at(each, cursor_x, tolerance)
        shown = ("-" if cells == "ascii" else "\u2014") if value is None else format_number(value)
        style = f"{'dim' if each.dim else 'line'}{each.color % PALETTE}"
        keys.append((swatch(each.color, cells, patterns), fit(each.name, 60, cells), shown, style))
    # If it does not fit, shorten the names first (to 11 characters), then drop the title, then drop the names.
    tries = [(title, limit) for limit in (60, 40, 32, 28, 24, 20, 17, 14, 11)]
    tries += [("", limit) for limit in (20, 17, 14, 11)] + [(title, limit) for limit in (9, 7, 5, 0)] + [("", 0)]
    for shown_title, limit in tries:
        rows = _layout(shown_title, keys, columns, limit, most_rows, cells)
        if rows is not None:
            return rows
    return [_padded([(title[:columns], "label")], columns)]


def _layout(
    title: str, keys: Sequence[tuple[str, str, str, str]], columns: int, limit: int, most_rows: int, cells: Cells
) -> list[list[Run]] | None:
    """Lays out the legend with names of at most `limit` characters; None if it does not fit."""
    rows: list[list[Run]] = [[(title, "label")] if title else []]
    used = len(title)
    for mark, name, shown, style in keys:
        name = fit(name, limit, cells) if name != title or len(keys) > 1 else ""
        pieces: list[Run] = [(mark, style), (f" {name}" if name else "", "label"), (f" {shown}", style)]
        length = sum(len(text) for text, _ in pieces)
        gap = 3 if rows[-1] else 0
        if used + gap + length > columns:
            rows.append([])
            used, gap = 0, 0
        if length > columns or len(rows) > most_rows:
            return None
        rows[-1] += [(" " * gap, ""), *pieces]
        used += gap + length
    return [_padded(row, columns) for row in rows]


def center(text: str, columns: int, cells: Cells) -> list[Run]:
    """A row of the plot with centred text."""
    words = fit(text, columns, cells)
    before = (columns - len(words)) // 2
    return _padded([(" " * before, ""), (words, "label")], columns)


def _padded(row: list[Run], columns: int) -> list[Run]:
    left = columns - sum(len(text) for text, _ in row)
    return [(text, style) for text, style in [*row, (" " * left, "")] if text]


def fit(text: str, limit: int, cells: Cells) -> str:
    """Makes text safe and cuts it to `limit` cells. Wide characters become a box: each takes exactly one cell."""
    line = safe_line(text)
    if not line.isascii():
        line = "".join(_narrow(character) for character in line)
        if cells == "ascii":
            line = line.encode("ascii", "replace").decode("ascii")
    if len(line) <= limit:
        return line
    return line[: max(0, limit - 1)] + ("~" if cells == "ascii" else "\u2026") if limit > 0 else ""


def _narrow(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return ""
    return "\u25a1" if unicodedata.east_asian_width(character) in "WF" else character

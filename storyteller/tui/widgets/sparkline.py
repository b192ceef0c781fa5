"""A line in one row of cells: how a loss went, beside its run. No numpy: the list of runs is the app's first frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from storyteller.charts.types import Cells

_BARS = "▁▂▃▄▅▆▇█"
_STROKES = "_.-'"
_LEVELS = {"braille": 4, "blocks": len(_BARS), "ascii": len(_STROKES)}
_BRAILLE = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""The bits of a cell's dots, column by column, from the bottom."""


def spark(values: Sequence[float | None], columns: int, cells: Cells = "braille", *, log: bool = False) -> str:
    """`values` from the first to the last as a picture of exactly `columns` cells, the lowest at the bottom.

    What is no finite number (with `log`: not above 0) is left out. Nothing to show is shown as spaces; values that are
    all the same, as a line in the middle.
    """
    places = max(0, columns) * (2 if cells == "braille" else 1)
    means = _means([_height(value, log) for value in values], places)
    there = [mean for mean in means if mean is not None]
    if not there:
        return " " * max(0, columns)
    low, high = min(there), max(there)
    steps = _LEVELS[cells] - 1
    span = high / 2 - low / 2  # halves, so that the distance of two huge numbers stays finite
    levels = [
        None if mean is None else math.floor((mean / 2 - low / 2) / span * steps + 0.5) if span > 0 else steps // 2
        for mean in means
    ]
    if cells == "braille":
        return _braille(levels)
    glyphs = _BARS if cells == "blocks" else _STROKES
    return "".join(" " if level is None else glyphs[level] for level in levels)


def _height(value: float | None, log: bool) -> float | None:
    try:
        if value is None or not math.isfinite(value) or (log and value <= 0):
            return None
        return math.log(value) if log else float(value)
    except (TypeError, OverflowError):
        return None


def _means(heights: Sequence[float | None], places: int) -> list[float | None]:
    """One height a place: the mean of those that fall on it; fewer heights than places are stretched over them."""
    count = len(heights)
    if not count or not places:
        return [None] * places
    means: list[float | None] = []
    for place in range(places):
        begin = place * count // places
        here = [
            height for height in heights[begin : max(begin + 1, (place + 1) * count // places)] if height is not None
        ]
        # each divided first: the sum of huge numbers would not be finite
        means.append(sum(height / len(here) for height in here) if here else None)
    return means


def _braille(levels: list[int | None]) -> str:
    """One dot a place, and those between it and the next where the line is steep."""
    bits = [0] * (len(levels) // 2)
    for place, level in enumerate(levels):
        if level is not None:
            bits[place // 2] |= _BRAILLE[place % 2][level]
    for place, (here, following) in enumerate(pairwise(levels)):
        if here is not None and following is not None:
            for level in range(min(here, following) + 1, max(here, following)):
                bits[(place + 1) // 2] |= _BRAILLE[(place + 1) % 2][level]
    return "".join(chr(0x2800 + bit) if bit else " " for bit in bits)

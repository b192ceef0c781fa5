"""A line chart in one row of character cells. Without numpy, whose import would delay the app's first frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from storyteller.charts.types import Cells

_BARS = "▁▂▃▄▅▆▇█"
_STROKES = "_.-'"
_LEVELS = {"braille": 4, "blocks": len(_BARS), "ascii": len(_STROKES)}
_BRAILLE = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))
"""The bit of each dot in a braille cell, column by column, from the bottom."""


def spark(values: Sequence[float | None], columns: int, cells: Cells = "braille", *, log: bool = False) -> str:
    """Draw `values` as a line of exactly `columns` characters, scaled to their minimum and maximum.

    Values that are not finite (with `log`, not positive) are skipped. Without any value the line is blank; equal values
    give a line at half height.
    """
    places = max(0, columns) * (2 if cells == "braille" else 1)
    means = _means([_height(value, log) for value in values], places)
    known = [mean for mean in means if mean is not None]
    if not known:
        return " " * max(0, columns)
    low, high = min(known), max(known)
    steps = _LEVELS[cells] - 1
    span = high / 2 - low / 2  # halved first: the difference of two huge numbers would overflow
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
    """Average the heights into `places` buckets; None for an empty one. Fewer heights than places are repeated."""
    count = len(heights)
    if not count or not places:
        return [None] * places
    means: list[float | None] = []
    for place in range(places):
        begin = place * count // places
        bucket = heights[begin : max(begin + 1, (place + 1) * count // places)]
        known = [height for height in bucket if height is not None]
        # Each height is divided before the sum, which could overflow otherwise.
        means.append(sum(height / len(known) for height in known) if known else None)
    return means


def _braille(levels: list[int | None]) -> str:
    """Set one dot per place, and on steep stretches the dots between it and the next one."""
    bits = [0] * (len(levels) // 2)
    for place, level in enumerate(levels):
        if level is not None:
            bits[place // 2] |= _BRAILLE[place % 2][level]
    for place, (level, following) in enumerate(pairwise(levels)):
        if level is not None and following is not None:
            for between in range(min(level, following) + 1, max(level, following)):
                bits[(place + 1) // 2] |= _BRAILLE[(place + 1) % 2][between]
    return "".join(chr(0x2800 + bit) if bit else " " for bit in bits)

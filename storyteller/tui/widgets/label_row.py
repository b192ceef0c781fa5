"""Where labels stand that are shown side by side on one row."""

from __future__ import annotations

from collections.abc import Iterable


def positions(widths: Iterable[int], gap: int, begin: int = 0) -> list[tuple[int, int]]:
    """For each label the column it begins at and the one after its end, with `gap` columns between labels."""
    places = []
    for width in widths:
        places.append((begin, begin + width))
        begin += width + gap
    return places

"""Numbers, spans of time and tables as the commands print them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from storyteller.text import safe_line


def out(line: str = "") -> None:
    """One line on standard output, made safe."""
    print(safe_line(line), flush=True)


def out_json(value: Any) -> None:
    """A JSON value on standard output; control characters are escaped, so it is safe as it stands."""
    print(json.dumps(value, indent=2, allow_nan=False), flush=True)


def note(line: str) -> None:
    """One line on standard error, made safe: for people, not for pipes."""
    print(safe_line(line), file=sys.stderr, flush=True)


def span(seconds: float | None) -> str:
    """`1h02m`, `3m20s`, `12s`; `-` for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def number(value: float | None, form: str = ",.0f") -> str:
    """`value` in the given form; `-` for None."""
    return "-" if value is None else format(value, form)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Lines of aligned columns: the first `left` to the left, the rest to the right."""
    cells = [[safe_line(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def writes(character: str) -> bool:
    """Whether standard output can be written this character."""
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

"""Plain-text output of the commands: lines, JSON, numbers, durations and tables."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from storyteller.text import safe_line


def out(line: str = "") -> None:
    """Prints a line on standard output, made safe."""
    print(safe_line(line), flush=True)


def out_json(value: Any) -> None:
    """Prints a JSON value on standard output. JSON escapes control characters, so it needs no `text.safe`."""
    print(json.dumps(value, indent=2, allow_nan=False), flush=True)


def note(line: str) -> None:
    """Prints a line for people on standard error, made safe."""
    print(safe_line(line), file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """Prints a warning or an error on standard error, as `storyteller: LINE`; errors of writing it are ignored."""
    with contextlib.suppress(OSError):
        note(f"storyteller: {line}")


def span(seconds: float | None) -> str:
    """Formats a duration: `1h02m`, `3m20s`, `12s`; `-` for None."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole % 60:02d}s" if minutes else f"{whole}s"


def number(value: float | None, form: str = ",.0f") -> str:
    """Formats `value` by a format specification; `-` for None."""
    return "-" if value is None else format(value, form)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Returns lines of aligned columns; the first `left` columns are left-aligned, the others right-aligned.

    An empty `head` is left out.
    """
    cells = [[safe_line(cell) for cell in row] for row in (head, *rows) if row]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust if i < left else str.rjust for i in range(len(widths))]
    return [
        "  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)).rstrip()
        for row in cells
    ]


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> None:
    """Prints a table on standard output."""
    for line in table(head, rows, left):
        out(line)


def has_styles() -> bool:
    """True where standard output is a terminal that shows colours and bold text, and the user wants them."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def writes(character: str) -> bool:
    """True where the encoding of standard output has this character."""
    try:
        character.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

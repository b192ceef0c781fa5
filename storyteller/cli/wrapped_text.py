"""Wraps finished text between words into lines that fit a terminal, and lays texts out side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from storyteller.cli.story_output import cells
from storyteller.text import safe, safe_line

Part = tuple[str, bool]
"""A piece of text and a mark that belongs to it."""

_GAP = "   "
_MIN_COLUMN_CELLS = 28
"""Texts are placed side by side only in columns of at least this width."""


def wrap_text(text: str, width: int) -> list[str]:
    """Makes a text safe to show and wraps it. White space between words is collapsed; line breaks are kept."""
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return ["".join(piece for piece, _ in line) for line in wrap_parts([("\n".join(lines), False)], width)]


def side_by_side(titles: Sequence[str], texts: Sequence[str], columns: int) -> list[str]:
    """Lays texts out in columns below their titles, or one below the other if the columns would be too narrow.

    The lines are safe to show.
    """
    width = (columns - len(_GAP) * (len(texts) - 1)) // len(texts)
    if width < _MIN_COLUMN_CELLS or len(texts) < 2:
        blocks = [
            [safe_line(title), *("  " + line for line in wrap_text(text, columns - 2)), ""]
            for title, text in zip(titles, texts, strict=True)
        ]
        return [line for block in blocks for line in block][:-1]
    blocks = [
        [line for part in (title, "-" * min(cells(safe_line(title)), width), text) for line in wrap_text(part, width)]
        for title, text in zip(titles, texts, strict=True)
    ]
    return [
        _GAP.join(line + " " * (width - cells(line)) for line in lines).rstrip()
        for lines in itertools.zip_longest(*blocks, fillvalue="")
    ]


def wrap_parts(parts: Sequence[Part], width: int) -> Iterator[list[Part]]:
    """Makes pieces of text safe to show and wraps them into lines of at most `width` cells.

    A word longer than a line is split.
    """
    line: list[Part] = []
    column = 0
    for text, mark in _words(parts):
        if text == "\n":
            yield line
            line, column = [], 0
            continue
        word = text if column else text.lstrip(" ")
        if column and column + cells(word.rstrip(" ")) > width and word.strip(" "):
            yield line
            line, column, word = [], 0, text.lstrip(" ")
        while cells(word) > width:
            widths = itertools.accumulate(map(cells, word))
            fits = max(1, sum(1 for _ in itertools.takewhile(lambda column: column <= width, widths)))
            yield [(word[:fits], mark)]
            word = word[fits:]
        if word:
            line.append((word, mark))
            column += cells(word)
    if line:
        yield line


def _words(parts: Sequence[Part]) -> Iterator[Part]:
    """Yields each word with the space before it, and each newline. A word is marked if any of its pieces is."""
    pending, pending_mark = "", False
    for text, mark in parts:
        for character in safe(text).replace("\t", "    "):
            if character in " \n" and pending.strip(" "):
                yield pending, pending_mark
                pending, pending_mark = "", False
            if character == "\n":
                yield "\n", False
                pending = ""
                continue
            pending += character
            pending_mark |= mark and character != " "
    if pending.strip(" "):
        yield pending, pending_mark

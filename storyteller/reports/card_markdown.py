"""A card in Markdown: figures, the worst stories, and a story of each prompt, with every text made harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storyteller.evaluation.model_card.card import Card, Example
from storyteller.reports.card_page import facts, parts, row
from storyteller.text import safe, safe_line

_STEERS = re.compile(r"[\\`*_{}\[\]<>#|~&$@]|(?<=www)\.|:(?=//)|^[-+=](?=\s|$)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
"""What can begin or end something in Markdown, or in HTML within it: an address that becomes a link, too."""


def markdown(card: Card) -> str:
    """The whole document."""
    blocks = [
        f"# The card of {plain(card.model)}",
        f"{len(card.stories):,} stories told from {card.telling.get('prompts', '?')} prompts, measured, and held "
        f"against {card.real.get('stories', 0):,} real ones. Intervals are 95 %, by bootstrap over the prompts.",
        *(f"**{plain(note)}**" for note in card.notes),
        "## Measures",
        table(
            ("measure", "this model", "real stories", "so it is", "what it says"),
            [row(figure) for figure in card.figures],
        ),
    ]
    if card.examples:
        blocks += ["## What went wrong", *(_example(example) for example in card.examples)]
    blocks += ["## A story from each prompt"]
    seen: set[str] = set()
    for story in card.stories:
        if story.prompt not in seen:
            seen.add(story.prompt)
            blocks.append(quote((("prompt", story.prompt), ("", story.text))))
    blocks += ["## How this was made", "\n".join(f"- {name}: {plain(words)}" for name, words in facts(card))]
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Text on one line that Markdown takes for nothing but text."""
    line = safe_line(" ".join(text.split()))
    return _NUMBERED.sub(r"\1\\\2", _STEERS.sub(r"\\\g<0>", line))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head)]
    cells = ["| " + " | ".join(map(plain, row)) + " |" for row in rows]
    return "\n".join(["| " + " | ".join(lines[0]) + " |", "| " + " | ".join(lines[1]) + " |", *cells])


def quote(pieces: Sequence[tuple[str, str]]) -> str:
    """A story as a quotation: the prompt slanted, what is marked fat, a line each paragraph."""
    marks = {"prompt": "*", "new": "**", "": ""}
    lines = [""]
    for kind, text in pieces:
        for number, line in enumerate(safe(text).split("\n")):
            if number:
                lines.append("")
            words, mark = plain(line), marks[kind]
            space = " " if line[:1].isspace() and lines[-1] else ""
            end = " " if line[-1:].isspace() and words else ""
            lines[-1] += f"{space}{mark}{words}{mark}{end}" if words else ""
    return "\n>\n".join(f"> {line.strip()}" for line in lines if line.strip())


def _example(example: Example) -> str:
    source = f"\n\nIt stands in the training stories: {plain(example.source)}" if example.source else ""
    return f"### {plain(example.title)}\n\n{quote(parts(example))}{source}"

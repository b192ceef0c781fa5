"""Model cards in Markdown. Untrusted text is escaped so that it cannot add markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storyteller.evaluation.model_card.card import Card, Example
from storyteller.reports.card_page import FIGURE_COLUMNS, card_facts, figure_row, lead, marked_pieces
from storyteller.text import safe, safe_line

_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&$@]|(?<=www)\.|:(?=//)|^[-+=](?=\s|$)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
"""Characters with a meaning in Markdown or HTML, and those that make an address a link."""


def markdown(card: Card) -> str:
    """Returns the card as a Markdown document."""
    blocks = [
        f"# Model card of {plain(card.model)}",
        f"{lead(card)} Intervals are 95 %, by bootstrap over the prompts.",
        *(f"**{plain(note)}**" for note in card.notes),
        "## Measures",
        _table(FIGURE_COLUMNS, [figure_row(figure) for figure in card.figures]),
    ]
    if card.examples:
        blocks += ["## What went wrong", *(_example(example) for example in card.examples)]
    blocks += ["## One story per prompt"]
    seen: set[str] = set()
    for story in card.stories:
        if story.prompt not in seen:
            seen.add(story.prompt)
            blocks.append(_quote((("prompt", story.prompt), ("", story.text))))
    blocks += ["## How this card was made", "\n".join(f"- {name}: {plain(words)}" for name, words in card_facts(card))]
    return "\n\n".join(blocks) + "\n"


def plain(text: str) -> str:
    """Returns the text on one line, with every character escaped that Markdown would interpret."""
    line = safe_line(" ".join(text.split()))
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\g<0>", line))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *(map(plain, row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _quote(pieces: Sequence[tuple[str, str]]) -> str:
    """A story as a block quote: the prompt in italics, marked pieces in bold, one line per paragraph."""
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
    source = f"\n\nIn the training stories: {plain(example.source)}" if example.source else ""
    return f"### {plain(example.title)}\n\n{_quote(marked_pieces(example))}{source}"

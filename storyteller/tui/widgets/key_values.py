"""What is known of a run, name by name: a list that can be searched."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from storyteller.tui import safe_content

_LONGEST = 2000
_DEEPEST = 8
_MOST_FACTS = 2000


@dataclass(frozen=True)
class KeyValue:
    """A name, dotted, and its value in words."""

    name: str
    value: str
    changed: bool = False
    """Whether it is not what it would be by default."""


def flatten(value: object, name: str = "", depth: int = 0) -> Iterator[KeyValue]:
    """The facts in a JSON value, one a leaf; lists of plain values are one fact."""
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield KeyValue(name, _in_words(value))


def _in_words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**15:
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str):
        return value[:_LONGEST]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)[:_LONGEST] or "none"
    try:
        return json.dumps(value, ensure_ascii=False)[:_LONGEST]
    except (TypeError, ValueError, RecursionError):
        return "?"


class KeyValues(Vertical):
    """Facts under headings, with a line to search them."""

    DEFAULT_CSS = """
    KeyValues { height: 1fr; }
    KeyValues > Input { height: 1; border: none; padding: 0; background: $surface; }
    KeyValues > Input:focus { border: none; background: $panel; }
    KeyValues > VerticalScroll { height: 1fr; }
    """

    def __init__(self, *, note: str = "", id: str | None = None) -> None:
        """`note` is shown under the facts."""
        super().__init__(id=id)
        self._sections: list[tuple[str, list[KeyValue]]] = []
        self._note = note
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield Input(placeholder="/ search", compact=True)
        with VerticalScroll():
            yield Static(markup=False)

    def show(self, sections: Sequence[tuple[str, Sequence[KeyValue]]], problem: str = "") -> None:
        """Headings and their facts; `problem` in their place where there are none."""
        self._sections = [(heading, list(facts)[:_MOST_FACTS]) for heading, facts in sections]
        self._problem = problem
        self._fill()

    def search(self) -> None:
        """Let the user type what to look for."""
        self.screen.set_focus(self.query_one(Input))  # at once: the next key may be there already

    def on_resize(self) -> None:
        self._fill()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(VerticalScroll).focus()

    def _fill(self) -> None:
        if not (self.query("Input") and self.query("Static")):  # not there yet: `on_resize` comes once they are
            return
        asked = self.query_one(Input).value.casefold().split()
        parts: list[Content] = []
        longest = max((len(fact.name) for _, facts in self._sections for fact in facts), default=0)
        name_width = max(8, min(longest, 28, self.size.width // 3))
        for heading, facts in self._sections:
            found = [fact for fact in facts if _matches(fact, heading, asked)]
            if not found:
                continue
            if parts:
                parts.append(Content(""))
            parts.append(safe_content.line(heading, "bold $primary"))
            parts += [row for fact in found for row in _rows(fact, name_width, self.size.width - 2)]
        if not parts:
            parts = [
                safe_content.plain(self._problem or ("nothing has that" if asked else "nothing yet"), "$text-muted")
            ]
        elif self._note:
            parts += [Content(""), safe_content.plain(self._note, "$text-muted")]
        self.query_one(Static).update(Content("\n").join(parts))


def _matches(fact: KeyValue, heading: str, asked: Sequence[str]) -> bool:
    text = f"{heading} {fact.name} {fact.value}".casefold()
    return all(word in text for word in asked)


def _rows(fact: KeyValue, name_width: int, width: int) -> list[Content]:
    """Name and value side by side; a long value goes on under its beginning."""
    indent = name_width + 4
    value = safe_content.line(fact.value, "bold" if fact.changed else "")
    first, *rest = value.wrap(max(8, width - indent)) or [value]
    name = safe_content.line(fact.name.ljust(name_width), "$text-muted", 200)
    if name.cell_length > name_width:  # a name that is too long has a row of its own
        return [name.pad_left(2), *(row.pad_left(indent) for row in (first, *rest))]
    mark = ("\u2022 " if fact.changed else "  ", "$primary")
    return [Content.assemble(mark, name, "  ", first), *(row.pad_left(indent) for row in rest)]


def sections_of(plan: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The parts of a `run.json` besides its config, plain values first."""
    plain = {key: value for key, value in plan.items() if not isinstance(value, Mapping) and key != "schema"}
    parts = [(key, value) for key, value in plan.items() if isinstance(value, Mapping) and key != "config"]
    return [("run", plain), *parts] if plain else parts

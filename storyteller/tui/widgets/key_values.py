"""Names and values in sections: a list that can be searched, used for the config and the machine of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from storyteller.config.presets import preset_defaults
from storyteller.tui import safe_content

_MAX_VALUE_CHARS = 2000
_MAX_DEPTH = 8
_MAX_VALUES_PER_SECTION = 2000


@dataclass(frozen=True)
class KeyValue:
    """A dotted name and its value as text."""

    name: str
    value: str
    changed: bool = False  # whether the value differs from the default


def flatten(value: object, name: str = "", depth: int = 0) -> Iterator[KeyValue]:
    """Yield one `KeyValue` per leaf of a JSON value. A list is one leaf."""
    if isinstance(value, Mapping) and value and depth < _MAX_DEPTH:
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key), depth + 1)
    else:
        yield KeyValue(name, _as_text(value)[:_MAX_VALUE_CHARS])


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**15:
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "none"
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "?"


class KeyValues(Vertical):
    """Sections of names and values under headings, with a search field above them."""

    DEFAULT_CSS = """
    KeyValues { height: 1fr; }
    KeyValues > Input { height: 1; border: none; padding: 0; background: $surface; }
    KeyValues > Input:focus { border: none; background: $panel; }
    KeyValues > VerticalScroll { height: 1fr; }
    """

    def __init__(self, *, note: str = "", id: str | None = None) -> None:
        """`note` is shown below the values."""
        super().__init__(id=id)
        self._sections: list[tuple[str, list[KeyValue]]] = []
        self._note = note
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield Input(placeholder="/ search", compact=True)
        with VerticalScroll():
            yield Static(markup=False)

    def show(self, sections: Sequence[tuple[str, Sequence[KeyValue]]], problem: str = "") -> None:
        """Show these headings and their values; `problem` is shown if there are none."""
        self._sections = [(heading, list(values)[:_MAX_VALUES_PER_SECTION]) for heading, values in sections]
        self._problem = problem
        self._fill()

    def search(self) -> None:
        """Focus the search field."""
        # `Input.focus()` would wait for the next refresh, and keys typed before that would go elsewhere.
        self.screen.set_focus(self.query_one(Input))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(VerticalScroll).focus()

    def _fill(self) -> None:
        if not (self.query("Input") and self.query("Static")):  # not mounted yet; `on_resize` fills it afterwards
            return
        searched = self.query_one(Input).value.casefold().split()
        parts: list[Content] = []
        longest = max((len(each.name) for _, values in self._sections for each in values), default=0)
        name_width = max(8, min(longest, 28, self.size.width // 3))
        for heading, values in self._sections:
            found = [each for each in values if _matches(each, heading, searched)]
            if not found:
                continue
            if parts:
                parts.append(Content(""))
            parts.append(safe_content.line(heading, "bold $primary"))
            parts += [row for each in found for row in _rows(each, name_width, self.size.width - 2)]
        if not parts:
            nothing = "no match" if searched else "nothing yet"
            parts = [safe_content.plain(self._problem or nothing, "$text-muted")]
        elif self._note:
            parts += [Content(""), safe_content.plain(self._note, "$text-muted")]
        self.query_one(Static).update(Content("\n").join(parts))

    on_resize = _fill


def _matches(pair: KeyValue, heading: str, words: Sequence[str]) -> bool:
    text = f"{heading} {pair.name} {pair.value}".casefold()
    return all(word in text for word in words)


def _rows(pair: KeyValue, name_width: int, width: int) -> list[Content]:
    """The name and the value side by side; the further lines of a long value are aligned with its first one."""
    indent = name_width + 4
    value = safe_content.line(pair.value, "bold" if pair.changed else "")
    first, *rest = value.wrap(max(8, width - indent)) or [value]
    name = safe_content.line(pair.name.ljust(name_width), "$text-muted", 200)
    if name.cell_length > name_width:  # a long name gets a row to itself
        return [name.pad_left(2), *(row.pad_left(indent) for row in (first, *rest))]
    mark = ("\u2022 " if pair.changed else "  ", "$primary")
    return [Content.assemble(mark, name, "  ", first), *(row.pad_left(indent) for row in rest)]


def sections_of(plan: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The sections of a `run.json` other than its config. Values at the top level come first, in a section `run`."""
    plain = {key: value for key, value in plan.items() if not isinstance(value, Mapping) and key != "schema"}
    parts = [(key, value) for key, value in plan.items() if isinstance(value, Mapping) and key != "config"]
    return [("run", plain), *parts] if plain else parts


def config_sections(config: object) -> list[tuple[str, list[KeyValue]]]:
    """The config of a `run.json` by section, top level first; values that differ from the preset's are marked."""
    if not isinstance(config, Mapping):
        return []
    preset = preset_defaults(str(config.get("preset")))
    plain = [pair for key, value in config.items() if not isinstance(value, Mapping) for pair in flatten(value, key)]
    sections = [("run", plain)] if plain else []
    for name, values in config.items():
        if isinstance(values, Mapping):
            usual = {pair.name: pair.value for pair in flatten(preset.get(name, {}))}
            pairs = [replace(pair, changed=usual.get(pair.name, pair.value) != pair.value) for pair in flatten(values)]
            sections.append((str(name), pairs))
    return sections

"""The undocumented parts of Textual that the app uses are still there, and do what the app expects."""

from __future__ import annotations

import inspect
import sys

import pytest
from textual.app import App
from textual.command import CommandPalette
from textual.drivers.linux_driver import LinuxDriver
from textual.filter import Monochrome, NoColor
from textual.theme import BUILTIN_THEMES
from textual.widgets import TextArea

from storyteller.tui import compat
from storyteller.tui.themes import PALETTES, THEMES


def test_the_driver_decodes_what_is_no_utf8_as_replacement_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[LinuxDriver.__module__]
    monkeypatch.setattr(module, "getincrementaldecoder", module.getincrementaldecoder)  # restored after the test
    assert "getincrementaldecoder(" in inspect.getsource(LinuxDriver)
    assert compat.with_lenient_utf8(LinuxDriver) is LinuxDriver
    assert module.getincrementaldecoder("utf-8")().decode(b"a\xffb") == "a\ufffdb"


def test_colours_are_dropped_where_textual_would_make_them_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app: App[None] = App()
    assert any(isinstance(each, Monochrome) for each in app._filters)
    compat.drop_colors(app)
    assert any(isinstance(each, NoColor) for each in app._filters)
    assert not any(isinstance(each, Monochrome) for each in app._filters)


def test_the_palette_gathers_its_commands_in_a_worker_that_wraps_a_coroutine() -> None:
    gather = CommandPalette._gather_commands
    assert inspect.iscoroutinefunction(gather.__wrapped__)  # type: ignore[attr-defined]
    assert list(inspect.signature(gather).parameters) == ["self", "search_value"]
    assert isinstance(CommandPalette._GATHER_COMMANDS_GROUP, str)


def test_every_theme_is_textuals_or_the_apps_own() -> None:
    assert PALETTES.keys() <= BUILTIN_THEMES.keys() | {theme.name for theme in THEMES}


def test_a_text_area_takes_keys_in_the_coroutine_that_the_prompt_box_extends() -> None:
    assert inspect.iscoroutinefunction(TextArea._on_key)
    assert list(inspect.signature(TextArea._on_key).parameters) == ["self", "event"]

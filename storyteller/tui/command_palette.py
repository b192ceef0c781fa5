"""The command palette: the keys of the screen, the views, the runs, and how the app looks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from textual import work
from textual.app import SystemCommand
from textual.await_complete import AwaitComplete
from textual.command import CommandPalette
from textual.screen import Screen

from storyteller.charts.types import Cells
from storyteller.tui import compat
from storyteller.tui.base_app import BaseApp
from storyteller.tui.settings import ThemeName

_THEMES: dict[ThemeName, str] = {
    "dark": "light text on a dark background",
    "light": "dark text on a light background",
    "ansi-dark": "the terminal's own colours, on a dark background",
    "ansi-light": "the terminal's own colours, on a light background",
}
_CELLS: dict[Cells, str] = {
    "braille": "the finest, if the font has braille",
    "blocks": "for fonts without braille",
    "ascii": "for any font",
}


class Palette(CommandPalette):
    """Textual's palette, made safe against keys typed ahead: they may open another view, which closes the palette."""

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        await compat.gather_commands(self, search_value)

    def dismiss(self, result: Any = None) -> AwaitComplete:
        # A palette that was closed already, or is dismissed a second time, would pop the screen below it.
        return super().dismiss(result) if self.is_active else AwaitComplete()


def commands(app: BaseApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """Yield the title, the help line and the callback of each command."""
    done = set()
    for node, binding, enabled, tooltip in screen.active_bindings.values():
        if enabled and binding.description and not binding.system and node is not app and binding.action not in done:
            done.add(binding.action)
            act = partial(app.run_action, binding.action, node)
            yield SystemCommand(binding.description, tooltip or f"key {app.get_key_display(binding)}", act)
    yield SystemCommand("New run", "The form for a new run", app.action_new_run)
    yield SystemCommand("Runs", "All runs, live", partial(app.action_view, "runs"))
    yield SystemCommand("Story", "Generate stories from a prompt", partial(app.action_view, "story"))
    yield SystemCommand("Compare", "The runs compared last", partial(app.action_view, "compare"))
    for name in app.run_names:
        yield SystemCommand(f"Open {name}", "Its charts, stories, log and config", partial(app.open_run, name))
    for name in app.run_names:
        yield SystemCommand(f"Tell from {name}", "A story from its newest checkpoint", partial(app.open_story, name))
    for theme, look in _THEMES.items():
        yield SystemCommand(f"Theme: {theme}", look, partial(setattr, app, "theme", theme))
    for cells, use in _CELLS.items():
        yield SystemCommand(f"Charts: {cells}", use, partial(app.draw_with, cells))
    yield SystemCommand("Help", "Every key of this view", app.action_help)
    yield SystemCommand("Screenshot", "This screen as an SVG file", app.deliver_screenshot)
    yield SystemCommand("Quit", "Close the app; training continues", app.action_quit)

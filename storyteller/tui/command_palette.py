"""What the command palette lists: all that keys do here, the views, the runs, and how the app looks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from textual import work
from textual.app import SystemCommand
from textual.command import CommandPalette
from textual.css.query import NoMatches
from textual.screen import Screen

from storyteller.charts.types import Cells
from storyteller.tui.settings import ThemeName

if TYPE_CHECKING:
    from storyteller.tui.app import StorytellerApp

_THEMES: dict[ThemeName, str] = {
    "dark": "a lamp at night",
    "light": "a page by day",
    "ansi-dark": "the terminal's own colours, on a dark ground",
    "ansi-light": "the terminal's own colours, on a light ground",
}
_CELLS: dict[Cells, str] = {
    "braille": "the finest, where the font has braille",
    "blocks": "for fonts without braille",
    "ascii": "for any font at all",
}


class Palette(CommandPalette):
    """Textual's, which may be gone before it looks for its commands: a view was asked for just before it."""

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        gather: Any = CommandPalette._gather_commands
        with contextlib.suppress(NoMatches):
            await gather.__wrapped__(self, search_value)


def commands(app: StorytellerApp, screen: Screen[Any]) -> Iterator[SystemCommand]:
    """Each with a line of help and what it does."""
    done = set()
    for node, binding, enabled, tooltip in screen.active_bindings.values():
        if enabled and binding.description and not binding.system and node is not app and binding.action not in done:
            done.add(binding.action)
            key = app.get_key_display(binding)
            act = _acting(app, binding.action, node)
            yield SystemCommand(binding.description, tooltip or f"the key {key}", act)
    yield SystemCommand("New run", "The form of a new run", app.new_run)
    yield SystemCommand("Runs", "All of them, live", partial(app.action_view, "runs"))
    yield SystemCommand("Story", "A prompt, a model, a story", partial(app.action_view, "story"))
    yield SystemCommand("Compare", "The runs that were compared last", partial(app.action_view, "compare"))
    for name in app.run_names:
        yield SystemCommand(f"Open {name}", "Its charts, stories, log and config", partial(app.open_run, name))
    for name in app.run_names:
        yield SystemCommand(f"Tell from {name}", "A story from its newest checkpoint", partial(app.open_story, name))
    for theme in get_args(ThemeName):
        yield SystemCommand(f"Theme: {theme}", _THEMES[theme], partial(setattr, app, "theme", theme))
    for cells in get_args(Cells):
        yield SystemCommand(f"Charts: {cells}", _CELLS[cells], partial(app.draw_with, cells))
    yield SystemCommand("Help", "Every key of this view", app.action_help)
    yield SystemCommand("Screenshot", "This screen as an SVG file", app.deliver_screenshot)
    yield SystemCommand("Quit", "Leave; what trains goes on training", app.action_quit)


def _acting(app: StorytellerApp, action: str, node: object) -> Callable[[], object]:
    async def act() -> None:
        await app.run_action(action, node)  # type: ignore[arg-type]

    return act

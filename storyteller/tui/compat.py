"""Uses of undocumented parts of Textual. `tests/tui/test_compat.py` fails when Textual changes one of them."""

from __future__ import annotations

import codecs
import contextlib
import sys
from functools import partial
from typing import Any

from textual.app import App
from textual.command import CommandPalette
from textual.css.query import NoMatches
from textual.driver import Driver
from textual.filter import Monochrome, NoColor


def with_lenient_utf8(driver: type[Driver]) -> type[Driver]:
    """Make the driver decode invalid UTF-8 from the terminal as U+FFFD; Textual's own decoder ends the app with it."""
    module: Any = sys.modules[driver.__module__]
    if hasattr(module, "getincrementaldecoder"):
        module.getincrementaldecoder = lambda encoding: partial(codecs.getincrementaldecoder(encoding), "replace")
    return driver


def drop_colors(app: App[Any]) -> None:
    """Write no colour codes at all under NO_COLOR. Textual's own filter turns colours into shades of grey."""
    app._filters[:] = [NoColor() if isinstance(each, Monochrome) else each for each in app._filters]


async def gather_commands(palette: CommandPalette, search_value: str) -> None:
    """Search the palette's commands; does nothing if the palette was closed before its search began.

    Textual's method is a worker: what it wraps is called, so that the exception can be caught.
    """
    gather: Any = CommandPalette._gather_commands
    with contextlib.suppress(NoMatches):
        await gather.__wrapped__(palette, search_value)

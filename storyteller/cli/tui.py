"""`storyteller tui`: the terminal app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from storyteller.errors import UsageError
from storyteller.runs import layout

RunsDir = Annotated[
    Path | None, typer.Option("--runs-dir", help="Where the runs are; default: $STORYTELLER_RUNS, else runs/.")
]


def tui(
    run: Annotated[str | None, typer.Argument(help="A run to open: its name, the beginning of it, or latest.")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """The terminal app: the runs live, their charts and stories; start, stop, compare, and talk to any of them.

    Example: storyteller tui latest
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("the app needs a terminal", "storyteller ps, logs and show print the same plainly")
    from storyteller import tui

    tui.run(layout.runs_root(runs_dir), run)

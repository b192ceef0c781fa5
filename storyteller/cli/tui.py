"""`storyteller tui`: the terminal app."""

from __future__ import annotations

from typing import Annotated

import typer

from storyteller.cli.options import RunsDir


def tui(
    run: Annotated[str | None, typer.Argument(help="Run to open: its name, a unique prefix of it, or latest.")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Open the terminal app: live charts and stories of all runs; start, stop and compare runs, generate stories.

    Example: storyteller tui latest
    """
    from storyteller import tui

    tui.run(run, runs_dir)

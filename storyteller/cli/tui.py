"""`storyteller tui`: the terminal app."""

from __future__ import annotations

from typing import Annotated

import typer

from storyteller.cli.train import RunsDir


def tui(
    run: Annotated[str | None, typer.Argument(help="A run to open: its name, the beginning of it, or latest.")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """The terminal app: the runs live, their charts and stories; start, stop, compare, and talk to any of them.

    Example: storyteller tui latest
    """
    from storyteller import tui

    tui.run(run, runs_dir)

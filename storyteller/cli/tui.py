"""`storyteller tui`: the terminal app."""

from __future__ import annotations

from typing import Annotated

from storyteller.cli.options import RunsDir, argument


def tui(
    run: Annotated[str | None, argument("Run to open: its name, a unique prefix, or latest.", metavar="RUN")] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Open the terminal app: live charts and stories of all runs; start, stop and compare runs, generate stories.

    Example: storyteller tui latest
    """
    from storyteller import tui

    tui.run(run, runs_dir)

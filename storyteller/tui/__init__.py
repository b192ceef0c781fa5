"""The terminal app: watch runs learn, talk to them, steer them. Textual is imported behind `run` alone."""

from __future__ import annotations

from pathlib import Path


def run(runs_root: Path, run: str | None = None) -> None:
    """Show the app until it is quit, with the run called `run` open where one is named. Training goes on without it.

    Raises RunError where there is no such run.
    """
    from storyteller.tui.app import StorytellerApp

    StorytellerApp(runs_root, run).run()

"""The terminal app: watch runs learn, talk to them, steer them. Textual is imported behind `run` alone."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from storyteller.errors import UsageError


def run(run: str | None = None, runs_dir: Path | str | None = None) -> None:
    """Show the app until it is quit, with the run called `run` open where one is named. Training goes on without it.

    Raises UsageError where there is no terminal, RunError where there is no such run.
    """
    gc.disable()  # nothing that is imported is garbage; the app takes it up again once it has drawn its first frame
    from storyteller.tracking.run_folder import runs_root

    root = runs_root(runs_dir)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # where Textual reads and draws
        raise UsageError("the app needs a terminal", "storyteller ps, logs and show print the same plainly")
    from storyteller.tui.app import StorytellerApp

    # The thread that reads a long log gives way to the one that answers keys after a thousandth of a second, not five.
    sys.setswitchinterval(0.001)
    app = StorytellerApp(root, run)
    app.run()
    if app.return_code != 0:  # it broke, and has said where
        raise SystemExit(app.return_code or 1)

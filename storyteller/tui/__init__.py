"""The terminal app: live charts and stories of all runs, and the keys that start, stop, resume and compare them."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from storyteller.errors import UsageError


def run(run: str | None = None, runs_dir: Path | str | None = None) -> None:
    """Show the app until it is closed, with `run` open if it is given. Training continues when the app is closed.

    Raises UsageError if there is no terminal, RunError if there is no such run.
    """
    gc.disable()  # importing creates no garbage; the app enables it again after its first frame
    from storyteller.tracking.run_folder import runs_root

    root = runs_root(runs_dir)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):  # Textual reads from stdin and draws to stderr
        raise UsageError("the app needs a terminal", "use storyteller ps, logs and show for plain text")
    from storyteller.tui.app import StorytellerApp

    # A thread that reads a long log hands the interpreter to the one that handles keys after 1 ms, not the default 5.
    sys.setswitchinterval(0.001)
    app = StorytellerApp(root, run)
    app.run()
    if app.return_code != 0:  # the app crashed, and has printed the traceback
        raise SystemExit(app.return_code or 1)

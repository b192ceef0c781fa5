"""Stopping and resuming runs from the app: each on a thread of its own, with a word when it is done or cannot be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from storyteller.errors import StorytellerError
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.tui.app import StorytellerApp


def stop(folder: RunFolder) -> str:
    """Let the run finish its step, save and exit, and wait for that; what came of it. Raises as `daemon.stop`."""
    from storyteller.tracking import run_process

    state = run_process.stop(folder)
    return f"{folder.name} has finished" if state == "finished" else f"{folder.name} was {state}; r goes on with it"


def resume(folder: RunFolder, given: Mapping[str, Any] | None = None) -> str:
    """Go on from the newest good checkpoint, with a new budget where `given` has one; what came of it.

    Raises as `launch.prepare_resume`, `launch.begin` and `daemon.wait_ready`.
    """
    from storyteller.launch import run_plan, start

    mode, note = run_plan.prepare_resume(folder, given or {})
    notes = [note] if note else []
    process = run_plan.begin(folder, mode, notes.append)
    # Reaped as it ends, whenever that is.
    threading.Thread(target=process.wait, name="reap", daemon=True).start()
    status = start.wait_ready(folder, process)
    return "; ".join([f"{folder.name} goes on from step {status.step:,}", *notes])


def steer(app: StorytellerApp, action: Callable[[RunFolder], str], folder: RunFolder) -> None:
    """Do it, without the app waiting for it; the app says what came of it."""

    def act() -> None:
        try:
            said, failed = action(folder), False
        except StorytellerError as error:
            said, failed = str(error), True
        except OSError as error:
            said, failed = f"{safe_line(folder.name, 80)}: {error.strerror or error}", True
        if said and app.is_running:
            app.say(said, "error" if failed else "information")

    threading.Thread(target=act, name=f"steer {folder.name}", daemon=True).start()

"""Actions on runs that several screens offer: stop, kill, resume, delete and rename.

Each one runs on its own thread and shows notifications, so that the app never waits for a training process.
"""

from __future__ import annotations

import math
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import App

from storyteller.errors import RunError, StorytellerError, UsageError
from storyteller.text import safe_line
from storyteller.tracking import run_index
from storyteller.tracking.run_folder import RunFolder, check_name


class RunActions:
    """Acts on the runs in `runs_root`; remembers which of them were asked to stop."""

    def __init__(
        self, app: App[None], runs_root: Path, say: Callable[..., None], renamed: Callable[[str, str], None]
    ) -> None:
        """`say(text, severity)` shows a notification; `renamed(old, new)` is called on the app's thread."""
        self._app = app
        self._root = runs_root
        self._say = say
        self._renamed = renamed
        self._stopping: set[str] = set()
        self._killed: set[str] = set()

    def stop(self, name: str) -> None:
        """Ask the run to save and exit. While it is stopping, offer to kill it instead."""
        if name in self._stopping:
            self._offer_to_kill(name)
            return
        self._stopping.add(name)
        self._say(f"{name} finishes its step, saves and stops (s again: kill it now)")

        def stop() -> str:
            from storyteller.tracking import run_process

            try:
                state = run_process.stop(self._folder(name))
                if name in self._killed:
                    return ""  # the thread that killed it reports the result
                return f"{name} has finished" if state == "finished" else f"{name} was {state}; r resumes it"
            finally:
                self._stopping.discard(name)
                self._killed.discard(name)

        self._in_background(name, stop)

    def _offer_to_kill(self, name: str) -> None:
        from storyteller.tui.screens.confirm import Confirm

        def kill() -> str:
            from storyteller.tracking import run_process

            self._killed |= {name} & self._stopping
            run_process.stop(self._folder(name), now=True)
            return f"{name} was killed; r resumes it from its newest checkpoint"

        def answered(yes: bool | None) -> None:
            if yes:
                self._in_background(name, kill)

        detail = "It is already stopping. Killing it loses everything since its last checkpoint."
        self._app.push_screen(Confirm(f"Kill {name} now?", detail, yes="Kill it", no="Let it save"), answered)

    def resume(self, name: str) -> None:
        """Resume the run; for a finished run, ask first how many minutes to add."""

        def resume() -> str:
            from storyteller.tracking.run_status import seen_state

            folder = self._folder(name)
            if seen_state(folder) != "finished":
                self._say(f"{name} resumes from its newest checkpoint")
                return resume_run(folder)
            trained = run_index.summarise(folder).seconds or 0.0
            self._app.call_from_thread(self._ask_for_more, name, trained)
            return ""

        self._in_background(name, resume)

    def _ask_for_more(self, name: str, trained_seconds: float) -> None:
        from storyteller.tui.screens.confirm import Ask

        def answered(word: str | None) -> None:
            if word is not None:
                minutes = round(trained_seconds / 60 + minutes_of(word), 2)
                self._say(f"{name} resumes from its newest checkpoint")
                self._in_background(name, lambda: resume_run(RunFolder(self._root / name), {"minutes": minutes}))

        question = f"{name} has finished. How many more minutes should it train?"
        self._app.push_screen(Ask(question, "5", minutes_of), answered)

    def delete(self, names: Sequence[str]) -> None:
        """Delete the runs after a confirmation."""
        from storyteller.tui.screens.confirm import Confirm

        def delete(name: str) -> str:
            from storyteller.tracking import manage_runs

            manage_runs.delete(self._folder(name))
            return f"{name} was deleted"

        def answered(yes: bool | None) -> None:
            if yes:
                for name in names:
                    self._in_background(name, partial(delete, name))

        what, listed = (names[0], "") if len(names) == 1 else (f"these {len(names)} runs", ", ".join(names) + "\n")
        detail = f"{listed}Log, stories and checkpoints are deleted."
        self._app.push_screen(Confirm(f"Delete {what} for good?", detail, yes="Delete", no="Keep"), answered)

    def rename(self, name: str) -> None:
        """Ask for a new name and rename the run."""
        from storyteller.tui.screens.confirm import Ask

        def rename(new: str) -> str:
            from storyteller.tracking import manage_runs

            manage_runs.rename(self._folder(name), new)
            self._app.call_from_thread(self._renamed, name, new)
            return f"{name} is now {new}"

        def answered(new: str | None) -> None:
            if new is not None and new != name:
                self._in_background(name, partial(rename, new))

        self._app.push_screen(Ask(f"New name for {name}", name, check_name), answered)

    def _folder(self, name: str) -> RunFolder:
        """The run with exactly this name. Raises RunError if it is gone."""
        folder = run_index.find_run(self._root, name)
        if folder.name != name:  # `find_run` takes prefixes: another run may match once this one was deleted
            raise RunError(f"there is no run {safe_line(name, 80)} any more", "")
        return folder

    def _in_background(self, name: str, action: Callable[[], str]) -> None:
        """Run `action` on a thread and show the message that it returns, or its error."""

        def act() -> None:
            try:
                message, severity = action(), "information"
            except StorytellerError as error:
                message, severity = str(error), "error"
            except OSError as error:
                message, severity = f"{safe_line(name, 80)}: {error.strerror or error}", "error"
            if message and self._app.is_running:
                self._say(message, severity)

        threading.Thread(target=act, name=f"action on {name}", daemon=True).start()


def minutes_of(word: str) -> float:
    """Parse a number of minutes above 0. Raises UsageError."""
    try:
        minutes = float(word.replace(",", "."))
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UsageError(f"{safe_line(word, 40) or 'nothing'} is not a number of minutes", "such as 5")
    return minutes


def resume_run(folder: RunFolder, given: Mapping[str, Any] | None = None) -> str:
    """Resume from the newest good checkpoint, with the budget in `given` if there is one. Returns a message.

    Raises as `run_plan.prepare_resume`, `run_plan.start_run` and `start.wait_ready` do.
    """
    from storyteller.launch import run_plan, start

    mode, note = run_plan.prepare_resume(folder, given or {})
    notes = [note] if note else []
    process = run_plan.start_run(folder, mode, notes.append)
    reap(process)
    status = start.wait_ready(folder, process)
    return "; ".join([f"{folder.name} resumed at step {status.step:,}", *notes])


def reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child process on a thread, so that it does not stay a zombie after it exits."""
    threading.Thread(target=process.wait, name="reap", daemon=True).start()

"""Actions on runs that several screens offer: stop, kill, resume, delete and rename.

Each one runs on its own thread and shows notifications, so that the app never waits for a training process.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import App

from storyteller.errors import RunError, StorytellerError, UsageError
from storyteller.text import safe_line
from storyteller.tracking import manage_runs, run_index, run_process
from storyteller.tracking.run_folder import RunFolder, check_name
from storyteller.tracking.run_status import Status, seen_state
from storyteller.tui.screens.dialogues import Ask, Confirm, ask

if TYPE_CHECKING:
    from storyteller.tracking.wandb_mirror import Mode


class RunActions:
    """Acts on the runs in `runs_root`; remembers which of them were asked to stop."""

    def __init__(
        self, app: App[None], runs_root: Path, say: Callable[..., None], renamed: Callable[[str, str], None]
    ) -> None:
        """`say(text, severity)` shows a notification; `renamed(old, new)` is called on the app's thread."""
        self._app, self._root, self._say, self._renamed = app, runs_root, say, renamed
        self._stopping: dict[str, bool] = {}
        """The runs that were asked to stop and have not yet, and whether they were killed since."""

    def stop(self, name: str) -> None:
        """Ask the run to save and exit. While it is stopping, offer to kill it instead."""
        if name in self._stopping:
            self._offer_to_kill(name)
            return
        self._stopping[name] = False
        self._say(f"{name} finishes its step, saves and stops (s again: kill it now)")

        def stop() -> str:
            try:
                state = run_process.stop(self._folder(name))
                if self._stopping[name]:
                    return ""  # the thread that killed it reports the result
                return f"{name} has finished" if state == "finished" else f"{name} was {state}; r resumes it"
            finally:
                del self._stopping[name]

        self._in_background(name, stop)

    def _offer_to_kill(self, name: str) -> None:
        def kill() -> str:
            if name in self._stopping:
                self._stopping[name] = True
            run_process.stop(self._folder(name), now=True)
            return f"{name} was killed; r resumes it from its newest checkpoint"

        detail = "It is already stopping. Killing it loses everything since its last checkpoint."
        dialogue = Confirm(f"Kill {name} now?", detail, yes="Kill it", no="Let it save")
        ask(self._app, dialogue, lambda _: self._in_background(name, kill))

    def resume(self, name: str) -> None:
        """Resume the run; for a finished run, ask first how many minutes to add."""

        def resume() -> str:
            folder = self._folder(name)
            if seen_state(folder) != "finished":
                self._say(f"{name} resumes from its newest checkpoint")
                return resume_run(folder)
            trained = run_index.summarise(folder).seconds or 0.0
            self._app.call_from_thread(self._ask_for_more, folder, trained)
            return ""

        self._in_background(name, resume)

    def _ask_for_more(self, folder: RunFolder, trained_seconds: float) -> None:
        def resume(word: str) -> None:
            minutes = round(trained_seconds / 60 + minutes_of(word), 2)
            self._say(f"{folder.name} resumes from its newest checkpoint")
            self._in_background(folder.name, partial(resume_run, folder, {"minutes": minutes}))

        question = f"{folder.name} has finished. How many more minutes should it train?"
        ask(self._app, Ask(question, "5", minutes_of), resume)

    def delete(self, names: Sequence[str]) -> None:
        """Delete the runs after a confirmation."""

        def delete(name: str) -> str:
            manage_runs.delete(self._folder(name))
            return f"{name} was deleted"

        def delete_all(_: bool) -> None:
            for name in names:
                self._in_background(name, partial(delete, name))

        what, listed = (names[0], "") if len(names) == 1 else (f"these {len(names)} runs", ", ".join(names) + "\n")
        detail = f"{listed}Log, stories and checkpoints are deleted."
        ask(self._app, Confirm(f"Delete {what} for good?", detail, yes="Delete", no="Keep"), delete_all)

    def rename(self, name: str) -> None:
        """Ask for a new name and rename the run."""

        def rename(new: str) -> str:
            manage_runs.rename(self._folder(name), new)
            self._app.call_from_thread(self._renamed, name, new)
            return f"{name} is now {new}"

        def answered(new: str) -> None:
            if new != name:
                self._in_background(name, partial(rename, new))

        ask(self._app, Ask(f"New name for {name}", name, check_name), answered)

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

    Raises as `run_plan.prepare_resume` and `start_and_wait` do.
    """
    from storyteller.launch import run_plan

    mode, note = run_plan.prepare_resume(folder, given or {})
    notes = [note] if note else []
    status = start_and_wait(folder, mode, notes.append)
    return "; ".join([f"{folder.name} resumed at step {status.step:,}", *notes])


def start_and_wait(folder: RunFolder, mode: Mode, log: Callable[[str], None]) -> Status:
    """Start the training process and wait until it trains. Raises as `run_plan.start_run` and `start.wait_ready` do."""
    from storyteller.launch import run_plan, start

    process = run_plan.start_run(folder, mode, log)
    # A thread waits for the child process, so that it does not stay a zombie after it exits.
    threading.Thread(target=process.wait, name="reap", daemon=True).start()
    return start.wait_ready(folder, process)

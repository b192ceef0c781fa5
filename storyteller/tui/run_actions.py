"""What a key does to runs, wherever it is pressed: each on a thread of its own, with a word before and one after."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from storyteller.errors import RunError, UsageError
from storyteller.text import safe_line
from storyteller.tracking import run_index
from storyteller.tracking.run_folder import RunFolder, check_name
from storyteller.tui import steering

if TYPE_CHECKING:
    from storyteller.tui.app import StorytellerApp


def exactly(app: StorytellerApp, name: str) -> RunFolder:
    """The run of that whole name. Raises RunError where it is gone: another whose name begins so is not meant."""
    folder = run_index.find_run(app.runs_root, name)
    if folder.name != name:
        raise RunError(f"there is no run {safe_line(name, 80)} any more", "")
    return folder


class RunActions:
    """Stop, resume, delete, rename; remembers which runs were asked to stop."""

    def __init__(self, app: StorytellerApp) -> None:
        self._app = app
        self._stopping: set[str] = set()
        self._killed: set[str] = set()

    def stop(self, name: str) -> None:
        """Let the run save and exit; asked a second time, offer to kill it."""
        if name in self._stopping:
            self._offer_to_kill(name)
            return
        self._stopping.add(name)
        self._app.say(f"{name} finishes its step, saves and stops (s again: kill it now)")

        def stop(folder: RunFolder) -> str:
            try:
                came_of_it = steering.stop(exactly(self._app, folder.name))
                return "" if name in self._killed else came_of_it  # its killer has the last word
            finally:
                self._stopping.discard(name)
                self._killed.discard(name)

        self._steer(stop, name)

    def _offer_to_kill(self, name: str) -> None:
        from storyteller.tui.screens.confirm import Confirm

        def kill(folder: RunFolder) -> str:
            from storyteller.tracking import run_process

            self._killed |= {name} & self._stopping
            run_process.stop(exactly(self._app, folder.name), now=True)
            return f"{name} was killed; r goes on with it from its newest checkpoint"

        def answered(yes: bool | None) -> None:
            if yes:
                self._steer(kill, name)

        question = f"Kill {name} now?"
        detail = "It is stopping already. Killed, it loses what came after its last checkpoint."
        self._app.push_screen(Confirm(question, detail, yes="Kill it", no="Let it save"), answered)

    def resume(self, name: str) -> None:
        """Go on with the run; one that has finished is asked for how much longer."""

        def resume(folder: RunFolder) -> str:
            from storyteller.tracking.run_status import seen_state

            folder = exactly(self._app, folder.name)
            if seen_state(folder) != "finished":
                self._app.say(f"{name} goes on from its newest checkpoint")
                return steering.resume(folder)
            trained = run_index.summarise(folder).seconds or 0.0
            self._app.call_from_thread(self._ask_for_more, name, trained)
            return ""

        self._steer(resume, name)

    def _ask_for_more(self, name: str, trained_seconds: float) -> None:
        from storyteller.tui.screens.confirm import Ask

        def answered(word: str | None) -> None:
            if word is not None:
                minutes = trained_seconds / 60 + minutes_of(word)
                self._app.say(f"{name} goes on from its newest checkpoint")
                self._steer(lambda folder: steering.resume(folder, {"minutes": round(minutes, 2)}), name)

        self._app.push_screen(
            Ask(f"{name} has finished. Train it how many minutes more?", "5", check=minutes_of), answered
        )

    def delete(self, names: Sequence[str]) -> None:
        """Delete the runs, once asked."""
        from storyteller.tui.screens.confirm import Confirm

        def answered(yes: bool | None) -> None:
            if yes:
                for name in names:
                    self._steer(self._delete, name)

        what = names[0] if len(names) == 1 else f"these {len(names)} runs"
        detail = "" if len(names) == 1 else ", ".join(names) + "\n"
        self._app.push_screen(
            Confirm(f"Delete {what} for good?", f"{detail}Log, stories and checkpoints go.", yes="Delete", no="Keep"),
            answered,
        )

    def _delete(self, folder: RunFolder) -> str:
        from storyteller.tracking import manage_runs

        manage_runs.delete(exactly(self._app, folder.name))
        return f"{folder.name} was deleted"

    def rename(self, name: str) -> None:
        """Ask for a new name and give it to the run."""
        from storyteller.tui.screens.confirm import Ask

        def answered(new: str | None) -> None:
            if new is not None and new != name:
                self._steer(lambda folder: self._rename(folder, new), name)

        self._app.push_screen(Ask(f"A new name for {name}", name, check=check_name), answered)

    def _rename(self, folder: RunFolder, new: str) -> str:
        from storyteller.tracking import manage_runs

        manage_runs.rename(exactly(self._app, folder.name), new)
        self._app.call_from_thread(self._app.run_renamed, folder.name, new)
        return f"{folder.name} is {new} now"

    def _steer(self, action: Callable[[RunFolder], str], name: str) -> None:
        steering.steer(self._app, action, RunFolder(self._app.runs_root / name))


def minutes_of(word: str) -> float:
    """Minutes as they were typed. Raises UsageError for what is no number above 0."""
    try:
        minutes = float(word.replace(",", "."))
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UsageError(f"{safe_line(word, 40) or 'nothing'} is no number of minutes", "such as 5")
    return minutes

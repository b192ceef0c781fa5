"""Reports on a training process: handles its signals, writes `status.json` and `train.log`."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from storyteller.errors import is_disk_full
from storyteller.system.signals import handle_signals
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import State, Status, overwrite_status, own_status, read_status, write_status
from storyteller.tracking.wandb_cursor import page_url
from storyteller.training.observer import Observer

if TYPE_CHECKING:
    from storyteller.training.train_state import TrainState

T = TypeVar("T")
_HEARTBEAT_SECONDS = 1.0
_MAX_PENDING_LINES = 1000
"""Log lines that wait for space on the disk."""


class StoppedEarly(BaseException):
    """A signal came before the first step, so there is nothing to save."""


class StatusReporter(Observer):
    """Keeps a run's status and log. A heartbeat thread writes the status, so that the training loop never waits for it.

    The first SIGTERM or SIGINT asks the loop to stop, the second ends the process at once.
    """

    def __init__(self, folder: RunFolder, owner: Status | None = None) -> None:
        """`owner`: the process that the status names, where it is not this one (the leader of several processes)."""
        self.folder = folder
        self._owner = owner
        self.exit_code = 1
        before = read_status(folder)  # a resumed run has come so far already
        self.step, self.tokens = (before.step, before.tokens) if before is not None else (0, 0)
        self._notes: list[tuple[Sequence[str], int]] = []
        self._pending_lines: deque[str] = deque(maxlen=_MAX_PENDING_LINES)
        self._log_lock = threading.Lock()
        self._message = self._trouble = ""
        self._state: State = "starting"
        # A bool, not an Event: a second signal that interrupts the first one's handler would deadlock on its lock.
        self._stopping = False
        self._raises = False
        self._over = threading.Event()
        self._heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._status_fails = False
        self._wandb_url = ""

    # --- the life of the process --------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """Install the signal handlers and beat until the end of the block, within which `end` is to be called."""
        with handle_signals(self._on_signal):
            self._write_status()
            self._heartbeat.start()
            try:
                yield
            finally:
                self._stop_heartbeat()

    @contextmanager
    def setting_up(self) -> Iterator[None]:
        """Raise StoppedEarly in the main thread, wherever it is inside the block, when a signal comes."""
        self._raises = True
        try:
            if self._stopping:
                raise StoppedEarly
            yield
        finally:
            self._raises = False

    def wait_for(self, action: Callable[[], T]) -> T:
        """The result of `action`, which runs in another thread.

        Python runs signal handlers between bytecodes of the main thread: not during a long call of a C library, but
        while it waits here.
        """
        future: Future[T] = Future()

        def act() -> None:
            try:
                future.set_result(action())
            except BaseException as error:  # noqa: BLE001  raised again by `result`
                future.set_exception(error)

        threading.Thread(target=act, name="set-up", daemon=True).start()
        return future.result()

    def ready(self, state: TrainState) -> None:
        """Report that set-up is over. From here on a signal lets the step finish."""
        self.progressed(state, waiting=False)
        self._write_status()

    def end(self, state: State, message: str, exit_code: int) -> None:
        """Write the last status of this process."""
        self._stop_heartbeat()  # or a late one would overwrite it
        self._state, self._message, self._trouble, self.exit_code = state, message, "", exit_code
        self._write_status(exit_code)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping and self._owner is not None:
            return  # the leader counts: it passes a signal on that its terminal may have sent to every process already
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        if self._raises:
            raise StoppedEarly

    # --- what is reported ---------------------------------------------------------------------------------------------

    def stop_requested(self) -> bool:
        return self._stopping

    def progressed(self, state: TrainState, waiting: bool) -> None:
        self.step, self.tokens = state.step, state.tokens
        self._message = "waiting for stories" if waiting else ""
        self._state = "waiting" if waiting else "running"

    def resuming(self, state: TrainState) -> None:
        """Report the step from which the run goes on; the set-up is not over yet."""
        self.step, self.tokens = state.step, state.tokens
        if state.step:
            self.log(f"resuming from step {state.step:,}")

    def progress(self, task: str) -> Callable[[float], None]:
        """A callback for the share of a set-up task that is done; shown as the status's message."""

        def report(share: float) -> None:
            self._message = f"{task}, {share:.0%}"

        return report

    def disk_trouble(self, error: OSError | None) -> None:
        trouble = "" if error is None else _describe_disk_trouble(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self.log(f"{trouble}; training goes on" if trouble else "metrics and checkpoints are written again")

    # --- the log ------------------------------------------------------------------------------------------------------

    def log(self, line: str) -> None:
        """Add a line to the run's log. If it cannot be written it is kept and written later; training goes on."""
        self._pending_lines.append(f"{time.strftime('%H:%M:%S')} {safe_line(line)}\n")
        self._write_pending_lines()

    def log_status(self, line: str) -> None:
        """Log a line that is also the status's message until the first step: what set-up waits for, for example."""
        self.log(line)
        if self._state == "starting":
            self._message = line

    def follow(self, notes: Sequence[str]) -> None:
        """Log each line of `notes`, and those appended to it while the run lasts (such as invalid input lines)."""
        self._notes.append((notes, 0))
        self._log_new_notes()

    def _log_new_notes(self) -> None:
        for i, (notes, seen) in enumerate(self._notes):
            new = notes[seen:]
            self._notes[i] = (notes, seen + len(new))
            for line in new:
                self.log(line)

    def _write_pending_lines(self) -> None:
        with self._log_lock, contextlib.suppress(OSError):
            while self._pending_lines:
                line = self._pending_lines[0].encode("utf-8", "backslashreplace")
                with self.folder.log.open("ab", buffering=0) as log:
                    end = log.seek(0, os.SEEK_END)
                    if (log.write(line) or 0) < len(line):  # the disk is full: remove the torn line
                        log.truncate(end)
                        return
                self._pending_lines.popleft()

    # --- the status ---------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            self._log_new_notes()
            self._write_pending_lines()
            self._write_status()

    def _stop_heartbeat(self) -> None:
        self._over.set()
        self._heartbeat.join()
        self._log_new_notes()
        self._write_pending_lines()

    def _write_status(self, exit_code: int | None = None) -> None:
        state = "stopping" if self._stopping and self._state in ("starting", "running", "waiting") else self._state
        self._wandb_url = self._wandb_url or page_url(self.folder)
        status = own_status(
            state,
            step=self.step,
            tokens=self.tokens,
            message=self._trouble or self._message,
            exit_code=exit_code,
            wandb_url=self._wandb_url,
        )
        if (owner := self._owner) is not None:
            status = replace(status, pid=owner.pid, create_time=owner.create_time, birth=owner.birth)
        try:
            try:
                write_status(self.folder, status)
            except OSError:  # a full disk has no room for a second file, but the old one can be overwritten
                overwrite_status(self.folder, status)
        except OSError as error:
            if not self._status_fails:
                self.log(f"the status cannot be written ({error.strerror})")
            self._status_fails = True
        else:
            self._status_fails = False


class SilentReporter(Observer):
    """The observer in a process that does not write the run folder: it handles signals and reports nothing."""

    def __init__(self) -> None:
        self._stopping = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Install the signal handlers until the end of the block."""
        with handle_signals(self._on_signal):
            yield

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def stop_requested(self) -> bool:
        return self._stopping


def _describe_disk_trouble(error: OSError) -> str:
    if is_disk_full(error):
        return "the disk is full: free some space, or nothing more of this run is saved"
    return f"the disk cannot be written ({error.strerror}): check it, or nothing more of this run is saved"

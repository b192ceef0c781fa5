"""Who hears of a training process's life: signals in, status and log out."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TypeVar

from storyteller.errors import is_disk_full
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import State, Status, overwrite_status, own_status, read_status, write_status
from storyteller.tracking.wandb_cursor import page_address

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.training.train_state import TrainState

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The first of them lets the step finish, the second ends the process at once."""
T = TypeVar("T")
_HEARTBEAT_SECONDS = 1.0
_MOST_NOTES = 1000  # that wait for space on the disk


class StoppedEarly(BaseException):
    """A signal came before the first step: there is nothing to save."""


class SampleTask(Protocol):
    """Whoever tells stories from weights: `narrator.Narrator`."""

    def ask(self, step: int, weights: dict[str, Tensor]) -> None: ...


class CardTask(Protocol):
    """Whoever makes cards from weights: `critic.Critic`."""

    def ask(self, step: int, weights: dict[str, Tensor]) -> None: ...

    def take(self) -> list[dict[str, float]]: ...


class StatusReporter:
    """Signals in, status and log out. The loop's observer; writes nothing to the disk while the loop waits for it."""

    def __init__(self, folder: RunFolder, owner: Status | None = None) -> None:
        """`owner`: the process that the run is of, where that is another than this one (`fleet`)."""
        self.folder = folder
        self._owner = owner
        self.exit_code = 1
        before = read_status(folder)  # a resumed run has come so far already
        self.step, self.tokens = (before.step, before.tokens) if before is not None else (0, 0)
        self.teller: SampleTask | None = None
        self._untold: dict[str, Tensor] | None = None
        self.grader: CardTask | None = None
        self._sources: list[tuple[Sequence[str], int]] = []
        self._notes: deque[str] = deque(maxlen=_MOST_NOTES)
        self._log_lock = threading.Lock()
        self._message = self._trouble = ""
        self._state: State = "starting"
        # Not an Event: a second signal can come while the first is handled, and would wait for its lock for ever.
        self._stopping = False
        self._raises = False
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._status_fails = False
        self._address = ""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Heartbeats and signal handlers, for as long as this lasts; `end` is to be called within."""
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.signal(number, self._signalled) for number in STOP_SIGNALS}
            # `daemon.start` holds them back until here, so that none ends the process while it imports.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        self._write_status()
        self._heart.start()
        try:
            yield
        finally:
            self._rest()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def setting_up(self) -> Iterator[None]:
        """Before the first step: a signal raises StoppedEarly here, wherever it finds the main thread."""
        self._raises = True
        try:
            if self._stopping:
                raise StoppedEarly
            yield
        finally:
            self._raises = False

    def wait_for(self, action: Callable[[], T]) -> T:
        """What `action` gives, done on a thread of its own: inside one long call of a library no signal is heard."""
        answer: list[T] = []
        failure: list[BaseException] = []

        def act() -> None:
            try:
                answer.append(action())
            except BaseException as error:  # noqa: BLE001  raised again by the one who waits
                failure.append(error)

        thread = threading.Thread(target=act, name="set-up", daemon=True)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return answer[0]

    def ready(self, progress: TrainState) -> None:
        """Set-up is over: from here on a signal lets the step finish."""
        self.at(progress, waiting=False)
        self._write_status()

    def end(self, state: State, message: str, exit_code: int) -> None:
        """The last status of this process."""
        self._rest()  # or a late heartbeat would write over it
        self._state, self._message, self._trouble, self.exit_code = state, message, "", exit_code
        self._write_status(exit_code)

    def progress(self, what: str) -> Callable[[float], None]:
        """A listener for the share that is done of something before the first step; shown as the status's message."""

        def say(share: float) -> None:
            self._message = f"{what}, {share:.0%}"

        return say

    def tell(self, line: str) -> None:
        """A line for the log that is the status's message too, until the first step: what set-up waits for, say."""
        self.note(line)
        if self._state == "starting":
            self._message = line

    # What the loop tells (`lm.train.Observer`):

    def stop_asked(self) -> bool:
        return self._stopping

    def at(self, progress: TrainState, waiting: bool) -> None:
        self.step, self.tokens = progress.step, progress.tokens
        if self._untold is not None and self.teller is not None and self.step:
            self.teller.ask(0, self._untold)
            self._untold = None
        self._message = "waiting for stories" if waiting else ""
        self._state = "waiting" if waiting else "running"

    def evaluated(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        if self.teller is None:
            return
        if progress.step == 0:  # nobody waits for what an untrained model says, but all do for the first step
            self._untold = weights
        else:
            self.teller.ask(progress.step, weights)

    def card_due(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        if self.grader is not None:
            self.grader.ask(progress.step, weights)

    def scores(self) -> list[dict[str, float]]:
        return self.grader.take() if self.grader is not None else []

    def trouble(self, error: OSError | None) -> None:
        """The disk takes no metrics or no checkpoint, or (None) takes them again; logged once, shown while it lasts."""
        what = "" if error is None else _disk_trouble(error)
        if what == self._trouble:
            return
        self._trouble = what
        self.note(f"{what}; training goes on" if what else "metrics and checkpoints are written again")

    def note(self, line: str) -> None:
        """A line for the run's log; training goes on where it cannot be written, and the line waits."""
        self._notes.append(f"{time.strftime('%H:%M:%S')} {safe_line(line)}\n")
        self._write_notes()

    def _write_notes(self) -> None:
        with self._log_lock, contextlib.suppress(OSError):
            while self._notes:
                line = self._notes[0].encode("utf-8", "backslashreplace")
                with self.folder.log.open("ab", buffering=0) as log:
                    end = log.seek(0, os.SEEK_END)
                    if (log.write(line) or 0) < len(line):  # the disk is full: no torn line stays
                        log.truncate(end)
                        return
                self._notes.popleft()

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._stopping and self._owner is not None:
            return  # its leader counts: a signal for all processes comes to each, and is passed on to each, too
        if self._stopping:
            os._exit(128 + number)
        self._stopping = True
        if self._raises:
            raise StoppedEarly

    def listen(self, notes: Sequence[str]) -> None:
        """Log each line that is in `notes`, and those that come to it while the run lasts (a broken line, say)."""
        self._sources.append((notes, 0))
        self._log_new_notes()

    def _log_new_notes(self) -> None:
        for i, (notes, seen) in enumerate(self._sources):
            new = notes[seen:]
            self._sources[i] = (notes, seen + len(new))
            for line in new:
                self.note(line)

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            self._log_new_notes()
            self._write_notes()
            self._write_status()

    def _rest(self) -> None:
        """No more heartbeats."""
        self._over.set()
        self._heart.join()
        self._log_new_notes()
        self._write_notes()

    def _write_status(self, exit_code: int | None = None) -> None:
        state = "stopping" if self._stopping and self._state in ("starting", "running", "waiting") else self._state
        message = self._trouble or self._message
        self._address = self._address or page_address(self.folder)
        status = own_status(
            state,
            step=self.step,
            tokens=self.tokens,
            message=message,
            exit_code=exit_code,
            wandb_url=self._address,
        )
        if (owner := self._owner) is not None:
            status = replace(status, pid=owner.pid, create_time=owner.create_time, birth=owner.birth)
        try:
            try:
                write_status(self.folder, status)
            except OSError:
                overwrite_status(self.folder, status)
        except OSError as error:
            if not self._status_fails:
                self.note(f"the status cannot be written ({error.strerror})")
            self._status_fails = True
        else:
            self._status_fails = False


class SilentReporter:
    """The loop's observer in a process that tells nobody: it hears signals, as `StatusReporter` does, and no more."""

    def __init__(self) -> None:
        self._stopping = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Signal handlers, for as long as this lasts."""
        handlers = {number: signal.signal(number, self._signalled) for number in STOP_SIGNALS}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def stop_asked(self) -> bool:
        return self._stopping

    def at(self, progress: TrainState, waiting: bool) -> None:
        """Nobody is told."""

    def evaluated(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        """Nobody is told."""

    def card_due(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        """Nobody is told."""

    def scores(self) -> list[dict[str, float]]:
        """The first process has them."""
        return []

    def trouble(self, error: OSError | None) -> None:
        """Nobody is told."""

    def note(self, line: str) -> None:
        """Nobody is told."""


def _disk_trouble(error: OSError) -> str:
    if is_disk_full(error):
        return "the disk is full: free some space, or nothing more of this run is saved"
    return f"the disk cannot be written ({error.strerror}): look at it, or nothing more of this run is saved"

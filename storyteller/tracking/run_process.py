"""Waits for a run's training process to end, and stops it. Nothing of the training code is imported here."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator

from storyteller.errors import RunError
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, RunState, Status, owner_alive, read_status, seen_state

_POLL_SECONDS = 0.05


def wait_end(folder: RunFolder, timeout_seconds: float | None = None) -> RunState:
    """Waits until the run has ended and returns its state. Raises RunError if the time is up."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while (state := seen_state(folder)) in LIVING:
        if deadline is not None and time.monotonic() > deadline:
            name = safe_line(folder.name, 80)
            raise RunError(f"{name} is still {state} after {timeout_seconds:g} s", f"storyteller wait {name}")
        time.sleep(4 * _POLL_SECONDS)
    return state


def stop(folder: RunFolder, now: bool = False, timeout_seconds: float = 60.0) -> RunState:
    """Asks the run to finish its step, save and exit; with `now`, kills it. Waits for its end, returns its state.

    Signals only the process that wrote the status, never another one that has its pid by now. Raises RunError if the
    run is not alive, belongs to another user, or does not end in time.
    """
    name = safe_line(folder.name, 80)
    status = read_status(folder)
    if status is None or status.state not in LIVING:
        raise _not_alive(folder)
    with _pidfd(status) as handle:
        if not owner_alive(status):
            raise _not_alive(folder)
        # A second SIGTERM means "at once", and a run that is already stopping has had its first.
        if now or status.state != "stopping":
            which = signal.SIGKILL if now else signal.SIGTERM
            try:
                if handle is None:
                    os.kill(status.pid, which)
                else:
                    signal.pidfd_send_signal(handle, which)
            except ProcessLookupError:
                return seen_state(folder)
            except PermissionError as error:
                raise RunError(f"{name} belongs to another user", "ask them to stop it") from error
        if not _wait_end(status, handle, timeout_seconds):
            raise RunError(
                f"{name} has not ended within {timeout_seconds:g} s",
                f"it may still be saving; `storyteller stop {name} --now` kills it",
            )
    return seen_state(folder)


def _not_alive(folder: RunFolder) -> RunError:
    name, state = safe_line(folder.name, 80), seen_state(folder)
    how = {"finished": "has finished", "failed": "has failed", "died": "has died", "stopped": "was stopped"}
    remedy = "nothing to stop" if state == "finished" else f"`storyteller resume {name}` continues it"
    return RunError(f"{name} is not running (it {how.get(state, f'is {state}')})", remedy)


@contextlib.contextmanager
def _pidfd(status: Status) -> Iterator[int | None]:
    """Opens a pidfd (pidfd_open(2), Linux) of the process that has the pid now; None where there are no pidfds.

    A pid may be reused between checking who has it and signalling it. A pidfd never refers to another process: open it,
    then check the owner, then signal through it.
    """
    handle = None
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        with contextlib.suppress(OSError, OverflowError):  # the process is gone, or the kernel has no pidfds
            handle = os.pidfd_open(status.pid)
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _wait_end(status: Status, handle: int | None, timeout_seconds: float) -> bool:
    """Returns True if the process ended in time."""
    if handle is not None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)  # readable once the process has ended, reaped or not
        return bool(poll.poll(timeout_seconds * 1000))
    deadline = time.monotonic() + timeout_seconds
    while owner_alive(status):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

"""The training process from outside: start it, wait until it is ready, read its log, stop it.

It is known by its command line alone; nothing of what trains is imported here.
"""

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
from storyteller.tracking.run_status import (
    LIVING,
    RunState,
    Status,
    owner_alive,
    read_status,
    seen_state,
)

_POLL_SECONDS = 0.05


def wait_end(folder: RunFolder, timeout_seconds: float | None = None) -> RunState:
    """Wait until the run does not live any more; what it then is. Raises RunError where the time is up."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while (state := seen_state(folder)) in LIVING:
        if deadline is not None and time.monotonic() > deadline:
            name = safe_line(folder.name, 80)
            raise RunError(f"{name} {_IS[state]} still, after {timeout_seconds:g} s", f"storyteller wait {name}")
        time.sleep(4 * _POLL_SECONDS)
    return state


def stop(folder: RunFolder, now: bool = False, timeout_seconds: float = 60.0) -> RunState:
    """Ask the run to finish its step, save and exit, and wait for that; with `now`, kill it. What it then is.

    Only the process that wrote the status is ever signalled, not one that has its pid by now. Raises RunError where the
    run is not alive, belongs to someone else, or does not end in time.
    """
    name = safe_line(folder.name, 80)
    status = read_status(folder)
    if status is None or status.state not in LIVING:
        raise _not_alive(folder)
    with _pinned(status) as handle:
        if not owner_alive(status):
            raise _not_alive(folder)
        # A second SIGTERM means "at once", and a run that is stopping already has had its first.
        if now or status.state != "stopping":
            try:
                _send(status.pid, handle, signal.SIGKILL if now else signal.SIGTERM)
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
    remedy = "there is nothing to stop" if state == "finished" else f"`storyteller resume {name}` goes on with it"
    return RunError(f"{name} is not running (it {_IS[state]})", remedy)


_IS: dict[RunState, str] = {
    "starting": "is starting",
    "running": "is running",
    "waiting": "is waiting",
    "stopping": "is stopping",
    "finished": "has finished",
    "stopped": "was stopped",
    "failed": "has failed",
    "died": "has died",
}


@contextlib.contextmanager
def _pinned(status: Status) -> Iterator[int | None]:
    """A handle of the process that has the pid now, which no later process can come by; None where there are none.

    Checked after it is taken, it closes the gap between looking at a process and signalling it.
    """
    handle = None
    if hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal"):
        with contextlib.suppress(OSError, OverflowError):  # gone, or a kernel without them
            handle = os.pidfd_open(status.pid)
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _send(pid: int, handle: int | None, which: signal.Signals) -> None:
    if handle is None:
        os.kill(pid, which)
    else:
        signal.pidfd_send_signal(handle, which)


def _wait_end(status: Status, handle: int | None, timeout_seconds: float) -> bool:
    """Whether the process ended in time."""
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

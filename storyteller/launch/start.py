"""Starting the training process."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from storyteller.errors import RunBusyError, RunError, StorytellerError, UsageError
from storyteller.system.child_process import environment, held_back, signal_name
from storyteller.text import safe_line
from storyteller.tracking.log_file import log_tail
from storyteller.tracking.run_folder import RunFolder, check_links
from storyteller.tracking.run_process import _POLL_SECONDS
from storyteller.tracking.run_status import (
    LIVING,
    Status,
    owned_by,
    read_status,
    same_owner,
    seen_state,
    write_status,
)

_SPEAKS_WITHIN_SECONDS = 1.0
_READY = ("running", "waiting", "finished", "stopped")


def start(
    folder: RunFolder, arguments: Sequence[str] = (), *, command: Sequence[str] | None = None
) -> subprocess.Popen[bytes]:
    """Start the run's training process in a session of its own, so that it outlives this terminal.

    What it prints is appended to the run's log. `command` takes the place of the worker's command line. Raises RunError
    where a link in the run's folder leads elsewhere, OSError where the process cannot be started.
    """
    check_links(folder)
    words = (
        list(command)
        if command is not None
        else [sys.executable, "-m", "storyteller.training.worker", str(folder.path)]
    )
    # The worker takes them up again once it can record that it was stopped; a signal while it imports waits till then.
    signals = (signal.SIGTERM, signal.SIGINT) if command is None else ()
    with folder.log.open("ab") as log, held_back(signals):
        process = subprocess.Popen(
            [*words, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            start_new_session=True,
            env=environment(),
        )
    # A new run says `starting` from here on, not only once its process can speak. Never over what that has written.
    with contextlib.suppress(OSError):
        write_status(folder, owned_by("starting", process.pid), only_new=True)
    return process


def start_mirror(folder: RunFolder, mode: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the process that copies the run's log to Weights & Biases, in a session of its own; `online` or `offline`.

    Raises OSError where it cannot be started; training does not need it.
    """
    words = [sys.executable, "-m", "storyteller.tracking.wandb_mirror", str(folder.path), "--mode", mode]
    with folder.mirror_log.open("ab") as log:
        return subprocess.Popen(
            [*words, "--since", str(time.time_ns()), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            start_new_session=True,
            env=environment(),
        )


def wait_ready(folder: RunFolder, process: subprocess.Popen[bytes], timeout_seconds: float | None = None) -> Status:
    """Wait until the process takes its first step, waits for stories, or has ended well; its status then.

    Raises RunError where it failed or ended before, with what it said last (UsageError where that was what it failed
    of, RunBusyError where another process has the run), or where the time is up (it is left running then).
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    owner = owned_by("starting", process.pid)  # before the first poll, after which a dead process has no birth
    while True:
        ended = process.poll()  # before the status is read: what it wrote last is then seen
        status = read_status(folder)
        # Before a resumed process speaks, the status is of the one before, even one of the same pid in a container.
        own = status if status is not None and _is_of(status, owner) else None
        if own is not None and own.state in _READY and (ended is None or own.state in ("finished", "stopped")):
            return own
        if ended is not None:
            raise _start_failed(folder, own, ended)
        if deadline is not None and time.monotonic() > deadline:
            raise RunError(
                f"{safe_line(folder.name, 80)} took no step within {timeout_seconds:g} s",
                f"storyteller logs {safe_line(folder.name, 80)} -f shows what it does",
            )
        time.sleep(_POLL_SECONDS)


def _is_of(status: Status, owner: Status) -> bool:
    """Whether the process wrote the status; one that was reaped before we looked is known by its pid alone."""
    return same_owner(status, owner) if owner.create_time else status.pid == owner.pid


def _start_failed(folder: RunFolder, status: Status | None, exit_code: int) -> StorytellerError:
    name = safe_line(folder.name, 80)
    if status is not None and status.state == "failed" and status.message:
        kind = UsageError if status.exit_code == UsageError.exit_status else RunError
        return kind(safe_line(status.message))
    if status is None and exit_code == 1 and _another_lives(folder):
        return RunBusyError(f"{name} is being trained by another process", f"storyteller logs {name} -f follows it")
    how = f"exit status {exit_code}" if exit_code >= 0 else signal_name(-exit_code)
    tail = " | ".join(safe_line(line, 200) for line in log_tail(folder))
    said = f"; its log ends: {tail}" if tail else ""
    return RunError(f"{name} ended before its first step ({how}){said}", f"storyteller logs {name} shows all it said")


def _another_lives(folder: RunFolder) -> bool:
    """Whether another process has the run; one that has just won it over ours takes a moment to say so."""
    deadline = time.monotonic() + _SPEAKS_WITHIN_SECONDS
    while seen_state(folder) not in LIVING:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

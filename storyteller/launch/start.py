"""Starts a run's training process and its W&B mirror as processes that outlive the terminal."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from storyteller.errors import RunBusyError, RunError, StorytellerError, UsageError
from storyteller.system.child_process import block_signals, environment, signal_name
from storyteller.system.signals import STOP_SIGNALS
from storyteller.text import safe_line
from storyteller.tracking.log_file import last_lines
from storyteller.tracking.run_folder import RunFolder, check_links
from storyteller.tracking.run_status import LIVING, Status, owned_by, read_status, same_owner, seen_state, write_status

_POLL_SECONDS = 0.05
_STATUS_WITHIN_SECONDS = 1.0  # time for a process that has just taken a run's lock to write its first status
_READY = ("running", "waiting", "finished", "stopped")


def start(
    folder: RunFolder, arguments: Sequence[str] = (), *, command: Sequence[str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts the run's training process, with its output appended to the run's log.

    `command` replaces the worker's command line. Raises RunError where a link in the run's folder leads elsewhere, and
    OSError where the process cannot be started.
    """
    check_links(folder)
    # The worker unblocks the signals once it can record that it was stopped. Until then they stay pending, so a run
    # that is stopped while it still imports ends as `stopped` all the same.
    worker = command or [sys.executable, "-m", "storyteller.training.worker", str(folder.path)]
    with block_signals(STOP_SIGNALS if command is None else ()):
        process = _start_detached([*worker, *arguments], folder.log)
    # A new run is `starting` from here on, before its process can write a status; an existing status is left alone.
    with contextlib.suppress(OSError):
        write_status(folder, owned_by("starting", process.pid), only_new=True)
    return process


def start_mirror(folder: RunFolder, mode: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Starts the process that copies the run's log to Weights & Biases, with `mode` `online` or `offline`.

    Raises OSError where it cannot be started. Training does not need it.
    """
    mirror = [sys.executable, "-m", "storyteller.tracking.wandb_mirror", str(folder.path), "--mode", mode]
    return _start_detached([*mirror, "--since", str(time.time_ns()), *arguments], folder.mirror_log)


def _start_detached(command: Sequence[str], log_path: Path) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own, so that it outlives the terminal, with its output in `log_path`."""
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            close_fds=True,
            start_new_session=True,
            env=environment(),
        )


def wait_ready(folder: RunFolder, process: subprocess.Popen[bytes], timeout_seconds: float | None = None) -> Status:
    """Waits until the process trains, waits for stories, or has ended without an error, and returns its status.

    Raises RunError with its last messages where it fails or ends before (UsageError for a usage error, RunBusyError
    where another process owns the run), or after `timeout_seconds`, when it is left running.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    owner = owned_by("starting", process.pid)  # before the first poll, which can reap it and lose its creation time
    while True:
        ended = process.poll()  # before the status is read, so that the last status of an ended process is seen
        status = read_status(folder)
        # Until a resumed process writes its status, the file holds the one of the process before it, which may even
        # have had the same pid in a container.
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
    """True if the process wrote the status. One that was reaped before `owner` was made is known by its pid alone."""
    return same_owner(status, owner) if owner.create_time else status.pid == owner.pid


def _start_failed(folder: RunFolder, status: Status | None, exit_code: int) -> StorytellerError:
    name = safe_line(folder.name, 80)
    if status is not None and status.state == "failed" and status.message:
        kind = UsageError if status.exit_code == UsageError.exit_status else RunError
        return kind(safe_line(status.message))
    if status is None and exit_code == 1 and _is_owned_by_another(folder):
        return RunBusyError(f"{name} is being trained by another process", f"storyteller logs {name} -f follows it")
    how = f"exit status {exit_code}" if exit_code >= 0 else signal_name(-exit_code)
    tail = " | ".join(safe_line(line, 200) for line in last_lines(folder))
    said = f"; its log ends: {tail}" if tail else ""
    return RunError(f"{name} ended before its first step ({how}){said}", f"storyteller logs {name} shows its whole log")


def _is_owned_by_another(folder: RunFolder) -> bool:
    """True if another process owns the run. If it took the lock a moment ago, its status is still to come."""
    deadline = time.monotonic() + _STATUS_WITHIN_SECONDS
    while seen_state(folder) not in LIVING:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True

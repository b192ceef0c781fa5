"""The training process from outside: start it, wait until it is ready, read its log, stop it.

It is known by its command line alone; nothing of what trains is imported here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from storyteller.errors import RunBusyError, RunError, StorytellerError, UsageError
from storyteller.text import safe_line
from storyteller.tracking.metrics_log import open_regular
from storyteller.tracking.run_folder import RunFolder, check_links
from storyteller.tracking.run_status import (
    LIVING,
    Seen,
    Status,
    owned_by,
    owner_alive,
    read_status,
    same_owner,
    seen_state,
    write_status,
)

_POLL_SECONDS = 0.05
_TAIL_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 16
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


def wait_end(folder: RunFolder, timeout_seconds: float | None = None) -> Seen:
    """Wait until the run does not live any more; what it then is. Raises RunError where the time is up."""
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while (state := seen_state(folder)) in LIVING:
        if deadline is not None and time.monotonic() > deadline:
            name = safe_line(folder.name, 80)
            raise RunError(f"{name} {_IS[state]} still, after {timeout_seconds:g} s", f"storyteller wait {name}")
        time.sleep(4 * _POLL_SECONDS)
    return state


def stop(folder: RunFolder, now: bool = False, timeout_seconds: float = 60.0) -> Seen:
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


def log_tail(folder: RunFolder, n: int = 5) -> list[str]:
    """The last `n` lines of the log that are not blank, as they stand: not safe to show yet."""
    try:
        with open_regular(folder.log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line][-n:] if n > 0 else []


def follow_log(folder: RunFolder, follow: bool) -> Iterator[str]:
    """The log's lines as they stand, not safe to show yet, without their newlines.

    With `follow`, goes on until the run no longer lives and all it wrote was read.
    """
    while follow and not folder.log.exists() and seen_state(folder) in LIVING:
        time.sleep(_POLL_SECONDS)
    try:
        file = open_regular(folder.log)
    except FileNotFoundError:
        return
    piece = b""
    with file:
        while True:
            living = follow and seen_state(folder) in LIVING  # before the read: nothing written after it is missed
            while block := file.read(_BLOCK_BYTES):
                *lines, piece = (piece + block).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
            if not living:
                break
            time.sleep(4 * _POLL_SECONDS)
    if piece:
        yield piece.decode("utf-8", "replace")


@contextlib.contextmanager
def held_back(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """A process that is started in here has the signals blocked from its beginning, and so has all that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment() -> dict[str, str]:
    """This process's environment, put so that the child finds this package and nothing in the current folder."""
    environment = dict(os.environ)
    package_home = Path(__file__).resolve().parents[2]
    if package_home.name not in ("site-packages", "dist-packages"):
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(package_home), *([earlier] if earlier else [])])
    # `-m` puts the current folder first on the path: a `random.py` beside someone's stories would be imported.
    environment["PYTHONSAFEPATH"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    return environment


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


def _not_alive(folder: RunFolder) -> RunError:
    name, state = safe_line(folder.name, 80), seen_state(folder)
    remedy = "there is nothing to stop" if state == "finished" else f"`storyteller resume {name}` goes on with it"
    return RunError(f"{name} is not running (it {_IS[state]})", remedy)


_IS: dict[Seen, str] = {
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


def signal_name(number: int) -> str:
    """How the signal of this number ended a process, in words."""
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"

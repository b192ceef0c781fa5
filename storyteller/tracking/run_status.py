"""The state of a run, `status.json`, and the check that the process which wrote it is still alive."""

from __future__ import annotations

import datetime
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from storyteller.system.files import json_bytes, write_json
from storyteller.system.json_values import read_dataclass_file
from storyteller.tracking.run_folder import RunFolder

State = Literal["starting", "running", "waiting", "stopping", "finished", "stopped", "failed"]
"""`waiting`: no training data arrives (the Hub is unreachable). The last three are final."""
RunState = State | Literal["died"]  # as a reader sees it; `died`: the status says it lives, but its process is gone

LIVING: tuple[RunState, ...] = ("starting", "running", "waiting", "stopping")

_AT_LEAST_BYTES = 1024  # minimum length of the file: leaves room for a longer message when it is overwritten in place
_SAME_SECONDS = 0.01  # readings of one process's start time differ by rounding; the kernel counts in ticks of 10 ms


@dataclass(frozen=True)
class Status:
    """The contents of `status.json`."""

    state: State
    pid: int
    create_time: float  # start time of the owner, epoch seconds by the system clock; needed because pids are reused
    step: int = 0
    tokens: int = 0
    heartbeat_at: str = ""  # when this was written, UTC, ISO 8601
    message: str = ""  # for the user: why the run waits or failed
    exit_code: int | None = None
    birth: str = ""
    """Start time of the owner by a clock that is never set (Linux: the boot's id and ticks since boot), or empty.

    `create_time` is computed from the system clock and changes when that is set; this does not.
    """
    wandb_url: str = ""  # address of the run's Weights & Biases page; empty if it has none yet


def now_utc() -> str:
    """Returns the time, UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def own_status(state: State, **changes: Any) -> Status:
    """Returns the current status of a run that this process owns, with other fields of Status changed."""
    return replace(owned_by(state, os.getpid()), **changes)


def write_status(folder: RunFolder, status: Status, *, only_new: bool = False) -> None:
    """Replaces `status.json` atomically. Raises OSError; with `only_new`, FileExistsError if there is one."""
    if not status.birth and status.pid == os.getpid():
        owner = owned_by(status.state, status.pid)
        status = replace(status, birth=owner.birth) if same_owner(status, owner) else status
    write_json(folder.status_json, asdict(status), only_new=only_new, at_least_bytes=_AT_LEAST_BYTES)


def overwrite_status(folder: RunFolder, status: Status) -> None:
    """Overwrites `status.json` in place, for a disk that has no room for a second file. Raises OSError.

    A single write that keeps the file's length, cutting the message if necessary: it needs no new block on the disk,
    and a reader sees either the old status or the new one.
    """
    with folder.status_json.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        too_long = len(json_bytes(asdict(status), size)) - size
        if too_long > 0:
            status = replace(status, message=status.message[:-too_long])
        file.write(json_bytes(asdict(status), size))


def read_status(folder: RunFolder) -> Status | None:
    """Reads `status.json`; None if it is missing or broken."""
    return read_dataclass_file(Status, folder.status_json)


def create_time(pid: int) -> float | None:
    """Start time of the process, seconds since the epoch by the system clock; None if there is no such process."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None


def birth(pid: int) -> str:
    """Identifies the process's start, unlike any other process's with this pid; empty where not supported.

    On Linux: the boot's id, and the start in ticks since boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)), which
    setting the clock does not change.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # The second field, the command's name in parentheses, may itself contain spaces and parentheses.
        ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError):
        return ""
    return f"{boot}/{ticks}"


def owned_by(state: State, pid: int) -> Status:
    """Returns a status at step 0 for the process that has `pid` now."""
    return Status(state, pid, create_time(pid) or 0.0, heartbeat_at=now_utc(), birth=birth(pid))


def same_owner(one: Status, other: Status) -> bool:
    """True if one process owns both. The system clock does not matter if both have a `birth`."""
    if one.pid != other.pid:
        return False
    if one.birth and other.birth:
        return one.birth == other.birth
    return abs(one.create_time - other.create_time) <= _SAME_SECONDS


def owner_alive(status: Status) -> bool:
    """True if the process that wrote `status` is alive: not a zombie, and not another process with its pid."""
    import psutil

    try:
        process = psutil.Process(status.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
    except (psutil.Error, ValueError, OverflowError):
        return False
    return same_owner(status, owned_by("running", status.pid))


def seen_state(folder: RunFolder) -> RunState:
    """Returns the state of the run: that of its status, or `died` without a readable status or a live owner."""
    # Without a live owner, the status is read again: the run may have ended, and written its final one, meanwhile.
    for _ in range(2):
        status = read_status(folder)
        if status is None:
            break
        if status.state not in LIVING or owner_alive(status):
            return status.state
    return "died"

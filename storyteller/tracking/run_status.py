"""What a run is doing, and whether that is still true: a state counts only while its owner lives."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from storyteller.system.files import json_bytes, read_regular, write_json
from storyteller.system.json_values import read_dataclass
from storyteller.tracking.run_folder import RunFolder

State = Literal["starting", "running", "waiting", "stopping", "finished", "stopped", "failed"]
"""`waiting` is a run whose stories do not come (the Hub is away); the last three are ends."""
RunState = State | Literal["died"]
"""What a reader sees: `died` is a run that says it lives and has no living owner."""

LIVING: tuple[RunState, ...] = ("starting", "running", "waiting", "stopping")

_AT_LEAST_BYTES = 1024
"""The file's length: room for a longer message where it has to be written over in its place."""

_SAME_SECONDS = 0.01
"""Two readings of one process's start differ by rounding alone; the clock behind them ticks every 10 ms."""


@dataclass(frozen=True)
class Status:
    """The contents of `status.json`."""

    state: State
    pid: int
    create_time: float
    """When the owner started, seconds since the epoch by the system clock: a pid alone comes back."""
    step: int = 0
    tokens: int = 0
    heartbeat_at: str = ""
    """When this was written: UTC, ISO 8601."""
    message: str = ""
    """What a person should know: why it waits, why it failed."""
    exit_code: int | None = None
    birth: str = ""
    """When the owner started, by a clock that nobody sets (Linux: the boot's id and ticks since), or empty.

    `create_time` is worked out from the system clock and moves when that is set; this does not.
    """

    wandb_url: str = ""
    """The address of the run's Weights & Biases page; empty where it has none (yet)."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, plain: object) -> Self | None:
        """The status that `to_json` wrote; keys that are not known are left out; None where it is none."""
        try:
            return read_dataclass(cls, plain)
        except ValueError:
            return None


def now_utc() -> str:
    """The time now: UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def own_status(
    state: State,
    *,
    step: int = 0,
    tokens: int = 0,
    message: str = "",
    exit_code: int | None = None,
    wandb_url: str = "",
) -> Status:
    """The status of a run that this process owns, as of now."""
    owner = owned_by(state, os.getpid())
    return replace(owner, step=step, tokens=tokens, message=message, exit_code=exit_code, wandb_url=wandb_url)


def write_status(folder: RunFolder, status: Status, *, only_new: bool = False) -> None:
    """Replace `status.json`, atomically. Raises OSError; with `only_new`, FileExistsError where there is one."""
    if not status.birth and status.pid == os.getpid():
        owner = owned_by(status.state, status.pid)
        status = replace(status, birth=owner.birth) if same_owner(status, owner) else status
    write_json(folder.status_json, status.to_json(), only_new=only_new, at_least_bytes=_AT_LEAST_BYTES)


def overwrite_status(folder: RunFolder, status: Status) -> None:
    """Put `status` in the place of the last one, for a disk that has no room for a second file. Raises OSError.

    One write that leaves the file's length as it is, a message being cut to what fits: needs no new block of the disk,
    and a reader sees the old status or the new one.
    """
    handle = os.open(folder.status_json, os.O_WRONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        too_long = len(json_bytes(status.to_json(), size)) - size
        if too_long > 0:
            status = replace(status, message=status.message[:-too_long])
        os.pwrite(handle, json_bytes(status.to_json(), size), 0)
    finally:
        os.close(handle)


def read_status(folder: RunFolder) -> Status | None:
    """What `status.json` says; None where it is missing or broken."""
    try:
        return Status.from_json(json.loads(read_regular(folder.status_json)))
    except (OSError, ValueError, RecursionError):
        return None


def create_time(pid: int) -> float | None:
    """When the process started, seconds since the epoch by the system clock; None where there is none."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None


def birth(pid: int) -> str:
    """When the process started, as a word that no other process has had; empty where the system has none.

    Linux counts a process's start in ticks since boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)), which no
    setting of the clock changes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # The second field, the command's name in parentheses, may hold spaces and parentheses of its own.
        ticks = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode("ascii")
    except (OSError, IndexError, UnicodeDecodeError):
        return ""
    return f"{boot}/{ticks}"


def owned_by(state: State, pid: int) -> Status:
    """A status at step 0 for the process that has `pid` now."""
    return Status(state, pid, create_time(pid) or 0.0, heartbeat_at=now_utc(), birth=birth(pid))


def same_owner(one: Status, other: Status) -> bool:
    """Whether one process owns both; where both know their birth, the system clock has no say."""
    if one.pid != other.pid:
        return False
    if one.birth and other.birth:
        return one.birth == other.birth
    return abs(one.create_time - other.create_time) <= _SAME_SECONDS


def owner_alive(status: Status) -> bool:
    """Whether the process that wrote `status` lives: the same process, not one with its pid, and no zombie."""
    import psutil

    try:
        process = psutil.Process(status.pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
    except (psutil.Error, ValueError, OverflowError):
        return False
    return same_owner(status, owned_by("running", status.pid))


def seen_state(folder: RunFolder) -> RunState:
    """What the run is doing, as a reader may believe it: without a readable status or a living owner, `died`."""
    status = read_status(folder)
    if status is None:
        return "died"
    if status.state in LIVING and not owner_alive(status):
        # It may have ended between the two looks: an end written meanwhile is the truth.
        status = read_status(folder)
        if status is None or (status.state in LIVING and not owner_alive(status)):
            return "died"
    return status.state

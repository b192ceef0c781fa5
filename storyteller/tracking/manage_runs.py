"""Deletes and renames runs, each with a single rename of the folder, so that no reader sees half a run."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from storyteller.errors import RunBusyError, RunError
from storyteller.system.files import fsync_folder, sweep
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder, check_links, check_name
from storyteller.tracking.run_status import LIVING, seen_state


def delete(folder: RunFolder) -> None:
    """Deletes the run and everything in it, atomically for readers. Does not follow links.

    Raises RunBusyError if the run is alive; RunError if it does not exist, is a link, contains a link that leads out of
    the runs folder, or cannot be removed.
    """
    with _idle(folder):
        root = folder.path.parent
        hidden = root / f".removed-{os.getpid()}-{secrets.token_hex(6)}"
        _move(folder, hidden, "deleted")
        sweep(root)


def rename(folder: RunFolder, name: str) -> RunFolder:
    """Renames the run and returns its new folder. Its W&B page keeps the old name.

    Raises UsageError for an invalid name, RunBusyError if the run is alive, RunError as `delete` does and if the name
    is taken.
    """
    renamed = RunFolder(folder.path.parent / check_name(name))
    if renamed.path == folder.path:
        return folder
    with _idle(folder):
        run = folder.read_run()
        try:
            renamed.path.mkdir()  # reserves the name: mkdir is atomic, and a folder can be renamed onto an empty one
        except FileExistsError:
            raise RunError(f"a run named {name} exists", "choose another name") from None
        except OSError as error:
            raise _cannot(folder, "renamed", error) from error
        try:
            _move(folder, renamed.path, "renamed")
        except RunError:
            with contextlib.suppress(OSError):
                renamed.path.rmdir()
            raise
        try:
            renamed.write_run(run | {"name": name})
        except OSError as error:
            with contextlib.suppress(OSError):
                renamed.path.rename(folder.path)
            raise _cannot(folder, "renamed", error) from error
    return renamed


@contextlib.contextmanager
def _idle(folder: RunFolder) -> Iterator[None]:
    """Holds the run's lock. Raises RunBusyError if the run is alive, RunError if it is not a usable run."""
    from filelock import FileLock, Timeout

    shown = safe_line(folder.name, 80)
    if folder.path.is_symlink():
        raise RunError(f"{shown} is a link", "remove the link by hand, or use the runs folder it leads to")
    check_links(folder)
    if not folder.run_json.is_file():
        raise RunError(f"there is no run {shown}", "storyteller ps lists the runs")
    state = seen_state(folder)
    if state in LIVING:
        raise RunBusyError(f"{shown} is {state}", f"storyteller stop {shown} first")
    try:
        lock = FileLock(folder.lock).acquire(timeout=0)
    except Timeout:
        raise RunBusyError(f"{shown} is being trained", f"storyteller stop {shown} first") from None
    except OSError as error:
        raise _cannot(folder, "locked", error) from error
    with lock:
        yield


def _move(folder: RunFolder, target: Path, how: str) -> None:
    try:
        folder.path.rename(target)
    except OSError as error:
        raise _cannot(folder, how, error) from error
    with contextlib.suppress(OSError):
        fsync_folder(target.parent)


def _cannot(folder: RunFolder, how: str, error: OSError) -> RunError:
    why = error.strerror or str(error)
    return RunError(f"{safe_line(folder.name, 80)} cannot be {how} ({why})", "check the folder's permissions")

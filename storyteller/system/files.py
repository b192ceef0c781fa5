"""Reading and writing files safely."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import stat
from pathlib import Path
from typing import Any, BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """`path` to be read. Raises OSError, also where it is no regular file: a pipe might never open, or never end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "no regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path) -> bytes:
    """All of `path`. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def json_bytes(value: Any, at_least_bytes: int = 0) -> bytes:
    """`value` as the files of a run have it, padded with spaces. Raises ValueError where a number is not finite."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2)
    # A lone surrogate (a file name that is not UTF-8) stays readable instead of failing the write.
    return text.encode("utf-8", "backslashreplace").ljust(at_least_bytes - 1) + b"\n"


def write_json(path: Path, value: Any, *, only_new: bool = False, at_least_bytes: int = 0) -> None:
    """Write `value` so that `path` holds all of it or what it held before, also after a power cut.

    With `only_new`, an existing file is left alone and FileExistsError raised. Raises OSError where the disk is full or
    cannot be written, ValueError where a number is not finite; nothing is left behind then.
    """
    _write(path, json_bytes(value, at_least_bytes), only_new)


def write_text(path: Path, text: str) -> None:
    """Replace `path` with the text as UTF-8, as atomically as `write_json` does. Raises OSError."""
    _write(path, text.encode("utf-8", "backslashreplace"), only_new=False)


def write_bytes(path: Path, contents: bytes) -> None:
    """Replace `path` with the bytes, as atomically as `write_json` does. Raises OSError."""
    _write(path, contents, only_new=False)


def _write(path: Path, contents: bytes, only_new: bool) -> None:
    # The pid tells a left-over of a killed process from a write that is under way.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        if only_new:
            os.link(temporary, path)
            temporary.unlink()
        else:
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def sweep_temporaries(path: Path) -> None:
    """Remove from the folder `path` what killed processes left of their `write_json`."""
    for left in path.glob(".*.tmp"):
        match = re.fullmatch(r"\..+\.(\d{1,18})-[0-9a-f]{6}\.tmp", left.name)
        if match and not pid_exists(int(match[1])):
            left.unlink(missing_ok=True)


def fsync_files(path: Path) -> None:
    """Make a folder of files outlive a power cut: its files, its entries, and its own name."""
    for file in path.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    fsync_folder(path)
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Make the folder's entries outlive a power cut: an fsync of a file alone does not keep its name."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pid_exists(pid: int) -> bool:
    """Whether a process has this pid now, whichever that is."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


_REMOVED = re.compile(r"\.removed-(\d{1,18})-[0-9a-f]{12}")


def sweep(root: Path) -> None:
    """Remove what deletions left: those of this process, and those of processes that were killed meanwhile."""
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            match = _REMOVED.fullmatch(path.name)
            if match and not path.is_symlink() and (int(match[1]) == os.getpid() or not pid_exists(int(match[1]))):
                shutil.rmtree(path, ignore_errors=True)

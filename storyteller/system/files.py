"""Reads and writes files safely: atomic writes that survive a power cut, and no reads that could block."""

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
    """Opens a file for reading. Raises OSError, also if it is not a regular file: a pipe could block forever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_regular(path: Path) -> bytes:
    """Returns the contents of a file. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def json_bytes(value: Any, at_least_bytes: int = 0) -> bytes:
    """Encodes `value` as indented JSON, padded with spaces. Raises ValueError if a number is not finite."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=2)
    # A lone surrogate (a file name that is not UTF-8) stays readable instead of failing the write.
    return text.encode("utf-8", "backslashreplace").ljust(at_least_bytes - 1) + b"\n"


def write_json(path: Path, value: Any, *, only_new: bool = False, at_least_bytes: int = 0) -> None:
    """Writes JSON atomically: the file has either its new or its old contents, also after a power cut.

    With `only_new`, raises FileExistsError if the file exists. Raises OSError if the disk is full or cannot be written,
    and ValueError if a number is not finite; no temporary file is left behind.
    """
    write_bytes(path, json_bytes(value, at_least_bytes), only_new=only_new)


def write_text(path: Path, text: str) -> None:
    """Writes text as UTF-8, as atomically as `write_json`. Raises OSError."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, contents: bytes, *, only_new: bool = False) -> None:
    """Writes bytes, as atomically as `write_json`. Raises OSError."""
    # By the pid, `sweep_temporaries` tells the leftovers of killed processes from writes that are under way.
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
    """Removes the temporary files that killed processes left in a folder."""
    for left in path.glob(".*.tmp"):
        match = re.fullmatch(r"\..+\.(\d{1,18})-[0-9a-f]{6}\.tmp", left.name)
        if match and not pid_exists(int(match[1])):
            left.unlink(missing_ok=True)


def fsync_files(path: Path) -> None:
    """Flushes a folder to disk: the contents of its files, its entries, and its own name."""
    for file in path.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    fsync_folder(path)
    fsync_folder(path.parent)


def fsync_folder(path: Path) -> None:
    """Flushes the entries of a folder to disk: an fsync of a file does not make its name durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def pid_exists(pid: int) -> bool:
    """True if any process has this pid."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


_REMOVED = re.compile(r"\.removed-(\d{1,18})-[0-9a-f]{12}")


def sweep(root: Path) -> None:
    """Finishes deletions: removes the renamed folders of this process and of processes that were killed."""
    with contextlib.suppress(OSError):
        for path in root.iterdir():
            match = _REMOVED.fullmatch(path.name)
            if match and not path.is_symlink() and (int(match[1]) == os.getpid() or not pid_exists(int(match[1]))):
                shutil.rmtree(path, ignore_errors=True)

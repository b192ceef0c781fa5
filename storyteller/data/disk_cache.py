"""What is worked out once from a corpus and kept in the user's cache folder: held-out stories, tokenizers, tokens.

    <cache>/storyteller/data-1/tokens-0f3c.../   an entry: the name's hash is of all that its contents depend on
        about.json                               that, readable
        lock                                     held by the one process that adds to the entry
        00000000                                 pieces, each with the checksum of its contents in its first line

Nothing here is needed. What is missing or damaged is worked out again; where the disk is full or cannot be written, one
line says so and training goes on without. A piece is written aside, brought to the disk and renamed, so a kill leaves
none that is half there, and any number of processes may read. Past the size that is allowed, entries go that were used
longest ago.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.errors import is_disk_full
from storyteller.system import files
from storyteller.system.files import json_bytes, sweep_temporaries, write_bytes
from storyteller.text import safe_line

if TYPE_CHECKING:
    from filelock import BaseFileLock

_LAYOUT = "data-1"
"""Raised with every change of what lies in the entries."""
_ABOUT, _LOCK = "about.json", "lock"
_DECIDING = ("text.py", "config/configs.py", "data/*.py", "data/bundled/*.py")
"""Code whose every change may change what comes of a corpus."""


class DiskCache:
    """The cache folder, as one process uses it. None of its methods raises OSError."""

    def __init__(self, limit_bytes: int, say: Callable[[str], None], root: Path | None = None) -> None:
        """`say` hears, once, why nothing more is kept."""
        self._root = root
        self._limit_bytes, self._say = limit_bytes, say
        self._used: set[Path] = set()
        self.is_off = False
        """Nothing more is kept; what was kept before is still read."""

    def entry(self, kind: str, depends_on: Mapping[str, Any]) -> CacheEntry:
        """The entry of this kind for exactly these JSON values, of this code; made when something is kept in it."""
        about = {"kind": kind, "code": _code(), **depends_on}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        root = self._root or folder()
        entry = CacheEntry(self, root / f"{kind}-{digest[:32]}", about)
        self._used.add(entry.path)
        return entry

    def stop(self, why: str) -> None:
        """Keep nothing more, and say so once."""
        if not self.is_off:
            self.is_off = True
            self._say(f"cache: {why}; training goes on without")

    def failed(self, error: OSError) -> None:
        """Keep nothing more, since the disk does not take it."""
        root = self._root or folder()
        what = "the disk is full" if is_disk_full(error) else f"{safe_line(str(root), 200)}: {error.strerror or error}"
        self.stop(f"nothing more is kept ({safe_line(what)})")

    def has_room(self, root: Path, n_bytes: int) -> bool:
        """Whether so many bytes more may be kept; entries used longest ago give way. Raises OSError."""
        entries = {
            path: _size_bytes(path) for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
        }
        total = sum(entries.values()) + n_bytes
        for path in sorted(entries, key=_last_used):
            if total <= self._limit_bytes:
                break
            if path not in self._used and _drop(path):
                total -= entries[path]
        if total > self._limit_bytes:
            gib = self._limit_bytes / 2**30
            self.stop(f"it has its {gib:.3g} GiB (--set cache_gib allows more)")
        return total <= self._limit_bytes


class CacheEntry:
    """Pieces that depend on the same things. None of its methods raises OSError."""

    def __init__(self, store: DiskCache, path: Path, about: Mapping[str, Any]) -> None:
        self._store, self.path, self._about = store, path, about
        self._lock: BaseFileLock | None = None

    def has(self, name: str) -> bool:
        """Whether there is such a piece, sound or not."""
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes | None:
        """A piece as it was kept; None where there is none, or where it is damaged: then it is dropped."""
        path = self.path / name
        try:
            contents = path.read_bytes()
        except OSError:
            return None
        digest, body = contents[:64], contents[65:]
        if digest != hashlib.sha256(body).hexdigest().encode():
            self.drop(name)
            return None
        with contextlib.suppress(OSError):
            os.utime(self.path / _ABOUT)
        return body

    def begins(self, name: str, n_bytes: int) -> bytes:
        """The first bytes of a piece, unverified; none where there is none."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(65 + n_bytes)[65:]
        except OSError:
            return b""

    def keep(self, name: str, body: bytes) -> bool:
        """Keep a piece, whole or not at all; whether it was."""
        if self._store.is_off:
            return False
        try:
            self._make()
            if not self._store.has_room(self.path.parent, len(body)):
                return False
            write_bytes(self.path / name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except OSError as error:
            self._store.failed(error)
            return False
        return True

    def drop(self, name: str) -> None:
        """Forget a piece."""
        with contextlib.suppress(OSError):
            (self.path / name).unlink()

    def claim(self) -> bool:
        """Whether this process is the one that adds to the entry, from now on to `release`; the first that asks is."""
        from filelock import FileLock, Timeout

        if self._lock is not None:
            return True
        if self._store.is_off:
            return False
        try:
            self._make()
            # Taken by one thread, given back by another: the lock is the process's.
            lock = FileLock(self.path / _LOCK, thread_local=False)
            lock.acquire(timeout=0)
            sweep_temporaries(self.path)
        except Timeout:
            return False
        except OSError as error:
            self._store.failed(error)
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Let another process add to the entry."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _make(self) -> None:
        root = self.path.parent
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True)
        if not (self.path / _ABOUT).exists():
            files.sweep(root)
            write_bytes(self.path / _ABOUT, json_bytes(self._about))


def open_store(cache_gib: float, say: Callable[[str], None]) -> DiskCache | None:
    """The user's cache, of at most so many GiB; None: there is to be none, or no place for it."""
    if cache_gib <= 0:
        return None
    try:
        _code()
    except OSError:  # a package that lies in an archive: what it decides cannot be told from another version's
        return None
    return DiskCache(int(cache_gib * 2**30), say)


def folder() -> Path:
    """Where the entries lie: in the user's cache folder (`XDG_CACHE_HOME`, say)."""
    import platformdirs

    return platformdirs.user_cache_path("storyteller", appauthor=False) / _LAYOUT


@cache
def _code() -> str:
    """A hash of the code and the libraries that decide what comes of a corpus. Raises OSError."""
    import importlib.metadata

    home = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"{sys.version_info[:2]} {unicodedata.unidata_version}".encode())
    digest.update(importlib.metadata.version("tokenizers").encode())
    paths = [path for pattern in _DECIDING for path in sorted(home.glob(pattern))]
    if not paths:
        raise FileNotFoundError(home)
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _size_bytes(path: Path) -> int:
    """Of the files in an entry; 0 for one that is going."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(path) as files:
        for file in files:
            with contextlib.suppress(OSError):
                total += file.stat(follow_symlinks=False).st_size
    return total


def _last_used(path: Path) -> float:
    with contextlib.suppress(OSError):
        return (path / _ABOUT).stat().st_mtime
    return 0.0


def _drop(path: Path) -> bool:
    """Remove an entry, unless some process adds to it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    try:
        # Under another name first: whoever begins it anew meanwhile loses nothing.
        removed = path.with_name(f".removed-{os.getpid()}-{secrets.token_hex(6)}")
        path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
    except OSError:
        return False
    finally:
        lock.release()
    return True

"""A cache in the user's cache folder for what is computed once per corpus: held-out stories and trained tokenizers.

    <cache>/storyteller/data-1/tokenizer-0f3c.../   an entry, named by a hash of all that its contents depend on
        about.json                                  what the hash was made of
        tokenizer.json                              a piece, with the checksum of its contents in the first line

Nothing depends on the cache: a missing or damaged piece is computed again, and after a write error one line is logged
and nothing more is stored. Pieces are written atomically, so any number of processes may use the cache at once. Beyond
the size limit, the least recently used entries are removed.
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
from typing import Any

from storyteller.errors import is_disk_full
from storyteller.system.files import json_bytes, sweep, sweep_temporaries, write_bytes
from storyteller.text import safe_line

_LAYOUT = "data-1"  # version of the layout within entries
_ABOUT = "about.json"
_DECIDING_SOURCES = ("text.py", "config/configs.py", "data/*.py", "data/bundled/*.py")
"""Files of the package whose changes may change what is computed from a corpus."""


class DiskCache:
    """The cache folder, as one process uses it. No method raises OSError."""

    def __init__(self, limit_bytes: int, log: Callable[[str], None]) -> None:
        """`log` is called once, when nothing more can be stored."""
        self._limit_bytes, self._log = limit_bytes, log
        self._used: set[Path] = set()
        self.is_disabled = False  # nothing more is stored. What is there can still be read.

    def entry(self, kind: str, depends_on: Mapping[str, Any]) -> CacheEntry:
        """Returns the entry for these JSON values and the current code. Its folder is created by the first write."""
        about = {"kind": kind, "code": _code_hash(), **depends_on}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        entry = CacheEntry(self, cache_folder() / f"{kind}-{digest[:32]}", about)
        self._used.add(entry.path)
        return entry

    def disable(self, why: str) -> None:
        """Stores nothing more, and logs the reason the first time."""
        if not self.is_disabled:
            self.is_disabled = True
            self._log(f"cache: {why}; training continues without it")

    def make_room(self, root: Path, n_bytes: int) -> bool:
        """Removes old entries until `n_bytes` more fit. Returns False where they do not. Raises OSError."""
        sizes = {path: _size_bytes(path) for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
        total = sum(sizes.values()) + n_bytes
        for path in sorted(sizes, key=_last_used):
            if total <= self._limit_bytes:
                break
            if path not in self._used and _remove(path):
                total -= sizes[path]
        if total > self._limit_bytes:
            self.disable(f"the limit of {self._limit_bytes / 2**30:.3g} GiB is reached (--set cache_gib raises it)")
        return total <= self._limit_bytes


class CacheEntry:
    """Named pieces that depend on the same values. No method raises OSError."""

    def __init__(self, store: DiskCache, path: Path, about: Mapping[str, Any]) -> None:
        self._store, self.path, self._about = store, path, about

    def read(self, name: str) -> bytes | None:
        """Returns a piece. None where there is none, or where it is damaged; it is then removed."""
        path = self.path / name
        try:
            contents = path.read_bytes()
        except OSError:
            return None
        digest, body = contents[:64], contents[65:]
        is_sound = digest == hashlib.sha256(body).hexdigest().encode()
        with contextlib.suppress(OSError):
            if is_sound:
                os.utime(self.path / _ABOUT)  # its time tells when the entry was last used
            else:
                path.unlink()
        return body if is_sound else None

    def write(self, name: str, body: bytes) -> None:
        """Stores a piece atomically, unless the cache is disabled, full, or cannot be written."""
        if self._store.is_disabled:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.mkdir(exist_ok=True)
            sweep_temporaries(self.path)
            if not (self.path / _ABOUT).exists():
                sweep(self.path.parent)
                write_bytes(self.path / _ABOUT, json_bytes(self._about))
            if self._store.make_room(self.path.parent, len(body)):
                write_bytes(self.path / name, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        except OSError as error:
            where = safe_line(str(self.path.parent), 200)
            what = "the disk is full" if is_disk_full(error) else f"{where}: {error.strerror or error}"
            self._store.disable(f"nothing more is stored ({safe_line(what)})")


def open_cache(cache_gib: float, log: Callable[[str], None]) -> DiskCache | None:
    """Opens the user's cache with this size limit. None where the limit is 0, or the package lies in an archive."""
    if cache_gib <= 0:
        return None
    try:
        _code_hash()
    except OSError:
        return None
    return DiskCache(int(cache_gib * 2**30), log)


def cache_folder() -> Path:
    """The folder of the entries, in the user's cache folder (`XDG_CACHE_HOME`, for example)."""
    import platformdirs

    return platformdirs.user_cache_path("storyteller", appauthor=False) / _LAYOUT


@cache
def _code_hash() -> str:
    """A hash of the code and the libraries that decide what is computed from a corpus.

    Raises OSError where the package's files cannot be read, and RuntimeError where a pattern of `_DECIDING_SOURCES`
    matches no file: then a moved module would no longer be covered.
    """
    import importlib.metadata

    home = Path(__file__).resolve().parent.parent
    if not home.is_dir():
        raise NotADirectoryError(home)
    digest = hashlib.sha256(f"{sys.version_info[:2]} {unicodedata.unidata_version}".encode())
    digest.update(importlib.metadata.version("tokenizers").encode())
    for pattern in _DECIDING_SOURCES:
        paths = sorted(home.glob(pattern))
        if not paths:
            raise RuntimeError(f"no file of {home} matches {pattern!r}")
        for path in paths:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _size_bytes(path: Path) -> int:
    """The total size of an entry's files; 0 for one that another process is removing."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _last_used(path: Path) -> float:
    with contextlib.suppress(OSError):
        return (path / _ABOUT).stat().st_mtime
    return 0.0


def _remove(path: Path) -> bool:
    """Removes an entry; returns whether it is gone."""
    try:
        # Renamed first, so that a process that creates the entry again in the meantime loses nothing.
        removed = path.with_name(f".removed-{os.getpid()}-{secrets.token_hex(6)}")
        path.rename(removed)
    except OSError:
        return False
    shutil.rmtree(removed, ignore_errors=True)
    return True

"""Held-out stories and trained tokenizers, taken from the disk cache where it has them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

from storyteller.config.configs import DataConfig
from storyteller.data import held_out_file, tokenizer
from storyteller.data.cleaning import END_OF_TEXT
from storyteller.data.disk_cache import DiskCache
from storyteller.data.held_out_file import HeldOut
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.local_files import Files
from storyteller.data.sources import StorySource
from storyteller.data.tokenizer import Tokenizer

_STORIES, _TOKENIZER = "stories.jsonl", "tokenizer.json"


def cached_held_out_stories(source: StorySource, data: DataConfig, limit: int, cache: DiskCache | None) -> HeldOut:
    """Returns `held_out_stories(source, data, limit=limit)`, from the cache where possible. Raises CorpusError."""
    identity = _identity(source)
    if cache is None or identity is None or data.valid:  # the files of `--valid` are quick to read
        return held_out_stories(source, data, limit=limit)
    entry = cache.entry("held-out", {"corpus": identity, "limit": limit, **_filters(data, frozenset())})
    stored = entry.read(_STORIES)
    lines = stored.decode("ascii", "replace").splitlines() if stored is not None else []
    if (found := held_out_file.from_lines(lines)) is not None:
        return found
    stories, hashes = held_out_stories(source, data, limit=limit)
    if _identity(source) == identity:  # otherwise a file has changed while it was read
        entry.write(_STORIES, held_out_file.to_text(stories, hashes).encode("ascii"))
    return stories, hashes


def cached_tokenizer(
    source: StorySource,
    data: DataConfig,
    seed: int,
    held_out_hashes: frozenset[bytes],
    cache: DiskCache | None,
    train: Callable[[], Tokenizer],
) -> tuple[Tokenizer, bool]:
    """Returns the tokenizer that `train` makes for these settings, and whether it came from the cache."""
    identity = _identity(source)
    if cache is None or identity is None:
        return train(), False
    order = {"seed": seed, "shuffle_stories": data.shuffle_stories}  # decides which stories come first
    size = {"vocab_size": data.vocab_size, "tokenizer_mib": data.tokenizer_mib}
    entry = cache.entry("tokenizer", {"corpus": identity, **order, **size, **_filters(data, held_out_hashes)})
    stored = entry.read(_TOKENIZER)
    if stored is not None and (found := tokenizer.from_json(stored.decode(), END_OF_TEXT, "bpe")) is not None:
        return found, True
    trained = train()
    if _identity(source) == identity:
        entry.write(_TOKENIZER, trained.to_json().encode())
    return trained, False


def _identity(source: StorySource) -> dict[str, Any] | None:
    """The JSON values that determine a source's stories; None for an unknown kind of source or a missing file."""
    known = source.description
    if isinstance(source, Files):
        with contextlib.suppress(OSError):
            return {"kind": "files", "fingerprint": known["fingerprint"], "files": source.stamps()}
        return None
    fields = {"tinystories": ("dataset", "revision"), "bundled": ("seed", "stories")}.get(known["kind"])
    return None if fields is None else {name: known[name] for name in ("kind", *fields)}


def _filters(data: DataConfig, held_out_hashes: frozenset[bytes]) -> dict[str, Any]:
    """The settings that decide which stories are trained on and what cleaning leaves of them."""
    hashes = hashlib.sha256(b"".join(sorted(held_out_hashes))).hexdigest()
    valid_pct = None if data.valid else data.valid_pct
    return {"clean": data.clean, "min_chars": data.min_chars, "valid_pct": valid_pct, "held_out": hashes}

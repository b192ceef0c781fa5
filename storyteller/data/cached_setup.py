"""What a run needs of its stories before the first step, kept in the cache: the held-out ones, a trained tokenizer."""

from __future__ import annotations

from collections.abc import Callable

from storyteller.config.configs import DataConfig
from storyteller.data import held_out_file, tokenizer
from storyteller.data.cleaning import END_OF_TEXT
from storyteller.data.disk_cache import CacheEntry, DiskCache
from storyteller.data.held_out_file import HeldOut
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.sources import StorySource
from storyteller.data.token_cache import identity, rules
from storyteller.data.tokenizer import Tokenizer

_STORIES, _TOKENIZER = "stories.jsonl", "tokenizer.json"


def held_out_of(source: StorySource, data: DataConfig, limit: int, store: DiskCache | None) -> HeldOut:
    """`corpus.held_out_stories`, from the cache where it has them. Raises CorpusError."""
    entry = _entry(source, data, limit, store)
    if entry is None:
        return held_out_stories(source, data, limit=limit)
    if (found := _kept(entry)) is not None:
        return found
    corpus = identity(source)
    stories, keys = held_out_stories(source, data, limit=limit)
    if identity(source) == corpus:
        entry.keep(_STORIES, held_out_file.written(stories, keys).encode("ascii"))
    return stories, keys


def is_held_out_known(source: StorySource, data: DataConfig, limit: int, store: DiskCache | None) -> bool:
    """Whether `held_out_of` reads no pass for them."""
    entry = _entry(source, data, limit, store)
    return bool(data.valid) or (entry is not None and _kept(entry) is not None)


def _entry(source: StorySource, data: DataConfig, limit: int, store: DiskCache | None) -> CacheEntry | None:
    """Where the cache has the held-out stories; None for stories that it does not keep."""
    corpus = identity(source)
    if store is None or corpus is None or data.valid:  # the files of `--valid` are read quickly
        return None
    return store.entry("held-out", {"corpus": corpus, "limit": limit, **rules(data, frozenset())})


def _kept(entry: CacheEntry) -> HeldOut | None:
    kept = entry.read(_STORIES)
    return None if kept is None else held_out_file.read(kept.decode("ascii", "replace").splitlines())


def trained_tokenizer(
    source: StorySource,
    data: DataConfig,
    seed: int,
    keys: frozenset[bytes],
    store: DiskCache | None,
    train: Callable[[], Tokenizer],
) -> tuple[Tokenizer, bool]:
    """What `train` gives for the source and these settings, and whether it came from the cache."""
    corpus = identity(source)
    if store is None or corpus is None:
        return train(), False
    shuffled = {"seed": seed, "shuffle_stories": data.shuffle_stories}  # they decide which stories come first
    size = {"vocab_size": data.vocab_size, "tokenizer_mib": data.tokenizer_mib}
    entry = store.entry("tokenizer", {"corpus": corpus, **shuffled, **size, **rules(data, keys)})
    kept = entry.read(_TOKENIZER)
    if kept is not None and (found := tokenizer.from_json(kept.decode(), END_OF_TEXT, "bpe")) is not None:
        return found, True
    trained = train()
    if identity(source) == corpus:
        entry.keep(_TOKENIZER, trained.to_json().encode())
    return trained, False

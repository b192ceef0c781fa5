"""Choosing the held-out stories."""

from __future__ import annotations

import hashlib

from storyteller.config.configs import Clean, DataConfig
from storyteller.data.cleaning import clean, fold
from storyteller.data.local_files import Files
from storyteller.data.sources import StorySource
from storyteller.errors import CorpusError
from storyteller.text import safe_line

_SCAN_STORIES = 400  # stories read at most to find one that the hash holds out


def story_key(story: str) -> bytes:
    """16 bytes that stand for a story's words, however it is cleaned; case, punctuation and white space don't count."""
    return _digest(clean(story))


def is_held_out(story: str, valid_pct: float) -> bool:
    """Whether the story is among the `valid_pct` percent that are never trained on."""
    return _below(story_key(story), valid_pct)


def _digest(cleaned: str) -> bytes:
    return hashlib.blake2b(fold(cleaned).encode("utf-8", "replace"), digest_size=16).digest()


def _below(key: bytes, pct: float) -> bool:
    return int.from_bytes(key[:8], "big") < pct / 100 * 2**64


def _cleaned(raw: str, how: Clean) -> tuple[str, bytes, bytes]:
    """A story cleaned; its key; and the key of what cleaning left, since `classic` can make one of two stories."""
    lightly = clean(raw)
    key = _digest(lightly)
    if how == "light":
        return lightly, key, key
    story = clean(raw, how)
    return story, key, _digest(story)


def held_out_stories(source: StorySource, data: DataConfig, *, limit: int) -> tuple[list[str], frozenset[bytes]]:
    """The first `limit` held-out stories, cleaned and distinct, and the keys that `Stories` is to leave out.

    With `data.valid` these are the stories of its files, and the keys are of all of them. Else they are those of the
    source that the hash picks, or, where a small corpus has none, the story of the smallest hash; a pass is read until
    there are enough, at most 400 stories for each. Raises CorpusError where there is none.
    """
    if data.valid:
        return _given_stories(source, data, limit)
    stories: dict[bytes, str] = {}
    keys: set[bytes] = set()
    smallest: tuple[bytes, str, bytes] | None = None
    seen: set[bytes] = set()
    for count, (raw, _) in enumerate(source.read(0, None), start=1):
        story, key, own_key = _cleaned(raw, data.clean)
        if len(story) >= data.min_chars:
            seen = seen if len(seen) > 1 else {*seen, key}
            smallest = min(smallest or (key, story, own_key), (key, story, own_key))
            if _below(key, data.valid_pct):
                stories.setdefault(key, story)
                keys |= {key, own_key}
        if len(seen) > 1 and (len(stories) >= limit or count >= limit * _SCAN_STORIES):
            break
    if smallest is None:
        raise CorpusError("no story survives cleaning", "look at --data, --clean and --set min_chars")
    if len(seen) < 2:
        raise CorpusError("the corpus has one story only, so none can be held out", "give more, or --valid PATH")
    if not stories:
        return [smallest[1]], frozenset({smallest[0], smallest[2]})
    return list(stories.values()), frozenset(keys)


def _given_stories(source: StorySource, data: DataConfig, limit: int) -> tuple[list[str], frozenset[bytes]]:
    valid = Files(data.valid)
    stories: dict[bytes, str] = {}
    keys: set[bytes] = set()
    for raw, _ in valid.read(0, None):
        story, key, own_key = _cleaned(raw, data.clean)
        if len(story) >= data.min_chars:
            keys |= {key, own_key}
            if len(stories) < limit:
                stories.setdefault(key, story)
    source.notes.extend(valid.notes)
    if not stories:
        names = safe_line(", ".join(data.valid), 100)
        raise CorpusError(f"no story of --valid {names} survives cleaning", "look at --clean and --set min_chars")
    return list(stories.values()), frozenset(keys)

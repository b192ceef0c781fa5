"""Held-out stories: which stories are kept out of training, and the choice of those that are scored.

A hash of a story's words decides, so the split is the same in every run, on every machine, in any order.
"""

from __future__ import annotations

import hashlib

from storyteller.config.configs import Clean, DataConfig
from storyteller.data.cleaning import clean, fold
from storyteller.data.local_files import Files
from storyteller.data.sources import StorySource
from storyteller.errors import CorpusError
from storyteller.text import safe_line

_SCANNED_PER_STORY = 400  # stories read at most for each held-out story that is wanted


def story_hash(story: str) -> bytes:
    """A 16-byte hash of a story's words. Case, punctuation, white space and the way of cleaning do not change it."""
    return _hash(clean(story))


def _hash(cleaned: str) -> bytes:
    return hashlib.blake2b(fold(cleaned).encode("utf-8", "replace"), digest_size=16).digest()


def is_below(digest: bytes, pct: float) -> bool:
    """True if the hash is within the lowest `pct` percent of all hashes."""
    return int.from_bytes(digest[:8], "big") < pct / 100 * 2**64


def clean_and_hash(raw: str, how: Clean) -> tuple[str, bytes, bytes]:
    """Returns the cleaned story, its `story_hash`, and the hash of the cleaned text.

    The two hashes differ only for `classic` cleaning, which can make two different stories equal.
    """
    lightly = clean(raw)
    digest = _hash(lightly)
    if how == "light":
        return lightly, digest, digest
    story = clean(raw, how)
    return story, digest, _hash(story)


def held_out_stories(source: StorySource, data: DataConfig, *, limit: int) -> tuple[list[str], frozenset[bytes]]:
    """Returns the first `limit` held-out stories, cleaned and distinct, and the hashes that training must leave out.

    With `data.valid`, these are the stories of its files, and the hashes are of all of them. Otherwise they are the
    source's stories whose hash is low enough, or the one with the lowest hash if a small corpus has none. The search
    ends after 400 stories for each one wanted. Raises CorpusError where there is none.
    """
    if data.valid:
        return _stories_of_valid_files(source, data, limit)
    stories: dict[bytes, str] = {}
    hashes: set[bytes] = set()
    lowest: tuple[bytes, str, bytes] | None = None
    seen: set[bytes] = set()  # two are enough: training needs a story besides the held-out one
    for count, (raw, _) in enumerate(source.read(0, None), start=1):
        story, digest, own_digest = clean_and_hash(raw, data.clean)
        if len(story) >= data.min_chars:
            seen = seen if len(seen) > 1 else {*seen, digest}
            lowest = min(lowest or (digest, story, own_digest), (digest, story, own_digest))
            if is_below(digest, data.valid_pct):
                stories.setdefault(digest, story)
                hashes |= {digest, own_digest}
        if len(seen) > 1 and (len(stories) >= limit or count >= limit * _SCANNED_PER_STORY):
            break
    if lowest is None:
        raise CorpusError("no story survives cleaning", "look at --data, --clean and --set min_chars")
    if len(seen) < 2:
        raise CorpusError("the corpus has one story only, so none can be held out", "give more, or --valid PATH")
    if not stories:
        return [lowest[1]], frozenset({lowest[0], lowest[2]})
    return list(stories.values()), frozenset(hashes)


def _stories_of_valid_files(source: StorySource, data: DataConfig, limit: int) -> tuple[list[str], frozenset[bytes]]:
    valid = Files(data.valid)
    stories: dict[bytes, str] = {}
    hashes: set[bytes] = set()
    for raw, _ in valid.read(0, None):
        story, digest, own_digest = clean_and_hash(raw, data.clean)
        if len(story) >= data.min_chars:
            hashes |= {digest, own_digest}
            if len(stories) < limit:
                stories.setdefault(digest, story)
    source.notes.extend(valid.notes)
    if not stories:
        names = safe_line(", ".join(data.valid), 100)
        raise CorpusError(f"no story of --valid {names} survives cleaning", "look at --clean and --set min_chars")
    return list(stories.values()), frozenset(hashes)

"""The endless stream of training stories: cleaned, without the held-out ones, shuffled in blocks, exactly resumable."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

from storyteller.config.configs import DataConfig
from storyteller.data.held_out_stories import clean_and_hash, is_below
from storyteller.data.local_files import Cursor
from storyteller.data.sources import StorySource
from storyteller.errors import CorpusError
from storyteller.text import safe_line

_BLOCK_CHARS = 64 << 20  # a block ends here, however few stories it has, so that memory stays bounded

Block = tuple[list[str], Cursor | None, Cursor | None]
"""Stories, the source's cursor before the first of them, and after the last (None: the pass ends there)."""


@dataclass
class StoryCounts:
    """How many stories this process read, and why some were left out. A block read again on resume counts again."""

    read: int = 0
    kept: int = 0
    too_short: int = 0
    held_out: int = 0  # left out because their hash is low enough
    duplicates_of_valid: int = 0  # left out because they have the hash of a held-out story
    broken: int = 0
    too_long: int = 0


def _position(epoch: int, block: int, offset: int, cursor: Cursor | None, share: float = 0.0) -> dict[str, Any]:
    passes = epoch + share
    return {"epoch": epoch, "block": block, "offset": offset, "cursor": cursor, "passes": passes}


class StoryStream:
    """Yields the training stories as `(story, position)`, epoch after epoch without end.

    A block of `data.shuffle_stories` stories (fewer where they exceed 64 Mi characters) is read in the source's order
    and shuffled. The position after a story is JSON:

    - `epoch` and `block` of the next story, and `offset`, how many stories of that block were already given;
    - `cursor`: the source's cursor at the beginning of that block, None at the beginning of a pass;
    - `passes`: passes over the corpus so far, with their fraction. Informative only, ignored on resume.

    A stream made with `position` yields the next story and re-reads at most the one block. Raises CorpusError where a
    whole pass has no story to train on, or the source cannot use the cursor.
    """

    def __init__(
        self,
        source: StorySource,
        data: DataConfig,
        *,
        seed: int,
        held_out: frozenset[bytes] = frozenset(),
        position: dict[str, Any] | None = None,
    ) -> None:
        """`held_out` holds the hashes of the stories to leave out."""
        self._source, self._data = source, data
        self._seed, self._held_out = seed, held_out
        self._start = position or _position(0, 0, 0, None)
        self._counts = StoryCounts()
        self._faults_before = replace(source.faults)

    @property
    def counts(self) -> StoryCounts:
        """Counts of the stories read so far, and of those skipped, by reason."""
        n, faults, before = self._counts, self._source.faults, self._faults_before
        broken, too_long = faults.broken - before.broken, faults.too_long - before.too_long
        return replace(n, broken=n.broken + broken, too_long=n.too_long + too_long)

    def __iter__(self) -> Generator[tuple[str, dict[str, Any]], None, None]:
        epoch, block, offset = (int(self._start[name]) for name in ("epoch", "block", "offset"))
        cursor: Cursor | None = self._start["cursor"]
        while True:
            is_empty = cursor is None  # a resumed pass may end without another story
            for stories, start, following in self._blocks(epoch, cursor):
                is_empty = False
                # The order within a block depends on seed, epoch and block number alone, not on a generator that runs
                # along. So a resume reads the block from its cursor, gets the same order, and skips `offset` stories.
                random.Random(f"{self._seed}:{epoch}:{block}").shuffle(stories)
                begin = 0.0 if start is None else self._source.share(start)
                end = 1.0 if following is None else self._source.share(following)
                for index in range(offset, len(stories) - 1):
                    share = begin + (end - begin) * (index + 1) / len(stories)
                    yield stories[index], _position(epoch, block, index + 1, start, share)
                # The position after a block's last story is the beginning of the next block or pass. Otherwise a
                # resume would read the whole block again only to skip it.
                if offset < len(stories) and following is None:
                    yield stories[-1], _position(epoch + 1, 0, 0, None)
                elif offset < len(stories):
                    yield stories[-1], _position(epoch, block + 1, 0, following, end)
                block, offset = block + 1, 0
            if is_empty:
                n, fewest = self.counts, self._data.min_chars
                what = f"{n.read:,} read, {n.too_short:,} under {fewest} characters, {n.broken:,} broken, "
                what += f"{n.too_long:,} over 1 MiB, {n.held_out + n.duplicates_of_valid:,} held out"
                raise CorpusError(f"no story survives cleaning ({what})", "look at --data, --clean and --set min_chars")
            epoch, block, offset, cursor = epoch + 1, 0, 0, None

    def _blocks(self, epoch: int, cursor: Cursor | None) -> Iterator[Block]:
        """Yields the unshuffled blocks of a pass from `cursor` on.

        Raises CorpusError if the source cannot use the cursor that the stream began with.
        """
        stories: list[str] = []
        start, end, chars = cursor, cursor, 0
        try:
            for story, after in self._training_stories(epoch, cursor):
                # The next story decides whether a block is full, so that the last block of a pass is known as such.
                if len(stories) == self._data.shuffle_stories or (stories and chars + len(story) > _BLOCK_CHARS):
                    yield stories, start, end
                    stories, start, chars = [], end, 0
                stories.append(story)
                chars += len(story)
                end = after
        except (KeyError, TypeError, IndexError, ValueError) as error:
            if start is None or start is not self._start["cursor"]:
                raise
            why = safe_line(f"{type(error).__name__}: {error}", 60)
            raise CorpusError(
                f"the checkpoint's position does not fit these stories ({why})",
                "resume from another checkpoint (--from STEP)",
            ) from error
        if stories:
            yield stories, start, None

    def _training_stories(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """Yields the cleaned training stories of a pass in the source's order, each with the cursor after it."""
        data, counts = self._data, self._counts
        for raw, after in self._source.read(epoch, cursor):
            counts.read += 1
            story, digest, own_digest = clean_and_hash(raw, data.clean)
            if len(story) < data.min_chars:
                counts.too_short += 1
            elif not data.valid and is_below(digest, data.valid_pct):
                counts.held_out += 1
            elif digest in self._held_out or own_digest in self._held_out:
                counts.duplicates_of_valid += 1
            else:
                counts.kept += 1
                yield story, after

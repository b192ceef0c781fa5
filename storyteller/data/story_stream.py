"""Where stories come from: the Hub, local files, or the bundled tales, behind one iterator with a position.

A source reads one pass in order. `TextStream` makes of it the endless stream that a model is trained on: cleaned, without
the held-out stories, shuffled in blocks, and with a position after each story from which it goes on exactly. Which
stories are held out is decided by a hash of their words alone, so it holds in every run, on every machine.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Sized
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from storyteller.config.configs import DataConfig
from storyteller.data.held_out_stories import _below, _cleaned
from storyteller.data.local_files import Cursor
from storyteller.data.sources import StorySource
from storyteller.errors import CorpusError
from storyteller.text import safe_line

_BLOCK_CHARS = 64 << 20  # a block ends here, whatever its count of stories: memory stays bounded

S = TypeVar("S", bound=Sized)
T = TypeVar("T")


# --- sources ----------------------------------------------------------------------------------------------------------


# --- held out ---------------------------------------------------------------------------------------------------------


# --- the stream -------------------------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What this process read, a block that a resume reads again included."""

    read: int = 0
    kept: int = 0
    too_short: int = 0
    held_out: int = 0
    """Left out by their hash."""
    duplicates_of_valid: int = 0
    """Left out by the keys of the held-out stories."""
    broken: int = 0
    too_long: int = 0


def _position(epoch: int, block: int, offset: int, cursor: Cursor | None, share: float = 0.0) -> dict[str, Any]:
    passes = epoch + share
    return {"epoch": epoch, "block": block, "offset": offset, "cursor": cursor, "passes": passes}


class StoryStream(Generic[S]):
    """The training stories, epoch after epoch without end, as `(story, position)`; a subclass says what a story is.

    Its `len` is its count of characters.

    `data.shuffle_stories` stories at a time are read in order and shuffled among each other (fewer where they come to
    more than 64 Mi characters). The position is JSON: `epoch`, `block`, `offset` (stories of the block already given),
    `cursor` (the source's, at the block's beginning), and `passes`, over the corpus with their fraction, which is told
    and not asked back. A stream made with it goes on with the next story and reads no
    more than that block again. Raises CorpusError, where a whole pass has no story to train on too.
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
        self._source, self._data = source, data
        self._seed, self._held_out = seed, held_out
        self._start = position or _position(0, 0, 0, None)
        self._counts = Counts()
        self._faults_before = replace(source.faults)

    @property
    def counts(self) -> Counts:
        """What was read so far, and what of it was left out."""
        n, faults, before = self._counts, self._source.faults, self._faults_before
        broken, too_long = faults.broken - before.broken, faults.too_long - before.too_long
        return replace(n, broken=n.broken + broken, too_long=n.too_long + too_long)

    def close(self) -> None:
        """No more is read."""

    def __iter__(self) -> Generator[tuple[S, dict[str, Any]], None, None]:
        epoch, block, offset = (int(self._start[name]) for name in ("epoch", "block", "offset"))
        cursor: Cursor | None = self._start["cursor"]
        while True:
            empty = cursor is None
            for stories, start, following in self._checked(self._blocks(epoch, cursor), cursor):
                empty = False
                random.Random(f"{self._seed}:{epoch}:{block}").shuffle(stories)
                begin, end = self._share(start, 0.0), self._share(following, 1.0)
                for index in range(offset, len(stories) - 1):
                    share = begin + (end - begin) * (index + 1) / len(stories)
                    yield stories[index], _position(epoch, block, index + 1, start, share)
                if offset < len(stories) and following is None:
                    yield stories[-1], _position(epoch + 1, 0, 0, None)
                elif offset < len(stories):
                    yield stories[-1], _position(epoch, block + 1, 0, following, end)
                block, offset = block + 1, 0
            if empty:
                raise self._no_story()
            epoch, block, offset, cursor = epoch + 1, 0, 0, None

    def _checked(self, blocks: Iterator[T], cursor: Cursor | None) -> Iterator[T]:
        """The blocks; a cursor of a checkpoint that the source cannot read raises CorpusError at the first."""
        try:
            first = next(blocks, None)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            if cursor is None or cursor is not self._start["cursor"]:
                raise
            why = safe_line(f"{type(error).__name__}: {error}", 60)
            raise CorpusError(
                f"the position of the checkpoint is none of these stories ({why})",
                "resume from another checkpoint (--from STEP)",
            ) from error
        if first is not None:
            yield first
            yield from blocks

    def _share(self, cursor: Cursor | None, without: float) -> float:
        return without if cursor is None else self._source.share(cursor)

    def _blocks(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[list[S], Cursor | None, Cursor | None]]:
        """The blocks of a pass, each with the cursor at its start and at the next one's; None: there is no next."""
        stories: list[S] = []
        start, end, chars = cursor, cursor, 0
        for story, after in self._kept(epoch, cursor):
            if len(stories) == self._data.shuffle_stories or (stories and chars + len(story) > _BLOCK_CHARS):
                yield stories, start, end
                stories, start, chars = [], end, 0
            stories.append(story)
            chars += len(story)
            end = after
        if stories:
            yield stories, start, None

    def _kept(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[S, Cursor]]:
        """The stories of a pass that are trained on, in the source's order, each with the cursor behind it."""
        raise NotImplementedError

    def _texts(self, epoch: int, cursor: Cursor | None) -> Generator[tuple[str, Cursor], None, None]:
        """Those stories' texts, from the source."""
        data, counts = self._data, self._counts
        for raw, after in self._source.read(epoch, cursor):
            counts.read += 1
            story, key, own_key = _cleaned(raw, data.clean)
            if len(story) < data.min_chars:
                counts.too_short += 1
            elif not data.valid and _below(key, data.valid_pct):
                counts.held_out += 1
            elif key in self._held_out or own_key in self._held_out:
                counts.duplicates_of_valid += 1
            else:
                counts.kept += 1
                yield story, after

    def _no_story(self) -> CorpusError:
        n, fewest = self.counts, self._data.min_chars
        what = f"{n.read:,} read, {n.too_short:,} under {fewest} characters, {n.broken:,} broken, {n.too_long:,} "
        what += f"over 1 MiB, {n.held_out + n.duplicates_of_valid:,} held out"
        return CorpusError(f"no story survives cleaning ({what})", "look at --data, --clean and --set min_chars")


class TextStream(StoryStream[str]):
    """The stream of texts, from the source."""

    def _kept(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        return self._texts(epoch, cursor)

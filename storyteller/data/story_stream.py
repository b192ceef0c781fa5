"""Where stories come from: the Hub, local files, or the bundled tales, behind one iterator with a position.

A source reads one pass in order. `Stories` makes of it the endless stream that a model is trained on: cleaned, without
the held-out stories, shuffled in blocks, and with a position after each story from which it goes on exactly. Which
stories are held out is decided by a hash of their words alone, so it holds in every run, on every machine.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Generator, Iterator, Sized
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from storyteller.config.configs import Data
from storyteller.data.local_files import Cursor, Faults, Files
from storyteller.data.tinystories import AUTO_SECONDS, Patience, TinyStories, hub_commit, within
from storyteller.errors import CorpusError, HubError
from storyteller.text import Clean, clean, fold, safe_line

_OPEN_SECONDS = 60.0  # for `auto`, once the Hub has answered: looking through the dataset takes a dozen requests
_BLOCK_CHARS = 64 << 20  # a block ends here, whatever its count of stories: memory stays bounded
_SCAN_STORIES = 400  # stories read at most to find one that the hash holds out
_OWN = "--data PATH trains on your own"

S = TypeVar("S", bound=Sized)
T = TypeVar("T")


class Source(Protocol):
    """Stories in a fixed order."""

    description: dict[str, Any]
    """JSON values for run.json: kind, paths or dataset, revision, fingerprint, formats found."""
    notes: list[str]
    """Lines for the log; more are added while reading."""
    faults: Faults
    """What could not be read, counted while reading."""

    @property
    def patience_seconds(self) -> float:
        """For so long at most no story may come; infinite where nothing but this machine is read."""
        ...

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """The raw stories of one pass from `cursor` on, each with the cursor behind it. Raises CorpusError."""
        ...

    def share(self, cursor: Cursor) -> float:
        """Share of a pass that lies before `cursor`, 0 to 1; an estimate."""
        ...


# --- sources ----------------------------------------------------------------------------------------------------------


class Bundled:
    """The bundled tales: a pass is `tales.N_TALES` stories, and the next pass goes on with new ones."""

    def __init__(self, seed: int = 0) -> None:
        from storyteller.data import bundled

        self.description: dict[str, Any] = {"kind": "bundled", "seed": seed, "stories": bundled.N_TALES}
        self.notes = [f"the bundled tales: {bundled.N_TALES:,} stories a pass"]
        self.faults = Faults()
        self.patience_seconds = math.inf
        self._per_pass = bundled.N_TALES
        self.ahead: Callable[[int], str | None] = lambda _: None
        """A tale that somebody else has told already, if it has come."""
        # The first tales are asked for by the tokenizer, the held-out stories and the first block.
        self._tale = lru_cache(maxsize=24_000)(lambda index: self.ahead(index) or bundled.tale(index, seed))

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        start = epoch * self._per_pass if cursor is None else int(cursor["index"])
        for index in range(start, (epoch + 1) * self._per_pass):
            yield self._tale(index), {"index": index + 1}

    def share(self, cursor: Cursor) -> float:
        return float(cursor["index"] % self._per_pass / self._per_pass)


def open_corpus(
    data: Data,
    *,
    seed: int = 0,
    revision: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    auto_seconds: float = AUTO_SECONDS,
) -> Source:
    """The source that `data.source` names.

    `auto` is TinyStories where the Hub answers within `auto_seconds`, else the bundled tales, and `say` gets one line
    about it, and two about each outage later. `seed` is the bundled tales'; `revision` the Hub commit that a resumed
    run began with. Raises CorpusError, and HubError where TinyStories was asked for by name.
    """
    paths = (data.source,) if isinstance(data.source, str) else data.source
    patience = Patience(60 * data.hub_patience_minutes, say)
    if paths == ("bundled",):
        return Bundled(seed)
    if paths == ("tinystories",):
        return TinyStories(revision, patience)
    if paths != ("auto",):
        return Files(paths)
    try:
        import huggingface_hub  # noqa: F401  the import's own seconds are not the Hub's

        commit = revision or within(auto_seconds, hub_commit)
        source = within(_OPEN_SECONDS, lambda: TinyStories(commit, Patience(_OPEN_SECONDS)))
    except HubError:
        say(f"data: the bundled tales, since the Hub does not answer (--data tinystories insists, {_OWN})")
        return Bundled(seed)
    source.patience = patience
    say(f"data: TinyStories from the Hub, commit {safe_line(commit[:8])} (--data bundled needs no network, {_OWN})")
    return source


# --- held out ---------------------------------------------------------------------------------------------------------


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


def held_out_stories(source: Source, data: Data, *, limit: int) -> tuple[list[str], frozenset[bytes]]:
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


def _given_stories(source: Source, data: Data, limit: int) -> tuple[list[str], frozenset[bytes]]:
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


class Stream(Generic[S]):
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
        source: Source,
        data: Data,
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


class Stories(Stream[str]):
    """The stream of texts, from the source."""

    def _kept(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        return self._texts(epoch, cursor)

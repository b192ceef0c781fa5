"""Stories' tokens, kept in the cache beneath the shuffle: in the source's order, with the cursor behind each story.

A pass is cut into chunks of 4,096 stories (fewer long ones), the same however its reader shuffles. A chunk in the cache
takes the place of reading, cleaning and encoding; from the first that is missing on, the source is read, and what is
encoded for training is kept when a chunk is whole. So the stories, their order and every position are what they are
without the cache, and a run may go on with it or without. Chunks are read into memory, not mapped: a file that is cut
short under a mapping kills the process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import DataConfig
from storyteller.data.disk_cache import CacheEntry, DiskCache
from storyteller.data.local_files import Cursor, Files
from storyteller.data.sources import BundledSource, StorySource
from storyteller.data.story_stream import Counts, StoryStream
from storyteller.data.tinystories import TinyStories
from storyteller.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.integer[Any]]

_CHUNK_STORIES = 4096
_CHUNK_CHARS = 8 << 20
_WORTH_REOPENING = 2
"""Chunks that another process must be ahead, for the source to be left and opened again behind them."""
_WAITING_CHUNKS = 32  # for the disk, of some 2 MiB each
_HEAD_BYTES = 1 << 16
_CLOSING_SECONDS = 5.0


def identity(source: StorySource) -> dict[str, Any] | None:
    """What the source's stories depend on, as JSON; None for a kind of source that is not known, or a file gone."""
    known = source.description
    if isinstance(source, Files):
        with contextlib.suppress(OSError):
            return {"kind": "files", "fingerprint": known["fingerprint"], "files": source.stamps()}
    if isinstance(source, TinyStories):
        return {"kind": "tinystories", "dataset": known["dataset"], "revision": known["revision"]}
    if isinstance(source, BundledSource):
        return {"kind": "bundled", "seed": known["seed"], "stories": known["stories"]}
    return None


class Kept:
    """A story that is trained on: its text until it is encoded, its ids from then on; its `len` counts characters."""

    __slots__ = ("chars", "ids", "text")

    def __init__(self, chars: int, text: str | None = None, ids: Ids | None = None) -> None:
        self.chars, self.text, self.ids = chars, text, ids

    def __len__(self) -> int:
        return self.chars


@dataclasses.dataclass
class Chunk:
    """Some stories of a pass, one after another."""

    begin: Cursor | None
    """Where the source stands before them; None: at the pass's beginning."""
    stories: list[Kept] = dataclasses.field(default_factory=list)
    cursors: list[Cursor] = dataclasses.field(default_factory=list)
    """Behind each story."""
    last: bool = False
    """Nothing comes behind them in this pass."""
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """What was read for them, and left out."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What reading them had to say."""
    chars: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.stories) >= _CHUNK_STORIES or self.chars >= _CHUNK_CHARS

    def add(self, story: Kept, cursor: Cursor) -> None:
        self.stories.append(story)
        self.cursors.append(cursor)
        self.chars += len(story)

    def to_bytes(self) -> bytes:
        """A line of JSON, then counts of tokens, counts of characters, the tokens, and the cursors as packed JSON."""
        import numpy as np

        ids = [story.ids for story in self.stories if story.ids is not None]
        tokens = np.concatenate(ids) if ids else np.zeros(0, dtype="<u2")
        cursors = zlib.compress(json.dumps(self.cursors).encode(), 1)
        head: dict[str, Any] = {
            "begin": self.begin,
            "end": self.cursors[-1] if self.cursors else self.begin,
            "last": self.last,
        }
        head |= {"stories": len(ids), "tokens": len(tokens), "bytes_a_token": tokens.itemsize}
        head |= {"counts": self.counts, "notes": self.notes}
        lengths = [np.array(list(map(len, each)), dtype="<u4") for each in (ids, self.stories)]
        parts = [each.tobytes() for each in (*lengths, tokens)]
        return b"".join([json.dumps(head).encode(), b"\n", *parts, cursors])

    @classmethod
    def from_bytes(cls, body: bytes, vocab_size: int) -> Chunk | None:
        """What `to_bytes` gave; None for anything else."""
        import numpy as np

        try:
            line = body.index(b"\n")
            head = json.loads(body[:line])
            n, n_tokens, size = head["stories"], head["tokens"], head["bytes_a_token"]
            at = line + 1
            lengths, chars = np.frombuffer(body, "<u4", 2 * n, at).reshape(2, n)
            tokens = np.frombuffer(body, f"<u{size}", n_tokens, at + 8 * n)
            cursors = json.loads(zlib.decompress(body[at + 8 * n + size * n_tokens :]))
            ends = np.cumsum(lengths)
            whole = len(cursors) == n and (ends[-1] if n else 0) == n_tokens and bool((tokens < vocab_size).all())
            chunk = cls(head["begin"], cursors=cursors, last=head["last"], notes=head["notes"])
            chunk.counts = {name: int(count) for name, count in head["counts"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, zlib.error, RecursionError):
            return None
        if not whole:
            return None
        places = zip(ends.tolist(), lengths.tolist(), chars.tolist(), strict=True)
        chunk.stories = [Kept(chars, ids=tokens[end - length : end]) for end, length, chars in places]
        return chunk


class CachedStories(StoryStream[Kept]):
    """The stream of stories as tokens: those of the cache, and what is missing there from the source, kept on the way.

    `encode` gives the ids of its stories, as `Batches` asks for them; `close` brings what is whole to the disk.
    """

    def __init__(
        self,
        source: StorySource,
        data: DataConfig,
        tokenizer: Tokenizer,
        store: DiskCache,
        *,
        seed: int,
        held_out: frozenset[bytes],
        position: dict[str, Any] | None = None,
    ) -> None:
        """`source` is one that `identity` knows."""
        super().__init__(source, data, seed=seed, held_out=held_out, position=position)
        self._tokenizer, self._store = tokenizer, store
        self._dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
        self._identity = identity(source)
        self._depends_on = {"corpus": self._identity, "tokenizer": tokenizer.sha256, **rules(data, held_out)}
        self._entries: dict[int, CacheEntry] = {}
        self._open: list[_Filling] = []
        self._begun: set[tuple[CacheEntry, str]] = set()
        self._keeper = _Keeper(self._is_unchanged)

    def encode(self, stories: Sequence[Kept]) -> list[Ids]:
        """The ids of each story. Of those not encoded yet that a chunk waits for, as many are encoded too."""
        import numpy as np

        wanted = [story for story in stories if story.ids is None]
        waiting = chain.from_iterable(filling.waiting() for filling in self._open)
        asked = {id(story) for story in wanted}
        wanted += islice((story for story in waiting if id(story) not in asked), len(stories))
        texts = [story.text or "" for story in wanted]
        for story, ids in zip(wanted, self._tokenizer.encode(texts) if texts else (), strict=True):
            story.ids, story.text = np.array(ids, dtype=self._dtype), None
        self._keep_whole()
        return [story.ids for story in stories if story.ids is not None]

    def close(self) -> None:
        """No more is read; chunks that are whole are brought to the disk, within seconds."""
        self._keeper.close()

    def _keep_whole(self) -> None:
        for filling in [each for each in self._open if each.is_whole]:
            self._open.remove(filling)
            if not self._keeper.keep(filling):
                self._begun.discard((filling.entry, filling.name))

    def _kept(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[Kept, Cursor]]:
        entry = self._entry(epoch)
        place = self._place(entry, cursor)
        if place is None:  # amid what was never kept
            yield from ((Kept(len(text), text), after) for text, after in self._texts(epoch, cursor))
            return
        index, skipped = place
        texts: Generator[tuple[str, Cursor], None, None] | None = None
        try:
            while True:
                near = texts is None or entry.has(_name(index + _WORTH_REOPENING))
                chunk = self._load(entry, index, cursor, skipped) if near else None
                if chunk is not None:
                    if texts is not None:
                        texts.close()
                        texts = None
                    self._count(chunk)
                    yield from zip(chunk.stories[skipped:], chunk.cursors[skipped:], strict=True)
                else:
                    texts = texts or self._texts(epoch, cursor)
                    filling = self._begin(entry, index, cursor, is_whole=not skipped)
                    chunk = filling.chunk
                    for text, after in texts:
                        story = Kept(len(text), text)
                        chunk.add(story, after)
                        yield story, after
                        if chunk.is_full:
                            break
                    else:
                        chunk.last = True
                    self._end(filling)
                if chunk.last:
                    return
                cursor, index, skipped = chunk.cursors[-1], index + 1, 0
        finally:
            if texts is not None:
                texts.close()

    def _entry(self, epoch: int) -> CacheEntry:
        number = epoch if isinstance(self._source, BundledSource) else 0  # else each pass is the same
        if number not in self._entries:
            self._entries[number] = self._store.entry("tokens", {**self._depends_on, "pass": number})
        return self._entries[number]

    def _place(self, entry: CacheEntry, cursor: Cursor | None) -> tuple[int, int] | None:
        """The chunk to go on in and how many of its stories lie before; None where that cannot be known."""
        if cursor is None:
            return 0, 0
        index = 0
        while entry.has(_name(index)):
            head = _head(entry.begins(_name(index), _HEAD_BYTES))
            if _same(head.get("begin"), cursor):
                return index, 0
            index += 1
            if _same(head.get("end"), cursor) and not head.get("last"):
                return index, 0
        for earlier in range(index):
            chunk = Chunk.from_bytes(entry.read(_name(earlier)) or b"", self._tokenizer.vocab_size)
            if chunk is not None and cursor in chunk.cursors:
                return earlier, chunk.cursors.index(cursor) + 1
        return None

    def _load(self, entry: CacheEntry, index: int, cursor: Cursor | None, skipped: int) -> Chunk | None:
        """The chunk, where it is in the cache and stands where it is looked for."""
        body = entry.read(_name(index))
        if body is None:
            return None
        chunk = Chunk.from_bytes(body, self._tokenizer.vocab_size)
        before = None if chunk is None else chunk.cursors[skipped - 1] if skipped else chunk.begin
        if chunk is None or not _same(before, cursor) or not (chunk.cursors or chunk.last):
            entry.drop(_name(index))
            return None
        self._begun.discard((entry, _name(index)))
        return chunk

    def _count(self, chunk: Chunk) -> None:
        for name, count in chunk.counts.items():
            if hasattr(self._counts, name):
                setattr(self._counts, name, getattr(self._counts, name) + count)
        notes = self._source.notes
        notes.extend(note for note in chunk.notes if note not in notes)

    def _begin(self, entry: CacheEntry, index: int, cursor: Cursor | None, is_whole: bool) -> _Filling:
        filling = _Filling(entry, _name(index), Chunk(cursor), self.counts, len(self._source.notes))
        # One begun before is still on its way to the disk where a small corpus comes round again.
        known = (entry, filling.name)
        if is_whole and known not in self._begun and not entry.has(filling.name) and entry.claim():
            self._begun.add(known)
            self._open.append(filling)
        return filling

    def _end(self, filling: _Filling) -> None:
        filling.end(self.counts, self._source.notes)
        self._keep_whole()

    def _is_unchanged(self) -> bool:
        """Whether the files are still those that the entry's name stands for."""
        if identity(self._source) == self._identity:
            return True
        self._store.stop("the files of --data have changed since the run began, so no more is kept")
        return False


def rules(data: DataConfig, held_out: frozenset[bytes]) -> dict[str, Any]:
    """The settings that decide which stories of a corpus are trained on and what cleaning leaves of them, as JSON."""
    keys = hashlib.sha256(b"".join(sorted(held_out))).hexdigest()
    by_hash = None if data.valid else data.valid_pct
    return {"clean": data.clean, "min_chars": data.min_chars, "valid_pct": by_hash, "held_out": keys}


class _Filling:
    """A chunk on its way into the cache."""

    def __init__(self, entry: CacheEntry, name: str, chunk: Chunk, counts: Counts, n_notes: int) -> None:
        self.entry, self.name, self.chunk = entry, name, chunk
        self._before, self._n_notes = counts, n_notes
        self._ended, self._encoded = False, 0

    def waiting(self) -> Iterator[Kept]:
        """Its stories that are not encoded yet."""
        return (story for story in self.chunk.stories[self._encoded :] if story.ids is None)

    @property
    def is_whole(self) -> bool:
        """Whether it has all its stories, and each is encoded."""
        stories = self.chunk.stories
        while self._encoded < len(stories) and stories[self._encoded].ids is not None:
            self._encoded += 1
        return self._ended and self._encoded == len(stories)

    def end(self, counts: Counts, notes: Sequence[str]) -> None:
        """It has all its stories; what was counted and said by now."""
        before = dataclasses.asdict(self._before)
        self.chunk.counts = {name: n - before[name] for name, n in dataclasses.asdict(counts).items()}
        self.chunk.notes = list(notes[self._n_notes :])
        self._ended = True


class _Keeper:
    """Brings chunks to the disk in a thread of its own: a slow disk is waited for by nobody."""

    def __init__(self, is_wanted: Callable[[], bool]) -> None:
        self._is_wanted = is_wanted
        self._queue: queue.Queue[_Filling | None] = queue.Queue(_WAITING_CHUNKS)
        self._thread: threading.Thread | None = None
        self._entries: list[CacheEntry] = []

    def keep(self, filling: _Filling) -> bool:
        """Keep it, soon; where the disk is far behind it is left out: whether it is not."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cache", daemon=True)
            self._thread.start()
        if filling.entry not in self._entries:
            self._entries.append(filling.entry)
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(filling)
            return True
        return False

    def close(self) -> None:
        """What was given so far is on the disk, unless that takes longer than some seconds."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=_CLOSING_SECONDS)
            self._thread.join(timeout=_CLOSING_SECONDS)
            self._thread = None
        for entry in self._entries:
            entry.release()

    def _run(self) -> None:
        while (filling := self._queue.get()) is not None:
            if self._is_wanted():
                filling.entry.keep(filling.name, filling.chunk.to_bytes())


def _name(index: int) -> str:
    return f"{index:08d}"


def _same(one: Any, other: Any) -> bool:
    """Whether two cursors are one, also where one of them was JSON meanwhile."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _head(body: bytes) -> Mapping[str, Any]:
    """The JSON of a chunk's first line; nothing where it is none."""
    try:
        head = json.loads(body.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}

"""Stories to batches of token ids, with a position to go on from exactly.

The one place where labels are shifted: `targets[b, t]` is the token after `inputs[b, t]`. The model never shifts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Tokens = Sequence[int] | NDArray[np.integer[Any]]

IGNORED = -100
"""The target that counts for nothing: what torch's cross entropy ignores by default."""
_ENCODED_AT_ONCE = 64
_STEPS_AHEAD = 32  # a new block of stories is read and cleaned meanwhile: a second on one core
_TOKENS_AHEAD = 4 << 20  # 16 bytes each: memory stays bounded however large a step is

Position = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """`inputs` and `targets`: int64 of shape (B, T). Targets of padding are `IGNORED`."""

    inputs: Ids
    targets: Ids

    @property
    def n_targets(self) -> int:
        """Tokens that count in the loss."""
        return int((self.targets != IGNORED).sum())


@dataclass(frozen=True)
class StepBatches:
    """All the batches of one optimiser step, or one process's share of them, and the position right after the step."""

    batches: tuple[Batch, ...]
    n_targets: int
    """Of the whole step."""
    passes: float
    """Passes over the corpus so far, with their fraction."""
    position: Position
    processes: int = 1
    """Among so many the step is dealt out."""
    elsewhere_positions: int = 0
    """Positions, padding included, that the other processes compute."""

    @property
    def n_positions(self) -> int:
        """Positions of the whole step, padding included."""
        return sum(batch.targets.size for batch in self.batches) + self.elsewhere_positions

    @property
    def width(self) -> float:
        """Tokens in the row of a position of this process, on average."""
        pairs = sum(batch.targets.size * batch.targets.shape[1] for batch in self.batches)
        return pairs / sum(batch.targets.size for batch in self.batches) if self.batches else 0.0

    @property
    def padding_pct(self) -> float:
        """Percentage of the positions computed that are padding."""
        return 100.0 * (1 - self.n_targets / self.n_positions)


def collate(rows: Sequence[Tokens], pad_id: int) -> Batch:
    """Rows of token ids, padded to the longest of them and shifted by one.

    Padding is left out of the loss by its place, not by its id: the end-of-text is learned even where it is also the
    padding token. A causal model needs no mask for padding on the right, since no real token looks that way.
    """
    import numpy as np

    width = max(len(row) for row in rows) - 1
    inputs = np.full((len(rows), width), pad_id, dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for i, row in enumerate(rows):
        inputs[i, : len(row) - 1] = row[:-1]
        targets[i, : len(row) - 1] = row[1:]
    return Batch(inputs, targets)


class Batches:
    """Steps without end from stories without end, in one of three ways.

    `pack`: stories end to end, an end-of-text between them, cut into rows of exactly `context` inputs; each token is
    a target once. `begin`: the same, but each row begins with a story or goes on with one that is longer than a row;
    what does not fit of a story begun within a row is not trained on. `pad`: each story its own row between two
    end-of-texts, cut at `context`, padded to the longest.

    `stories` yields `(story, position)`, the position being the one after that story. `position` is what an earlier
    `StepBatches.position` said; `stories` must start at its `"stories"`.

    A step has `batch_size` times `accumulate` rows, in batches of at most `rows_at_once`, or else of `batch_size`, rows
    of about equal length together: what is learned is the same. Of several `processes` each reads the same steps and
    takes the rows `rank`, `rank + processes`, ... of each, in such batches; a step of fewer rows than processes leaves
    some without any. Position and count of targets are the whole step's, so that any number of processes can go on from
    it. All the text is cleaned and encoded in every process; what that costs is hidden behind the step, as it is in
    one.

    `encode` gives the ids of some of `stories`, where these are no texts (`data.tokens`).
    """

    def __init__(
        self,
        stories: Iterable[tuple[Any, Position]],
        tokenizer: Tokenizer,
        *,
        batching: str,
        context: int,
        batch_size: int,
        accumulate: int,
        position: Position | None = None,
        rank: int = 0,
        processes: int = 1,
        encode: Callable[[Sequence[Any]], Sequence[Tokens]] | None = None,
        rows_at_once: int | None = None,
    ) -> None:
        self._stories = stories
        self._tokenizer = tokenizer
        self._ids_of = encode or tokenizer.encode
        self._context = context
        self._batching = batching
        self._rows = batch_size * accumulate
        self._at_once = rows_at_once or batch_size
        self._rank, self._processes = rank, processes
        self._carry: Tokens = list(position["carry"]) if position else [tokenizer.end_id]
        self._stories_position: Position | None = position["stories"] if position else None

    def __iter__(self) -> Iterator[StepBatches]:
        rows = self._padded_rows() if self._batching == "pad" else self._packed_rows()
        while True:
            step = [next(rows) for _ in range(self._rows)]
            position = {"stories": self._stories_position, "carry": list(map(int, self._carry))}
            passes = float((self._stories_position or {}).get("passes", 0.0))
            shares = [self._dealt(step[rank :: self._processes]) for rank in range(self._processes)]
            own = shares.pop(self._rank)
            yield StepBatches(
                tuple(collate(batch, self._tokenizer.end_id) for batch in own),
                sum(len(row) - 1 for row in step),
                passes,
                position,
                self._processes,
                sum(len(batch) * (max(map(len, batch)) - 1) for share in shares for batch in share),
            )

    def _dealt(self, rows: list[Tokens]) -> list[list[Tokens]]:
        """The rows in batches, the shortest first, so that little is padding; the last batch may be smaller."""
        rows = sorted(rows, key=len)
        return [rows[begin : begin + self._at_once] for begin in range(0, len(rows), self._at_once)]

    def _encoded(self) -> Iterator[tuple[Tokens, Position]]:
        """Token ids of one story after another; encoded some at a time, which is several times quicker."""
        waiting: list[tuple[Any, Position]] = []
        for item in self._stories:
            waiting.append(item)
            if len(waiting) == _ENCODED_AT_ONCE:
                yield from self._encode(waiting)
                waiting = []
        yield from self._encode(waiting)

    def _encode(self, items: list[tuple[Any, Position]]) -> Iterator[tuple[Tokens, Position]]:
        encoded = self._ids_of([story for story, _ in items])
        return zip(encoded, (position for _, position in items), strict=True)

    def _padded_rows(self) -> Iterator[Tokens]:
        import numpy as np

        end = [self._tokenizer.end_id]
        for ids, position in self._encoded():
            self._stories_position = position
            yield np.concatenate([end, ids, end], dtype=np.int64, casting="unsafe")[: self._context + 1]

    def _packed_rows(self) -> Iterator[Tokens]:
        import numpy as np

        end, size = np.array([self._tokenizer.end_id]), self._context + 1
        first_pass = None if self._stories_position else _OnePass(self._context)
        yield from self._cut(np.asarray(self._carry), end, False)  # a step may have ended amid a long story's rows
        pieces = [self._carry]
        n_tokens = len(self._carry)
        for ids, position in self._encoded():
            if first_pass is not None:
                first_pass.check(len(ids) + 1, position)
            within = self._batching == "begin" and n_tokens > 1  # a row, not at its beginning
            pieces += [ids, end]
            n_tokens += len(ids) + 1
            self._stories_position = position
            if n_tokens >= size:
                # Arrays throughout: lists of numbers would cost more than a GPU takes for the step.
                yield from self._cut(np.concatenate(pieces, dtype=np.int64, casting="unsafe"), end, within)
                pieces, n_tokens = [self._carry], len(self._carry)

    def _cut(self, held: Ids, end: Ids, within: bool) -> Iterator[Tokens]:
        """The whole rows at the beginning of `held`; what is left is carried over, or, where it is of a story begun
        `within` a row, dropped."""
        self._carry = held
        while len(held) > self._context:
            row = held[: self._context + 1]
            # The last token of a row is the first input of the next, so that each is predicted once.
            held = self._carry = end if within else held[self._context :]
            yield row


class _OnePass:
    """Refuses a corpus that does not fill a single row in a whole pass: it would be packed with copies of itself."""

    def __init__(self, context: int) -> None:
        self._context = context
        self._tokens = 0

    def check(self, n_tokens: int, position: Position) -> None:
        """Count a story's tokens; `position` is the one after it, of the next pass where it was a pass's last."""
        if self._tokens >= self._context:
            return
        self._tokens += n_tokens
        if position.get("epoch", 0) > 0 and self._tokens < self._context:
            raise CorpusError(
                f"all the training stories together are {self._tokens:,} tokens, less than one context of "
                f"{self._context:,}",
                f"give more stories (--data) or a smaller --context, such as {max(8, self._tokens // 4)}",
            )


def steps_ahead(tokens: int) -> int:
    """How many steps of so many tokens are read ahead: 32, fewer of very large ones."""
    return max(1, min(_STEPS_AHEAD, _TOKENS_AHEAD // tokens))


class Prefetched:
    """Runs an iterator in a thread, a few items ahead, so that training does not wait for reading and encoding.

    What the iterator raises is raised here, in its turn. `close` ends the thread and the iterator.
    """

    def __init__(self, items: Iterable[T], ahead: int = _STEPS_AHEAD) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        iterator = iter(self._items)
        try:
            for item in iterator:
                if not self._put((item, None)):
                    return
            self._put((None, StopIteration()))
        except BaseException as error:  # noqa: BLE001  handed to whoever waits for the items
            self._put((None, error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def _put(self, item: tuple[Any, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def next(self, timeout_seconds: float) -> Any:
        """The next item, or None where there is none yet after so many seconds. Raises what the iterator raised."""
        try:
            item, error = self._queue.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """End the thread; waits a moment for the iterator to be closed."""
        self._closed.set()
        self._thread.join(timeout=5)

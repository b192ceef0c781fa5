"""Turns stories into batches of token ids, with a position from which a run resumes exactly.

Labels are shifted here and nowhere else: `targets[b, t]` is the token after `inputs[b, t]`. The model never shifts.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Tokens = Sequence[int] | NDArray[np.integer[Any]]

IGNORED = -100
"""Target of positions that do not count in the loss: the default `ignore_index` of torch's cross entropy."""
_ENCODED_AT_ONCE = 64
_MOST_PREFETCHED_STEPS = 32  # reading and cleaning a new block of stories takes a second of one core
_MOST_PREFETCHED_TOKENS = 4 << 20  # 16 bytes each: bounds the memory for large steps

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
    """The batches of one optimizer step, or one process's share of them, and the position after the step."""

    batches: tuple[Batch, ...]
    n_targets: int  # tokens of the whole step that count in the loss
    passes: float  # passes over the corpus so far, with their fraction
    position: Position
    processes: int = 1  # number of processes that share the step
    other_positions: int = 0  # positions, including padding, that the other processes compute

    @property
    def n_positions(self) -> int:
        """Positions of the whole step, including padding."""
        return sum(batch.targets.size for batch in self.batches) + self.other_positions

    @property
    def width(self) -> float:
        """Average row length over this process's positions, in tokens."""
        pairs = sum(batch.targets.size * batch.targets.shape[1] for batch in self.batches)
        return pairs / sum(batch.targets.size for batch in self.batches) if self.batches else 0.0

    @property
    def padding_pct(self) -> float:
        """Percentage of the computed positions that are padding."""
        return 100.0 * (1 - self.n_targets / self.n_positions)


def collate(rows: Sequence[Tokens], pad_id: int) -> Batch:
    """Pads rows of token ids to the longest one and shifts them by one.

    Padding is left out of the loss by its place, not by its id, so the end-of-text token is learned even where it is
    also the padding token. A causal model needs no mask for padding on the right: no real token attends to it.
    """
    import numpy as np

    width = max(len(row) for row in rows) - 1
    inputs = np.full((len(rows), width), pad_id, dtype=np.int64)
    targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
    for i, row in enumerate(rows):
        inputs[i, : len(row) - 1] = row[:-1]
        targets[i, : len(row) - 1] = row[1:]
    return Batch(inputs, targets)


@dataclass(eq=False)
class Batches:
    """Yields `StepBatches` without end from an endless stream of stories, in one of three ways:

    - `pack`: stories end to end, separated by end-of-text, cut into rows of exactly `context` inputs. Each token is a
      target once.
    - `begin`: the same, but each row begins with a story, or continues one that is longer than a row. The rest of a
      story that began within a row and does not fit is dropped.
    - `pad`: one row per story between two end-of-text tokens, cut at `context`, padded to the longest row.

    `stories` yields `(story, position)` with the position after the story. To resume, pass `position` from an earlier
    `StepBatches.position` and stories that start at its `"stories"`.

    A step has `batch_size * accumulate` rows, sorted by length into batches of at most `rows_at_once` (by default
    `batch_size`) rows; the split does not change what is learned. With several `processes`, each one reads the same
    steps and takes the rows `rank`, `rank + processes`, ... of each; some get none if there are fewer rows. Position
    and target count are those of the whole step, so a run can be resumed by any number of processes. Every process
    cleans and encodes all stories, which the prefetching hides.
    """

    stories: Iterable[tuple[str, Position]]
    tokenizer: Tokenizer
    _: KW_ONLY
    batching: str
    context: int
    batch_size: int
    accumulate: int
    position: InitVar[Position | None] = None
    rank: int = 0
    processes: int = 1
    rows_at_once: int | None = None

    def __post_init__(self, position: Position | None) -> None:
        # Tokens that were read but are not in a row yet. They are part of the position, since stories end within rows.
        self._carry: Tokens = list(position["carry"]) if position else [self.tokenizer.end_id]
        self._stories_position: Position | None = position["stories"] if position else None

    def __iter__(self) -> Iterator[StepBatches]:
        rows = self._padded_rows() if self.batching == "pad" else self._packed_rows()
        while True:
            step = [next(rows) for _ in range(self.batch_size * self.accumulate)]
            position = {"stories": self._stories_position, "carry": list(map(int, self._carry))}
            passes = float((self._stories_position or {}).get("passes", 0.0))
            shares = [self._split(step[rank :: self.processes]) for rank in range(self.processes)]
            own = shares.pop(self.rank)
            yield StepBatches(
                tuple(collate(batch, self.tokenizer.end_id) for batch in own),
                sum(len(row) - 1 for row in step),
                passes,
                position,
                self.processes,
                sum(len(batch) * (max(map(len, batch)) - 1) for share in shares for batch in share),
            )

    def _split(self, rows: list[Tokens]) -> list[list[Tokens]]:
        """Splits rows into batches, shortest rows first to keep padding low. The last batch may be smaller."""
        rows, size = sorted(rows, key=len), self.rows_at_once or self.batch_size
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def _encoded(self) -> Iterator[tuple[Tokens, Position]]:
        """Yields each story's token ids and the position after it.

        Stories are encoded several at a time: the tokenizer then works on all cores and with less overhead.
        """
        stories = iter(self.stories)  # local, so that closing this generator closes the stream of stories
        while chunk := list(islice(stories, _ENCODED_AT_ONCE)):
            ids = self.tokenizer.encode([story for story, _ in chunk])
            yield from zip(ids, (position for _, position in chunk), strict=True)

    def _padded_rows(self) -> Iterator[Tokens]:
        import numpy as np

        end = [self.tokenizer.end_id]
        for ids, position in self._encoded():
            self._stories_position = position
            yield np.concatenate([end, ids, end], dtype=np.int64, casting="unsafe")[: self.context + 1]

    def _packed_rows(self) -> Iterator[Tokens]:
        import numpy as np

        end, size = np.array([self.tokenizer.end_id]), self.context + 1
        n_first_pass = self.context if self._stories_position else 0  # tokens, counted up to one context
        # The step of the position may have ended between two rows of one long story, whose rest is then carried.
        yield from self._cut(np.asarray(self._carry), end, False)
        pieces = [self._carry]
        n_tokens = len(self._carry)
        for ids, position in self._encoded():
            if n_first_pass < self.context:
                n_first_pass += len(ids) + 1
                if position.get("epoch", 0) > 0 and n_first_pass < self.context:
                    # The first pass is over: rows would be packed with copies of the corpus.
                    raise CorpusError(
                        f"all the training stories together are {n_first_pass:,} tokens, less than one context of "
                        f"{self.context:,}",
                        f"give more stories (--data) or a smaller --context, such as {max(8, n_first_pass // 4)}",
                    )
            within = self.batching == "begin" and n_tokens > 1  # the story begins within a row
            pieces += [ids, end]
            n_tokens += len(ids) + 1
            self._stories_position = position
            if n_tokens >= size:
                # Arrays throughout: lists of numbers would take longer than a GPU takes for the step.
                yield from self._cut(np.concatenate(pieces, dtype=np.int64, casting="unsafe"), end, within)
                pieces, n_tokens = [self._carry], len(self._carry)

    def _cut(self, tokens: Ids, end: Ids, within: bool) -> Iterator[Tokens]:
        """Yields the whole rows of `tokens` and carries the rest, or drops it if its story began `within` a row."""
        self._carry = tokens
        while len(tokens) > self.context:
            row = tokens[: self.context + 1]
            # The last token of a row is the first input of the next, so that each token is predicted once.
            tokens = self._carry = end if within else tokens[self.context :]
            yield row


def prefetch_steps(tokens: int) -> int:
    """How many steps of so many tokens to prefetch: 32, fewer of very large ones."""
    return max(1, min(_MOST_PREFETCHED_STEPS, _MOST_PREFETCHED_TOKENS // tokens))


class Prefetcher:
    """Runs an iterator in a thread, a few items ahead, so that training does not wait for reading and encoding.

    An exception of the iterator is raised by `next` after the items before it.
    """

    def __init__(self, items: Iterable[T], ahead: int = _MOST_PREFETCHED_STEPS) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        iterator = iter(self._items)
        try:
            while self._put((next(iterator), None)):
                pass
        except BaseException as error:  # noqa: BLE001  raised again by `next`, also StopIteration
            self._put((None, error))
        finally:
            getattr(iterator, "close", lambda: None)()

    def _put(self, item: tuple[Any, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def next(self, timeout_seconds: float) -> Any:
        """Returns the next item, or None if there is none after so many seconds. Raises what the iterator raised."""
        try:
            item, error = self._queue.get(timeout=timeout_seconds)
        except queue.Empty:
            return None
        if error is not None:
            raise error
        return item

    def close(self) -> None:
        """Ends the thread and closes the iterator; waits up to 5 s."""
        self._closed.set()
        self._thread.join(timeout=5)

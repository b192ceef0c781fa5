"""Generates stories with any backend: sliding windows, batches, stop strings, and text that is shown as it is made.

A `Backend` is a model that continues a window of tokens; everything else here is the same for every model.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, ModelError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED_STRIDE = 0x9E3779B1
"""Difference between the seeds of a batch's decodings, or of a story's windows. An odd number (2^32 divided by the
golden ratio), so that the first 2^32 multiples are all distinct modulo 2^32, and neighbours lie far apart."""
_SENTENCE_START = re.compile(r"(?:[.!?][\"'\u201d\u2019)]*\s+|\n+)(?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"  # what tokenizers decode bytes to that do not form a whole character
_MIN_CONTEXT, _MAX_CONTEXT = 8, 24  # tokens before the new ones that are decoded with them
_MAX_HELD_CHARS = 48
"""Trailing replacement characters that are held back; a model that generates only broken bytes is shown anyway."""


@dataclass(frozen=True)
class GeneratedStory:
    """A story, and how it was generated."""

    prompt: str
    text: str  # without the prompt
    tokens: int  # generated tokens, without the end-of-text token
    seconds: float  # generation time; in a batch, that of the whole batch
    seed: int
    finished: bool  # True if the model ended the story, rather than a limit or a stop string


class Decoding(Protocol):
    """The generation of one story or one batch; its random numbers continue from window to window."""

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        """Yields up to `limit` tokens after `window`, some at a time; the last may be an end-of-text token."""
        ...

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, stop: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        """Returns up to `limit` tokens after each window.

        `stop(index, token)` is called with the index of a window and each of its tokens, and ends that window by
        returning True. `rows` are the numbers of the stories in the batch, for backends with a random generator each.
        """
        ...

    def close(self) -> None:
        """Stops generation and frees what it holds."""
        ...


def until_stop(tokens: Sequence[int], index: int, stop: Callable[[int, int], bool]) -> Iterator[int]:
    """Yields the tokens up to and including the one at which `stop` returns True."""
    for token in tokens:
        yield token
        if stop(index, token):
            return


class Backend(Protocol):
    """A model that continues token sequences."""

    vocab_size: int
    batch_rows: int  # stories of one decoding at which it is fastest
    parallel_decodings: int  # number of decodings at which the model is fastest, each on a worker thread

    def check(self, params: SamplingParams) -> None:
        """Raises UsageError if a sampling parameter is not supported."""
        ...

    def start(self, params: SamplingParams, worker: int | None = None) -> Decoding:
        """Starts a decoding. `params.seed` is set; `worker` numbers the thread if several decodings run at once."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


def with_seed(params: SamplingParams) -> SamplingParams:
    """Returns the parameters with a random seed if they have none."""
    return params if params.seed is not None else dataclasses.replace(params, seed=secrets.randbits(32))


def load_tokenizer(tokenizer_json: str, name: str) -> Tokenizer:
    """Loads a tokenizer that treats special tokens in a prompt as plain text. Raises CheckpointError if it is broken.

    Otherwise a prompt that contains the text of an end-of-text token would end the story before it begins.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"the tokenizer.json of {name} is broken", "take another checkpoint") from error
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


# --- from tokens to text ----------------------------------------------------------------------------------------------


class Detokenizer:
    """Decodes a growing sequence of tokens piece by piece. A character of several tokens comes out when it is whole.

    Tokens cannot be decoded one at a time: the text of a token depends on those before it (a space at its front is
    dropped at the start of a text, and a character may span several byte tokens). Decoding the whole sequence again for
    each token would take quadratic time. So a short tail of the sequence is decoded, before and after the new tokens
    are appended, and the piece is the difference.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        """`before` is the tokens of the prompt that the text continues."""
        self._tokenizer = tokenizer
        self._ids: list[int] = self._tail(list(before)) or []
        self._shown = len(self._decode(self._ids))
        """Characters of the decoded tail that have been returned, or belong to the prompt."""

    def push(self, tokens: Sequence[int]) -> str:
        """Appends tokens and returns the text that they complete."""
        return "".join(self._push(tokens[i : i + 8]) for i in range(0, len(tokens), 8))

    def _push(self, tokens: Sequence[int]) -> str:
        self._ids += tokens
        text = self._decode(self._ids)
        # An unfinished character decodes to one replacement character or, in tokenizers with byte fallback, turns all
        # bytes of its run into replacement characters. Both stand at the end, and are held back.
        broken = len(text) - len(text.rstrip(_REPLACEMENT))
        whole = len(text) - (broken if broken <= _MAX_HELD_CHARS else 0)
        piece = text[self._shown : whole]
        self._shown = max(self._shown, whole)
        # Once all of it is shown, the tail is cut to its last tokens, so that decoding stays cheap.
        if whole == len(text) and len(self._ids) > _MAX_CONTEXT and (tail := self._tail(self._ids)):
            self._ids = tail
            self._shown = len(self._decode(tail))
        return piece

    def _tail(self, ids: list[int]) -> list[int] | None:
        """The last 8 to 24 tokens, starting where a character starts; None if there is no such place."""
        for length in range(min(_MIN_CONTEXT, len(ids)), min(_MAX_CONTEXT, len(ids)) + 1):
            if not self._decode(ids[-length:]).startswith(_REPLACEMENT):
                return ids[-length:] if length else []
        return None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


class StopStrings:
    """Cuts a text that comes in pieces before the first stop string, even one that spans several pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """Appends a piece and returns the text that is safe to show."""
        if self.found:
            return ""
        text = self._held + piece
        positions = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        if positions:
            self.found, self._held = True, ""
            return text[: min(positions)]
        # The end of the text may be the beginning of a stop string that the next piece completes. The longest such
        # end is held back, and returned later if the next piece turns it into ordinary text.
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """Returns the text that was held back, at the end of the story."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, but is not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


# --- generation -------------------------------------------------------------------------------------------------------


@dataclass
class _StoryInProgress:
    prompt: str
    ids: list[int]  # the prompt and the generated tokens, as far back as the window reaches
    detokenizer: Detokenizer
    stop_strings: StopStrings
    left: int  # tokens that may still be generated
    pieces: list[str] = field(default_factory=list)
    generated: int = 0
    finished: bool = False

    def append(self, tokens: Sequence[int]) -> str:
        """Appends tokens other than end-of-text, and returns the piece of text that can be shown."""
        self.ids += tokens
        self.generated += len(tokens)
        self.left -= len(tokens)
        self.pieces.append(self.stop_strings.push(self.detokenizer.push(tokens)))
        return self.pieces[-1]

    def flush(self) -> str:
        """Returns the text that was held back for a stop string, at the end of the story."""
        self.pieces.append(self.stop_strings.rest())
        return self.pieces[-1]

    @property
    def ended(self) -> bool:
        return self.finished or self.stop_strings.found or self.left <= 0

    def result(self, seed: int | None, seconds: float) -> GeneratedStory:
        return GeneratedStory(self.prompt, "".join(self.pieces), self.generated, seconds, seed or 0, self.finished)


class Engine:
    """An open model that generates stories with its backend."""

    def __init__(
        self,
        label: str,
        backend: Backend,
        tokenizer: Tokenizer,
        context: int,
        bos_id: int | None,
        eos_ids: Sequence[int],
    ) -> None:
        """`context` is the model's maximum number of tokens; `bos_id` is put before each window."""
        self.label = label  # the model's name: `run@step`, a folder, or `owner/name`
        self.context = context
        self.end_of_text: str | None = tokenizer.id_to_token(eos_ids[0]) if eos_ids else None
        """The text of the end-of-text token."""
        self._backend = backend
        self._tokenizer = tokenizer
        self._bos = [] if bos_id is None else [bos_id]
        self._eos_ids = frozenset(eos_ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the model, and ends its child process if it has one."""
        self._backend.close()

    def count(self, prompt: str) -> int:
        """Number of tokens in `prompt`, without the beginning-of-text token."""
        return len(self._encode(prompt))

    def recent(self, text: str) -> str:
        """The end of `text` that fills half of the context, from the start of a sentence; all of it if it fits."""
        ids = self._encode(text)
        return text if len(ids) <= self.context // 2 else self._newest_half(ids)

    def stream(self, prompt: str, params: SamplingParams) -> Generator[str, None, GeneratedStory]:
        """Yields the story after `prompt` in pieces, and returns it. Closing the generator stops the generation.

        Raises UsageError at once if the prompt does not fit or a sampling parameter is not supported, and ModelError if
        generation fails.
        """
        self._backend.check(params)
        return self._stream(prompt, self._checked_ids(prompt), with_seed(params))

    def batch(self, prompts: Sequence[str], params: SamplingParams) -> list[GeneratedStory]:
        """Generates a story for each prompt at once.

        The same prompts with the same seed give the same stories, whatever the number of threads. A batch of one gives
        the story that `stream` gives. Raises as `stream` does.
        """
        if len(prompts) == 1:
            return [_exhaust(self.stream(prompts[0], params))]
        self._backend.check(params)
        params, began = with_seed(params), time.perf_counter()
        rows = [self._new_story(prompt, self._checked_ids(prompt), params) for prompt in prompts]
        # Prompts of similar length go into one decoding, since its window is limited by the longest of them. Each
        # decoding has a seed that depends only on its position, so the stories do not depend on which worker runs it.
        by_length = sorted(rows, key=lambda row: len(row.ids))
        size = self._backend.batch_rows
        work = []
        for number, first in enumerate(range(0, len(by_length), size)):
            seed = ((params.seed or 0) + SEED_STRIDE * number) % 2**32
            seeded = dataclasses.replace(params, seed=seed)
            work.append(partial(self._generate_rows, by_length[first : first + size], seeded))
        _run_in_parallel(work, self._backend.parallel_decodings)
        seconds = time.perf_counter() - began
        return [row.result(params.seed, seconds) for row in rows]

    def _generate_rows(
        self, rows: Sequence[_StoryInProgress], params: SamplingParams, worker: int | None, cancelled: threading.Event
    ) -> None:
        """Generates the rows to their ends. Raises _Cancelled once the event is set."""
        with closing(self._backend.start(params, worker)) as decoding:
            while alive := {number: row for number, row in enumerate(rows) if not row.ended}:
                self._generate_window(decoding, alive, cancelled, watch=bool(params.stop))
        for row in rows:
            row.flush()

    def _stream(self, prompt: str, ids: list[int], params: SamplingParams) -> Generator[str, None, GeneratedStory]:
        began = time.perf_counter()
        row = self._new_story(prompt, ids, params)
        with closing(self._backend.start(params)) as decoding:
            while not row.ended:
                window = self._window(row)
                with closing(decoding.tokens(window, min(self.context - len(window) + 1, row.left))) as chunks:
                    # With stop strings, tokens are appended one by one, since those after a stop string do not count.
                    for chunk in ([token] for tokens in chunks for token in tokens) if params.stop else chunks:
                        row.finished = chunk[-1] in self._eos_ids
                        if piece := row.append(chunk[:-1] if row.finished else chunk):
                            yield piece
                        if row.ended:
                            break
        if piece := row.flush():
            yield piece
        return row.result(params.seed, time.perf_counter() - began)

    def _generate_window(
        self, decoding: Decoding, alive: Mapping[int, _StoryInProgress], cancelled: threading.Event, *, watch: bool
    ) -> None:
        """Extends the rows, by their numbers, until one of them fills the context; `watch` looks for stop strings."""
        numbers, rows = list(alive), list(alive.values())
        windows = [self._window(row) for row in rows]
        limit = min(self.context - max(map(len, windows)) + 1, *(row.left for row in rows))

        def stop(index: int, token: int) -> bool:
            if watch and token not in self._eos_ids:
                rows[index].append([token])
                return rows[index].ended or cancelled.is_set()
            return cancelled.is_set()

        generated = decoding.batch(windows, limit, stop, numbers)
        if cancelled.is_set():
            raise _Cancelled
        for row, tokens in zip(rows, generated, strict=True):
            row.finished = not tokens or tokens[-1] in self._eos_ids
            if not watch:
                row.append(tokens[:-1] if row.finished else tokens)

    def _new_story(self, prompt: str, ids: list[int], params: SamplingParams) -> _StoryInProgress:
        detokenizer = Detokenizer(self._tokenizer, ids)
        return _StoryInProgress(prompt, list(ids), detokenizer, StopStrings(params.stop), params.max_tokens)

    def _window(self, row: _StoryInProgress) -> list[int]:
        """Returns the tokens that the model is given next.

        A story may grow longer than the context, and the model has no positions beyond it. So when the window is full,
        the older part of the story is dropped: half of the context stays, from the start of a sentence. Dropping half,
        and not a single token, means that the window is processed anew only once in half a context of tokens.
        """
        if len(self._bos) + len(row.ids) > self.context:
            half = row.ids[-(self.context // 2) :]
            # The cut text is tokenized anew, which may give more tokens than before, or none.
            row.ids = self._encode(self._newest_half(row.ids))[-len(half) :] or half
        return self._bos + row.ids

    def _newest_half(self, ids: Sequence[int]) -> str:
        """The text of the last half context of tokens, from the first sentence that starts in its first half."""
        text = self._tokenizer.decode(list(ids[-(self.context // 2) :]), skip_special_tokens=True).lstrip(_REPLACEMENT)
        start = _SENTENCE_START.search(text, 0, len(text) // 2)
        return text[start.end() :] if start else text

    def _encode(self, text: str) -> list[int]:
        # Command line arguments that are not UTF-8 contain lone surrogates, which tokenizers cannot encode.
        ids: list[int] = self._tokenizer.encode(_SURROGATE.sub(_REPLACEMENT, text), add_special_tokens=False).ids
        return ids

    def _checked_ids(self, prompt: str) -> list[int]:
        """Encodes the prompt. Raises UsageError or ModelError if the model cannot take it."""
        ids = self._encode(prompt)
        if len(ids) > self.context - 1:
            raise UsageError(
                f"the prompt is {len(ids):,} tokens long, the model takes {self.context - 1:,}", "give a shorter one"
            )
        if not ids and not self._bos:
            raise UsageError(f"{self.label} has no beginning-of-text token", "give a prompt")
        if max(ids, default=0) >= self._backend.vocab_size:
            raise ModelError(f"the tokenizer of {self.label} has more tokens than the model", "take another model")
        return ids


def _exhaust(pieces: Generator[str, None, GeneratedStory]) -> GeneratedStory:
    """Runs a stream to its end and returns the story."""
    with closing(pieces):  # also on Ctrl-C, which is handled between two pieces
        while True:
            try:
                next(pieces)
            except StopIteration as end:
                story: GeneratedStory = end.value
                return story


class _Cancelled(Exception):
    """Raised on a worker thread after another one failed, or after Ctrl-C."""


def _run_in_parallel(work: Sequence[Callable[[int | None, threading.Event], None]], workers: int) -> None:
    """Calls each function with a worker's number and an event, on up to `workers` threads.

    The first error, or Ctrl-C, sets the event, and is raised once all threads have ended.
    """
    waiting, cancelled, errors = deque(work), threading.Event(), deque[BaseException]()

    def run(worker: int) -> None:
        while not cancelled.is_set():
            try:
                function = waiting.popleft()
            except IndexError:
                return
            try:
                function(worker, cancelled)
            except BaseException as error:  # noqa: BLE001  raised below, in the waiting thread
                errors.append(error)
                cancelled.set()

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(min(workers, len(work)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        cancelled.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]

"""From tokens to text that can be shown as it is made: whole characters, stop strings, and a window that moves on.

Everything here is the same for every kind of model. A model is a `Backend`: something that can be given a window of
tokens and tells the ones that follow.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, Self

from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, ModelError, UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED_STRIDE = 0x9E3779B1
"""Between the seeds of a batch's tellings, or of a story's windows: an odd number, so that no two of 2^32 are alike,
and no near neighbours."""
_BROKEN = "\ufffd"
"""What a tokenizer decodes bytes to that are no whole character."""
_SENTENCE_START = re.compile(r"(?:[.!?][\"'\u201d\u2019)]*\s+|\n+)(?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class GeneratedStory:
    """A story as it was told."""

    prompt: str
    text: str
    """What was told after the prompt."""
    tokens: int
    """Tokens told, the end of text not counted."""
    seconds: float
    """From the prompt to the end; for a batch, of the whole batch."""
    seed: int
    finished: bool
    """Whether the model ended it, rather than a limit or a stop string."""


class Decoding(Protocol):
    """One telling: its random draws go on from window to window."""

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        """At most `limit` tokens after `window`, some at a time as they are made; the last may be an end of text."""
        ...

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, enough: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        """The same for several windows at once. `enough(index, token)` may end any of them after any token; `rows` says
        which of the telling's stories each is of, for those that are drawn on their own."""
        ...

    def close(self) -> None:
        """Stop telling; what was being computed is dropped."""
        ...


def until_enough(tokens: Sequence[int], index: int, enough: Callable[[int, int], bool]) -> Iterator[int]:
    """The tokens as far as the one that is enough."""
    for token in tokens:
        yield token
        if enough(index, token):
            return


class Backend(Protocol):
    """A model that tells tokens."""

    vocabulary: int
    batch_rows: int
    """Stories that one telling is best given."""
    lanes: int
    """Tellings that are best at work side by side."""

    def check(self, sample: SamplingParams) -> None:
        """Raise UsageError where the sample asks for something that these voices do not have."""
        ...

    def begin(self, sample: SamplingParams, lane: int | None = None) -> Decoding:
        """A new telling. `sample.seed` is set; `lane`: which of several side by side it is one of."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def with_seed(sample: SamplingParams) -> SamplingParams:
    """`sample`, with a seed drawn where it has none."""
    return sample if sample.seed is not None else dataclasses.replace(sample, seed=secrets.randbits(32))


def load_tokenizer(tokenizer_json: str, name: str) -> Tokenizer:
    """A tokenizer for which special tokens in a text are plain text. Raises CheckpointError where it is broken."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library raises nothing narrower
        raise CheckpointError(f"the tokenizer.json of {name} is broken", "take another checkpoint") from error
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Detokenizer:
    """Tokens in, text out; a character of several bytes is held back until it is whole."""

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        """`before`: the tokens that the text goes on from; a few of them settle the first token's space."""
        self._tokenizer = tokenizer
        self._ids: list[int] = self._tail(list(before)) or []
        self._shown = len(self._decode(self._ids))

    def push(self, tokens: Sequence[int]) -> str:
        """The text that these tokens complete; what stays incomplete at the end is never shown."""
        return "".join(self._push(tokens[i : i + 8]) for i in range(0, len(tokens), 8))

    def _push(self, tokens: Sequence[int]) -> str:
        self._ids += tokens
        text = self._decode(self._ids)
        # An unfinished character shows as one replacement character or, with byte fallback, takes all the bytes before
        # it along, one each. A model that tells nothing but broken bytes is not waited for.
        broken = len(text) - len(text.rstrip(_BROKEN))
        whole = len(text) - (broken if broken <= 48 else 0)
        piece = text[self._shown : whole]
        self._shown = max(self._shown, whole)
        if whole == len(text) and len(self._ids) > 24 and (tail := self._tail(self._ids)):
            self._ids = tail
            self._shown = len(self._decode(tail))
        return piece

    def _tail(self, ids: list[int]) -> list[int] | None:
        """The last few tokens, from one where a character begins."""
        for length in range(min(8, len(ids)), min(24, len(ids)) + 1):
            if not self._decode(ids[-length:]).startswith(_BROKEN):
                return ids[-length:] if length else []
        return None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


class StopStrings:
    """Text in pieces, cut before the first stop string, also where it straddles pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """What can be shown: nothing that may turn out to be the beginning of a stop string."""
        if self.found:
            return ""
        text = self._held + piece
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self._held = True, ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, once nothing more comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of `text` with which `stop` begins."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass
class _StoryInProgress:
    """One story while it is told."""

    prompt: str
    ids: list[int]
    """Prompt and story, as far back as the window reaches."""
    joiner: Detokenizer
    cutter: StopStrings
    left: int
    """Tokens that may still be told."""
    pieces: list[str] = field(default_factory=list)
    told: int = 0
    finished: bool = False

    def hear(self, tokens: Sequence[int]) -> str:
        """Take tokens that end nothing; the piece of text that they bring."""
        self.ids += tokens
        self.told += len(tokens)
        self.left -= len(tokens)
        self.pieces.append(self.cutter.push(self.joiner.push(tokens)))
        return self.pieces[-1]

    def rest(self) -> str:
        """What the cutter still holds, once nothing more comes."""
        self.pieces.append(self.cutter.rest())
        return self.pieces[-1]

    @property
    def over(self) -> bool:
        return self.finished or self.cutter.found or self.left <= 0


class StoryGenerator:
    """The engine over any `Backend`."""

    def __init__(
        self, label: str, voices: Backend, tokenizer: Tokenizer, context: int, begin: int | None, ends: Sequence[int]
    ) -> None:
        """`context`: tokens that the model sees at once; `begin`: what each story begins with; `ends`: what ends it."""
        self.label = label
        self.context = context
        self.end_of_text: str | None = tokenizer.id_to_token(ends[0]) if ends else None
        self._voices = voices
        self._tokenizer = tokenizer
        self._begin = [] if begin is None else [begin]
        self._ends = frozenset(ends)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model."""
        self._voices.close()

    def count(self, prompt: str) -> int:
        """Tokens of `prompt`; what every story begins with is not counted."""
        return len(self._ids(prompt))

    def recent(self, text: str) -> str:
        """The newest part of `text` that fills half of the context, from a sentence's start; all of it if it fits."""
        ids = self._ids(text)
        return text if len(ids) <= self.context // 2 else self._recent(ids)

    def stream(self, prompt: str, sample: SamplingParams) -> Generator[str, None, GeneratedStory]:
        """Pieces of the story after `prompt`, as they are told; closing the generator stops the telling.

        Its return value is the whole Story. Raises UsageError at once where the prompt does not fit or the model cannot
        tell as `sample` asks, ModelError where telling fails.
        """
        self._voices.check(sample)
        return self._stream(prompt, self._checked(prompt), with_seed(sample))

    def batch(self, prompts: Sequence[str], sample: SamplingParams) -> list[GeneratedStory]:
        """A story for each prompt, told side by side.

        The same prompts with the same seed give the same stories, however many threads there are; a batch of one is
        what `stream` tells. Raises as `stream` does.
        """
        if len(prompts) == 1:
            return [_heard(self.stream(prompts[0], sample))]
        self._voices.check(sample)
        sample, began = with_seed(sample), time.perf_counter()
        rows = [self._row(prompt, self._checked(prompt), sample) for prompt in prompts]
        # Rows of like length go together, since a telling waits for its longest prompt. Each telling has a seed of its
        # own that its place alone decides, so that it does not matter which lane takes it.
        order = sorted(rows, key=lambda row: len(row.ids))
        size = self._voices.batch_rows
        parts = [order[first : first + size] for first in range(0, len(order), size)]
        seeded = [
            dataclasses.replace(sample, seed=((sample.seed or 0) + SEED_STRIDE * number) % 2**32)
            for number in range(len(parts))
        ]
        _side_by_side(
            [partial(self._tell, part, one) for part, one in zip(parts, seeded, strict=True)], self._voices.lanes
        )
        seconds = time.perf_counter() - began
        return [_story(row, sample, seconds) for row in rows]

    def _tell(
        self, rows: Sequence[_StoryInProgress], sample: SamplingParams, lane: int | None, stopped: threading.Event
    ) -> None:
        """Tell the rows to their ends, or until it is `stopped`."""
        with closing(self._voices.begin(sample, lane)) as voice:
            while alive := [number for number, row in enumerate(rows) if not row.over]:
                self._tell_on(voice, alive, [rows[number] for number in alive], stopped, watch=bool(sample.stop))
        for row in rows:
            row.rest()

    def _stream(self, prompt: str, ids: list[int], sample: SamplingParams) -> Generator[str, None, GeneratedStory]:
        began = time.perf_counter()
        row = self._row(prompt, ids, sample)
        with closing(self._voices.begin(sample)) as voice:
            while not row.over:
                window = self._window(row)
                with closing(voice.tokens(window, min(self.context - len(window) + 1, row.left))) as told:
                    # What follows a stop string is not counted as told, so each token is looked at by itself then.
                    for some in ([token] for tokens in told for token in tokens) if sample.stop else told:
                        row.finished = some[-1] in self._ends
                        if piece := row.hear(some[:-1] if row.finished else some):
                            yield piece
                        if row.over:
                            break
        if piece := row.rest():
            yield piece
        return _story(row, sample, time.perf_counter() - began)

    def _tell_on(
        self,
        voice: Decoding,
        numbers: Sequence[int],
        rows: Sequence[_StoryInProgress],
        stopped: threading.Event,
        *,
        watch: bool,
    ) -> None:
        """Take every row as far as the longest one's window lasts; `watch`: listen for stop strings on the way."""
        windows = [self._window(row) for row in rows]
        limit = min(self.context - max(map(len, windows)) + 1, *(row.left for row in rows))

        def enough(index: int, token: int) -> bool:
            if not watch or token in self._ends:
                return stopped.is_set()
            return (rows[index].hear([token]), rows[index].over)[1] or stopped.is_set()

        told = voice.batch(windows, limit, enough, numbers)
        if stopped.is_set():
            raise _Cancelled
        for row, tokens in zip(rows, told, strict=True):
            row.finished = not tokens or tokens[-1] in self._ends
            if not watch:
                row.hear(tokens[:-1] if row.finished else tokens)

    def _row(self, prompt: str, ids: list[int], sample: SamplingParams) -> _StoryInProgress:
        return _StoryInProgress(
            prompt, list(ids), Detokenizer(self._tokenizer, ids), StopStrings(sample.stop), sample.max_tokens
        )

    def _window(self, row: _StoryInProgress) -> list[int]:
        """What the model is given next; a full window is first cut to its newest half, at a sentence's start."""
        if len(self._begin) + len(row.ids) > self.context:
            half = row.ids[-(self.context // 2) :]
            row.ids = self._ids(self._recent(row.ids))[-len(half) :] or half
        return self._begin + row.ids

    def _recent(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(list(ids[-(self.context // 2) :]), skip_special_tokens=True).lstrip(_BROKEN)
        start = _SENTENCE_START.search(text, 0, len(text) // 2)
        return text[start.end() :] if start else text

    def _ids(self, text: str) -> list[int]:
        # A lone surrogate (an argument that was no UTF-8) is no character that a tokenizer could take.
        ids: list[int] = self._tokenizer.encode(_SURROGATE.sub(_BROKEN, text), add_special_tokens=False).ids
        return ids

    def _checked(self, prompt: str) -> list[int]:
        """The prompt's tokens. Raises UsageError, ModelError where the model cannot be given them."""
        ids = self._ids(prompt)
        if len(ids) > self.context - 1:
            raise UsageError(
                f"the prompt is {len(ids):,} tokens long, the model takes {self.context - 1:,}", "give a shorter one"
            )
        if not ids and not self._begin:
            raise UsageError(f"{self.label} has no beginning of its own", "give a prompt")
        if max(ids, default=0) >= self._voices.vocabulary:
            raise ModelError(f"the tokenizer of {self.label} has more tokens than the model", "take another model")
        return ids


def _heard(pieces: Generator[str, None, GeneratedStory]) -> GeneratedStory:
    """The story that a stream ends in."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            story: GeneratedStory = end.value
            return story


class _Cancelled(Exception):
    """Raised in a lane, once nobody waits for it."""


def _side_by_side(tellings: Sequence[Callable[[int | None, threading.Event], None]], lanes: int) -> None:
    """Run the tellings, so many at a time; the first error, or Ctrl-C, stops them all and is raised."""
    left, stopped, errors = deque(tellings), threading.Event(), deque[BaseException]()

    def work(lane: int) -> None:
        while not stopped.is_set():
            try:
                telling = left.popleft()
            except IndexError:
                return
            try:
                telling(lane, stopped)
            except BaseException as error:  # noqa: BLE001  raised below, where someone waits for it
                errors.append(error)
                stopped.set()

    threads = [threading.Thread(target=work, args=(lane,)) for lane in range(min(lanes, len(tellings)))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def _story(row: _StoryInProgress, sample: SamplingParams, seconds: float) -> GeneratedStory:
    return GeneratedStory(row.prompt, "".join(row.pieces), row.told, seconds, sample.seed or 0, row.finished)

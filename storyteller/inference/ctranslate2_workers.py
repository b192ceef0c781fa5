"""Runs CTranslate2 with a seed for each story, without loading the model again, and streams its tokens."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from storyteller.system.cpu_priority import THROTTLE

if TYPE_CHECKING:
    import ctranslate2

_POLL_SECONDS = 0.01  # how often a waiting thread looks for new tokens

_seed_lock = threading.Lock()  # CTranslate2 has one seed for the whole process


def token_names(window: Sequence[int]) -> list[str]:
    """Returns the names that `ctranslate2_format.pack` gives the tokens."""
    return [str(token) for token in window]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Sets the seed of CTranslate2 workers that draw their first random number inside the block."""
    import ctranslate2

    with _seed_lock:
        ctranslate2.set_random_seed(seed)
        yield


class WorkerPool:
    """A generator with several workers of one thread each, every one of which generates one story.

    A CTranslate2 worker takes the process's seed when it draws its first random number, and cannot be seeded again. So
    every story needs an unused worker. CTranslate2 gives a job to any idle worker; a used one is therefore kept busy by
    blocking in the callback of its last token until the pool is dropped.
    """

    def __init__(self, generator: ctranslate2.Generator, workers: int) -> None:
        self._generators = [generator]
        self.unused = workers  # neither used nor reserved
        self._lock = threading.Lock()
        self._dropped = threading.Event()
        self._results: list[ctranslate2.AsyncGenerationResult] = []
        # This has to happen before Python exits: a CTranslate2 thread that calls into it later aborts the process.
        weakref.finalize(self, _release_workers, self._dropped, self._results, self._generators)

    def reserve(self) -> bool:
        """Reserves a worker for one call of `generate`. Returns False if none is left."""
        with self._lock:
            if not self.unused:
                return False
            self.unused -= 1
            return True

    def generate(
        self, window: Sequence[int], limit: int, seed: int, options: Mapping[str, Any]
    ) -> Generator[Sequence[int]]:
        """Yields up to `limit` tokens after `window`, some at a time. `reserve` has to be called before.

        Raises what CTranslate2 raises.
        """
        queue = TokenQueue()
        try:
            with seeded(seed):
                result = queue.start(self._generators[0], window, limit, options, block_until=self._dropped)
                self._results.append(result)
                tokens = queue.tokens(result.done)
                first = next(tokens, None)  # after this the worker has taken the seed
            if first is not None:
                yield first
                yield from tokens
            if result.done():  # it failed, since a worker that succeeded blocks in its last callback
                result.result()
        finally:
            queue.stopped = True


class TokenQueue:
    """Passes the tokens of one story from CTranslate2's thread to the thread that waits for them.

    CTranslate2's own `generate_tokens` waits on a `queue.Queue`, whose Python lock Ctrl-C can leave locked or release
    twice, and then both threads wait forever. A SimpleQueue is written in C, and a signal cannot interrupt it halfway.

    The waiting thread is woken only for the first and the last token, and polls in between: waking it for each token
    slows a small model down by a tenth, because both threads then compete for the interpreter.
    """

    def __init__(self) -> None:
        self.stopped = False
        """Set by the waiting thread to end the story after the token that is being computed."""
        self._tokens: deque[int] = deque()
        self._wake: SimpleQueue[bool] = SimpleQueue()
        """Gets one item for the first token and one for the last, which is True for the last."""

    def start(
        self,
        generator: ctranslate2.Generator,
        window: Sequence[int],
        limit: int,
        options: Mapping[str, Any],
        block_until: threading.Event | None = None,
    ) -> ctranslate2.AsyncGenerationResult:
        """Starts to generate up to `limit` tokens after `window`. With `block_until`, the worker waits at the end."""
        # The callback is the `send` method of a Python generator, because CTranslate2's thread enters Python anew for
        # each token: the stack frame of a function would be allocated and freed each time, which takes a tenth of a
        # small model's time. The frame of a generator stays.
        handler = self._handle_steps(block_until)
        next(handler)
        return generator.generate_batch(
            [token_names(window)],
            max_length=limit,
            include_prompt_in_result=False,
            callback=handler.send,
            asynchronous=True,
            **options,
        )[0]

    def _handle_steps(self, block_until: threading.Event | None) -> Generator[bool, ctranslate2.GenerationStepResult]:
        step, is_first = (yield False), True
        while True:
            self._tokens.append(step.token_id)
            if is_first or step.is_last:
                self._wake.put(step.is_last)
                is_first = False
            if block_until is not None and (step.is_last or self.stopped):
                block_until.wait()
            elif THROTTLE.rest_seconds and not step.is_last:
                time.sleep(THROTTLE.rest_seconds)
            step = yield self.stopped

    def tokens(self, is_done: Callable[[], bool]) -> Generator[Sequence[int]]:
        """Yields new tokens, some at a time, up to the last one, or until a computation that failed `is_done`."""
        is_last = False
        while not is_last:
            try:
                is_last = self._wake.get(timeout=_POLL_SECONDS)
            except Empty:
                is_last = is_done()
            if tokens := [self._tokens.popleft() for _ in range(len(self._tokens))]:
                yield tokens


def _release_workers(
    dropped: threading.Event,
    results: Sequence[ctranslate2.AsyncGenerationResult],
    generators: list[ctranslate2.Generator],
) -> None:
    """Unblocks the workers and waits for them, since each still has to release its Python callback; then frees them."""
    dropped.set()
    for result in results:
        with contextlib.suppress(RuntimeError, ValueError):  # it was raised in `generate`
            result.result()
    generators.clear()

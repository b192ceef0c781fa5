"""Several workers over one set of weights, each of which tells once: a seed without loading the model anew for it."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctranslate2

_seeding = threading.Lock()
"""CTranslate2 has one seed for the whole process."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever draws its first number inside draws by this seed."""
    import ctranslate2

    with _seeding:
        ctranslate2.set_random_seed(seed)
        yield


class Crew:
    """A generator whose workers compute on one thread each.

    CTranslate2 draws in a worker's thread, whose random numbers begin with the process's seed when the first of them is
    drawn, and never again. So a worker that has told something is kept busy, in the callback of its last token, and the
    next telling comes to one that has not.
    """

    def __init__(self, generator: ctranslate2.Generator, workers: int) -> None:
        self._generators = [generator]
        self._left = workers
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._tellings: list[ctranslate2.AsyncGenerationResult] = []
        # At the latest before Python ends: a thread of CTranslate2 that comes back to it later aborts the process.
        weakref.finalize(self, _let_go, self._over, self._tellings, self._generators)

    @property
    def left(self) -> int:
        """Workers that are still to tell."""
        return self._left

    def enlist(self) -> bool:
        """Keep a worker for the `tell` that follows; False where none is left."""
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            return True

    def tell(self, window: Sequence[str], limit: int, seed: int, options: Mapping[str, Any]) -> Generator[int]:
        """At most `limit` tokens after the window, drawn by the seed; once for each `enlist`.

        Raises as CTranslate2 does.
        """
        told: SimpleQueue[int | None] = SimpleQueue()
        over, stopped = self._over, False

        def hear(step: ctranslate2.GenerationStepResult) -> bool:
            told.put(step.token_id)
            if step.is_last:
                told.put(None)
            if step.is_last or stopped:
                over.wait()
            return stopped

        try:
            with seeded(seed):
                telling = self._generators[0].generate_batch(
                    [list(window)],
                    max_length=limit,
                    include_prompt_in_result=False,
                    callback=hear,
                    asynchronous=True,
                    **options,
                )[0]
                self._tellings.append(telling)
                tokens = until_none(told, telling.done)
                first = next(tokens, None)  # then the seed has been taken up
            if first is not None:
                yield first
                yield from tokens
            if telling.done():  # one that went well is kept busy
                telling.result()
        finally:
            stopped = True


def until_none(told: SimpleQueue[int | None], done: Callable[[], bool]) -> Iterator[int]:
    """What comes before None, or before one that failed was `done`.

    CTranslate2's own `generate_tokens` waits at a queue whose lock a Ctrl-C can leave locked, or released twice, and
    both threads wait for ever then. A SimpleQueue is one step of C to Python, which a signal cannot divide.
    """
    while True:
        try:
            token = told.get(timeout=0.1)
        except Empty:
            if done() and told.empty():
                return
            continue
        if token is None:
            return
        yield token


def _let_go(
    over: threading.Event,
    tellings: Sequence[ctranslate2.AsyncGenerationResult],
    generators: list[ctranslate2.Generator],
) -> None:
    """Let the workers come back, and end them: each still has its callback to drop, which is Python's."""
    over.set()
    for telling in tellings:
        with contextlib.suppress(RuntimeError, ValueError):  # it was raised where it was told
            telling.result()
    generators.clear()

"""Several workers over one set of weights, each of which tells once: a seed without loading the model anew for it."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from storyteller.system.cpu_priority import PACE

if TYPE_CHECKING:
    import ctranslate2

_LOOK_SECONDS = 0.01
"""Between two looks at what has been told meanwhile."""

_seeding = threading.Lock()
"""CTranslate2 has one seed for the whole process."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever draws its first number inside draws by this seed."""
    import ctranslate2

    with _seeding:
        ctranslate2.set_random_seed(seed)
        yield


class WorkerPool:
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

    def tell(
        self, window: Sequence[str], limit: int, seed: int, options: Mapping[str, Any]
    ) -> Generator[Sequence[int]]:
        """At most `limit` tokens after the window, some at a time, drawn by the seed; once for each `enlist`.

        Raises as CTranslate2 does.
        """
        hearing = Hearing()
        try:
            with seeded(seed):
                telling = self._generators[0].generate_batch(
                    [list(window)],
                    max_length=limit,
                    include_prompt_in_result=False,
                    callback=hearing.callback(kept_until=self._over),
                    asynchronous=True,
                    **options,
                )[0]
                self._tellings.append(telling)
                tokens = hearing.tokens(telling.done)
                first = next(tokens, None)  # then the seed has been taken up
            if first is not None:
                yield first
                yield from tokens
            if telling.done():  # one that went well is kept busy
                telling.result()
        finally:
            hearing.stopped = True


class Hearing:
    """The tokens of one telling, from CTranslate2's thread to the one that waits for them.

    CTranslate2's own `generate_tokens` waits at a queue whose lock a Ctrl-C can leave locked, or released twice, and
    both threads wait for ever then. A SimpleQueue is one step of C to Python, which a signal cannot divide.

    The one who waits is woken for the first token and for the last, and looks in by itself between them: to be woken
    for each costs a small model's telling a tenth of its speed, as the two threads want the same interpreter.
    """

    def __init__(self) -> None:
        self.stopped = False
        """Set by the one who waits: the telling ends after the token that is being computed."""
        self._told: deque[int] = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        """Rung for the first token and the last; True: it was the last."""

    def callback(self, kept_until: threading.Event | None = None) -> Callable[[ctranslate2.GenerationStepResult], bool]:
        """For `generate_batch`; it keeps the thread of a telling that has ended until then.

        It goes on in a generator's frame, since CTranslate2's thread is new to Python with each token: the frame of a
        function would have its memory mapped and given back each time, a tenth of what a small model takes.
        """
        hearing = self._hear(kept_until)
        next(hearing)
        return hearing.send

    def _hear(self, kept_until: threading.Event | None) -> Generator[bool, ctranslate2.GenerationStepResult]:
        step, first = (yield False), True
        while True:
            self._told.append(step.token_id)
            if first or step.is_last:
                self._bell.put(step.is_last)
                first = False
            if kept_until is not None and (step.is_last or self.stopped):
                kept_until.wait()
            elif PACE.rest_seconds and not step.is_last:
                time.sleep(PACE.rest_seconds)
            step = yield self.stopped

    def tokens(self, done: Callable[[], bool]) -> Generator[Sequence[int]]:
        """What was told, some at a time, to its last token, or until a telling that failed is `done`."""
        last = False
        while not last:
            try:
                last = self._bell.get(timeout=_LOOK_SECONDS)
            except Empty:
                last = done()
            if told := [self._told.popleft() for _ in range(len(self._told))]:
                yield told


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

"""Voices of CTranslate2, for GPT-2 and Llama: no torch, a story in half a second."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

from storyteller.config.configs import SamplingParams
from storyteller.errors import ModelError, UsageError
from storyteller.inference.ctranslate2_workers import Hearing, WorkerPool, seeded
from storyteller.inference.generate import SEED_STRIDE, until_enough
from storyteller.system.malloc import keep_what_is_freed

if TYPE_CHECKING:
    import ctranslate2

Numbers = Literal["fp32", "int8"]

_COMPUTE_TYPES: dict[Numbers, str] = {"fp32": "float32", "int8": "int8_float32"}
_BATCH_ROWS: dict[Numbers, int] = {"fp32": 16, "int8": 8}
"""Stories of a telling: more of them share each read of the weights, until their keys and values outgrow the cache."""
_SMALL_BYTES = 64 * 2**20
"""Weights that lie in two cores' caches: further threads wait for each other longer than they compute."""

_CREW = 8
"""Stories that are told before the weights are loaded anew; each keeps its keys and values for so long."""


class CTranslate2Backend:
    """A model in memory.

    CTranslate2 seeds a worker's thread once (`crew`), so each telling that draws gets a worker of its own: of a crew
    with 8 bits, where one thread is quickest; else of a generator of its own, since the idle threads of some workers
    stand in the way of the one that computes.
    """

    def __init__(
        self, files: Mapping[str, bytes], vocabulary: int, ends: Sequence[int], threads: int, numbers: Numbers = "fp32"
    ) -> None:
        """`files`: what `pack` made; `threads` of the CPU, 0 for a default.

        The default depends on nothing but the machine and the model: another number of threads adds in another order,
        and the last bits of a sum may turn a story. Raises ModelError where CTranslate2 cannot load it.
        """
        from storyteller.system.hardware import n_cores

        self.vocabulary = vocabulary
        self.batch_rows = _BATCH_ROWS[numbers]
        self._files = dict(files)
        self._ends = list(ends)
        self._numbers = numbers
        cores = n_cores()
        few = 2 if numbers == "fp32" else 1
        small = sum(map(len, files.values())) <= _SMALL_BYTES
        self._threads = threads or min(cores, few if small else 8)
        self.lanes = threads or cores
        self._workers = _CREW if small and numbers == "int8" and self._threads == 1 else 1
        self._leaves_a_core = self._threads < cores and small
        if small:
            keep_what_is_freed()
            if numbers == "fp32":
                _leave_mkl_out()
        self._lock = threading.Lock()
        self._crew: WorkerPool | None = None
        self._tellings = 0
        self._ready: dict[tuple[int, int], _Loading] = {}
        self._prepare()
        self._ready[self._threads, self._workers].generator()
        self._steady: dict[int, ctranslate2.Generator] = {}
        # At the latest before Python ends: a thread of CTranslate2 that comes back to it later aborts the process.
        weakref.finalize(self, self._steady.clear)

    def check(self, sample: SamplingParams) -> None:
        """Raise UsageError for min-p: CTranslate2 does not have it, and a token could be drawn here only by stopping
        it after each one and showing it the whole window again."""
        if sample.min_p:
            raise UsageError(
                f"--min-p {sample.min_p:g} is not had from GPT-2 and Llama models, which CTranslate2 tells",
                "--top-p, or a lower --temperature, serves the same end",
            )

    def begin(self, sample: SamplingParams, lane: int | None = None) -> CTranslate2Decoding:
        # Tellings side by side take a thread each: so many of them are told faster than one by as many threads.
        threads = self._threads if lane is None else 1
        if sample.draws:
            crew = self._enlisted if self._workers > 1 and lane is None else None
            return CTranslate2Decoding(
                lambda: self._seeded(threads, sample, alone=lane is None), sample, self._ends, crew
            )
        key = -1 if lane is None else lane
        if key not in self._steady:
            self._steady[key] = self._take(threads, self._workers if lane is None else 1)
        return CTranslate2Decoding(lambda: self._steady[key], sample, self._ends)

    def close(self) -> None:
        self._ready.clear()
        self._steady.clear()
        self._crew = None
        self._files = {}

    def _enlisted(self) -> WorkerPool:
        """A crew with a worker who will tell."""
        with self._lock:
            if self._crew is None or not self._crew.enlist():
                self._crew = WorkerPool(self._take(self._threads, self._workers), self._workers)
                self._crew.enlist()
            if not self._crew.left and self._leaves_a_core:  # beside the last story of this crew
                self._prepare()
            return self._crew

    def _seeded(self, threads: int, sample: SamplingParams, alone: bool) -> ctranslate2.Generator:
        generator = self._take(threads, 1)
        with seeded(sample.seed or 0), _refused():
            # A first draw, that of no story, takes up the seed; then the next telling may set its own.
            generator.generate_batch([["0"]], max_length=1, sampling_topk=2, include_prompt_in_result=False)
        self._tellings += 1
        if alone and self._workers == 1 and self._leaves_a_core and self._tellings > 1:  # the first may be the only one
            self._prepare()
        return generator

    def _prepare(self) -> None:
        """Have what the next story wants loaded meanwhile."""
        self._ready[self._threads, self._workers] = self._load(self._threads, self._workers)

    def _take(self, threads: int, workers: int) -> ctranslate2.Generator:
        """A generator that has told nothing yet."""
        return (self._ready.pop((threads, workers), None) or self._load(threads, workers)).generator()

    def _load(self, threads: int, workers: int) -> _Loading:
        import ctranslate2

        if not self._files:
            raise ModelError("the model is closed", "open it again")
        options = {
            "compute_type": _COMPUTE_TYPES[self._numbers],
            "intra_threads": threads,
            "inter_threads": workers,
        }
        return _Loading(partial(ctranslate2.Generator, "model", files=self._files, **options))


def _leave_mkl_out() -> None:
    """Have CTranslate2 take oneDNN's products, unless its user says otherwise; it decides at its first, for good.

    With fp32 they tell a small model's story a fifth faster than MKL's, which Intel's processors get by themselves;
    8-bit ones take twice as long.
    """
    os.environ.setdefault("CT2_USE_MKL", "0")


class _Loading:
    """A generator that is being loaded.

    On a thread that ends with it: OpenMP's threads, which a thread that has loaded would keep, halve the speed of those
    that tell.
    """

    def __init__(self, load: Callable[[], ctranslate2.Generator]) -> None:
        self._outcome: ctranslate2.Generator | Exception = RuntimeError("it was interrupted")
        self._thread = threading.Thread(target=self._run, args=(load,))
        self._thread.start()

    def generator(self) -> ctranslate2.Generator:
        """Once it is loaded. Raises ModelError where CTranslate2 cannot load it."""
        self._thread.join()
        with _refused("load"):
            if isinstance(self._outcome, Exception):
                raise self._outcome
            return self._outcome

    def _run(self, load: Callable[[], ctranslate2.Generator]) -> None:
        try:
            self._outcome = load()
        except (RuntimeError, ValueError) as error:
            self._outcome = error


class CTranslate2Decoding:
    """One telling."""

    def __init__(
        self,
        take: Callable[[], ctranslate2.Generator],
        sample: SamplingParams,
        ends: Sequence[int],
        crew: Callable[[], WorkerPool] | None = None,
    ) -> None:
        """`take` gives the generator of the whole telling; `crew`, if there is one, who tells a single story's next
        window."""
        self._take, self._enlisted = take, crew
        self._seed, self._windows = sample.seed or 0, 0
        self._beams = sample.beams
        # Both look back at what was told, and CTranslate2 takes the prompts of a batch that are longer than its
        # shortest for told as well: so such rows go with those of their own length alone.
        self._looks_back = sample.repetition_penalty != 1 or sample.no_repeat_ngram > 0
        self._options: dict[str, Any] = {
            "end_token": list(ends),
            "repetition_penalty": sample.repetition_penalty,
            "no_repeat_ngram_size": sample.no_repeat_ngram,
        }
        if sample.draws:
            self._options |= {
                "sampling_topk": sample.top_k,
                "sampling_topp": sample.top_p,
                "sampling_temperature": sample.temperature,
            }

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        if self._beams > 1:  # the likeliest story is known at its end
            yield self.batch([window], limit, lambda _, __: False, [0])[0]
            return
        if self._enlisted is not None:
            seed = (self._seed + SEED_STRIDE * self._windows) % 2**32
            self._windows += 1
            with _refused():
                yield from self._enlisted().tell(_named(window), limit, seed, self._options)
            return
        hearing = Hearing()
        with _refused():
            telling = self._generator.generate_batch(
                [_named(window)],
                max_length=limit,
                include_prompt_in_result=False,
                callback=hearing.callback(),
                asynchronous=True,
                **self._options,
            )[0]
            try:
                yield from hearing.tokens(telling.done)
            finally:
                hearing.stopped = True
                telling.result()  # in a moment: after the token that is being computed

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, enough: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        del rows  # one source of random numbers serves them all
        told: list[list[int]] = [[] for _ in windows]
        for group in self._together(windows):
            searched = self._beams > 1

            def listen(step: Any, group: Sequence[int] = group) -> bool:
                return enough(group[step.batch_id], step.token_id)

            with _refused():
                results = self._generator.generate_batch(
                    [_named(windows[index]) for index in group],
                    max_length=limit,
                    include_prompt_in_result=False,
                    return_end_token=True,
                    beam_size=self._beams,
                    callback=None if searched else listen,
                    **self._options,
                )
            for index, result in zip(group, results, strict=True):
                tokens = [int(token) for token in result.sequences_ids[0]]
                told[index] = list(until_enough(tokens, index, enough)) if searched else tokens
        return told

    @cached_property
    def _generator(self) -> ctranslate2.Generator:
        return self._take()

    def close(self) -> None:
        """Nothing runs on between two windows."""

    def _together(self, windows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """The rows, in groups that may be told at once."""
        groups: dict[int, list[int]] = {}
        for row, window in enumerate(windows):
            # Beside longer ones, a window of a single token would have their prompts counted as told.
            groups.setdefault(len(window) if self._looks_back or len(window) == 1 else 0, []).append(row)
        yield from groups.values()


@contextlib.contextmanager
def _refused(what: str = "tell from") -> Iterator[None]:
    """What CTranslate2 raises, as ModelError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"CTranslate2 cannot {what} the model ({error})", "take another model") from error


def _named(window: Sequence[int]) -> list[str]:
    """Tokens by the names that `pack` gave them."""
    return [str(token) for token in window]

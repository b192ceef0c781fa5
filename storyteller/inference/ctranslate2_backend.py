"""A backend for GPT-2 and Llama: CTranslate2, which generates a story in half a second and needs no torch."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import ModelError, UsageError
from storyteller.inference.ctranslate2_workers import TokenQueue, WorkerPool, seeded, token_names
from storyteller.inference.generate import SEED_STRIDE, until_stop
from storyteller.system.malloc import keep_freed_blocks

if TYPE_CHECKING:
    import ctranslate2

_COMPUTE_TYPES = {"fp32": "float32", "int8": "int8_float32"}
_BATCH_ROWS = {"fp32": 16, "int8": 8}
"""Stories of a decoding. More of them share each read of the weights, until their keys and values outgrow the cache."""
_SMALL_MODEL_BYTES = 64 * 2**20
"""Weights up to this size fit into the caches of two cores. Their matrix products are so short that further threads
spend more time waiting for each other than computing."""
_POOL_WORKERS = 8
"""Stories generated before the weights are loaded again; each worker keeps its keys and values for so long."""


class CTranslate2Backend:
    """Implements `Backend` with a model in memory.

    CTranslate2 seeds the random numbers of a worker thread only once, so each sampled story needs a worker of its own
    (see `WorkerPool`). Small int8 models, which are fastest with one thread, get them from a pool of workers that share
    the weights. All others get a newly loaded generator, because the idle threads of a pool slow the busy ones down.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        vocab_size: int,
        eos_ids: Sequence[int],
        threads: int,
        compute_type: str,
    ) -> None:
        """`files` are those that `pack` returns; `threads` is the number of CPU threads, 0 for a default.

        The default depends only on the machine and the model: another number of threads sums in another order, and the
        last bits of a sum can change a story. Loading goes on in the background, see `wait_until_loaded`.
        """
        from storyteller.system.hardware import n_cores

        self.vocab_size = vocab_size
        self.batch_rows = _BATCH_ROWS[compute_type]
        self._files = dict(files)
        self._eos_ids = list(eos_ids)
        self._compute_type = _COMPUTE_TYPES[compute_type]
        cores = n_cores()
        is_small = sum(map(len, files.values())) <= _SMALL_MODEL_BYTES
        few_threads = 2 if compute_type == "fp32" else 1
        self._threads = threads or min(cores, few_threads if is_small else 8)
        self.parallel_decodings = threads or cores
        self._workers = _POOL_WORKERS if is_small and compute_type == "int8" and self._threads == 1 else 1
        self._leaves_a_core = self._threads < cores and is_small
        if is_small:
            keep_freed_blocks()
            if compute_type == "fp32":
                # Unless the user has chosen, CTranslate2 multiplies with oneDNN: it generates a small model's story a
                # fifth faster than MKL, the default on Intel processors, but takes twice as long with int8. CTranslate2
                # reads the variable once, at its first product.
                os.environ.setdefault("CT2_USE_MKL", "0")
        self._lock = threading.Lock()
        self._pool: WorkerPool | None = None
        self._sampled_stories = 0
        self._ready: dict[tuple[int, int], _Loading] = {}
        """Generators loaded in advance, by their numbers of threads and workers."""
        self._prepare()
        self._unseeded: dict[int, ctranslate2.Generator] = {}
        """Generators of decodings that draw no random numbers, by worker number; they can be used again and again."""
        # They have to be freed before Python exits: a CTranslate2 thread that calls into it later aborts the process.
        weakref.finalize(self, self._unseeded.clear)

    def wait_until_loaded(self) -> None:
        """Raises ModelError if CTranslate2 cannot load the model."""
        self._ready[self._threads, self._workers].generator()

    def check(self, params: SamplingParams) -> None:
        """Raises UsageError for min-p, which CTranslate2 does not support.

        Sampling with it here would mean to stop CTranslate2 after each token, and to process the whole window again.
        """
        if params.min_p:
            raise UsageError(
                f"--min-p {params.min_p:g} is not supported for GPT-2 and Llama models, which run on CTranslate2",
                "--top-p, or a lower --temperature, serves the same end",
            )

    def start(self, params: SamplingParams, worker: int | None = None) -> CTranslate2Decoding:
        # Parallel decodings have one thread each: that is faster than one decoding with as many threads.
        is_alone = worker is None
        threads = self._threads if is_alone else 1
        if params.draws:
            reserve = self._reserve_worker if self._workers > 1 and is_alone else None
            return CTranslate2Decoding(lambda: self._seeded(threads, params, is_alone), params, self._eos_ids, reserve)
        key = -1 if worker is None else worker
        if key not in self._unseeded:
            self._unseeded[key] = self._take(threads, self._workers if is_alone else 1)
        return CTranslate2Decoding(lambda: self._unseeded[key], params, self._eos_ids)

    def close(self) -> None:
        self._ready.clear()
        self._unseeded.clear()
        self._pool = None
        self._files = {}

    def _reserve_worker(self) -> WorkerPool:
        """Returns a pool in which an unused worker is reserved for the next story."""
        with self._lock:
            if self._pool is None or not self._pool.reserve():
                self._pool = WorkerPool(self._take(self._threads, self._workers), self._workers)
                self._pool.reserve()
            if not self._pool.unused and self._leaves_a_core:
                self._prepare()  # on an idle core, while the last worker of this pool generates
            return self._pool

    def _seeded(self, threads: int, params: SamplingParams, is_alone: bool) -> ctranslate2.Generator:
        """Returns a new generator whose random numbers begin with the seed."""
        generator = self._take(threads, 1)
        with seeded(params.seed or 0), _model_errors():
            # The worker takes up the process's seed when it draws for the first time. So it draws once here, for no
            # story, and another decoding may then set the seed of the process.
            generator.generate_batch([["0"]], max_length=1, sampling_topk=2, include_prompt_in_result=False)
        self._sampled_stories += 1
        # The first story of a process may be its only one, so nothing is loaded in advance until the second.
        if is_alone and self._workers == 1 and self._leaves_a_core and self._sampled_stories > 1:
            self._prepare()
        return generator

    def _prepare(self) -> None:
        """Starts to load the generator that the next story needs."""
        self._ready[self._threads, self._workers] = self._load(self._threads, self._workers)

    def _take(self, threads: int, workers: int) -> ctranslate2.Generator:
        """Returns a generator that has not been used."""
        return (self._ready.pop((threads, workers), None) or self._load(threads, workers)).generator()

    def _load(self, threads: int, workers: int) -> _Loading:
        import ctranslate2

        if not self._files:
            raise ModelError("the model is closed", "open it again")
        options = {"compute_type": self._compute_type, "intra_threads": threads, "inter_threads": workers}
        return _Loading(partial(ctranslate2.Generator, "model", files=self._files, **options))


class _Loading:
    """A generator that is loaded on a thread, which ends when it is loaded.

    A thread that has loaded a model keeps OpenMP's threads for itself, and those halve the speed of the threads that
    generate; they end with it.
    """

    def __init__(self, load: Callable[[], ctranslate2.Generator]) -> None:
        self._outcome: ctranslate2.Generator | Exception = RuntimeError("it was interrupted")
        self._thread = threading.Thread(target=self._run, args=(load,))
        self._thread.start()

    def generator(self) -> ctranslate2.Generator:
        """Waits for the generator. Raises ModelError if CTranslate2 cannot load it."""
        self._thread.join()
        with _model_errors("load"):
            if isinstance(self._outcome, Exception):
                raise self._outcome
            return self._outcome

    def _run(self, load: Callable[[], ctranslate2.Generator]) -> None:
        try:
            self._outcome = load()
        except (RuntimeError, ValueError) as error:
            self._outcome = error


class CTranslate2Decoding:
    """Implements `Decoding`."""

    def __init__(
        self,
        take_generator: Callable[[], ctranslate2.Generator],
        params: SamplingParams,
        eos_ids: Sequence[int],
        reserve_worker: Callable[[], WorkerPool] | None = None,
    ) -> None:
        """`take_generator` returns the generator of the whole decoding and is called when that is first needed. If
        `reserve_worker` is given, each window of a single story is instead generated by a worker of its pool."""
        self._generator, self._reserve_worker = cache(take_generator), reserve_worker
        self._seed, self._windows = params.seed or 0, 0
        self._beams = params.beams
        self._has_penalties = params.repetition_penalty != 1 or params.no_repeat_ngram > 0
        self._options: dict[str, Any] = {
            "end_token": list(eos_ids),
            "repetition_penalty": params.repetition_penalty,
            "no_repeat_ngram_size": params.no_repeat_ngram,
        }
        if params.draws:
            self._options |= {
                "sampling_topk": params.top_k,
                "sampling_topp": params.top_p,
                "sampling_temperature": params.temperature,
            }

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        if self._beams > 1:  # beam search knows the tokens only at its end
            yield self.batch([window], limit, lambda _, __: False, [0])[0]
            return
        if self._reserve_worker is not None:
            seed = (self._seed + SEED_STRIDE * self._windows) % 2**32
            self._windows += 1
            with _model_errors():
                yield from self._reserve_worker().generate(window, limit, seed, self._options)
            return
        queue = TokenQueue()
        with _model_errors():
            result = queue.start(self._generator(), window, limit, self._options)
            try:
                yield from queue.tokens(result.done)
            finally:
                queue.stopped = True
                result.result()  # returns after the token that is being computed

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, stop: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        del rows  # all rows draw from one random generator
        generated: list[list[int]] = [[] for _ in windows]
        is_search = self._beams > 1
        # Of longer prompts, CTranslate2 counts the tokens beyond the length of the shortest as generated. Penalties
        # would count them too, so with penalties only windows of one length go together. A window of one token never
        # goes with longer ones, whose prompts would be returned as generated text.
        groups: dict[int, list[int]] = {}
        for index, window in enumerate(windows):
            groups.setdefault(len(window) if self._has_penalties or len(window) == 1 else 0, []).append(index)
        for group in groups.values():

            def on_step(step: Any, group: Sequence[int] = group) -> bool:
                return stop(group[step.batch_id], step.token_id)

            with _model_errors():
                results = self._generator().generate_batch(
                    [token_names(windows[index]) for index in group],
                    max_length=limit,
                    include_prompt_in_result=False,
                    return_end_token=True,
                    beam_size=self._beams,
                    callback=None if is_search else on_step,
                    **self._options,
                )
            for index, result in zip(group, results, strict=True):
                tokens = [int(token) for token in result.sequences_ids[0]]
                generated[index] = list(until_stop(tokens, index, stop)) if is_search else tokens
        return generated

    def close(self) -> None:
        """Does nothing: no computation goes on between two windows."""


@contextlib.contextmanager
def _model_errors(action: str = "run") -> Iterator[None]:
    """Turns the exceptions of CTranslate2 into ModelError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"CTranslate2 cannot {action} the model ({error})", "take another model") from error

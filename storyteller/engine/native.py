"""Voices of CTranslate2, for GPT-2 and Llama: no torch, a story in half a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storyteller.config import Sample
from storyteller.errors import ModelError

if TYPE_CHECKING:
    import ctranslate2

_seeding = threading.Lock()
"""CTranslate2 has one seed for the whole process."""


class NativeVoices:
    """A model in memory.

    CTranslate2 draws in a worker thread whose random generator takes the process's seed when it is first used, and
    never again. So each telling that draws gets a generator, and thereby a thread, of its own.
    """

    def __init__(
        self, files: Mapping[str, bytes], vocabulary: int, ends: Sequence[int], threads: int, numbers: str = "float32"
    ) -> None:
        """`files`: what `pack` made; `threads` of the CPU, 0 for a default; `numbers`: CTranslate2's compute type."""
        self.vocabulary = vocabulary
        self._files = dict(files)
        self._ends = list(ends)
        self._threads = threads
        self._numbers = numbers
        self._unused: ctranslate2.Generator | None = self._load()
        self._greedy: ctranslate2.Generator | None = None

    def begin(self, sample: Sample) -> NativeVoice:
        if sample.temperature == 0:
            self._greedy = self._greedy or self._take()
            return NativeVoice(self._greedy, sample, self._ends)
        return NativeVoice(self._take(), sample, self._ends)

    def close(self) -> None:
        self._unused = self._greedy = None
        self._files = {}

    def _take(self) -> ctranslate2.Generator:
        """A generator that has told nothing yet."""
        taken, self._unused = self._unused or self._load(), None
        return taken

    def _load(self) -> ctranslate2.Generator:
        import ctranslate2

        try:
            return ctranslate2.Generator(
                "model", files=self._files, compute_type=self._numbers, intra_threads=self._threads
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"CTranslate2 cannot load the model ({error})", "take another model") from error


class NativeVoice:
    """One telling."""

    def __init__(self, generator: ctranslate2.Generator, sample: Sample, ends: Sequence[int]) -> None:
        self._generator = generator
        self._seed = None if sample.temperature == 0 else sample.seed
        self._options: dict[str, Any] = {"end_token": list(ends), "repetition_penalty": sample.repetition_penalty}
        if sample.temperature == 0:
            self._options |= {"sampling_topk": 1}
        else:
            self._options |= {
                "sampling_topk": sample.top_k,
                "sampling_topp": sample.top_p,
                "sampling_temperature": sample.temperature,
            }

    def tokens(self, window: Sequence[int], limit: int) -> Generator[int]:
        stopped = threading.Event()
        results = self._generator.generate_tokens(
            _named(window), max_length=limit, callback=lambda _: stopped.is_set(), **self._options
        )
        try:
            # The seed is taken up by the time the first token is there.
            with _seeding:
                self._set_seed()
                first = next(results, None)
            if first is not None:
                yield int(first.token_id)
            for result in results:
                yield int(result.token_id)
        except RuntimeError as error:
            raise ModelError(f"CTranslate2 cannot tell from the model ({error})", "take another model") from error
        finally:
            stopped.set()
            results.close()

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, enough: Callable[[int, int], bool] | None
    ) -> list[list[int]]:
        told: list[list[int]] = [[] for _ in windows]
        # Beside longer ones, a window of a single token would have their prompts counted as told: it goes on its own.
        short = [i for i, window in enumerate(windows) if len(window) == 1]
        long = [i for i, window in enumerate(windows) if len(window) > 1]
        for rows in filter(None, (short, long)):
            listen = None if enough is None else lambda step, rows=rows: enough(rows[step.batch_id], step.token_id)
            try:
                with _seeding:
                    self._set_seed()
                    results = self._generator.generate_batch(
                        [_named(windows[row]) for row in rows],
                        max_length=limit,
                        include_prompt_in_result=False,
                        return_end_token=True,
                        callback=listen,
                        **self._options,
                    )
            except RuntimeError as error:
                raise ModelError(f"CTranslate2 cannot tell from the model ({error})", "take another model") from error
            for row, result in zip(rows, results, strict=True):
                told[row] = [int(token) for token in result.sequences_ids[0]]
        return told

    def close(self) -> None:
        """Nothing runs on between two windows."""

    def _set_seed(self) -> None:
        import ctranslate2

        if self._seed is not None:
            ctranslate2.set_random_seed(self._seed)
            self._seed = None


def _named(window: Sequence[int]) -> list[str]:
    """Tokens by the names that `pack` gave them."""
    return [str(token) for token in window]

"""A backend for every architecture but GPT-2 and Llama: transformers, in a child process started when first needed.

The protocol is described in `storyteller.model.transformers_server`. The child computes a token only when it is asked
for one, so nothing has to be interrupted when generation stops.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import ModelError
from storyteller.inference.generate import until_stop
from storyteller.inference.model_folder import ModelFolder
from storyteller.system.child_process import JsonLinesProcess
from storyteller.text import safe_line

_ROW_SEED_STRIDE = 0x85EBCA6B
"""Difference between the seeds of a decoding's rows; row 0 has the seed of the sampling parameters."""


class TransformersBackend:
    """Implements `Backend` with a child process that holds the model."""

    def __init__(self, folder: ModelFolder, threads: int) -> None:
        """`threads` is the number of CPU threads; 0 leaves it to torch."""
        self.vocab_size = folder.vocab_size
        self.batch_rows = 32
        self.parallel_decodings = 1
        self._folder = folder
        self._threads = threads
        self._child: JsonLinesProcess | None = None
        self._lock = threading.Lock()
        self._decodings = itertools.count()

    @property
    def is_running(self) -> bool:
        return self._child is not None

    def check(self, params: SamplingParams) -> None:
        """Does nothing: all sampling parameters are supported."""

    def start(self, params: SamplingParams, worker: int | None = None) -> TransformersDecoding:
        del worker
        return TransformersDecoding(self, next(self._decodings), params, self._folder.eos_ids)

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the child's answer. Raises ModelError if the model cannot generate, or the child has died."""
        with self._lock:
            answer: dict[str, Any] = {}
            try:
                if self._child is None:
                    module = "storyteller.model.transformers_server"
                    self._child = JsonLinesProcess(
                        [sys.executable, "-m", module, str(self._folder.path), str(self._threads)],
                        env={"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
                        new_session=False,  # it shares the priority of this process's session
                    )
                    answer = self._child.ask()  # sent once the model is loaded
                if "error" not in answer:
                    answer = self._child.ask(request)
            except ChildProcessError as error:
                self.close()
                problem = f"the process that ran {self._folder.label} ended ({error})"
                raise ModelError(problem, "is there enough memory for it?") from error
        if "error" in answer:
            self.close()
            reason = safe_line(str(answer["error"]), 200)
            raise ModelError(f"{self._folder.label} cannot generate ({reason})", "take another model")
        return answer


class TransformersDecoding:
    """Implements `Decoding`: the rows of one or several stories in the child."""

    def __init__(self, backend: TransformersBackend, number: int, params: SamplingParams, eos_ids: Sequence[int]):
        self._backend = backend
        self._number = number
        self._sampling = params
        self._eos_ids = frozenset(eos_ids)
        self._sampler = dataclasses.asdict(params)
        self._is_open = False

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        if self._sampling.beams > 1:  # beam search knows the tokens only at its end
            yield self._search([window], limit)[0]
            return
        request = self._first_request([window], [0])
        for _ in range(limit):
            tokens = self._ask(request)
            yield tokens
            if tokens[0] in self._eos_ids:
                return
            request = {"rows": [0]}

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, stop: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        if self._sampling.beams > 1:
            found = self._search(windows, limit)
            return [list(until_stop(tokens, index, stop)) for index, tokens in enumerate(found)]
        generated: list[list[int]] = [[] for _ in windows]
        alive, request = list(range(len(windows))), self._first_request(windows, rows)
        for _ in range(limit):
            if not alive:
                break
            for index, token in zip(list(alive), self._ask(request), strict=True):
                generated[index].append(token)
                if stop(index, token) or token in self._eos_ids:
                    alive.remove(index)
            request = {"rows": [rows[index] for index in alive]}
        return generated

    def _first_request(self, windows: Sequence[Sequence[int]], rows: Sequence[int]) -> dict[str, Any]:
        request: dict[str, Any] = {"rows": list(rows), "windows": [list(window) for window in windows]}
        if not self._is_open:
            self._is_open = True
            first = self._sampling.seed or 0
            request |= {"seeds": [(first + _ROW_SEED_STRIDE * row) % 2**32 for row in rows], "sampler": self._sampler}
        return request

    def _ask(self, request: dict[str, Any]) -> list[int]:
        tokens: list[int] = self._backend.ask({"decoding": self._number, **request})["tokens"]
        return tokens

    def _search(self, windows: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        request = {"decoding": self._number, "windows": [list(window) for window in windows], "sampler": self._sampler}
        request |= {"limit": limit, "eos_ids": sorted(self._eos_ids)}
        stories: list[list[int]] = self._backend.ask(request)["stories"]
        return stories

    def close(self) -> None:
        """Frees the keys and values that the child keeps for this decoding."""
        if self._is_open and self._backend.is_running:
            self._backend.ask({"decoding": self._number, "close": True})

"""Voices of transformers, for every other architecture, in a child process that is started when first needed."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import ModelError
from storyteller.inference.generate import until_enough
from storyteller.inference.model_folder import ModelFolder
from storyteller.text import safe_line

_ROW_SEED_STRIDE = 0x85EBCA6B
"""Between the seeds of a telling's stories; the first one's is the telling's own."""
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class TransformersBackend:
    """A model in a child process (`storyteller.model.transformers_server`); a JSON object a line each way, a token at a time."""

    def __init__(self, folder: ModelFolder, threads: int) -> None:
        """`threads` of the CPU; 0: a default."""
        self.vocabulary = folder.vocabulary
        self.batch_rows = 32
        self.lanes = 1
        self._folder = folder
        self._threads = threads
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    @property
    def running(self) -> bool:
        return self._child is not None

    def check(self, sample: SamplingParams) -> None:
        """Nothing that a sample may ask for is missing here."""

    def begin(self, sample: SamplingParams, lane: int | None = None) -> TransformersDecoding:
        del lane
        return TransformersDecoding(self, next(self._numbers), sample, self._folder.ends)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request and its answer. Raises ModelError where the child cannot tell, or is gone."""
        with self._lock:
            if self._child is None:
                self._child = self._start()
                self._exchange(None)
            return self._exchange(request)

    def _exchange(self, request: dict[str, Any] | None) -> dict[str, Any]:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise ModelError(f"{self._folder.label} is closed", "open it again")
        try:
            if request is not None:
                child.stdin.write(json.dumps(request) + "\n")
                child.stdin.flush()
            line = child.stdout.readline()
        except OSError:
            line = ""
        if not line:
            status = child.wait()
            self.close()
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise ModelError(
                f"the process that told from {self._folder.label} ended ({how})", "is there memory for it?"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.close()
            problem = f"{self._folder.label} cannot be told from ({safe_line(answer['error'], 200)})"
            raise ModelError(problem, "take another model")
        return answer

    def _start(self) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
            "TOKENIZERS_PARALLELISM": "false",
            # The child finds this very package, and nothing that happens to lie in the current folder.
            "PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")))),
            "PYTHONSAFEPATH": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "storyteller.model.transformers_server", str(self._folder.path), str(self._threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            process_group=0,  # Ctrl-C is ours to handle
        )


class TransformersDecoding:
    """One telling."""

    def __init__(self, voices: TransformersBackend, number: int, sample: SamplingParams, ends: Sequence[int]) -> None:
        self._voices = voices
        self._number = number
        self._sample = sample
        self._ends = frozenset(ends)
        self._draws = {
            "temperature": sample.temperature if sample.draws else 0,
            "top_k": sample.top_k,
            "top_p": sample.top_p,
            "min_p": sample.min_p,
            "repetition_penalty": sample.repetition_penalty,
            "no_repeat_ngram": sample.no_repeat_ngram,
        }
        self._open = False

    def tokens(self, window: Sequence[int], limit: int) -> Generator[Sequence[int]]:
        if self._sample.beams > 1:  # the likeliest story is known at its end
            yield self._search([window], limit)[0]
            return
        # The child makes a token when it is asked for one, so nothing has to be interrupted.
        request = self._begin([window], [0])
        for _ in range(limit):
            told = self._ask(request)
            yield told
            if told[0] in self._ends:
                return
            request = {"rows": [0]}

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, enough: Callable[[int, int], bool], rows: Sequence[int]
    ) -> list[list[int]]:
        if self._sample.beams > 1:
            found = self._search(windows, limit)
            return [list(until_enough(tokens, index, enough)) for index, tokens in enumerate(found)]
        told: list[list[int]] = [[] for _ in windows]
        alive, request = list(range(len(windows))), self._begin(windows, rows)
        for _ in range(limit):
            if not alive:
                break
            for index, token in zip(list(alive), self._ask(request), strict=True):
                told[index].append(token)
                if enough(index, token) or token in self._ends:
                    alive.remove(index)
            request = {"rows": [rows[index] for index in alive]}
        return told

    def _begin(self, windows: Sequence[Sequence[int]], rows: Sequence[int]) -> dict[str, Any]:
        request: dict[str, Any] = {"rows": list(rows), "windows": [list(window) for window in windows]}
        if not self._open:
            self._open = True
            first = self._sample.seed or 0
            request |= {"seeds": [(first + _ROW_SEED_STRIDE * row) % 2**32 for row in rows], "draws": self._draws}
        return request

    def _ask(self, request: dict[str, Any]) -> list[int]:
        tokens: list[int] = self._voices.ask({"voice": self._number, **request})["tokens"]
        return tokens

    def _search(self, windows: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
        how = {"beams": self._sample.beams, "limit": limit, "ends": sorted(self._ends), "draws": self._draws}
        request = {"voice": self._number, "windows": [list(window) for window in windows], **how}
        stories: list[list[int]] = self._voices.ask(request)["stories"]
        return stories

    def close(self) -> None:
        """Let the child forget this telling."""
        if self._open and self._voices.running:
            self._voices.ask({"voice": self._number, "close": True})

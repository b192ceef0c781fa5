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

from storyteller.config import Sample
from storyteller.engine.folder import ModelFolder
from storyteller.errors import ModelError
from storyteller.text import safe_line

_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class ForeignVoices:
    """A model in a child process (`storyteller.lm.foreign`); a JSON object a line each way, a token at a time."""

    def __init__(self, folder: ModelFolder, threads: int) -> None:
        """`threads` of the CPU; 0: a default."""
        self.vocabulary = folder.vocabulary
        self._folder = folder
        self._threads = threads
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    @property
    def running(self) -> bool:
        return self._child is not None

    def begin(self, sample: Sample) -> ForeignVoice:
        return ForeignVoice(self, next(self._numbers), sample, self._folder.ends)

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
            [sys.executable, "-m", "storyteller.lm.foreign", str(self._folder.path), str(self._threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            process_group=0,  # Ctrl-C is ours to handle
        )


class ForeignVoice:
    """One telling."""

    def __init__(self, voices: ForeignVoices, number: int, sample: Sample, ends: Sequence[int]) -> None:
        self._voices = voices
        self._number = number
        self._ends = frozenset(ends)
        self._options = {
            "seed": sample.seed,
            "temperature": sample.temperature,
            "top_k": sample.top_k,
            "top_p": sample.top_p,
            "repetition_penalty": sample.repetition_penalty,
        }
        self._open = False

    def tokens(self, window: Sequence[int], limit: int) -> Generator[int]:
        # The child makes a token when it is asked for one, so nothing has to be interrupted.
        request: dict[str, Any] = {"voice": self._number, "window": list(window)}
        if not self._open:
            request |= self._options
            self._open = True
        for _ in range(limit):
            token = int(self._voices.ask(request)["token"])
            yield token
            if token in self._ends:
                return
            request = {"voice": self._number}

    def batch(
        self, windows: Sequence[Sequence[int]], limit: int, enough: Callable[[int, int], bool] | None
    ) -> list[list[int]]:
        told: list[list[int]] = []
        for row, window in enumerate(windows):
            told.append([])
            for token in self.tokens(window, limit):
                told[-1].append(token)
                if enough is not None and enough(row, token):
                    break
        return told

    def close(self) -> None:
        """Let the child forget this telling."""
        if self._open and self._voices.running:
            self._voices.ask({"voice": self._number, "close": True})

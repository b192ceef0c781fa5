"""Model cards made during training: stories generated from many prompts and measured, in a child process.

Measuring is plain Python. In a thread it would hold the interpreter's lock and slow training down, so a child process
does it, at the lowest priority and on one thread (`evaluation.model_card.card_worker`).
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import Config
from storyteller.errors import ModelError
from storyteller.system.child_process import JsonLinesProcess
from storyteller.system.files import write_json
from storyteller.system.json_values import finite
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.training.background_task import BackgroundTask

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.data.tokenizer import Tokenizer

PREFIX = "eval/"
"""Prefix of the scores' names in the log."""
STEP = "eval/card_step"
"""The step whose weights were measured; `step` of the line is that at which it was written."""
_MOST_KEYS = 100


class CardWriter:
    """Makes model cards of a run's weights in the background, and keeps their scores for the metrics log."""

    def __init__(self, folder: RunFolder, tokenizer: Tokenizer, config: Config, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._config = config
        self._log = log
        self._child: JsonLinesProcess | None = None
        self._scores: deque[dict[str, float]] = deque()
        self._closed = False
        self._task = BackgroundTask("card-writer", self._make, self._failed)

    def submit(self, step: int, weights: dict[str, Tensor]) -> None:
        """Make a card of `weights` as soon as possible, in place of one that has not begun."""
        self._task.submit(step, weights)

    def take_scores(self) -> list[dict[str, float]]:
        """The scores of cards made since the last call: flat, finite, under the names of the metrics log."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._scores.popleft())
        return found

    def close(self, timeout_seconds: float) -> None:
        """Wait for the newest card, then end the child process."""
        if not self._task.close(timeout_seconds):
            self._closed = True
            self._close_child()
            self._task.close(2.0)
        self._close_child()

    def _make(self, step: int, weights: dict[str, Tensor]) -> None:
        with tempfile.TemporaryDirectory(prefix="storyteller-card-") as scratch:
            self._write_model(Path(scratch), weights)
            answer = self._ask_child({"folder": scratch, "label": f"{self._folder.name}@{step}", "step": step})
        if "error" in answer:
            raise ModelError(str(answer["error"]))
        scores = {
            f"{PREFIX}{key}": number
            for key, value in list(dict(answer["scores"]).items())[:_MOST_KEYS]
            if (number := finite(value)) is not None
        }
        self._scores.append({**scores, STEP: step})
        self._log(f"a card of step {step:,}: {answer['line']}")
        try:
            self._folder.cards.mkdir(exist_ok=True)
            write_json(self._folder.card(step), answer["card"])
        except OSError as error:
            self._log(f"the card of step {step:,} is not kept ({error.strerror})")

    def _write_model(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write the weights as a model folder that `engine` opens."""
        from safetensors.numpy import save_file

        from storyteller.model.gpt2 import Shape
        from storyteller.model.weights import hf_config

        shape = Shape.of(self._config.model, self._tokenizer.vocab_size)
        save_file({name: tensor.numpy() for name, tensor in weights.items()}, folder / "model.safetensors")
        config = json.dumps(hf_config(shape, self._tokenizer.end_id))
        (folder / "config.json").write_text(config, encoding="utf-8")
        (folder / "tokenizer.json").write_text(self._tokenizer.to_json(), encoding="utf-8")

    def _ask_child(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the child's answer. Raises ModelError if it has exited; the next request then starts another."""
        child = self._child = self._child or self._start_child()
        try:
            return child.ask(request)
        except ChildProcessError as error:
            self._close_child()
            raise ModelError("the process that makes cards has ended") from error

    def _start_child(self) -> JsonLinesProcess:
        train = self._config.train
        options = ["--completions", str(train.card_completions), "--seed", str(train.seed % 2**32)]
        return JsonLinesProcess(
            [sys.executable, "-m", "storyteller.evaluation.model_card.card_worker", str(self._folder.path), *options],
            env={"OMP_NUM_THREADS": "1"},
        )

    def _close_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close(grace_seconds=1.0)

    def _failed(self, step: int, error: Exception) -> None:
        if not self._closed:
            why = str(error) if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
            self._log(f"no card of step {step:,} ({safe_line(why, 200)})")

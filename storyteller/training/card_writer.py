"""Small cards made while training goes on: stories told from many prompts and measured, in a process of its own.

Measuring is plain Python, which in a thread of the training process would keep the training from its turn; so a child
does it, at the lowest priority and on one thread. It is known by its command line alone (`card.beside`): a model's
folder goes in, scores and a card come out.
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
"""Of the scores' names in the log."""
STEP = "eval/card_step"
"""The step whose weights were measured; the line's own is the one at which it was written."""
_MOST_KEYS = 100


class CardWriter:
    """Has cards made of a run's weights and hands their scores to whoever writes the log."""

    def __init__(self, folder: RunFolder, tokenizer: Tokenizer, config: Config, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._tokenizer = tokenizer
        self._config = config
        self._note = note
        self._child: JsonLinesProcess | None = None
        self._scores: deque[dict[str, float]] = deque()
        self._closed = False
        self._sideline = BackgroundTask("critic", self._grade, self._failed)

    def ask(self, step: int, weights: dict[str, Tensor]) -> None:
        """Have a card made of `weights` as soon as may be."""
        self._sideline.ask(step, weights)

    def take(self) -> list[dict[str, float]]:
        """The scores of cards that were made since the last time: flat, finite, named as they are logged."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._scores.popleft())
        return found

    def close(self, timeout_seconds: float) -> None:
        """Let the newest card be made to its end, or end it."""
        if not self._sideline.close(timeout_seconds):
            self._closed = True
            self._close_child()
            self._sideline.close(2.0)
        self._close_child()

    def _grade(self, step: int, weights: dict[str, Tensor]) -> None:
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
        self._note(f"a card of step {step:,}: {answer['line']}")
        try:
            self._folder.cards.mkdir(exist_ok=True)
            write_json(self._folder.card(step), answer["card"])
        except OSError as error:
            self._note(f"the card of step {step:,} is not kept ({error.strerror})")

    def _write_model(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """The weights as a folder that the engine opens."""
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
            self._note(f"no card of step {step:,} ({safe_line(why, 200)})")

"""Sample stories generated during training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from storyteller.config.configs import PROMPTS, Config
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import now_utc
from storyteller.tracking.sample_history import sampling_params
from storyteller.training.background_task import BackgroundTask

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.data.tokenizer import Tokenizer


class SampleWriter:
    """Generates stories from the weights of each evaluation, in the background, and appends them to the samples file.

    Prompts and seed are the same each time, so that the samples are comparable between steps.
    """

    def __init__(self, folder: RunFolder, tokenizer: Tokenizer, config: Config, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._log = log
        self._tokenizer = tokenizer
        self._config = config
        self._task = BackgroundTask(
            "sample-writer",
            self._generate,
            lambda step, error: log(f"no story at step {step:,} ({type(error).__name__}: {error})"),
        )

    def submit(self, step: int, weights: dict[str, Tensor]) -> None:
        """Generate stories from `weights` as soon as possible, in place of weights whose turn has not come."""
        self._task.submit(step, weights)

    def close(self, timeout_seconds: float = 15.0) -> None:
        """Wait for the newest stories."""
        self._task.close(timeout_seconds)

    def _generate(self, step: int, weights: dict[str, Tensor]) -> None:
        from storyteller.inference.engine import engine_from_memory
        from storyteller.model.gpt2 import Shape
        from storyteller.model.weights import hf_config

        shape = Shape.of(self._config.model, self._tokenizer.vocab_size)
        engine = engine_from_memory(
            {name: tensor.numpy() for name, tensor in weights.items()},
            hf_config(shape, self._tokenizer.end_id),
            self._tokenizer.to_json(),
            threads=1,
        )
        # One prompt at a time, which takes no longer: a batch would give each row another random stream, and `tell`
        # with the same prompt and seed would not give the same story.
        stories = [engine.batch([prompt], sampling_params(self._config))[0] for prompt in PROMPTS]
        with JsonLog(self._folder.samples) as log:
            for story in stories:
                record = {"step": step, "time": now_utc(), "prompt": story.prompt, "text": story.text}
                log.append(record | {"seed": story.seed, "finished": story.finished})
        first = " ".join((stories[0].prompt + stories[0].text).split())
        self._log(f"a story at step {step:,}: {first}")

"""Stories told while training goes on."""

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
    """Tells a story from each evaluation's weights, aside: training does not wait for it.

    The same prompts and seed each time, so that the samples show one story growing up.
    """

    def __init__(self, folder: RunFolder, tokenizer: Tokenizer, config: Config, note: Callable[[str], None]) -> None:
        self._folder = folder
        self._note = note
        self._tokenizer = tokenizer
        self._config = config
        self._sideline = BackgroundTask(
            "narrator",
            self._tell,
            lambda step, error: note(f"no story at step {step:,} ({type(error).__name__}: {error})"),
        )

    def ask(self, step: int, weights: dict[str, Tensor]) -> None:
        """Have stories told from `weights` as soon as may be."""
        self._sideline.ask(step, weights)

    def close(self, timeout_seconds: float = 15.0) -> None:
        """Let the newest story be told to its end."""
        self._sideline.close(timeout_seconds)

    def _tell(self, step: int, weights: dict[str, Tensor]) -> None:
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
        # Each by itself, which takes no longer: so the same prompt and seed tell the same story from the checkpoint.
        stories = [engine.batch([prompt], sampling_params(self._config))[0] for prompt in PROMPTS]
        with JsonLog(self._folder.samples) as log:
            for story in stories:
                record = {"step": step, "time": now_utc(), "prompt": story.prompt, "text": story.text}
                log.append(record | {"seed": story.seed, "finished": story.finished})
        told = " ".join((stories[0].prompt + stories[0].text).split())
        self._note(f"a story at step {step:,}: {told}")

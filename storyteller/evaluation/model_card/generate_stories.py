"""The stories that a card is made of: each prompt told from several times, side by side, at temperature 1."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion

if TYPE_CHECKING:
    from storyteller.inference.engine import Engine

COMPLETIONS = 10
"""Stories a prompt, as Eldan and Li (2023), section 4, have it."""
MAX_TOKENS = 400
_ROWS = 128
"""Stories told side by side: enough that every lane has work, few enough that progress is seen."""


@dataclass(frozen=True)
class GeneratedStories:
    """What was told."""

    stories: tuple[StoryCompletion, ...]
    """Of the first prompt its first completion, of the second prompt its first, and so on; then the second ones."""
    sample: SamplingParams
    """How; its seed is the first batch's, and each batch after it has the next."""
    completions: int
    left_out: tuple[str, ...]
    """Prompts that the model cannot be given."""
    tokens: int
    seconds: float


def sampling_params(seed: int | None = None, max_tokens: int = MAX_TOKENS, temperature: float = 1.0) -> SamplingParams:
    """How a card's stories are drawn: from all that the model thinks likely, nothing cut off, nothing sharpened."""
    seed = secrets.randbits(32) if seed is None else seed
    return SamplingParams(max_tokens=max_tokens, temperature=temperature, top_k=0, top_p=1.0, seed=seed)


def tell(
    engine: Engine,
    prompts: Sequence[str],
    completions: int,
    sample: SamplingParams,
    say: Callable[[int, int], None] = lambda _done, _of: None,
) -> GeneratedStories:
    """Tell `completions` stories from each prompt; `say` hears how many are done, and of how many.

    Prompts that the model cannot take are left out. Raises UsageError where it can take none, ModelError.
    """
    began = time.perf_counter()
    fit = [prompt for prompt in prompts if _fits(engine, prompt, sample)]
    if not fit:
        engine.stream(prompts[0], sample).close()  # says why
        raise UsageError("no prompt fits the model", "give shorter ones with --prompts")
    asked = list(fit) * completions
    stories: list[StoryCompletion] = []
    tokens = 0
    for number, begin in enumerate(range(0, len(asked), _ROWS)):
        say(begin, len(asked))
        seeded = dataclasses.replace(sample, seed=((sample.seed or 0) + number) % 2**32)
        for told in engine.batch(asked[begin : begin + _ROWS], seeded):
            stories.append(StoryCompletion(told.prompt, told.text, told.finished))
            tokens += told.tokens
    say(len(asked), len(asked))
    left_out = tuple(prompt for prompt in prompts if prompt not in set(fit))
    return GeneratedStories(tuple(stories), sample, completions, left_out, tokens, time.perf_counter() - began)


def _fits(engine: Engine, prompt: str, sample: SamplingParams) -> bool:
    try:
        engine.stream(prompt, sample).close()  # checks the prompt, and tells nothing yet
    except UsageError:
        return False
    return True

"""Generates the stories of a card: several completions of each prompt, in batches, at temperature 1 by default."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.inference.engine import Engine
from storyteller.inference.generate_many import generate_many, refusal

_BATCH_SIZE = 128  # large enough to keep all workers busy, small enough for regular progress


@dataclass(frozen=True)
class GeneratedStories:
    """The stories of a card and how they were generated."""

    stories: tuple[StoryCompletion, ...]  # the first completions of all prompts, then the second ones, and so on
    params: SamplingParams  # sampling parameters with the seed of the first batch; each later batch has the next seed
    completions: int
    left_out: tuple[str, ...]  # prompts that the model refuses, because they do not fit into its context
    tokens: int
    seconds: float


def sampling_params(seed: int, max_tokens: int = 400, temperature: float = 1.0) -> SamplingParams:
    """The sampling parameters of a card: the model's own distribution, without top-k and top-p. Raises UsageError."""
    return SamplingParams(max_tokens=max_tokens, temperature=temperature, top_k=0, top_p=1.0, seed=seed)


def generate_stories(
    engine: Engine,
    prompts: Sequence[str],
    completions: int,
    params: SamplingParams,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> GeneratedStories:
    """Generates `completions` stories for each prompt, without the prompts that the model refuses.

    Raises UsageError if it refuses all of them, and ModelError.
    """
    began = time.perf_counter()
    refusals = [refusal(engine, prompt, params) for prompt in prompts]
    accepted = [prompt for prompt, error in zip(prompts, refusals, strict=True) if error is None]
    if not accepted:
        raise refusals[0] or UsageError("no prompt fits the model", "use shorter prompts")
    requested = accepted * completions
    stories: list[StoryCompletion] = []
    tokens = 0
    for batch in generate_many(
        engine, requested, params, _BATCH_SIZE, on_progress=lambda done: on_progress(done, len(requested))
    ):
        stories += [StoryCompletion(story.prompt, story.text, story.finished) for story in batch.stories]
        tokens += sum(story.tokens for story in batch.stories)
    on_progress(len(requested), len(requested))
    left_out = tuple(prompt for prompt in prompts if prompt not in accepted)
    return GeneratedStories(tuple(stories), params, completions, left_out, tokens, time.perf_counter() - began)

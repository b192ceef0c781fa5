"""The loop that generates many stories: batches of prompts, a seed for each batch, progress, and refused prompts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError
from storyteller.inference.generate import Engine, GeneratedStory, with_seed

P = TypeVar("P")


@dataclass(frozen=True)
class StoryBatch(Generic[P]):
    """The stories of one batch."""

    prompts: Sequence[P]  # the prompts that the model takes
    stories: Sequence[GeneratedStory]  # the story of each of them
    refused: Sequence[tuple[P, UsageError]]
    """The other prompts of the batch, and why the model does not take them."""
    params: SamplingParams  # with the seed of this batch


def generate_many(
    engine: Engine,
    prompts: Iterable[P],
    params: SamplingParams,
    batch_size: int,
    text_of: Callable[[P], str] = str,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[StoryBatch[P]]:
    """Generates a story for each prompt, `batch_size` at a time, and yields the batches in order.

    The first batch has the seed of `params` (a random one if it is None), and each batch after it the next seed.
    `prompts` are read as needed; `text_of` returns the text of one. `on_progress` is called with the number of prompts
    done, before each batch. To stop, close the iterator between two batches. Raises ModelError if generation fails.
    """
    first_seed = with_seed(params).seed or 0
    remaining, done = iter(prompts), 0
    for number in itertools.count():
        batch = list(itertools.islice(remaining, batch_size))
        if not batch:
            return
        on_progress(done)
        seeded = dataclasses.replace(params, seed=(first_seed + number) % 2**32)
        yield _generate_batch(engine, batch, seeded, text_of)
        done += len(batch)


def refusal(engine: Engine, prompt: str, params: SamplingParams) -> UsageError | None:
    """Returns why the model does not take a prompt, or None if it does. Generates nothing."""
    try:
        engine.stream(prompt, params).close()  # checks the prompt; generation would begin with the first piece
    except UsageError as error:
        return error
    return None


def _generate_batch(
    engine: Engine, prompts: list[P], params: SamplingParams, text_of: Callable[[P], str]
) -> StoryBatch[P]:
    try:
        return StoryBatch(prompts, engine.batch([text_of(prompt) for prompt in prompts], params), (), params)
    except UsageError:  # some prompt is refused, and the others are generated without it
        refusals = [(prompt, refusal(engine, text_of(prompt), params)) for prompt in prompts]
    accepted = [prompt for prompt, error in refusals if error is None]
    stories = engine.batch([text_of(prompt) for prompt in accepted], params) if accepted else []
    return StoryBatch(accepted, stories, [(prompt, error) for prompt, error in refusals if error is not None], params)

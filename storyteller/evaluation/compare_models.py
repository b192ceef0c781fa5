"""Compares models: each continues the same prompts with the same seed and is scored on the same held-out stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from storyteller.config.configs import STARTER, SamplingParams, TrainConfig
from storyteller.evaluation.bits_per_byte import Cleaning, EvalSet, ModelScores, held_out, score_model
from storyteller.evaluation.bootstrap import Difference
from storyteller.inference.engine import Engine, find_model, is_run, open_model
from storyteller.inference.generate_many import generate_many
from storyteller.system import cpu_priority
from storyteller.tracking.run_index import any_trains

Progress = Callable[[str, int, int], None]  # called with the current phase, the items done and the items in all

_BATCH_SIZE = 16  # stories per batch; each batch has the next seed


@dataclass(frozen=True)
class ComparedStory:
    """A model's continuation of a prompt."""

    text: str  # without the prompt. Untrusted.
    tokens: int
    ended: bool  # False if the token limit cut the story off


@dataclass(frozen=True)
class ComparisonRequest:
    """The models to compare and the settings of the comparison."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    params: SamplingParams  # sampling parameters; the seed is set
    settings: TrainConfig  # device, precision and threads for scoring; generation uses the threads too
    data: tuple[str, ...] = ()  # files of stories to score on; by default held-out ones, see `bits_per_byte.held_out`
    max_stories: int | None = None
    cleaning: Cleaning = "light"


@dataclass(frozen=True)
class ModelComparison:
    """The stories and scores of several models, in the order of `labels`."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    params: SamplingParams
    stories: tuple[tuple[ComparedStory | None, ...], ...]  # by model, then by prompt; None if it exceeds the context
    eval_set: EvalSet
    scores: tuple[ModelScores, ...]

    def differences(self) -> Iterator[tuple[str, str, Difference]]:
        """Yields pairs of labels with the first model's bits per byte minus the second's (negative: it is better)."""
        for (a, scores_a), (b, scores_b) in combinations(zip(self.labels, self.scores, strict=True), 2):
            yield a, b, scores_a.difference(scores_b)

    def behind_best(self) -> list[Difference | None]:
        """Bits per byte of each model minus those of the best one; None for the best one."""
        best = min(self.scores, key=lambda scores: scores.bits_per_byte.value)
        return [None if each is best else each.difference(best) for each in self.scores]

    def to_json(self) -> dict[str, Any]:
        return {
            "models": [
                {**scores.to_json(), "model": label} for label, scores in zip(self.labels, self.scores, strict=True)
            ],
            "score_differences": [
                {"a": a, "b": b, "bits_per_byte": difference.to_json()} for a, b, difference in self.differences()
            ],
            "held_out": {"stories": len(self.eval_set.stories), "source": self.eval_set.source},
            "sample": asdict(self.params),
            "stories": [
                {
                    "prompt": prompt,
                    "tellings": [
                        {"model": label, **asdict(story)} if story is not None else None
                        for label, story in zip(self.labels, stories, strict=True)
                    ],
                }
                for prompt, stories in zip(self.prompts, zip(*self.stories, strict=True), strict=True)
            ],
        }


def compare_models(
    request: ComparisonRequest,
    root: Path,
    on_progress: Progress = lambda _phase, _done, _total: None,
    log: Callable[[str], None] = lambda _: None,
) -> ModelComparison:
    """Generates stories with each model and scores it, one model after the other. Takes a minute or more per model.

    on_progress: called with the phase, the items done and the items in all.
    log: called with messages about slow steps.
    Raises UsageError, CorpusError, and the errors of opening and scoring a model; for a missing model before any work.
    """
    for name in request.models:
        # Raises if there is no such model. Models on the Hub are not looked up.
        is_path = Path(name).expanduser().is_dir() or name.startswith((".", "/", "~"))
        if is_path or name == STARTER or is_run(name):
            find_model(name, root)
    eval_set = held_out(request.models, root, data=request.data, limit=request.max_stories, cleaning=request.cleaning)
    found = [_run_model(name, request, eval_set, root, on_progress, log) for name in request.models]
    labels, stories, scores = zip(*found, strict=True)
    return ModelComparison(labels, request.prompts, request.params, stories, eval_set, scores)


def _run_model(
    name: str,
    request: ComparisonRequest,
    eval_set: EvalSet,
    root: Path,
    on_progress: Progress,
    log: Callable[[str], None],
) -> tuple[str, tuple[ComparedStory | None, ...], ModelScores]:
    """Returns the label, the stories and the scores of one model."""
    n_prompts, n_stories = len(request.prompts), len(eval_set.stories)
    threads = request.settings.threads or (cpu_priority.GENERATION_THREADS if any_trains(root) else 0)
    with open_model(name, root, threads, log) as engine:
        label = engine.label
        stories = generate_stories(
            engine, request.prompts, request.params, lambda done: on_progress(f"{label}: generating", done, n_prompts)
        )
    scores = score_model(
        # A run's label names the checkpoint that generated the stories; the run may have saved a newer one since.
        label if is_run(name) else name,
        eval_set.stories,
        root,
        settings=request.settings,
        on_progress=lambda share: on_progress(f"{label}: scoring", round(share * n_stories), n_stories),
        log=log,
    )
    return label, stories, scores


def generate_stories(
    engine: Engine,
    prompts: Sequence[str],
    params: SamplingParams,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[ComparedStory | None, ...]:
    """Generates a story for each prompt; None for prompts that do not fit into the context. Raises ModelError.

    `params.seed` is set; `on_progress` is called with the number of prompts done.
    """
    fitting = [i for i, prompt in enumerate(prompts) if engine.count(prompt) < engine.context]
    stories: list[ComparedStory | None] = [None] * len(prompts)
    for batch in generate_many(engine, fitting, params, _BATCH_SIZE, lambda i: prompts[i], on_progress):
        if batch.refused:
            raise batch.refused[0][1]
        for i, story in zip(batch.prompts, batch.stories, strict=True):
            stories[i] = ComparedStory(story.text, story.tokens, story.finished)
    return tuple(stories)


def verdict(a: str, b: str, difference: Difference, n_stories: int) -> str:
    """One line that says which of two models is better, if the difference is significant. Untrusted, as the labels."""
    if not difference.significant:
        return (
            f"{a} and {b} do not differ significantly on these {n_stories:,} stories: "
            f"{difference.value:+.4f} bits per byte, 95 % from {difference.low:+.4f} to {difference.high:+.4f}"
        )
    better, worse = (a, b) if difference.value < 0 else (b, a)
    low, high = sorted((abs(difference.low), abs(difference.high)))
    return (
        f"{better} is better than {worse} by {abs(difference.value):.4f} bits per byte, "
        f"95 % from {low:.4f} to {high:.4f}: a significant difference"
    )

"""Compares models: each continues the same prompts with the same seed and is scored on the same held-out stories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import SamplingParams, TrainConfig
from storyteller.inference.generate_many import generate_many
from storyteller.system import cpu_priority
from storyteller.tracking.run_index import any_trains

if TYPE_CHECKING:
    from storyteller.evaluation.bits_per_byte import Cleaning, EvalSet, ModelScores
    from storyteller.evaluation.bootstrap import Difference
    from storyteller.inference.engine import Engine

Progress = Callable[[str, int, int], None]  # called with the current phase, the items done and the items in all

_BATCH_SIZE = 16  # stories per batch; each batch has the next seed


@dataclass(frozen=True)
class ComparedStory:
    """A model's continuation of a prompt."""

    text: str  # without the prompt. Untrusted.
    tokens: int
    ended: bool  # false if the token limit cut the story off


@dataclass(frozen=True)
class PairedDifference:
    """The difference between two models on the same stories."""

    a: str
    b: str
    bits_per_byte: Difference  # of `a` minus `b`: if negative, `a` predicts the stories better


@dataclass(frozen=True)
class ComparisonRequest:
    """The models to compare and the settings of the comparison."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    params: SamplingParams  # sampling parameters; the seed is set
    settings: TrainConfig  # device, precision and threads for scoring; generation uses the threads too
    data: tuple[str, ...] = ()
    """Files of stories to score on; by default held-out stories, see `bits_per_byte.held_out`."""
    max_stories: int | None = None
    cleaning: Cleaning = "light"


@dataclass(frozen=True)
class ModelComparison:
    """The stories and scores of several models, in the order of `labels`."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    params: SamplingParams
    stories: tuple[tuple[ComparedStory | None, ...], ...]
    """By model, then by prompt; None if the prompt does not fit into the model's context."""
    eval_set: EvalSet
    scores: tuple[ModelScores, ...]

    def differences(self) -> Iterator[PairedDifference]:
        """Yields the difference between each pair of models."""
        for (a, scores_a), (b, scores_b) in combinations(zip(self.labels, self.scores, strict=True), 2):
            yield PairedDifference(a, b, scores_a.difference(scores_b))

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
                {"a": each.a, "b": each.b, "bits_per_byte": each.bits_per_byte.to_json()} for each in self.differences()
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
    from storyteller.evaluation.bits_per_byte import held_out

    for name in request.models:
        _check_exists(name, root)
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
    from storyteller.evaluation.bits_per_byte import score_model
    from storyteller.inference.engine import is_run, open_model

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


def _check_exists(name: str, root: Path) -> None:
    """Raises if there is no such model. Models on the Hub are not looked up."""
    from storyteller.inference.engine import STARTER, find_model, is_run

    is_path = Path(name).expanduser().is_dir() or name.startswith((".", "/", "~"))
    if is_path or name == STARTER or is_run(name):
        find_model(name, root)


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


def verdict(pair: PairedDifference, n_stories: int) -> str:
    """One line that says which of two models is better, if the difference is significant. Untrusted, as the labels."""
    difference = pair.bits_per_byte
    low, high = sorted((abs(difference.low), abs(difference.high)))
    if not difference.significant:
        return (
            f"{pair.a} and {pair.b} do not differ significantly on these {n_stories:,} stories: "
            f"{difference.value:+.4f} bits per byte, 95 % from {difference.low:+.4f} to {difference.high:+.4f}"
        )
    better, worse = (pair.a, pair.b) if difference.value < 0 else (pair.b, pair.a)
    return (
        f"{better} is better than {worse} by {abs(difference.value):.4f} bits per byte, "
        f"95 % from {low:.4f} to {high:.4f}: a significant difference"
    )

"""Makes a model card: generates stories, measures them, compares them with real ones and collects the worst.

Nothing leaves this machine unless a judge is passed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.config.configs import SamplingParams
from storyteller.evaluation import bits_per_byte
from storyteller.evaluation.bits_per_byte import EvalSet
from storyteller.evaluation.bootstrap import Interval, interval
from storyteller.evaluation.compare_models import Progress
from storyteller.evaluation.llm_judge.rubric import ASPECTS, Grades
from storyteller.evaluation.model_card import real_stories, training_stories
from storyteller.evaluation.model_card.card import Card, Figure, JudgeUsage
from storyteller.evaluation.model_card.generate_stories import GeneratedStories, generate_stories
from storyteller.evaluation.model_card.training_stories import TrainingStories
from storyteller.evaluation.model_card.worst_examples import worst_examples
from storyteller.evaluation.text_metrics.metrics import MEASURES, measure
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.inference.engine import is_run, open_model
from storyteller.system.files import write_json
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import now_utc

if TYPE_CHECKING:
    from storyteller.evaluation.llm_judge.client import Judge

_FEW_REAL_STORIES = 50


@dataclass(frozen=True)
class CardOptions:
    """The model and the settings of a card."""

    model: str
    prompts: tuple[str, ...]
    completions: int  # stories per prompt; by default 10, as in Eldan & Li, TinyStories (2023), section 4
    params: SamplingParams  # see `generate_stories.sampling_params`
    data: tuple[str, ...]  # paths of real stories; by default the run's held-out stories, else bundled ones
    train_data: tuple[str, ...]  # paths of the training stories; by default those of the run
    train_stories: int
    threads: int
    judge_stories: int  # generated stories that are sent to the judge, and as many real ones


@dataclass(frozen=True)
class CardReferences:
    """The stories that generated ones are compared with."""

    training: TrainingStories
    real: EvalSet

    @cached_property
    def corpus(self) -> ReferenceCorpus:
        """Statistics of the training stories; computing them takes seconds."""
        return ReferenceCorpus.build(self.training.stories)

    def figures(self, generated: Sequence[StoryCompletion]) -> tuple[Figure, ...]:
        """Computes all metrics that apply, of the generated and of the real stories."""
        found = measure(generated, self.corpus)
        real = self.real.stories
        of_real = measure(real_stories.match_lengths(generated, real), self.corpus) if real else {}
        return tuple(
            Figure(
                each.key, each.title, each.explanation, each.unit, each.better, found[each.key], of_real.get(each.key)
            )
            for each in MEASURES
            if each.key in found
        )


def make_card(
    options: CardOptions,
    root: Path,
    judge: Judge | None = None,
    on_progress: Progress = lambda _phase, _done, _total: None,
    log: Callable[[str], None] = lambda _: None,
) -> Card:
    """Makes the card of a model, which takes minutes. `log` receives messages for the user on the way.

    Raises CorpusError if there are no stories to compare with, and the errors of opening, generating and scoring.
    """
    began = time.perf_counter()
    with open_model(options.model, root, options.threads, log) as engine:
        label = engine.label
        progress = partial(on_progress, "generating")
        generated = generate_stories(engine, options.prompts, options.completions, options.params, progress)
    run = training_stories.run_of_model(options.model, label, root)
    notes: list[str] = []
    on_progress("reading", 0, options.train_stories)
    training = training_stories.find_training_stories(run, options.train_data, options.train_stories, notes.append)
    real = find_real_stories(run, options.data, len(generated.stories), notes.append)
    references = CardReferences(training, real)
    on_progress("measuring", 0, len(generated.stories))
    card = assemble_card(label, generated, references, notes, began)
    scores = bits_per_byte.score_model(
        # A run's label names the checkpoint that generated the stories; the run may have saved a newer one since.
        label if is_run(options.model) else options.model,
        real.stories,
        root,
        on_progress=lambda share: on_progress("scoring", round(share * len(real.stories)), len(real.stories)),
        log=log,
    )
    what = "bits that the model needs per byte of the held-out stories, for any tokenizer"
    figures = [Figure("bits_per_byte", "bits per byte", what, "", "lower", scores.bits_per_byte), *card.figures]
    usage = None
    if judge is not None:
        progress = partial(on_progress, "asking the judge")
        judged, usage = _judge(judge, options.judge_stories, generated.stories, real.stories, progress)
        figures += judged
        if usage.problem:
            notes.append(f"not all stories were judged: {usage.problem}")
    return dataclasses.replace(
        card,
        made_at=now_utc(),
        seconds=round(time.perf_counter() - began, 3),
        parameters=scores.parameters,
        figures=tuple(figures),
        judge=usage,
        notes=(*notes, *card.notes[len(notes) :]),
    )


def keep_card(card: Card, model: str, root: Path, log: Callable[[str], None]) -> Path | None:
    """Writes the card of a run's checkpoint to the run's folder, where `report` finds it. Returns the file.

    Returns None if the model belongs to no run, or, with a message to `log`, if the file cannot be written.
    """
    run, step = training_stories.run_of_model(model, card.model, root), card.model.rpartition("@")[2]
    if run is None:
        return None
    if not step.isdecimal():  # the model was given as the folder of a checkpoint, step-00000100
        step = Path(model).expanduser().resolve().name.rpartition("-")[2]
    try:
        path = run.card(int(step))
        run.cards.mkdir(exist_ok=True)
        write_json(path, card.to_json())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name contains no step"
        log(f"the card is not kept in {run.name}: {reason}")
        return None
    return path


def find_real_stories(run: RunFolder | None, paths: Sequence[str], limit: int, log: Callable[[str], None]) -> EvalSet:
    """Finds real stories to compare with: those of `paths`, else the run's held-out stories, else bundled ones.

    `log` receives what a reader of the card should know about them. Raises CorpusError.
    """
    names, root = ([run.name], run.path.parent) if run is not None else ([], None)
    held_out = bits_per_byte.held_out(
        names, root, data=paths, limit=min(limit, bits_per_byte.DEFAULT_STORIES) if paths or run else None
    )
    if not paths and run is None:
        log("the real stories are bundled ones and may differ in kind from this model's (--data PATH sets others)")
    if len(held_out.stories) < _FEW_REAL_STORIES:
        log(f"only {len(held_out.stories):,} real stories to compare with: their intervals are wide")
    return held_out


def assemble_card(
    label: str, generated: GeneratedStories, references: CardReferences, notes: Sequence[str], began: float
) -> Card:
    """Measures generated stories and returns the card, without bits per byte. `began`: a `time.perf_counter` value."""
    figures = references.figures(generated.stories)
    examples = worst_examples(generated.stories, references.corpus, references.training.stories)
    n_left_out, n_stories, params = len(generated.left_out), len(generated.stories), generated.params
    left_out = [f"{n_left_out:,} prompts are too long for this model and were left out"] if n_left_out else []
    return Card(
        model=label,
        made_at=now_utc(),
        seconds=round(time.perf_counter() - began, 3),
        parameters=None,
        telling={
            "prompts": n_stories // generated.completions,
            "completions": generated.completions,
            "stories": n_stories,
            "tokens": generated.tokens,
            "temperature": params.temperature,
            "top_k": params.top_k,
            "top_p": params.top_p,
            "max_tokens": params.max_tokens,
            "seed": params.seed,
            "seconds": round(generated.seconds, 3),
            "left_out": list(generated.left_out),
        },
        real={"words": references.real.source, "stories": min(len(references.real.stories), n_stories)},
        trained_on={
            "words": references.training.description,
            "stories": len(references.training.stories),
            "own": references.training.own,
            "whole": references.training.whole,
        },
        figures=figures,
        examples=examples,
        stories=generated.stories,
        notes=(*notes, *left_out),
    )


def _judge(
    judge: Judge,
    n_stories: int,
    generated: Sequence[StoryCompletion],
    real: Sequence[str],
    on_progress: Callable[[int, int], None],
) -> tuple[list[Figure], JudgeUsage]:
    """Has the judge grade up to `n_stories` generated stories, and as many real ones as a baseline."""
    some = generated[:n_stories]
    baseline = real_stories.match_lengths(some, real[:n_stories])
    stories = [*some, *baseline]
    marks = judge.grade_all(stories, lambda done: on_progress(done, len(stories)))
    graded = [(story, grade) for story, grade in zip(some, marks.grades, strict=False) if grade]
    graded_real = [(story, grade) for story, grade in zip(baseline, marks.grades[len(some) :], strict=True) if grade]
    figures = []
    for aspect in ASPECTS:
        if (value := _mean_grade(aspect, graded)) is not None:
            what, of_real = f"the judge's grade for {aspect}, 1 to 10", _mean_grade(aspect, graded_real)
            figures.append(Figure(f"judge_{aspect}", f"{aspect}, judged", what, "", "higher", value, of_real))
    return figures, JudgeUsage(judge.host, judge.model, len(graded), len(graded_real), marks.unreadable, marks.problem)


def _mean_grade(aspect: str, graded: Sequence[tuple[StoryCompletion, Grades]]) -> Interval | None:
    """The mean grade with its interval, resampled by prompts; None if nothing was graded."""
    grades = [float(getattr(grade, aspect)) for _, grade in graded]
    return interval(grades, groups=[story.prompt for story, _ in graded]) if graded else None

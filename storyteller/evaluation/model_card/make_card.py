"""Making a card: stories are told, measured, held against real ones, and the worst of them looked up.

Nothing is sent anywhere but to the judge, where one is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.evaluation.bootstrap import Interval, interval
from storyteller.evaluation.model_card import generate_stories, real_stories, training_stories, worst_examples
from storyteller.evaluation.model_card.card import Card, Example, Figure, JudgeUsage
from storyteller.evaluation.model_card.training_stories import TrainedOn
from storyteller.evaluation.text_metrics.metrics import MEASURES, Reference, TokenizedStory, measure
from storyteller.tracking.run_status import now_utc

if TYPE_CHECKING:
    from storyteller.evaluation.bits_per_byte import HeldOut
    from storyteller.evaluation.llm_judge.client import Judge
    from storyteller.evaluation.llm_judge.rubric import Grades
    from storyteller.evaluation.model_card.generate_stories import GeneratedStories
    from storyteller.tracking.run_folder import RunFolder

Say = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is, and of how much."""
JUDGED = 44
"""Told stories that a judge is asked about, and as many real ones."""
_FEW_REAL = 50


@dataclass(frozen=True)
class CardOptions:
    """What a card is to be made of."""

    model: str
    prompts: tuple[str, ...]
    completions: int = generate_stories.COMPLETIONS
    seed: int = 0
    max_tokens: int = generate_stories.MAX_TOKENS
    temperature: float = 1.0
    data: tuple[str, ...] = ()
    """Paths of real stories; none: the run's held-out ones, else the bundled tales'."""
    train_data: tuple[str, ...] = ()
    """Paths of what the model was trained on; none: what its run says."""
    most_trained: int = training_stories.MOST_STORIES
    threads: int = 0
    judged: int = JUDGED


@dataclass(frozen=True)
class Bench:
    """What stories are held against."""

    trained: TrainedOn
    real: tuple[str, ...]
    real_words: str
    """What they are, safe to show."""

    @cached_property
    def reference(self) -> Reference:
        """The training stories' counts; seconds of work the first time."""
        return Reference.build(self.trained.stories)

    def figures(self, told: Sequence[TokenizedStory]) -> tuple[Figure, ...]:
        """Every measure of the told stories that has something to measure, beside that of the real ones."""
        found = measure(told, self.reference)
        of_real = measure(real_stories.beside(told, self.real), self.reference) if self.real else {}
        return tuple(
            Figure(
                each.key, each.title, each.explanation, each.unit, each.better, found[each.key], of_real.get(each.key)
            )
            for each in MEASURES
            if each.key in found
        )


@dataclass
class _Made:
    """What comes of the phases."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parameters: int | None = None
    asked: JudgeUsage | None = None


def make(
    wish: CardOptions,
    root: Path,
    judge: Judge | None = None,
    say: Say = lambda _what, _done, _of: None,
    log: Callable[[str], None] = lambda _: None,
) -> Card:
    """The card of the model that the wish names; `log` hears what its reader should know on the way.

    Minutes of work. Raises what opening, telling and scoring a model do, CorpusError where there are no stories to hold
    it against.
    """
    from storyteller.evaluation import bits_per_byte
    from storyteller.inference.engine import is_run, open_model

    began = time.perf_counter()
    with open_model(wish.model, root, wish.threads, log) as engine:
        label = engine.label
        sample = generate_stories.recipe(wish.seed, wish.max_tokens, wish.temperature)
        told = generate_stories.tell(engine, wish.prompts, wish.completions, sample, partial(say, "telling"))
    run, made = training_stories.run_of(wish.model, label, root), _Made()
    say("reading", 0, wish.most_trained)
    trained = training_stories.find(run, wish.train_data, wish.most_trained, made.notes.append)
    held = held_out_stories(run, wish.data, len(told.stories), made.notes.append)
    bench = Bench(trained, held.stories, held.source)
    say("measuring", 0, len(told.stories))
    made.figures += bench.figures(told.stories)
    examples = worst_examples.examples(told.stories, bench.reference, trained.stories)
    scores = bits_per_byte.score_model(
        label if is_run(wish.model) else wish.model,  # the very checkpoint that was told from
        held.stories,
        root,
        say=lambda share: say("scoring", round(share * len(held.stories)), len(held.stories)),
        log=log,
    )
    made.parameters = scores.parameters
    made.figures.insert(0, bits_per_byte_figure(scores.bits_per_byte))
    if judge is not None:
        _ask(judge, wish, told, bench, made, say)
    return document(label, told, bench, made.figures, examples, made.notes, began, made.parameters, made.asked)


def held_out_stories(run: RunFolder | None, paths: Sequence[str], most: int, say: Callable[[str], None]) -> HeldOut:
    """Stories to hold told ones against: of `paths`, else those held out from the run, else the bundled tales'.

    `say` hears what a reader has to know of them. Raises CorpusError.
    """
    from storyteller.evaluation import bits_per_byte

    names, root = ([run.name], run.path.parent) if run is not None else ([], None)
    held = bits_per_byte.held_out(
        names, root, data=paths, limit=min(most, bits_per_byte.MOST_STORIES) if paths or run else None
    )
    if not paths and run is None:
        say("the real stories are bundled tales, which need not be of this model's kind (--data PATH names others)")
    if len(held.stories) < _FEW_REAL:
        say(f"there are only {len(held.stories):,} real stories to compare with: their intervals are wide")
    return held


def document(
    label: str,
    told: GeneratedStories,
    bench: Bench,
    figures: Sequence[Figure],
    examples: Sequence[Example],
    notes: Sequence[str],
    began: float,
    parameters: int | None = None,
    asked: JudgeUsage | None = None,
) -> Card:
    """The card; `began` is when, by `time.perf_counter`."""
    left_out = (
        [f"{len(told.left_out):,} prompts are too long for this model and were left out"] if told.left_out else []
    )
    sample = told.sample
    return Card(
        model=label,
        made_at=now_utc(),
        seconds=round(time.perf_counter() - began, 3),
        parameters=parameters,
        telling={
            "prompts": len(told.stories) // told.completions,
            "completions": told.completions,
            "stories": len(told.stories),
            "tokens": told.tokens,
            "temperature": sample.temperature,
            "top_k": sample.top_k,
            "top_p": sample.top_p,
            "max_tokens": sample.max_tokens,
            "seed": sample.seed,
            "seconds": round(told.seconds, 3),
            "left_out": list(told.left_out),
        },
        real={"words": bench.real_words, "stories": min(len(bench.real), len(told.stories))},
        trained_on={
            "words": bench.trained.words,
            "stories": len(bench.trained.stories),
            "own": bench.trained.own,
            "whole": bench.trained.whole,
        },
        figures=tuple(figures),
        examples=tuple(examples),
        stories=told.stories,
        judge=asked,
        notes=(*notes, *left_out),
    )


def bits_per_byte_figure(value: Interval) -> Figure:
    """The figure of a model's bits per byte on the held-out stories."""
    what = "what the model needs to tell the held-out stories, whatever its tokenizer"
    return Figure("bits_per_byte", "bits per byte", what, "", "lower", value)


# --- the judge --------------------------------------------------------------------------------------------------------


def _ask(judge: Judge, wish: CardOptions, told: GeneratedStories, bench: Bench, made: _Made, say: Say) -> None:
    """Have the judge grade some of the told stories and as many real ones; what it leaves out is noted."""
    from storyteller.evaluation.llm_judge.rubric import ASPECTS

    some = told.stories[: wish.judged]
    true = real_stories.beside(some, bench.real[: wish.judged])
    every = [*some, *true]
    verdicts = judge.grade_all(every, lambda done: say("asking the judge", done, len(every)))
    of_told, of_real = verdicts.grades[: len(some)], verdicts.grades[len(some) :]
    for aspect in ASPECTS:
        value = _graded(aspect, some, of_told)
        if value is not None:
            what = f"the judge's grade for {aspect}, 1 to 10"
            figure = Figure(
                f"judge_{aspect}", f"{aspect}, judged", what, "", "higher", value, _graded(aspect, true, of_real)
            )
            made.figures.append(figure)
    n_told, n_real = (sum(grade is not None for grade in grades) for grades in (of_told, of_real))
    made.asked = JudgeUsage(judge.host, judge.model, n_told, n_real, verdicts.unreadable, verdicts.problem)
    if verdicts.problem:
        made.notes.append(f"not all stories were judged: {verdicts.problem}")


def _graded(aspect: str, stories: Sequence[TokenizedStory], grades: Sequence[Grades | None]) -> Interval | None:
    """The mean grade with its interval, by prompts; None where nothing was graded."""
    pairs = [
        (float(getattr(grade, aspect)), story.prompt) for grade, story in zip(grades, stories, strict=True) if grade
    ]
    if not pairs:
        return None
    return interval([grade for grade, _ in pairs], groups=[prompt for _, prompt in pairs])

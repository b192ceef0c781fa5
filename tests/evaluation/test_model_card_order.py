"""The card tells good from bad on a model that is really trained: real stories, the model, its beginning, no order."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from storyteller.evaluation.bits_per_byte import held_out, score_model
from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.model_card import training_stories
from storyteller.evaluation.model_card.generate_stories import generate_stories, sampling_params
from storyteller.evaluation.model_card.make_card import CardReferences
from storyteller.evaluation.prompts import bundled_prompts
from storyteller.evaluation.text_metrics.metrics import MEASURES
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.inference.engine import open_model
from storyteller.tracking.run_folder import RunFolder
from tests.support.training import trained_run

STEPS = 600
OPTIONS = {
    "data_vocab_size": 4000,
    "data_shuffle_stories": 3000,
    "data_valid_pct": 5.0,
    "model_n_layer": 2,
    "model_n_embd": 128,
    "model_n_head": 4,
    "model_context": 256,
    "train_batch_size": 8,
    "train_precision": "auto",
    "train_threads": 2,
    "train_eval_stories": 150,
    "train_steps": STEPS,
    "train_checkpoint_every": str(STEPS // 10),
    "train_keep": 20,
}

REAL, TRAINED, BEGINNING, SHUFFLED = "real stories", "the model", "its beginning", "words in no order"
ALL = (REAL, TRAINED, BEGINNING, SHUFFLED)
BY_FAR = {"slips": ALL, "odd_pairs_pct": ALL, "known_words_pct": (REAL, TRAINED, BEGINNING)}
"""The best first, each better than the next by more than chance. Words in no order are words."""
ON_THE_WHOLE = {
    "self_bleu": ALL,
    "stray_pronouns_pct": ALL,
    "not_introduced_pct": ALL,
    "closed_pct": (REAL, TRAINED, SHUFFLED),
    "thread_pct": (REAL, TRAINED),
    "prompt_pct": (REAL, TRAINED),
}
"""The first better than the last by more than chance, none between them in the wrong place by more.

A model learns to stop before it learns what to say, so its beginning closes its stories as often. Words in no order
keep all of a story's thread and have no prompt, and so small a model keeps hardly more of either than its beginning.
"""
NO_ORDER = {
    "ended_pct": "a cut by the limit on length says nothing of how good a story is, nor of words in no order",
    "words": "says how long stories are",
    "distinct_1": "words in no order differ as those in order do",
    "distinct_2": "words in no order differ as those in order do",
    "distinct_3": "words in no order differ as those in order do",
    "looped_pct": "real stories say things again on purpose, a beginning cannot say one thing twice",
    "changed_names_pct": "a name is lost only by who has kept it for a while, which a beginning does not",
    "copied_pct": "to copy more is not better",
    "longest_copy_words": "to copy more is not better",
}
"""Measures without that order, and why; test_judging_measures has what damage to real stories does to them."""


def test_each_measure_is_in_the_order_or_says_why_it_is_not() -> None:
    assert sorted((*BY_FAR, *ON_THE_WHOLE, *NO_ORDER)) == sorted(measure.key for measure in MEASURES)


def told(run: RunFolder, step: int) -> list[StoryCompletion]:
    """Stories of a checkpoint, from the plainest prompts."""
    prompts = [prompt.text for prompt in bundled_prompts() if prompt.kind == "opening"]
    with open_model(f"{run.name}@{step}", run.path.parent, threads=1) as engine:
        return list(generate_stories(engine, prompts, 20, sampling_params(0, max_tokens=300)).stories)


def shuffled(stories: tuple[str, ...]) -> list[StoryCompletion]:
    """Real stories with their words in no order, cut as told ones are."""
    draw, found = random.Random(0), []
    for story in stories:
        words = story.split()[:80]
        draw.shuffle(words)
        found.append(StoryCompletion("", " ".join(words), True))
    return found


@pytest.mark.slow
def test_real_stories_come_before_a_trained_model_and_that_before_its_beginning_and_shuffled_words(
    tmp_path: Path,
) -> None:
    run = trained_run(tmp_path / "runs", "r", **OPTIONS)
    held = held_out([run.name], run.path.parent)
    bench = CardReferences(training_stories.from_run(run, 1500), held)
    ends, begins = told(run, STEPS), told(run, STEPS // 10)

    def values(stories: list[StoryCompletion]) -> dict[str, Interval]:
        return {figure.key: figure.value for figure in bench.figures(stories)}

    found = {TRAINED: values(ends), BEGINNING: values(begins), SHUFFLED: values(shuffled(held.stories))}
    found[REAL] = {figure.key: figure.real for figure in bench.figures(ends) if figure.real is not None}
    rising = {measure.key for measure in MEASURES if measure.better == "higher"} | {
        "self_bleu",
        "thread_pct",
        "prompt_pct",
    }

    def clearly(better: str, worse: str, key: str) -> bool:
        one, other = found[better][key], found[worse][key]
        return one.low > other.high if key in rising else one.high < other.low

    for key, chain in BY_FAR.items():
        assert all(clearly(better, worse, key) for better, worse in pairwise(chain)), (key, found)
    for key, chain in ON_THE_WHOLE.items():
        assert clearly(chain[0], chain[-1], key), (key, found)
        assert not any(clearly(worse, better, key) for better, worse in combinations(chain, 2)), (key, found)
    bits = [
        score_model(f"{run.name}@{step}", held.stories, run.path.parent).bits_per_byte for step in (STEPS, STEPS // 10)
    ]
    assert bits[0].high < bits[1].low

"""The card tells good from bad on a model that is really trained: real stories, the model, its beginning, no order."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from storyteller.card import telling, trained_on
from storyteller.card.making import Bench
from storyteller.engine import open_model
from storyteller.judging.intervals import Interval
from storyteller.judging.measures import MEASURES, Story
from storyteller.judging.prompts import bundled
from storyteller.runs.layout import RunFolder
from storyteller.scoring import held_out, score_model
from tests.training import trained_run

STEPS = 300
OPTIONS = {
    "data_vocab_size": 4000,
    "data_shuffle_stories": 1000,
    "model_n_layer": 2,
    "model_n_embd": 128,
    "model_n_head": 4,
    "model_context": 128,
    "train_batch_size": 16,
    "train_eval_stories": 40,
    "train_steps": STEPS,
    "train_checkpoint_every": str(STEPS // 10),
    "train_keep": 20,
}

IN_FULL_ORDER = ("slips", "odd_pairs_pct")
"""Real stories, the model, its beginning, no order: each better than the next by more than chance."""
NO_ORDER = {
    "known_words_pct": "words in no order are words; the other three are in order, below",
    "ended_pct": "a cut by the limit on length says nothing of how good a story is, nor of words in no order",
    "closed_pct": "so small a model is mostly cut off",
    "words": "says how long stories are",
    "distinct_1": "words in no order differ as those in order do",
    "distinct_2": "words in no order differ as those in order do",
    "distinct_3": "words in no order differ as those in order do",
    "looped_pct": "a model loops where it has learned, not before",
    "self_bleu": "too near to each other in so small a model",
    "changed_names_pct": "so small a model names few people twice",
    "stray_pronouns_pct": "not in order here: the beginning says few pronouns, and so loses few",
    "not_introduced_pct": "a few things in so small a model's stories, too few to tell apart",
    "thread_pct": "words in no order keep all the story's words",
    "prompt_pct": "words in no order have no prompt",
    "copied_pct": "nothing is copied so soon, and to copy more is not better",
    "longest_copy_words": "nothing is copied so soon, and to copy more is not better",
}
"""Measures without that order here, and why; test_judging_measures has those that damage puts in order."""


def test_each_measure_is_in_the_order_or_says_why_it_is_not() -> None:
    assert sorted((*IN_FULL_ORDER, *NO_ORDER)) == sorted(measure.key for measure in MEASURES)


def told(run: RunFolder, step: int) -> list[Story]:
    """Stories of a checkpoint, from the plainest prompts."""
    prompts = [prompt.text for prompt in bundled() if prompt.kind == "opening"]
    with open_model(f"{run.name}@{step}", run.path.parent, threads=1) as engine:
        return list(telling.tell(engine, prompts, 5, telling.recipe(0, max_tokens=100)).stories)


def shuffled(stories: tuple[str, ...]) -> list[Story]:
    """Real stories with their words in no order, cut as told ones are."""
    draw, found = random.Random(0), []
    for story in stories:
        words = story.split()[:80]
        draw.shuffle(words)
        found.append(Story("", " ".join(words), True))
    return found


@pytest.mark.slow
def test_real_stories_come_before_a_trained_model_and_that_before_its_beginning_and_shuffled_words(
    tmp_path: Path,
) -> None:
    run = trained_run(tmp_path / "runs", "r", **OPTIONS)
    held = held_out([run.name], run.path.parent)
    bench = Bench(trained_on.of_run(run, 1500), held.stories, held.source)
    ends, begins = told(run, STEPS), told(run, STEPS // 10)

    def values(stories: list[Story]) -> dict[str, Interval]:
        return {figure.key: figure.value for figure in bench.figures(stories)}

    trained, beginning, disordered = values(ends), values(begins), values(shuffled(held.stories))
    real = {figure.key: figure.real for figure in bench.figures(ends)}
    for key in IN_FULL_ORDER:
        best = real[key]
        assert best is not None
        chain = [best, trained[key], beginning[key], disordered[key]]
        assert all(better.high < worse.low for better, worse in pairwise(chain)), (key, chain)
    known = real["known_words_pct"]
    assert known is not None
    assert known.low > trained["known_words_pct"].high
    assert trained["known_words_pct"].low > beginning["known_words_pct"].high
    bits = [
        score_model(f"{run.name}@{step}", held.stories, run.path.parent).bits_per_byte for step in (STEPS, STEPS // 10)
    ]
    assert bits[0].high < bits[1].low

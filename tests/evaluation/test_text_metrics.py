"""The measures tell good from bad, in order, are exact on small texts, and measure any text in bounded time."""

from __future__ import annotations

import math
import time
from functools import lru_cache
from itertools import pairwise, repeat
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.text_metrics.metrics import MEASURES, measure, per_story
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from tests.support.judged import damaged, held_out, misgendered, reference, sentences_shuffled, shuffled, spliced

BY_KEY = {each.key: each for each in MEASURES}


@lru_cache(maxsize=1)
def scores() -> dict[str, dict[str, Interval]]:
    """The measures over tales, and over what each way of damaging leaves of them."""
    random, real = Random(0), held_out()
    others = real[1:] + real[:1]
    sets = {
        "real": real,
        "lightly": [damaged(story, 0.05, random) for story in real],
        "heavily": [damaged(story, 0.25, random) for story in real],
        "shuffled": [shuffled(story, random) for story in real],
        "spliced lightly": [spliced(story, 0.15, others, random) for story in real],
        "spliced heavily": [spliced(story, 0.6, others, random) for story in real],
        "sentences shuffled": [sentences_shuffled(story, random) for story in real],
        "few misgendered": [misgendered(story, 0.1, random) for story in real],
        "many misgendered": [misgendered(story, 0.5, random) for story in real],
        "swapped": [StoryCompletion(a.prompt, b.text, True) for a, b in zip(real, others, strict=True)],
    }
    return {name: measure(stories, reference(), resamples=200) for name, stories in sets.items()}


def worse(key: str, a: str, b: str) -> bool:
    """Whether set `b` is worse than `a` on a measure: on the worse side, or farther from what real tales have."""
    at_a, at_b, real = (scores()[name][key].value for name in (a, b, "real"))
    better = BY_KEY[key].better
    if better == "like":
        return abs(at_b - real) > abs(at_a - real)
    return at_b > at_a if better == "lower" else at_b < at_a


@pytest.mark.parametrize("key", ["slips", "odd_pairs_pct", "copied_pct", "longest_copy_words"])
def test_real_is_better_than_lightly_and_heavily_damaged_and_shuffled_words(key: str) -> None:
    order = ["real", "lightly", "heavily", "shuffled"]
    for a, b in pairwise(order):
        assert worse(key, a, b), {name: scores()[name][key].value for name in order}


@pytest.mark.parametrize("key", ["thread_pct", "prompt_pct", "not_introduced_pct"])
def test_real_is_better_than_stories_with_few_and_with_many_sentences_of_others(key: str) -> None:
    order = ["real", "spliced lightly", "spliced heavily"]
    for a, b in pairwise(order):
        assert worse(key, a, b), {name: scores()[name][key].value for name in order}


def test_sentences_in_another_order_bring_things_in_too_late() -> None:
    assert worse("not_introduced_pct", "real", "sentences shuffled")


def test_the_more_sentences_say_he_for_she_the_more_pronouns_have_nobody() -> None:
    order = ["real", "few misgendered", "many misgendered"]
    for a, b in pairwise(order):
        assert worse("stray_pronouns_pct", a, b), {name: scores()[name]["stray_pronouns_pct"].value for name in order}


def test_shuffled_words_do_not_end_with_a_full_stop() -> None:
    assert scores()["real"]["closed_pct"].value == 100
    assert scores()["shuffled"]["closed_pct"].value < 50


def test_the_end_of_another_story_takes_up_less_of_the_prompt() -> None:
    assert scores()["swapped"]["prompt_pct"].high < scores()["real"]["prompt_pct"].low


def test_misspelt_words_are_not_known() -> None:
    assert scores()["real"]["known_words_pct"].value > 98
    mangled = [StoryCompletion(story.prompt, story.text.replace("o", "oo"), True) for story in held_out()]
    assert measure(mangled, reference())["known_words_pct"].value < 85


def test_a_model_that_repeats_one_sentence_scores_as_such() -> None:
    stories = [StoryCompletion("Once upon a time", " The dog ran to the park." * 20, False) for _ in range(40)]
    found = measure(stories, reference())
    assert found["looped_pct"] == Interval(95, 95, 95)
    assert found["self_bleu"].value == pytest.approx(1)
    assert found["ended_pct"].value == 0
    real = scores()["real"]
    assert found["distinct_1"].value < 0.2 < real["distinct_1"].low
    assert found["distinct_2"].value < 0.2 < real["distinct_2"].low
    assert found["distinct_3"].value < 0.2 < real["distinct_3"].low


def test_each_figure_is_the_ratio_of_its_numbers() -> None:
    stories = held_out()[:10]
    numbers, figures = per_story(stories, reference()), measure(stories, reference())
    for key, figure in figures.items():
        assert len(numbers[key].values) == len(numbers[key].weights) == 10
        assert figure.value == pytest.approx(sum(numbers[key].values) / sum(numbers[key].weights))
        assert figure.low <= figure.value <= figure.high


def test_exact_figures_of_two_small_stories() -> None:
    stories = [StoryCompletion("Once", " there was a dog.", True), StoryCompletion("Once", " there was an dog", False)]
    found = {key: interval.value for key, interval in measure(stories, reference()).items()}
    assert found["ended_pct"] == found["closed_pct"] == 50
    assert found["words"] == 4
    assert found["known_words_pct"] == 100
    assert found["slips"] == 125
    assert found["looped_pct"] == found["changed_names_pct"] == 0
    assert found["distinct_1"] == found["distinct_2"] == found["distinct_3"] == 1
    assert not {"stray_pronouns_pct", "copied_pct"} & set(found)  # no pronoun, and no 8 words


def test_keys_and_titles_are_unique_and_each_measure_says_what_it_is() -> None:
    assert len(BY_KEY) == len({each.title for each in MEASURES}) == len(MEASURES)
    assert all(each.explanation and each.title and each.better in {"higher", "lower", "like"} for each in MEASURES)


def test_no_stories_and_empty_stories_have_few_figures_and_no_error() -> None:
    assert measure([], reference()) == {}
    found = measure([StoryCompletion("", "", True)] * 3, reference())
    assert found["ended_pct"].value == 100
    assert found["closed_pct"].value == found["words"].value == 0
    assert "known_words_pct" not in found


def test_training_stories_without_a_word_are_refused() -> None:
    with pytest.raises(ValueError, match="no words"):
        ReferenceCorpus.build(["...", "!"])


def test_a_reference_reads_no_more_than_its_limit() -> None:
    endless = repeat("A story of a dog and cat.")
    assert ReferenceCorpus.build(endless, limit_words=1000).n_words == 7 * 143


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.builds(StoryCompletion, st.text(max_size=30), st.text(max_size=120), st.booleans()), min_size=1, max_size=4
    )
)
def test_any_text_can_be_measured(stories: list[StoryCompletion]) -> None:
    for found in measure(stories, reference(), resamples=20).values():
        assert all(map(math.isfinite, (found.value, found.low, found.high)))


SLOW_PIECES = ["a", "\U0001f600", "Tom ", "...!?,", "the dog "]


@pytest.mark.parametrize(
    "piece",
    ["the ", '"', "\x00\x1b[2J", "He ran. ", *(pytest.param(piece, marks=pytest.mark.slow) for piece in SLOW_PIECES)],
)
def test_a_hundred_thousand_characters_of_one_kind_are_measured_in_bounded_time(piece: str) -> None:
    started = time.process_time()
    measure([StoryCompletion("", (piece * 100_000)[:100_000], True)], reference(), resamples=20)
    assert time.process_time() - started < 10


def test_a_hundred_thousand_characters_of_names_are_measured_in_bounded_time() -> None:
    names = [f"so {a}{b}{c} ran" for a in "ABCDEFGHIJ" for b in "aeiou" for c in "bcdfghklmnprstvw"] * 12
    started = time.process_time()
    measure([StoryCompletion("", ". ".join(names)[:100_000], True)], reference(), resamples=20)
    assert time.process_time() - started < 10

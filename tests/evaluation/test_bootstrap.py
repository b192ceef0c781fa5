"""Intervals: exact where they can be, of the width that theory gives, and wider where stories belong together."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.evaluation.bootstrap import Difference, Interval, difference, interval


def test_values_that_are_all_alike_have_an_interval_of_no_width() -> None:
    assert interval([0.25] * 40) == Interval(0.25, 0.25, 0.25)


def test_the_figure_is_a_ratio_of_sums_not_a_mean_of_ratios() -> None:
    assert interval([1, 9], [2, 10]).value == 10 / 12


def test_the_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    random = Random(0)
    values = [random.gauss(5, 2) for _ in range(400)]
    found = interval(values)
    mean = sum(values) / 400
    standard_error = math.sqrt(sum((value - mean) ** 2 for value in values) / 400) / 20
    assert found.value == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * standard_error, abs=0.15 * standard_error)
    assert found.high == pytest.approx(mean + 1.96 * standard_error, abs=0.15 * standard_error)


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    random, held = Random(1), 0
    for seed in range(120):
        found = interval([random.expovariate(1) for _ in range(60)], seed=seed, resamples=200)
        held += found.low <= 1 <= found.high
    assert 106 <= held <= 119


def test_the_same_arguments_give_the_same_interval_and_another_seed_another() -> None:
    values = [float(n) for n in range(30)]
    assert interval(values) == interval(values)
    assert interval(values, seed=1) != interval(values)


def test_stories_that_belong_together_count_as_one_so_the_interval_is_wider() -> None:
    random = Random(2)
    prompts = [n for n in range(40) for _ in range(10)]
    offsets = [random.gauss(0, 1) for _ in range(40)]
    values = [offsets[prompt] + random.gauss(0, 0.1) for prompt in prompts]
    alone, together = interval(values), interval(values, groups=prompts)
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 2.5 * (alone.high - alone.low)


def test_a_group_a_story_is_the_same_as_no_groups() -> None:
    values, weights = [1.0, 4.0, 2.0, 8.0], [3.0, 5.0, 2.0, 9.0]
    assert interval(values, weights, groups="abcd") == interval(values, weights)


def test_a_small_difference_on_the_same_stories_is_real_where_their_own_intervals_overlap() -> None:
    random = Random(3)
    a = [random.gauss(5, 2) for _ in range(100)]
    b = [value - 0.1 - random.random() * 0.1 for value in a]
    assert interval(a).low < interval(b).high
    found = difference(a, b)
    assert found.significant and 0.1 < found.low < found.value < found.high < 0.2


def test_a_difference_of_nothing_is_not_real() -> None:
    values = [0.1, 0.2, 0.7]
    assert difference(values, values) == Difference(0.0, 0.0, 0.0, False)
    assert not difference([0.1 + 0.2] * 9, [0.3] * 9).significant  # 5e-17 apart, by rounding alone


def test_a_difference_that_only_one_story_makes_is_not_real() -> None:
    assert not difference([1.0] * 20, [1.0] * 19 + [0.0]).significant


def test_two_models_whose_stories_differ_in_length_are_each_weighed_by_their_own() -> None:
    found = difference([1, 2], [3, 3], [10, 20], weights_b=[10, 10])
    assert found.value == pytest.approx(3 / 30 - 6 / 20)


@pytest.mark.parametrize(
    ("values", "weights", "words"),
    [
        ([], None, "no item"),
        ([1.0], [1.0, 2.0], "differ in length"),
        ([1.0, math.nan], None, "finite"),
        ([1.0, 2.0], [0.0, 0.0], "all 0"),
        ([1.0, 2.0], [3.0, -1.0], "negative"),
    ],
)
def test_what_has_no_figure_is_refused(values: list[float], weights: list[float] | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        interval(values, weights)


def test_draws_without_weight_are_left_out_of_the_interval() -> None:
    found = interval([1.0, 0.0, 0.0], [2.0, 0.0, 0.0])
    assert found == Interval(0.5, 0.5, 0.5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.1, 1e6)), min_size=1, max_size=30), st.integers(0, 9))
def test_the_bounds_are_in_order_and_hold_the_figure(items: list[tuple[float, float]], seed: int) -> None:
    values, weights = [value for value, _ in items], [weight for _, weight in items]
    found = interval(values, weights, seed=seed, resamples=50)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(sum(values) / sum(weights), rel=1e-6, abs=1e-6)

"""Batches: padding, packing, the shift of labels, and positions that go on exactly."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.data.batches import IGNORED, Batches, Prefetcher, StepBatches, collate
from storyteller.errors import CorpusError

END = 0


class Letters:
    """A tokenizer of one token a letter: `a` is 1."""

    end_id = END

    def encode(self, stories: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) - 96 for letter in story] for story in stories]


def endless(stories: Sequence[str], start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    for n in itertools.count(start):
        yield stories[n % len(stories)], {"n": n + 1, "epoch": (n + 1) // len(stories)}


def steps(stories: Sequence[str], position: dict[str, Any] | None = None, **how: Any) -> Iterator[StepBatches]:
    settings = {"batching": "pack", "context": 4, "batch_size": 2, "accumulate": 1} | how
    start = position["stories"]["n"] if position and position["stories"] else 0
    return iter(Batches(endless(stories, start), Letters(), position=position, **settings))  # type: ignore[arg-type]


def test_padding_is_left_out_of_the_loss_but_the_end_of_text_is_learned() -> None:
    batch = collate([[END, 1, 2, 3, END], [END, 4, END]], pad_id=END)
    assert batch.inputs.tolist() == [[END, 1, 2, 3], [END, 4, END, END]]
    assert batch.targets.tolist() == [[1, 2, 3, END], [4, END, IGNORED, IGNORED]]
    assert batch.n_targets == 6


def test_each_target_is_the_token_after_its_input() -> None:
    row = list(range(1, 9))
    batch = collate([row], pad_id=END)
    assert batch.inputs[0].tolist() == row[:-1]
    assert batch.targets[0].tolist() == row[1:]


def test_packed_rows_are_full_and_predict_each_token_once() -> None:
    first = next(steps(["abc", "de", "fghij"]))
    assert first.batches[0].inputs.tolist() == [[END, 1, 2, 3], [END, 4, 5, END]]
    assert first.batches[0].targets.tolist() == [[1, 2, 3, END], [4, 5, END, 6]]
    assert first.padding_pct == 0.0


@given(st.lists(st.text("abcxyz", min_size=1, max_size=12), min_size=3, max_size=8), st.integers(3, 9))
@settings(max_examples=50, deadline=None)
def test_packing_loses_and_repeats_no_token(stories: list[str], context: int) -> None:
    if sum(len(story) + 1 for story in stories) < context:
        return
    taken = list(itertools.islice(steps(stories, context=context), 12))
    targets = np.concatenate([step.batches[0].targets.ravel() for step in taken]).tolist()
    letters = Letters()
    wanted: list[int] = []
    for story, _ in endless(stories):
        wanted += [*letters.encode([story])[0], END]
        if len(wanted) >= len(targets):
            break
    assert targets == wanted[: len(targets)]


def test_rows_that_begin_with_a_story_leave_out_what_does_not_fit_of_the_last_one() -> None:
    rows = iter(steps(["ab", "cde", "fgh"], batching="begin"))
    first, second = next(rows).batches[0], next(rows).batches[0]
    assert first.inputs.tolist() == [[END, 1, 2, END], [END, 6, 7, 8]]
    assert first.targets.tolist() == [[1, 2, END, 3], [6, 7, 8, END]]
    assert second.inputs.tolist() == [[END, 1, 2, END], [END, 6, 7, 8]]


def test_a_story_longer_than_a_row_goes_on_in_the_next() -> None:
    first = next(steps(["abcdefghij", "kl"], batching="begin", batch_size=3)).batches[0]
    assert first.inputs.tolist() == [[END, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, END]]
    assert first.targets[2].tolist() == [9, 10, END, 11]


@given(st.lists(st.text("abcxyz", min_size=1, max_size=12), min_size=3, max_size=8), st.integers(3, 9))
@settings(max_examples=50, deadline=None)
def test_every_row_of_begin_is_full_and_starts_or_goes_on_with_a_story(stories: list[str], context: int) -> None:
    if sum(len(story) + 1 for story in stories) < context:
        return
    ends = [[*ids, END] for ids in Letters().encode(stories)]
    rests = {tuple(story[at:][:context]) for story in ends for at in range(0, len(story), context)}
    for step in itertools.islice(steps(stories, batching="begin", context=context), 12):
        assert step.n_targets == step.n_positions
        for targets in step.batches[0].targets.tolist():
            first = targets[: targets.index(END) + 1] if END in targets else targets
            assert tuple(first) in rests


def test_padded_rows_are_one_story_each_cut_at_the_context() -> None:
    first = next(steps(["ab", "cdefgh"], batching="pad"))
    assert first.batches[0].inputs.tolist() == [[END, 1, 2, END], [END, 3, 4, 5]]
    assert first.batches[0].targets.tolist() == [[1, 2, END, IGNORED], [3, 4, 5, 6]]
    assert first.padding_pct == 12.5


def test_a_step_has_as_many_batches_as_are_accumulated() -> None:
    first = next(steps(["abc", "de"], batching="pad", accumulate=3))
    assert [batch.inputs.shape[0] for batch in first.batches] == [2, 2, 2]
    assert first.n_targets == sum(batch.n_targets for batch in first.batches)


def test_rows_of_about_equal_length_come_together_within_a_step() -> None:
    first = next(steps(["abcd", "e", "fgh", "ij"], batching="pad", context=5, accumulate=2))
    short, long = first.batches
    assert short.inputs.tolist() == [[END, 5, END], [END, 9, 10]]
    assert long.inputs.tolist() == [[END, 6, 7, 8, END], [END, 1, 2, 3, 4]]
    assert first.padding_pct == 100 * 2 / 16
    assert first.width == (6 * 3 + 10 * 5) / 16


@pytest.mark.parametrize("batching", ["pack", "begin", "pad"])
@given(cut=st.integers(0, 30), rest=st.integers(1, 10))
@settings(max_examples=40, deadline=None)
def test_going_on_from_any_position_equals_never_having_stopped(batching: str, cut: int, rest: int) -> None:
    stories = ["abc", "d", "efghijkl", "mn", "opqrs"]
    whole = list(itertools.islice(steps(stories, batching=batching), cut + rest))
    position = json.loads(json.dumps(whole[cut - 1].position)) if cut else None
    resumed = list(itertools.islice(steps(stories, position, batching=batching), rest))
    for one, other in zip(whole[cut:], resumed, strict=True):
        assert np.array_equal(one.batches[0].inputs, other.batches[0].inputs)
        assert np.array_equal(one.batches[0].targets, other.batches[0].targets)
        assert one.position == other.position


def test_a_step_is_the_same_rows_however_many_go_through_the_model_at_once() -> None:
    stories = ["abc", "de", "fghij", "klm"]

    def inputs(step: StepBatches) -> np.ndarray[Any, Any]:
        return np.concatenate([batch.inputs for batch in step.batches])

    usual = list(itertools.islice(steps(stories, batch_size=2, accumulate=3), 4))
    for at_once, sizes in ((6, [6]), (4, [4, 2]), (1, [1] * 6)):
        other = list(itertools.islice(steps(stories, batch_size=2, accumulate=3, rows_at_once=at_once), 4))
        for one, two in zip(usual, other, strict=True):
            assert [len(batch.inputs) for batch in two.batches] == sizes
            assert np.array_equal(inputs(one), inputs(two))
            assert (one.n_targets, one.position) == (two.n_targets, two.position)


def test_a_corpus_that_does_not_fill_one_context_is_refused_with_a_smaller_one() -> None:
    with pytest.raises(CorpusError, match="together are 6 tokens, less than one context of 64"):
        next(steps(["ab", "cd"], context=64))


def test_prefetched_gives_the_same_items_in_order_and_then_the_error() -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise CorpusError("the well is dry", "dig")

    source = Prefetcher(items(), ahead=3)
    assert [source.next(5.0) for _ in range(20)] == list(range(20))
    with pytest.raises(CorpusError, match="the well is dry: dig"):
        source.next(5.0)
    source.close()


def test_prefetched_says_nothing_rather_than_wait_longer_than_asked() -> None:
    def slow() -> Iterator[int]:
        time.sleep(0.4)
        yield 1

    source = Prefetcher(slow())
    assert source.next(0.05) is None
    assert source.next(5.0) == 1
    source.close()


def test_closing_a_prefetched_iterator_closes_what_it_reads() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    source = Prefetcher(items(), ahead=2)
    assert source.next(5.0) == 0
    source.close()
    assert closed == [True]


@pytest.mark.parametrize("batching", ["pack", "pad"])
def test_closing_the_steps_closes_the_stream_of_stories(batching: str) -> None:
    closed = []

    class Stream:
        def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
            try:
                yield from endless(["abc", "de"])
            finally:
                closed.append(True)

    how = {"batching": batching, "context": 4, "batch_size": 2, "accumulate": 1}
    taken = iter(Batches(Stream(), Letters(), **how))  # type: ignore[arg-type]
    next(taken)
    taken.close()  # type: ignore[attr-defined]
    assert closed == [True]

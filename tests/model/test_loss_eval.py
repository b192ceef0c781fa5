"""Bits per byte: every token scored once, windows past the context, the same figure as transformers gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads
from storyteller.model.gpt2 import Shape, seeded
from storyteller.model.loss_eval import Score, score, score_each, windows

CPU = torch.device("cpu")


@given(st.integers(1, 300), st.integers(2, 64))
def test_windows_score_each_token_once_and_never_exceed_the_context(n_targets: int, context: int) -> None:
    scored: list[int] = []
    for start, end, first in windows(n_targets, context):
        assert 0 < end - start <= context
        assert start <= first < end
        scored += range(first, end)
    assert scored == list(range(n_targets))


def test_windows_overlap_by_half() -> None:
    assert list(windows(10, 4)) == [(0, 4, 0), (2, 6, 4), (4, 8, 6), (6, 10, 8)]
    assert list(windows(4, 4)) == [(0, 4, 0)]
    assert list(windows(5, 4)) == [(0, 4, 0), (2, 5, 4)]


def test_a_model_that_knows_nothing_has_exactly_ln_of_its_vocabulary() -> None:
    def nats_of(ids: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(torch.zeros(ids.numel(), 16), targets.flatten(), reduction="sum")

    stories = ["abcd", "\u00e9"]
    seen = score(nats_of, stories, [[1, 2, 3], [4]], beginning_id=0, context=8, device=CPU)
    assert seen.nats == pytest.approx(4 * math.log(16), rel=1e-6)
    assert (seen.n_tokens, seen.n_bytes) == (4, 6)
    assert seen.bits_per_byte == pytest.approx(4 * 4 / 6, rel=1e-6)
    assert seen.perplexity == pytest.approx(16, rel=1e-6)


def test_batches_of_any_size_in_any_lanes_give_the_same_score_as_story_by_story() -> None:
    model = seeded(Shape(1, 16, 2, 12, 50), 0).eval()
    generator = torch.Generator().manual_seed(1)
    encoded = [torch.randint(1, 50, (n,), generator=generator).tolist() for n in (3, 40, 12, 11, 1, 25)]
    stories = ["x" * len(ids) for ids in encoded]
    scores = [
        score(
            model.loss_sum,
            stories,
            encoded,
            beginning_id=0,
            context=12,
            device=CPU,
            batch_tokens=n,
            cpu_threads=workers,
        ).nats
        for n in (1, 40, 999)
        for workers in (SINGLE_THREAD, CpuThreads(2), CpuThreads(4))
    ]
    by_hand = 0.0
    for ids in encoded:
        full = torch.tensor([0, *ids])
        for start, end, first in windows(len(ids), 12):
            with torch.no_grad():
                logp = model(full[None, start:end]).log_softmax(-1)[0]
            for t in range(first, end):
                by_hand -= float(logp[t - start, full[t + 1]])
    assert scores == [pytest.approx(by_hand, abs=1e-3)] * 9


def test_a_hopeless_score_is_still_a_number() -> None:
    assert math.isfinite(Score(1e9, 10, 10).perplexity)


def test_stories_scored_one_by_one_come_in_their_order_and_sum_to_the_score() -> None:
    def row_nats(ids: Tensor, targets: Tensor) -> Tensor:
        return ((targets != -100) * ids.clamp(max=1)).sum(-1) * 1.0

    def nats_of(ids: Tensor, targets: Tensor) -> Tensor:
        return row_nats(ids, targets).sum()

    # A target costs 1 where what stands before it is no beginning (0): all but a story's first token.
    encoded = [[5] * n for n in (3, 40, 0, 12, 1, 25)]
    how: dict[str, Any] = {"beginning_id": 0, "context": 12, "device": CPU}
    each = score_each(row_nats, encoded, **how)
    assert each == [2, 39, 0, 11, 0, 24]
    assert score_each(row_nats, encoded, **how, batch_tokens=20) == each
    assert score(nats_of, ["x"] * 6, encoded, **how).nats == sum(each)

"""Generation against transformers: greedy tokens, beams, distributions, n-grams that never repeat."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

import storyteller
from storyteller.config.configs import SamplingParams
from storyteller.data.bundled import stories
from storyteller.errors import UsageError
from storyteller.inference.engine import open_model
from tests.support import tiny_models

CONTEXT = 192
TIE = 1e-5
"""Logits nearer to each other than this are a tie, which another order of adding may turn."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tiny_models.random_weights(width=32, layers=2, context=CONTEXT, seed=5)
    settings = tiny_models.config(32, 2, 4, CONTEXT, eos_token_id=None, bos_token_id=None)
    return tiny_models.write_folder(tmp_path_factory.mktemp("exact") / "model", weights, settings)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    return of_transformers(folder)


def of_transformers(folder: Path) -> Any:
    """The same model, loaded by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def windows(count: int) -> list[list[int]]:
    """Prompts of 1 to 60 tokens."""
    source = random.Random(1)
    return [[source.randrange(256) for _ in range(source.randint(1, 60))] for _ in range(count)]


def voice(folder: Path, sample: SamplingParams, compute_type: str = "fp32") -> Any:
    return open_model(str(folder), threads=1, compute_type=compute_type)._backend.start(sample)


def heard(telling: Iterable[Sequence[int]]) -> list[int]:
    """All tokens of a telling."""
    return list(itertools.chain.from_iterable(telling))


def never(index: int, token: int) -> bool:
    del index, token
    return False


def logits_after(reference: Any, window: list[int], told: list[int]) -> Any:
    """(len(told), V) what transformers thinks of each place in `told`."""
    import torch

    with torch.inference_mode():
        return reference(torch.tensor([window + told])).logits[0, len(window) - 1 : -1]


# --- greedy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["batch", pytest.param("stream", marks=pytest.mark.slow)])
def test_greedy_tokens_are_those_of_transformers_for_64_prompts(folder: Path, reference: Any, way: str) -> None:
    """Each token is the likeliest after those before it: by induction, transformers' own greedy story."""
    prompts, greedy = windows(64), SamplingParams(temperature=0, max_tokens=128)
    telling = voice(folder, greedy)
    if way == "batch":
        stories = telling.batch(prompts, 128, never, range(64))
    else:
        stories = [heard(telling.tokens(window, 128)) for window in prompts]
    ties = 0
    for window, told in zip(prompts, stories, strict=True):
        assert len(told) == 128
        logits = logits_after(reference, window, told)
        gap = logits.max(dim=-1).values - logits.gather(1, logits.new_tensor(told).long()[:, None])[:, 0]
        assert float(gap.max()) < TIE
        ties += int((gap > 0).sum())
    assert ties <= 2  # of 8,192 tokens
    assert len({tuple(story[-20:]) for story in stories}) > 8  # it does not say one thing for every prompt


@pytest.fixture(scope="module", params=["of the default shape", "the starter"])
def real_size(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[int]]]:
    """A model of the default preset's shape, and 64 prompts for it of 1 to 60 tokens."""
    source = random.Random(2)
    if request.param == "of the default shape":
        settings = tiny_models.config(256, 4, 4, 256, vocab_size=4096, eos_token_id=None, bos_token_id=None)
        weights = tiny_models.default_shape_weights(4096, 256)
        folder = tiny_models.write_folder(tmp_path_factory.mktemp("default") / "model", weights, settings)
        return folder, [[source.randrange(4096) for _ in range(source.randint(1, 60))] for _ in range(64)]
    folder = Path(storyteller.__file__).parent / "inference" / "starter"
    with open_model(str(folder)) as engine:
        generator: Any = engine
        return folder, [
            generator._bos + generator._encode(text)[: source.randint(1, 60)]
            for text in itertools.islice(stories(), 64)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["batch", "stream"])
def test_greedy_tokens_of_a_model_of_real_size_are_those_of_transformers_for_64_prompts(
    real_size: tuple[Path, list[list[int]]], way: str
) -> None:
    folder, prompts = real_size
    model, telling = of_transformers(folder), voice(folder, SamplingParams(temperature=0, max_tokens=128))
    if way == "batch":
        stories = telling.batch(prompts, 128, never, range(64))
    else:
        stories = [heard(telling.tokens(window, 128)) for window in prompts]
    ends = {model.config.eos_token_id}
    ties = certain = total = 0
    for window, told in zip(prompts, stories, strict=True):
        assert len(told) == 128 or told[-1] in ends
        logits = logits_after(model, window, told)
        likeliest = logits.max(dim=-1).values
        gap = likeliest - logits.gather(1, logits.new_tensor(told).long()[:, None])[:, 0]
        assert float(gap.max()) < TIE
        ties += int((gap > 0).sum())
        certain += int((logits.softmax(-1).max(dim=-1).values > 0.1).sum())
        total += len(told)
    assert ties <= 2 and total > 4000
    assert certain > total / 2  # these are no flat logits, of which any token would do
    assert len({tuple(story[-20:]) for story in stories}) > 8


@pytest.mark.slow
def test_a_seed_tells_one_story_with_one_thread_and_with_two(tmp_path: Path) -> None:
    """Beside training a story is told by one thread; after it, by two."""
    settings = tiny_models.config(256, 4, 4, 256, vocab_size=4096, eos_token_id=None, bos_token_id=None)
    folder = tiny_models.write_folder(tmp_path / "model", tiny_models.default_shape_weights(), settings)
    told = []
    for threads in (1, 2):
        backend: Any = open_model(str(folder), threads=threads)._backend
        told.append([heard(backend.start(SamplingParams(seed=seed)).tokens([7, 11, seed], 100)) for seed in range(4)])
    assert told[0] == told[1]
    assert len({tuple(story) for story in told[0]}) == 4


@pytest.mark.parametrize("cores", [1, 2])
def test_stories_in_a_row_are_those_of_their_seeds_whoever_loaded_their_generator(
    cores: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where telling leaves a core idle, the next generator is loaded there meanwhile."""
    monkeypatch.setattr("storyteller.system.hardware.n_cores", lambda: cores)
    samples = [SamplingParams(seed=seed, max_tokens=30) for seed in (1, 2, 3, 2, 1)]
    with open_model(str(folder), compute_type="int8") as engine:
        in_a_row = [engine.batch(["Once"], sample)[0].text for sample in samples]
        engine.batch(["Once"] * 4, samples[0])
        after = "".join(engine.stream("Once", samples[1]))
    alone = {}
    for sample in samples[:3]:
        with open_model(str(folder), compute_type="int8") as engine:
            alone[sample.seed] = engine.batch(["Once"], sample)[0].text
    assert in_a_row == [alone[sample.seed] for sample in samples]
    assert after == alone[2]
    assert len(set(alone.values())) == 3


def test_8_bit_numbers_tell_nearly_the_same(folder: Path, reference: Any) -> None:
    """int8 rounds the weights: its tokens are transformers' likeliest, or close to them."""
    prompts = windows(16)
    telling = voice(folder, SamplingParams(temperature=0), "int8")
    agree = total = 0
    for window, told in zip(prompts, telling.batch(prompts, 32, never, range(16)), strict=True):
        logits = logits_after(reference, window, told)
        agree += int((logits.argmax(-1) == logits.new_tensor(told).long()).sum())
        total += len(told)
    assert agree / total > 0.85


# --- draws ------------------------------------------------------------------------------------------------------------


def improbable(counts: Counter[int], expected: list[float], draws: int) -> float:
    """Standard deviations by which the chi-square statistic is too large (Wilson and Hilferty's approximation)."""
    assert all(expected[token] > 0 for token in counts), "a token was drawn that has no chance"
    statistic, cells, rest, rest_expected = 0.0, 0, 0, 0.0
    for token, probability in enumerate(expected):
        if probability * draws < 5:  # too rare for the statistic on its own
            rest, rest_expected = rest + counts[token], rest_expected + probability * draws
            continue
        statistic += (counts[token] - probability * draws) ** 2 / (probability * draws)
        cells += 1
    if rest_expected > 1:
        statistic += (rest - rest_expected) ** 2 / rest_expected
        cells += 1
    freedom = max(cells - 1, 1)
    spread = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5)


def chances(logits: Any, sample: SamplingParams) -> list[float]:
    """transformers' own distribution of the next token."""
    import torch
    from transformers.generation.logits_process import (
        MinPLogitsWarper,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    scores, ids = logits[None], torch.zeros((1, 1), dtype=torch.long)
    scores = TemperatureLogitsWarper(sample.temperature)(ids, scores)
    if sample.top_k:
        scores = TopKLogitsWarper(sample.top_k)(ids, scores)
    if sample.top_p < 1:
        scores = TopPLogitsWarper(sample.top_p)(ids, scores)
    if sample.min_p:
        scores = MinPLogitsWarper(sample.min_p)(ids, scores)
    return [float(chance) for chance in scores.softmax(-1)[0]]


WAYS: list[dict[str, Any]] = [
    {"temperature": 1.0, "top_p": 1.0, "top_k": 0},
    {"temperature": 2.0, "top_p": 1.0, "top_k": 0},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 10},
    {"temperature": 1.5, "top_p": 0.8, "top_k": 0},
    {"temperature": 2.0, "top_p": 0.9, "top_k": 40},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: " ".join(f"{key}={value}" for key, value in way.items()))
def test_tokens_are_drawn_as_often_as_transformers_thinks_them_likely(
    folder: Path, reference: Any, way: dict[str, Any]
) -> None:
    window, draws, sample = [1, 2, 3], 2000, SamplingParams(seed=1, **way)
    expected = chances(logits_after(reference, window, [0])[0], sample)
    assert sum(chance > 0.001 for chance in expected) > 5  # there is something to choose from
    told = voice(folder, sample).batch([window] * draws, 1, never, range(draws))
    assert improbable(Counter(tokens[0] for tokens in told), expected, draws) < 4


def test_the_child_draws_as_often_as_transformers_thinks_likely(reference: Any) -> None:
    import torch

    from storyteller.model.transformers_server import draw

    logits, generator = logits_after(reference, [1, 2, 3], [0])[0], torch.Generator().manual_seed(1)
    wide: dict[str, Any] = {"temperature": 2.0, "top_p": 0.95, "top_k": 60, "min_p": 0.1}
    for way in (*WAYS, wide):
        counts = Counter(draw(logits, SamplingParams(**way), [], generator) for _ in range(1500))
        assert improbable(counts, chances(logits, SamplingParams(**way)), 1500) < 4


@pytest.mark.slow
def test_seeds_draw_as_often_as_transformers_thinks_likely(folder: Path, reference: Any) -> None:
    """A story for each seed: what is drawn first must be as well spread as what is drawn within one."""
    window, draws, way = [1, 2, 3], 2000, WAYS[4]
    backend = open_model(str(folder))._backend
    counts: Counter[int] = Counter()
    for seed in range(draws):
        counts[next(backend.start(SamplingParams(seed=seed, **way)).tokens(window, 1))[0]] += 1
    expected = chances(logits_after(reference, window, [0])[0], SamplingParams(**way))
    assert improbable(counts, expected, draws) < 4


# --- beams and runs of tokens -----------------------------------------------------------------------------------------


def test_beams_find_what_transformers_finds(folder: Path, reference: Any) -> None:
    import torch

    for window in windows(6):
        ids = torch.tensor([window])
        search = {"num_beams": 4, "do_sample": False, "max_new_tokens": 24, "early_stopping": True, "pad_token_id": 0}
        found = reference.generate(ids, attention_mask=torch.ones_like(ids), **search)
        telling = voice(folder, SamplingParams(beams=4))
        assert heard(telling.tokens(window, 24)) == [int(token) for token in found[0, len(window) :]]
        assert telling.batch([window], 24, never, [0]) == [heard(telling.tokens(window, 24))]


def test_beams_draw_nothing_and_outgrow_the_window(folder: Path) -> None:
    engine = open_model(str(folder), threads=1)
    first = engine.batch(["Once"], SamplingParams(beams=2, max_tokens=220, seed=1, temperature=2))[0]
    assert first.tokens == 220
    assert "".join(engine.stream("Once", SamplingParams(beams=2, max_tokens=220, seed=2))) == first.text
    stopped = engine.batch(["Once", "Once"], SamplingParams(beams=2, max_tokens=220, stop=(first.text[50:60],)))
    assert {story.text for story in stopped} == {first.text[: first.text.index(first.text[50:60])]}


@pytest.mark.parametrize("draws", [{"temperature": 0}, {"seed": 3}], ids=["greedy", "drawn"])
def test_no_run_of_tokens_is_told_twice(folder: Path, draws: dict[str, Any]) -> None:
    told = heard(voice(folder, SamplingParams(no_repeat_ngram=2, **draws)).tokens([1, 2, 3], 150))
    pairs = list(itertools.pairwise(told))
    assert len(set(pairs)) == len(pairs) == 149


@pytest.mark.parametrize("looks_back", [{}, {"repetition_penalty": 1.3}, {"no_repeat_ngram": 2}], ids=str)
def test_a_batch_of_any_lengths_is_told_as_each_alone(folder: Path, looks_back: dict[str, Any]) -> None:
    prompts, sample = windows(20), SamplingParams(temperature=0, **looks_back)
    telling = voice(folder, sample)
    together = telling.batch(prompts, 40, never, range(20))
    assert together == [telling.batch([window], 40, never, [0])[0] for window in prompts]


def test_min_p_is_refused_where_it_cannot_be_had(folder: Path) -> None:
    engine = open_model(str(folder))
    for ask in (
        lambda: engine.stream("Once", SamplingParams(min_p=0.1)),
        lambda: engine.batch(["a", "b"], SamplingParams(min_p=0.1)),
    ):
        with pytest.raises(UsageError, match=r"--min-p 0\.1 is not supported"):
            ask()

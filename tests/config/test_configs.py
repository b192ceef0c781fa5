"""Presets, options and settings become one validated config."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.config.configs import Config, DataConfig, ModelConfig, Period, SamplingParams, TrainConfig
from storyteller.config.presets import PRESETS, preset_defaults, resolve
from storyteller.errors import UsageError
from storyteller.system import hardware


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_survives_json(preset: str) -> None:
    config = resolve(preset, {})
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_classic_preset_is_the_published_recipe() -> None:
    config = resolve("classic", {})
    assert config.model == ModelConfig(n_layer=4, n_embd=256, n_head=4, context=512)
    assert (config.data.tokenizer, config.data.batching, config.data.min_chars) == ("gpt2", "pad", 30)
    train = config.train
    assert (train.lr, train.batch_size, train.accumulate, train.clip_norm) == (5e-5, 8, 4, 1.0)
    assert train.checkpoint_every == "1epoch"


def test_a_budget_given_replaces_the_presets() -> None:
    train = resolve("quick", {"train.steps": 20}).train
    assert (train.steps, train.minutes) == (20, None)


@pytest.mark.parametrize(
    ("minutes", "cores", "width"),
    [(5, 2, 128), (10, 2, 128), (11, 2, 192), (40, 2, 192), (60, 2, 256), (5, 16, 192), (30, 16, 256), (5, 100, 256)],
)
def test_quick_is_as_wide_as_its_minutes_and_the_machine_let_it_learn(
    minutes: float, cores: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storyteller.system.hardware.training_cores", lambda *_: cores)
    model = resolve("quick", {"train.minutes": minutes}).model
    assert (model.n_embd, model.n_head) == (width, width // 64)
    # Whoever says how wide, or asks for a count of something else than minutes, has what they say, or the usual.
    assert resolve("quick", {"train.minutes": minutes, "model.n_embd": 320}).model.n_embd == 320
    heads = resolve("quick", {"train.minutes": minutes}, ["n_head=2"]).model
    assert (heads.n_embd, heads.n_head) == (256, 2)
    assert resolve("quick", {"train.steps": 20}).model.n_embd == 256
    assert resolve("classic", {"train.minutes": minutes}).model.n_embd == 256
    assert preset_defaults("quick")["model"]["n_embd"] == 256


def test_a_core_without_bf16_is_a_third_of_one_and_a_gpu_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storyteller.system.hardware.n_cores", lambda: 6)
    for flags, cores in (("fpu avx512_bf16 sse", 6), ("fpu sse", 2), ("", 2)):
        monkeypatch.setattr("storyteller.system.hardware._cpuinfo", lambda _, flags=flags: flags)
        assert hardware.training_cores("cpu", "auto") == pytest.approx(cores)
        assert hardware.training_cores("cpu", "fp32") == pytest.approx(2)
    assert hardware.training_cores("cuda", "auto") == 100
    assert hardware.training_cores("mps", "auto") == 20


def test_a_step_of_quick_is_large_on_a_gpu_unless_its_rows_are_given() -> None:
    assert resolve("quick", {"train.device": "cpu"}).train.batch_size == 16
    assert resolve("quick", {"train.device": "cuda"}).train.batch_size == 256
    assert resolve("quick", {"train.device": "cuda", "train.batch_size": 32}).train.batch_size == 32
    assert resolve("quick", {"train.device": "cuda"}, ["accumulate=2"]).train.batch_size == 16
    assert resolve("classic", {"train.device": "cuda"}).train.batch_size == 8


@pytest.mark.parametrize(
    ("driver", "build", "visible", "trains"),
    [
        (True, "2.13.0", None, True),
        (True, "2.13.0+cu130", "0,1", True),
        (True, "2.13.0+cpu", None, False),
        (True, "2.13.0", "", False),
        (True, "2.13.0", "-1", False),
        (False, "2.13.0", None, False),
    ],
)
def test_a_gpu_is_seen_without_torch(
    driver: bool, build: str, visible: str | None, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: driver if str(path) == "/dev/nvidia0" else real(path))
    monkeypatch.setattr(importlib.metadata, "version", lambda _: build)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.trains_on_cuda("auto") is trains
    assert hardware.trains_on_cuda("cuda") and not hardware.trains_on_cuda("cpu")


def test_two_budgets_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="--minutes and --steps are two budgets"):
        resolve("quick", {"train.steps": 20, "train.minutes": 1.0})


def test_a_setting_is_found_by_its_short_and_its_full_name() -> None:
    assert resolve("quick", {}, ["keep=7"]).train.keep == 7
    assert resolve("quick", {}, ["train.keep=7"]).train.keep == 7
    assert resolve("quick", {}, ["beta2=0.9"]).train.beta2 == 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["keap=7"], "there is no setting keap: did you mean keep?"),
        (["keep"], "invalid value keep for --set: expected key=value, such as --set keep=5"),
        (["keep=many"], "invalid value many for train.keep: expected a whole number"),
        (["keep=1.5"], "invalid value 1.5 for train.keep: expected a whole number"),
        (["keep=0"], "invalid value 0 for --set keep: expected 1 to 10,000 checkpoints"),
        (["lr=nan"], "invalid value nan for train.lr: expected a number"),
        (["lr=inf"], "invalid value inf for train.lr: expected a number"),
        (["model.keep=7"], "there is no setting model.keep: did you mean keep"),
        (["x\x1b[31m=1"], "there is no setting x\u241b[31m"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("quick", {}, settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ModelConfig(n_embd=250, n_head=4),
            "--width 250 cannot be shared evenly by --heads 4: take a width that is",
        ),
        (lambda: ModelConfig(n_layer=0), "invalid value 0 for --layers"),
        (lambda: ModelConfig(context=4), "invalid value 4 for --context"),
        (lambda: DataConfig(vocab_size=10), "invalid value 10 for --vocab-size"),
        (lambda: DataConfig(clean="harsh"), "invalid value harsh for --clean: expected light or classic"),  # type: ignore[arg-type]
        (lambda: TrainConfig(precision="fp8"), "invalid value fp8 for --precision: expected auto, fp32, bf16 or fp16"),  # type: ignore[arg-type]
        (lambda: TrainConfig(minutes=-1), "invalid value -1 for --minutes"),
        (lambda: TrainConfig(lr=0), "invalid value 0 for --lr"),
        (lambda: TrainConfig(eval_every="often"), "invalid value often for --set eval_every"),
        (lambda: SamplingParams(temperature=-1), "invalid value -1 for --temperature"),
        (lambda: SamplingParams(top_p=0), "invalid value 0 for --top-p"),
        (lambda: SamplingParams(min_p=1), "invalid value 1 for --min-p"),
        (lambda: SamplingParams(no_repeat_ngram=-1), "invalid value -1 for --no-repeat-ngram"),
        (lambda: SamplingParams(beams=0), "invalid value 0 for --beams"),
        (lambda: resolve("fast", {}), "there is no preset fast: take one of quick, classic"),
    ],
)
def test_an_invalid_value_is_named_with_its_option(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value).startswith(message)


@given(st.integers(1, 10**6))
def test_a_period_is_steps_a_time_or_epochs(n: int) -> None:
    assert Period.parse(str(n)) == Period.parse(f"{n} steps") == Period(steps=n)
    assert Period.parse(f"{n}s") == Period(seconds=n)
    assert Period.parse(f"{n}m") == Period(seconds=60 * n)
    assert Period.parse(f"{n}epoch") == Period(epochs=n)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "s", "1.5epochs", "5 weeks"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Period.parse(text)


@pytest.mark.parametrize("kind", [ModelConfig, DataConfig, TrainConfig, SamplingParams])
def test_every_field_says_what_it_is(kind: type) -> None:
    import inspect

    source = inspect.getsource(kind)
    for field in dataclasses.fields(kind):
        after = source.split(f"    {field.name}:", 1)[1].split("\n")[1]
        assert after.strip().startswith('"""'), field.name

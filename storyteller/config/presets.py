"""Presets, and `resolve`, which makes a `Config` from a preset, the command's options and `--set key=value`."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from storyteller.config.configs import BUDGETS, SECTIONS, Config, section, unknown_setting
from storyteller.errors import UsageError, invalid_value
from storyteller.system import hardware
from storyteller.text import safe_line

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "model.n_embd": 256,
        "model.context": 256,
        "model.activation": "gelu",
        "data.vocab_size": 4096,
        "data.tokenizer_mib": 2,
        "data.batching": "begin",
        "train.minutes": 5.0,
        "train.batch_size": 16,
        "train.optimizer": "muon",
        "train.lr": 8e-3,
        "train.muon_lr": 0.03,
        "train.weight_decay": 0.01,
    },
    "classic": {
        "model.context": 512,
        "data.clean": "classic",
        "data.tokenizer": "gpt2",
        "data.vocab_size": 50257,
        "data.batching": "pad",
        "data.min_chars": 30,
        "train.epochs": 3.0,
        "train.batch_size": 8,
        "train.accumulate": 4,
        "train.lr": 5e-5,
        "train.beta2": 0.999,
        "train.eval_every": "500",
        "train.checkpoint_every": "1epoch",
        "train.log_every": 1,
    },
}
"""The settings in which each preset differs from the defaults of `configs`."""

PRESET_NOTES = {
    "quick": "the best model that five minutes on this machine give",
    "classic": "the well-known small recipe: GPT-2 vocabulary, context 512, AdamW 5e-5, dynamic padding, three epochs",
}


_WIDTHS = ((20.0, 128), (80.0, 192))
"""Width of `quick` for budgets up to so many minutes of one core with bf16 instructions: the one with the lowest loss.
With a small budget, a smaller model, which sees more tokens, learns more."""
_HEAD_WIDTH = 64
_CUDA_ROWS = 256
"""Batch size of `quick` on CUDA, large enough that kernels take longer than their launches: estimated, not measured."""


def resolve(preset: str, options: Mapping[str, Any], settings: Sequence[str] = ()) -> Config:
    """Returns the config of a preset, overridden by `options` (by full name; None: not given), then by `--set` texts.

    A given budget replaces the preset's. Unless they are given, `quick` derives its width from the budget in minutes
    and this machine's cores, and its batch size from the device. Raises UsageError, which names the option.
    """
    given = {key: value for key, value in options.items() if value is not None}
    for setting in settings:
        key, value = _parse_setting(setting)
        given[key] = value
    config = _of_preset(preset, given)
    minutes, train = config.train.minutes, config.train
    if preset == "quick" and minutes is not None and not {"model.n_embd", "model.n_head"} & given.keys():
        core_minutes = minutes * hardware.training_cores(train.device, train.precision)
        width = next((width for most, width in _WIDTHS if core_minutes <= most), config.model.n_embd)
        config = replace(config, model=replace(config.model, n_embd=width, n_head=width // _HEAD_WIDTH))
    rows = {"train.batch_size", "train.accumulate"}
    if preset == "quick" and not rows & given.keys() and hardware.trains_on_cuda(train.device):
        config = replace(config, train=replace(train, batch_size=_CUDA_ROWS))
    return config


def _of_preset(preset: str, given: Mapping[str, Any]) -> Config:
    """The config of a preset, overridden by the `given` settings."""
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {safe_line(preset, 60)}", f"take one of {', '.join(PRESETS)}")
    values = dict(PRESETS[preset])
    budgets = {f"train.{name}" for name in BUDGETS}
    if budgets & given.keys():
        values = {key: value for key, value in values.items() if key not in budgets}
    values.update(given)
    return Config(preset=preset, **{name: section(kind, values, name) for name, kind in SECTIONS.items()})


def preset_defaults(preset: str) -> dict[str, Any]:
    """The preset's config as JSON, before it is adapted to a machine; empty for an unknown preset."""
    return _of_preset(preset, {}).to_json() if preset in PRESETS else {}


def _parse_setting(setting: str) -> tuple[str, str]:
    """Splits `key=value`; returns the setting's full name (`section.field`) and the value's text."""
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals:
        raise invalid_value("--set", setting, "key=value, such as --set keep=5")
    section, dot, attribute = key.rpartition(".")
    names = [name for name, kind in SECTIONS.items() if attribute in typing.get_type_hints(kind)]
    if (dot and section not in names) or not names:
        raise unknown_setting(key)
    return f"{names[0]}.{attribute}", value.strip()

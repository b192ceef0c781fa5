"""The presets, and how one of them, the command's options and `--set key=value` become a `Config`."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any

from storyteller.config import SECTIONS, Config, nearest, section
from storyteller.errors import UsageError
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
"""What each preset changes of the defaults above."""

PRESET_NOTES = {
    "quick": "the best model that five minutes on this machine give",
    "classic": "the well-known small recipe: GPT-2 vocabulary, context 512, AdamW 5e-5, dynamic padding, three epochs",
}


def resolve(preset: str, options: Mapping[str, Any], settings: Sequence[str] = ()) -> Config:
    """The whole config: the preset, then `options` (by dotted name, None: not given), then `--set key=value`s.

    A preset's budget gives way to any other. Raises UsageError, naming the option that is off.
    """
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {safe_line(preset, 60)}", f"take one of {', '.join(PRESETS)}")
    values = dict(PRESETS[preset])
    given = {key: value for key, value in options.items() if value is not None}
    for setting in settings:
        key, value = _parse_setting(setting)
        given[key] = value
    budgets = {f"train.{name}" for name in ("minutes", "steps", "epochs", "tokens")}
    if budgets & given.keys():
        values = {key: value for key, value in values.items() if key not in budgets}
    values.update(given)
    return Config(preset=preset, **{name: section(kind, values, name) for name, kind in SECTIONS.items()})


def usual(preset: str) -> dict[str, Any]:
    """What the preset says, each setting written out as `Config.to_json` has it; nothing where it is not known."""
    return resolve(preset, {}).to_json() if preset in PRESETS else {}


def _parse_setting(setting: str) -> tuple[str, str]:
    """`key=value` as its full dotted name and its value's text."""
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals:
        raise UsageError(f"--set {safe_line(setting, 60)} is off", "write it as key=value, such as --set keep=5")
    section, dot, attribute = key.rpartition(".")
    names = [name for name, kind in SECTIONS.items() if attribute in typing.get_type_hints(kind)]
    if (dot and section not in names) or not names:
        raise UsageError(f"there is no setting {safe_line(key, 60)}", nearest(attribute))
    return f"{names[0]}.{attribute}", value.strip()

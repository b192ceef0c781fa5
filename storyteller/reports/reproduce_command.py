"""The command that reproduces a run, from what its `run.json` records."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from storyteller.config.configs import BUDGETS, OPTIONS, Config
from storyteller.config.presets import preset_defaults
from storyteller.errors import StorytellerError
from storyteller.reports.run_snapshot import mapping

_ALWAYS = ("model.n_embd", "model.n_head", "train.seed", *(f"train.{name}" for name in BUDGETS))
"""Settings that are given even if they equal the preset's: the width of `quick` depends on the machine."""
_NAMED_SOURCES = ("bundled", "tinystories")


def command(run: Mapping[str, Any]) -> str:
    """Returns the command, quoted for a shell; empty if the run's config is missing or cannot be read.

    Values that the run chose itself are given explicitly, so that another machine does the same: the width, the data
    source behind `auto`, the device, the precision, and the threads, whose number affects the last digits.
    """
    config = mapping(run.get("config"))
    preset = str(config.get("preset", ""))
    before = dict(_flat(preset_defaults(preset)))
    try:
        Config.from_json(config)
    except (StorytellerError, TypeError, ValueError, AttributeError):
        return ""
    if not before:
        return ""
    words = ["storyteller", "train", "--preset", preset]
    for key, value in (dict(_flat(config)) | _resolved(run, config)).items():
        if value != before.get(key) or key in _ALWAYS:
            words += _arguments(key, value)
    processes = mapping(run.get("host")).get("processes")
    return shlex.join([*words, *(["--nproc", str(processes)] if isinstance(processes, int) else [])])


def differences(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns the settings that differ from the preset: name, value, the preset's value. W&B settings are ignored."""
    before = dict(_flat(preset_defaults(str(config.get("preset", "")))))
    return [(key, value, before[key]) for key, value in _flat(config) if key in before and value != before[key]]


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The settings that affect training, by full name."""
    for section in ("model", "data", "train"):
        for name, value in mapping(config.get(section)).items():
            yield f"{section}.{name}", value


def _resolved(run: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `auto` and 0 were resolved to on the machine that trained."""
    host, data, train = mapping(run.get("host")), mapping(run.get("data")), mapping(config.get("train"))
    found: dict[str, Any] = {}
    for name in ("device", "precision"):
        if train.get(name) == "auto" and isinstance(host.get(name), str):
            found[f"train.{name}"] = host[name]
    if train.get("threads") == 0 and isinstance(host.get("threads"), int) and "processes" not in host:
        found["train.threads"] = host["threads"]
    if mapping(config.get("data")).get("source") == "auto" and data.get("kind") in _NAMED_SOURCES:
        found["data.source"] = data["kind"]
    return found


def _arguments(key: str, value: Any) -> list[str]:
    """A setting as command-line arguments."""
    name = key.partition(".")[2]
    if key in ("data.source", "data.valid"):
        option = "--data" if key == "data.source" else "--valid"
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [word for one in values for word in (option, str(one))]
    if name in BUDGETS and value is None:
        return []
    if name in OPTIONS:
        return [OPTIONS[name], _format(value)]
    return ["--set", f"{name}={_format(value)}"]


def _format(value: Any) -> str:
    """A value as the command line takes it: the shortest text that gives exactly this value."""
    return repr(value) if isinstance(value, float) else "none" if value is None else str(value)

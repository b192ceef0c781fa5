"""The command that trains a run once more, from what the run wrote down of itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from storyteller.config.configs import Config
from storyteller.config.presets import usual
from storyteller.errors import StorytellerError
from storyteller.launch.run_plan import BUDGETS

_OPTIONS = {
    "data.clean": "--clean",
    "data.tokenizer": "--tokenizer",
    "data.vocab_size": "--vocab-size",
    "model.n_layer": "--layers",
    "model.n_embd": "--width",
    "model.n_head": "--heads",
    "model.context": "--context",
    "train.batch_size": "--batch-size",
    "train.lr": "--lr",
    "train.precision": "--precision",
    "train.device": "--device",
    "train.seed": "--seed",
    "train.skip_bad_steps": "--skip-bad-steps",
}
"""Settings with an option of their own; all others go through `--set`."""
_ALWAYS = ("model.n_embd", "model.n_head", "train.seed", *(f"train.{name}" for name in BUDGETS))
"""Said whatever the preset has: the width of `quick` is the machine's."""
_NAMED_SOURCES = ("bundled", "tinystories")


def command(run: Mapping[str, Any]) -> str:
    """The command, quoted for a shell; empty where the run did not write down what it would take.

    What a run found out for itself is said outright, so that another machine does the same: how wide the model is,
    which stories `auto` came to, the device, its precision, and the threads, on whose number the last digits depend.
    """
    config = run.get("config")
    if not isinstance(config, dict):
        return ""
    preset = str(config.get("preset", ""))
    before = usual(preset)
    try:
        Config.from_json(config)
    except (StorytellerError, TypeError, ValueError, AttributeError):
        return ""
    if not before:
        return ""
    words = ["storyteller", "train", "--preset", preset]
    values = dict(_flat(config)) | _found_out(run, config)
    for key, value in values.items():
        if value != dict(_flat(before)).get(key) or key in _ALWAYS:
            words += _words(key, value)
    processes = _section(run, "host").get("processes")
    return shlex.join([*words, *(["--nproc", str(processes)] if isinstance(processes, int) else [])])


def differences(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The settings that are not the preset's: name, value, the preset's value. Those of the mirror are no matter."""
    before = dict(_flat(usual(str(config.get("preset", "")))))
    return [(key, value, before[key]) for key, value in _flat(config) if key in before and value != before[key]]


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each setting that has a part in what is learned, by its dotted name."""
    for section in ("model", "data", "train"):
        for name, value in _section(config, section).items():
            yield f"{section}.{name}", value


def _found_out(run: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """What `auto` and 0 came to on the machine that trained."""
    host, data, train = _section(run, "host"), _section(run, "data"), _section(config, "train")
    found: dict[str, Any] = {}
    for name in ("device", "precision"):
        if train.get(name) == "auto" and isinstance(host.get(name), str):
            found[f"train.{name}"] = host[name]
    if train.get("threads") == 0 and isinstance(host.get("threads"), int) and "processes" not in host:
        found["train.threads"] = host["threads"]
    if _section(config, "data").get("source") == "auto" and data.get("kind") in _NAMED_SOURCES:
        found["data.source"] = data["kind"]
    return found


def _words(key: str, value: Any) -> list[str]:
    """A setting as words of the command line."""
    name = key.partition(".")[2]
    if key in ("data.source", "data.valid"):
        option = "--data" if key == "data.source" else "--valid"
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [word for one in values for word in (option, str(one))]
    if key.startswith("train.") and name in BUDGETS:
        return [] if value is None else [f"--{name}", _number(value)]
    if key in _OPTIONS:
        return [_OPTIONS[key], _number(value)]
    return ["--set", f"{name}={_number(value)}"]


def _number(value: Any) -> str:
    """A value as the command line takes it; the shortest that is exactly it."""
    return repr(value) if isinstance(value, float) else "none" if value is None else str(value)


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}

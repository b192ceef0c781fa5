"""Compares runs: the settings in which they differ, and the results of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from storyteller.system.json_values import finite
from storyteller.tracking.curves import Curves
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import summarise

_FACTS = {
    "data": ("kind", "fingerprint", "held_out_stories"),
    "tokenizer": ("kind", "vocab_size", "sha256"),
    "host": ("device", "processor", "threads", "precision"),
}
"""What is determined when a run starts, besides its config, by section of `run.json`."""
_DIGEST = re.compile("[0-9a-f]{64}")
_NO_SETTINGS = "mirror"  # the section of the config that does not affect training


@dataclass(frozen=True)
class RunResult:
    """The results of one run. Values that are not known are None."""

    name: str
    state: str
    steps: int | None
    tokens: int | None
    seconds: float | None  # training time
    parameters: int | None
    train_loss: float | None  # nats per token, of the last line of the log
    last_bpb: float | None  # bits per byte of the held-out stories; comparable between runs that hold out the same ones
    best_bpb: float | None
    tokens_per_second: float | None  # mean over the log


@dataclass(frozen=True)
class RunComparison:
    """The result of `compare_runs`; values are in the order of the runs."""

    names: tuple[str, ...]
    differences: tuple[tuple[str, tuple[Any, ...]], ...]
    """Each setting that is not the same in all runs, and its JSON value in each, None if a run does not have it."""
    results: tuple[RunResult, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": list(self.names),
            "differences": [{"key": key, "values": list(values)} for key, values in self.differences],
            "results": [asdict(result) for result in self.results],
        }


def compare_runs(folders: Sequence[RunFolder], curves: Mapping[str, Curves] | None = None) -> RunComparison:
    """Compares one or more runs. Missing or broken files make values None, never an error.

    `curves`, by name of the run, are used as far as they have been read. Without them each log is read, which takes
    seconds for a million lines.
    """
    settings = [_settings(folder) for folder in folders]
    known = list(dict.fromkeys(key for each in settings for key in each))
    table = [(key, tuple(each.get(key) for each in settings)) for key in known]
    return RunComparison(
        tuple(folder.name for folder in folders),
        tuple((key, values) for key, values in table if any(_differ(values[0], value) for value in values[1:])),
        tuple(_result(folder, (curves or {}).get(folder.name)) for folder in folders),
    )


def read_curves(folder: RunFolder) -> Curves:
    """Returns the run's curves, read to the end of the log."""
    curves = Curves(folder)
    curves.catch_up()
    return curves


def format_setting(value: Any) -> str:
    """Formats the value of a setting; digests are shortened, None is `-`. The text is as untrusted as the value."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else f"{value}"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value[:12]
    if isinstance(value, list):
        return ", ".join(map(format_setting, value)) or "none"
    return str(value)


def _settings(folder: RunFolder) -> dict[str, Any]:
    """The run's config and what was determined at its start, by dotted name."""
    run = folder.read_run_or_empty()
    config = run.get("config")
    found: dict[str, Any] = {}
    for section, fields in config.items() if isinstance(config, dict) else ():
        if isinstance(fields, dict) and section != _NO_SETTINGS:
            found |= {f"{section}.{name}": value for name, value in fields.items()}
        elif not isinstance(fields, dict):
            found[section] = fields
    for section, names in _FACTS.items():
        facts = run.get(section)
        found |= {f"{section}.{name}": facts[name] for name in names if isinstance(facts, dict) and name in facts}
    return found


def _differ(one: Any, other: Any) -> bool:
    """True if two JSON values differ. 1 and 1.0 are equal; 1 and true are not."""
    return isinstance(one, bool) != isinstance(other, bool) or one != other


def _result(folder: RunFolder, curves: Curves | None) -> RunResult:
    curves = curves or read_curves(folder)
    summary = summarise(folder, curves.last)
    model = folder.read_run_or_empty().get("model")
    parameters = model.get("parameters") if isinstance(model, dict) else None
    bpb = curves.line("eval/bpb", points=1)
    speed = curves.line("train/tokens_per_second", points=1)
    return RunResult(
        name=folder.name,
        state=summary.state,
        steps=summary.step,
        tokens=summary.tokens,
        seconds=summary.seconds,
        parameters=parameters if isinstance(parameters, int) and finite(parameters) is not None else None,
        train_loss=summary.train_loss,
        last_bpb=summary.eval_bpb,
        best_bpb=bpb.low[0] if bpb.low else None,
        tokens_per_second=speed.mean[0] if speed.mean else None,
    )

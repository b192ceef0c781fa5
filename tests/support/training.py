"""Tiny runs for tests: seconds on one core, real in every part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storyteller.config.configs import Config
from storyteller.config.presets import resolve
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_folder import RunFolder
from storyteller.training import worker
from tests.support import tiny_models
from tests.support.records import read_records

TINY: dict[str, Any] = {
    "data.source": "bundled",
    "data.vocab_size": 400,
    "data.tokenizer_mib": 1,
    "data.shuffle_stories": 200,
    "data.cache_gib": 0.0,  # a test's second run is to meet what its first did
    "model.n_layer": 1,
    "model.n_embd": 32,
    "model.n_head": 2,
    "model.context": 64,
    "train.batch_size": 4,
    "train.eval_stories": 4,
    "train.eval_every": "never",
    "train.checkpoint_every": "never",
    "train.log_every": 1,
    "train.precision": "fp32",
    "train.threads": 1,
}


def tiny_config(**options: Any) -> Config:
    """A config of seconds; keywords are options with `_` for the first dot's place, as in `train_steps=5`."""
    given = {key.replace("_", ".", 1): value for key, value in options.items()}
    return resolve("quick", TINY | ({"train.steps": 6} | given))


def make_run(root: Path, name: str, **options: Any) -> RunFolder:
    """A run folder with its plan, not trained yet."""
    folder = run_folder.create(root, name)
    folder.write_run({"name": name, "created_at": "2026-01-01T00:00:00Z", "config": tiny_config(**options).to_json()})
    return folder


def sealed_script(folder: RunFolder, step: int, said: str = ".") -> Path:
    """A checkpoint of a run that says `said` by heart."""
    staging = checkpoint_folders.stage(folder, step)
    tiny_models.script_folder(staging, said)
    return checkpoint_folders.seal(staging, folder, step, {})


def trained_run(root: Path, name: str, **options: Any) -> RunFolder:
    """A run trained in this process to its end."""
    folder = make_run(root, name, **options)
    assert worker.run(folder) == 0, folder.log.read_text(encoding="utf-8")
    return folder


def losses(folder: RunFolder) -> dict[int, float]:
    """Training loss by step, the last one logged where a step repeats."""
    return {r["step"]: r["train/loss"] for r in read_records(folder.metrics)[0] if "train/loss" in r}

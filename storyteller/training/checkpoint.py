"""Saving and loading the training state."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CheckpointError, NonFiniteError, is_disk_full
from storyteller.model import device
from storyteller.model.gpt2 import GPT
from storyteller.model.weights import _ANOTHER, _WEIGHTS, _unreadable, hf_config, load_weights, to_hf
from storyteller.system.safetensors_file import read_header, read_json
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder, step_name
from storyteller.training.optimizers import Optimizers
from storyteller.training.train_state import TrainState

_RNG = "rng/"
_STATE_LIMIT = 64 * 2**20
"""Bytes of a `state.json`: the tokens carried over from a story of 1 MiB take 12."""


def save(
    folder: RunFolder,
    model: GPT,
    optimizers: Optimizers,
    tokenizer: Tokenizer,
    progress: TrainState,
    facts: Mapping[str, object],
) -> Path:
    """Save everything as the run's checkpoint of `progress.step`; `facts` (such as `eval/bpb`) go to its manifest.

    Raises OSError where the disk is full, NonFiniteError where a value is no number; the checkpoints before stay as
    they are.
    """
    staging = checkpoint_folders.stage(folder, progress.step)
    try:
        _fill(staging, model, optimizers, tokenizer, progress)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # on a full disk, the log and the status need its space
        raise
    return checkpoint_folders.seal(staging, folder, progress.step, facts)


def _fill(staging: Path, model: GPT, optimizers: Optimizers, tokenizer: Tokenizer, progress: TrainState) -> None:
    tensors = optimizers.state() | {_RNG + name: value for name, value in device.seed_state().items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    weights = to_hf(model)
    _refuse_poison(weights | tensors, progress.step)
    state = staging / "training_state"
    state.mkdir()
    tokenizer.save(staging, model.shape.context)
    _write_json(staging / "config.json", hf_config(model.shape, tokenizer.end_id))
    _write_json(staging / "generation_config.json", _generation_config(tokenizer.end_id))
    try:
        save_file(weights, staging / _WEIGHTS, metadata={"format": "pt"})
        save_file(tensors, state / "state.safetensors")
    except SafetensorError as error:
        if is_disk_full(error):
            raise OSError(28, "No space left on device", str(staging)) from error
        raise
    for path in (staging / _WEIGHTS, state / "state.safetensors"):
        path.chmod((staging / "config.json").stat().st_mode & 0o777)  # safetensors writes for its owner's eyes only
    _write_json(state / "state.json", asdict(progress))


def _refuse_poison(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise NonFiniteError where a value is no number: what a checkpoint replaces must not be better than it."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(
                f"{name} has values that are no numbers after step {step:,}, so no checkpoint of it was saved",
                "resume from an earlier one, or train anew with a lower --lr or --precision fp32",
            )


def _generation_config(end_id: int) -> dict[str, Any]:
    return {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id, "do_sample": True}


def load_training(path: Path, model: GPT, optimizers: Optimizers) -> TrainState:
    """Put a checkpoint's whole state into `model`, `optimizers` and torch's generators.

    The folder has been verified against its manifest by the caller, but whoever wrote it may have meant harm: all that
    it claims is checked before anything of that size is made. Raises CheckpointError where something is missing, off,
    or of another shape.
    """
    tensors_path = path / "training_state" / "state.safetensors"
    plain = read_json(path / "training_state" / "state.json", _STATE_LIMIT)
    progress = TrainState.from_json(plain, path.name, model.shape.vocab_size)
    if path.name.startswith("step-") and path.name != step_name(progress.step):
        raise CheckpointError(f"{path.name}: its training state is that of step {progress.step}", _ANOTHER)
    entries, _ = read_header(tensors_path)
    if _RNG + "cpu" not in entries:
        raise CheckpointError(f"{path.name}: its training state lacks torch's generator", _ANOTHER)
    shapes = {name: entry.shape for name, entry in entries.items() if not name.startswith(_RNG)}
    with _labelled(path):
        optimizers.check_state(shapes)
    # An optimiser has no state before its first step; a scaler may have left out any number of first ones.
    if not shapes and progress.step > progress.skipped_steps and not progress.scaler:
        raise CheckpointError(f"{path.name}: its training state lacks the optimiser's", _ANOTHER)
    load_weights(path, model)
    tensors = _read(tensors_path)
    try:
        device.set_seed_state({k.removeprefix(_RNG): v for k, v in tensors.items() if k.startswith(_RNG)})
    except (RuntimeError, TypeError) as error:
        reason = safe_line(str(error).partition("\n")[0], 80)
        raise CheckpointError(f"{path.name}: the state of torch's generator is off ({reason})", _ANOTHER) from None
    with _labelled(path):
        optimizers.load_state({k: v for k, v in tensors.items() if not k.startswith(_RNG)})
    return progress


@contextlib.contextmanager
def _labelled(path: Path) -> Iterator[None]:
    """Puts the checkpoint's name before what is wrong with it."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.problem}", error.remedy) from None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

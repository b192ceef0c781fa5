"""Saves and loads the complete training state, from which a resume continues as if it had never stopped.

A checkpoint is a Hugging Face model folder plus `training_state/`: the optimizer's tensors and the states of torch's
generators as safetensors, and `state.json` for the rest (position in the data, scaler, counters). Nothing is pickled.
`tracking.checkpoint_folders` makes the folder appear complete or not at all.
"""

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
from storyteller.model.weights import WEIGHTS_FILE, hf_config, invalid_checkpoint, load_weights, to_hf, unreadable
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
    """Save the checkpoint of `progress.step`; `facts` (such as `eval/bpb`) go to its manifest.

    Raises OSError if the disk is full and NonFiniteError if a value is not finite; earlier checkpoints stay untouched.
    """
    staging = checkpoint_folders.stage(folder, progress.step)
    try:
        _write_files(staging, model, optimizers, tokenizer, progress)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)  # on a full disk the log and the status need the space
        raise
    return checkpoint_folders.seal(staging, folder, progress.step, facts)


def _write_files(staging: Path, model: GPT, optimizers: Optimizers, tokenizer: Tokenizer, progress: TrainState) -> None:
    tensors = optimizers.state() | {_RNG + name: value for name, value in device.rng_state().items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    weights = to_hf(model)
    _check_finite(weights | tensors, progress.step)
    state = staging / "training_state"
    state.mkdir()
    tokenizer.save(staging, model.shape.context)
    _write_json(staging / "config.json", hf_config(model.shape, tokenizer.end_id))
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.end_id)
    _write_json(staging / "generation_config.json", ids | {"do_sample": True})
    try:
        save_file(weights, staging / WEIGHTS_FILE, metadata={"format": "pt"})
        save_file(tensors, state / "state.safetensors")
    except SafetensorError as error:
        if is_disk_full(error):
            raise OSError(28, "No space left on device", str(staging)) from error
        raise
    for path in (staging / WEIGHTS_FILE, state / "state.safetensors"):
        path.chmod((staging / "config.json").stat().st_mode & 0o777)  # safetensors gives access to the owner only
    _write_json(state / "state.json", asdict(progress))


def _check_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Raise NonFiniteError if a value is not finite: such a checkpoint must never replace a good one."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(
                f"{name} has values that are not finite after step {step:,}, so no checkpoint of it was saved",
                "resume from an earlier one, or train anew with a lower --lr or --precision fp32",
            )


def load_training(path: Path, model: GPT, optimizers: Optimizers) -> TrainState:
    """Load a checkpoint into `model`, `optimizers` and torch's generators; returns how far training had come.

    The caller has verified the checksums of the manifest, but the folder may still be crafted: every size is checked
    before memory of that size is allocated. Raises CheckpointError if something is missing or invalid.
    """
    tensors_path = path / "training_state" / "state.safetensors"
    plain = read_json(path / "training_state" / "state.json", _STATE_LIMIT)
    progress = TrainState.from_json(plain, path.name, model.shape.vocab_size)
    if path.name.startswith("step-") and path.name != step_name(progress.step):
        raise invalid_checkpoint(path, f"its training state is that of step {progress.step}")
    entries, _ = read_header(tensors_path)
    if _RNG + "cpu" not in entries:
        raise invalid_checkpoint(path, "its training state lacks torch's generator")
    shapes = {name: entry.shape for name, entry in entries.items() if not name.startswith(_RNG)}
    with _labelled(path):
        optimizers.check_state(shapes)
    # An optimizer has no state before its first step, and a scaler may have skipped any number of first steps.
    if not shapes and progress.step > progress.skipped_steps and not progress.scaler:
        raise invalid_checkpoint(path, "its training state lacks the optimizer's")
    load_weights(path, model)
    # The generators come last of all that draws random numbers: building the model has used them.
    tensors = _read(tensors_path)
    try:
        device.set_rng_state({k.removeprefix(_RNG): v for k, v in tensors.items() if k.startswith(_RNG)})
    except (RuntimeError, TypeError) as error:
        reason = safe_line(str(error).partition("\n")[0], 80)
        raise invalid_checkpoint(path, f"the state of torch's generator is invalid ({reason})") from None
    with _labelled(path):
        optimizers.load_state({k: v for k, v in tensors.items() if not k.startswith(_RNG)})
    return progress


@contextlib.contextmanager
def _labelled(path: Path) -> Iterator[None]:
    """Prefix the message of a CheckpointError with the checkpoint's name."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.problem}", error.remedy) from None


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is not a dict
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

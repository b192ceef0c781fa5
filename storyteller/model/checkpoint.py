"""All the state of training, as a folder: saved, verified, loaded.

The folder is a Hugging Face model (`GPT2LMHeadModel.from_pretrained` loads it) plus `training_state/`: the optimisers'
tensors and the generators' states as safetensors, and `state.json` for the rest. Nothing is pickled. How such a folder
appears whole or not at all is `runs.checkpoints`' business.
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

from storyteller.config.configs import Data, Model
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CheckpointError, NonFiniteError, UsageError, is_disk_full
from storyteller.model import device
from storyteller.model.gpt2 import GPT, Shape
from storyteller.system.safetensors_file import FLOATS, is_natural, read_header, read_json
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder, step_name
from storyteller.training.optimizers import Optimizers
from storyteller.training.train_state import Progress

_PREFIX = "transformer."
_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""GPT-2 was published with these matrices as (in, out), where torch's linear layers have (out, in)."""
_RNG = "rng/"
_WEIGHTS = "model.safetensors"
_TIED = "wte.weight"
_ANOTHER = "take another checkpoint"
_STATE_LIMIT = 64 * 2**20
"""Bytes of a `state.json`: the tokens carried over from a story of 1 MiB take 12."""
_ONE_KIND = {
    "model_type": "gpt2",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}
"""What a `config.json` may say of a GPT-2 and still be the model of `lm.model`; what it leaves out is so."""


def hf_config(shape: Shape, end_id: int) -> dict[str, Any]:
    """The `config.json` with which transformers builds the same model."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": shape.vocab_size,
        "n_positions": shape.context,
        "n_embd": shape.n_embd,
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "activation_function": shape.activation,
        "layer_norm_epsilon": 1e-5,
        "embd_pdrop": shape.dropout,
        "attn_pdrop": shape.dropout,
        "resid_pdrop": shape.dropout,
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": end_id,
        "tie_word_embeddings": True,
        "dtype": "float32",
    }


def to_hf(model: GPT) -> dict[str, Tensor]:
    """The weights under transformers' names and in its layout, as copies on the CPU."""
    return {
        _PREFIX + name: (tensor.T if name.endswith(_TRANSPOSED) else tensor).detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
    }


def save(
    folder: RunFolder,
    model: GPT,
    optimizers: Optimizers,
    tokenizer: Tokenizer,
    progress: Progress,
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


def _fill(staging: Path, model: GPT, optimizers: Optimizers, tokenizer: Tokenizer, progress: Progress) -> None:
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


# --- loading ----------------------------------------------------------------------------------------------------------


def load_training(path: Path, model: GPT, optimizers: Optimizers) -> Progress:
    """Put a checkpoint's whole state into `model`, `optimizers` and torch's generators.

    The folder has been verified against its manifest by the caller, but whoever wrote it may have meant harm: all that
    it claims is checked before anything of that size is made. Raises CheckpointError where something is missing, off,
    or of another shape.
    """
    tensors_path = path / "training_state" / "state.safetensors"
    plain = read_json(path / "training_state" / "state.json", _STATE_LIMIT)
    progress = Progress.from_json(plain, path.name, model.shape.vocab_size)
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


def load_weights(path: Path, model: GPT) -> None:
    """Put `model.safetensors` of a checkpoint folder into `model`. Raises CheckpointError where they do not fit."""
    wanted = model.state_dict()
    names = _check_weights(path, {name: tuple(own.shape) for name, own in wanted.items()})
    try:
        with safe_open(path / _WEIGHTS, framework="pt") as file, torch.no_grad():
            for name, own in wanted.items():
                tensor = file.get_tensor(names[name])
                if not bool(torch.isfinite(tensor).all()):
                    raise CheckpointError(f"{path.name}: {name} has values that are no numbers", _ANOTHER)
                own.copy_(tensor.T if name.endswith(_TRANSPOSED) else tensor)
            if "lm_head.weight" in names and not torch.equal(file.get_tensor("lm_head.weight"), wanted[_TIED].cpu()):
                raise CheckpointError(f"{path.name}: its output layer is not its token embedding", _ANOTHER)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path / _WEIGHTS, error) from None


def _check_weights(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The name in the file of each weight, where it holds these weights in these shapes and nothing else.

    Only the file's header is read. Raises CheckpointError.
    """
    entries, _ = read_header(path / _WEIGHTS)
    names = {name.removeprefix(_PREFIX): name for name in entries}
    if extra := sorted(names.keys() - wanted.keys() - {"lm_head.weight"}):
        raise CheckpointError(f"{path.name}: {safe_line(extra[0], 80)} is no weight of a GPT-2", _ANOTHER)
    for name, own in wanted.items():
        if name not in names:
            raise CheckpointError(f"{path.name}: {_WEIGHTS} lacks {name}", _ANOTHER)
        entry = entries[names[name]]
        shape = entry.shape[::-1] if name.endswith(_TRANSPOSED) else entry.shape
        if shape != own:
            raise CheckpointError(f"{path.name}: {name} is {shape}, not {own}", _ANOTHER)
        if entry.kind not in FLOATS:
            raise CheckpointError(f"{path.name}: {name} holds {safe_line(entry.kind, 20)}, not numbers", _ANOTHER)
    return names


def load_model(path: Path) -> GPT:
    """The model of a checkpoint folder of ours, on the CPU. Raises CheckpointError."""
    config = read_json(path / "config.json")
    if config.get("auto_map"):
        raise CheckpointError(
            f"{path.name} brings its own code, which is not run", "take a checkpoint without auto_map"
        )
    for key, value in _ONE_KIND.items():
        if config.get(key, value) != value:
            shown = safe_line(str(config[key]), 40)
            raise CheckpointError(f"{path.name}: config.json is off ({key} is {shown}, not {value})", _ANOTHER)
    keys = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
    if bad := next((key for key in keys if not is_natural(config.get(key))), None):
        raise CheckpointError(f"{path.name}: config.json is off (no number for {bad})", _ANOTHER)
    layers, width, heads, context, vocabulary = (int(config[key]) for key in keys)
    activation = config.get("activation_function", "gelu_new")
    try:
        Model(n_layer=layers, n_embd=width, n_head=heads, context=context, activation=activation)
        Data(vocab_size=max(vocabulary, 257))  # a tokenizer of a user's own may have fewer entries
    except UsageError as error:
        raise CheckpointError(f"{path.name}: config.json is off ({error.problem})", _ANOTHER) from None
    shape = Shape(layers, width, heads, context, vocabulary, activation=activation)
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in GPT(shape).state_dict().items()}
    _check_weights(path, wanted)  # the file is as large as the model then, and no memory is taken but for what is there
    model = GPT(shape)
    load_weights(path, model)
    return model


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path.parent.name}/{path.name} cannot be read ({error})", _ANOTHER)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

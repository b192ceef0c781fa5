"""All the state of training, as a folder: saved, verified, loaded.

The folder is a Hugging Face model (`GPT2LMHeadModel.from_pretrained` loads it) plus `training_state/`: the optimisers'
tensors and the generators' states as safetensors, and `state.json` for the rest. Nothing is pickled. How such a folder
appears whole or not at all is `runs.checkpoints`' business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CheckpointError, is_disk_full
from storyteller.lm import device
from storyteller.lm.model import GPT, Shape
from storyteller.lm.optim import Optimizers
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder

_PREFIX = "transformer."
_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""GPT-2 was published with these matrices as (in, out), where torch's linear layers have (out, in)."""
_RNG = "rng/"


@dataclass
class Progress:
    """How far training has come: with weights, optimisers and generators, all that a resume needs."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """In the training loop, over all its resumes."""
    passes: float = 0.0
    """Over the corpus."""
    position: dict[str, Any] | None = None
    """In the data; None: at its beginning."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """The gradient scaler's state, with fp16."""
    best_bpb: float | None = None
    """Lowest bits per byte seen."""
    happened: dict[str, float] = field(default_factory=dict)
    """When things that happen every so often happened last, by name."""


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
        "activation_function": "gelu_new",
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

    Raises OSError where the disk is full; the checkpoints before stay as they are.
    """
    staging = checkpoints.stage(folder, progress.step)
    state = staging / "training_state"
    state.mkdir()
    tokenizer.save(staging, model.shape.context)
    _write_json(staging / "config.json", hf_config(model.shape, tokenizer.end_id))
    _write_json(staging / "generation_config.json", _generation_config(tokenizer.end_id))
    tensors = optimizers.state() | {_RNG + name: value for name, value in device.seed_state().items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        save_file(to_hf(model), staging / "model.safetensors", metadata={"format": "pt"})
        save_file(tensors, state / "state.safetensors")
    except SafetensorError as error:
        if is_disk_full(error):
            raise OSError(28, "No space left on device", str(staging)) from error
        raise
    for path in (staging / "model.safetensors", state / "state.safetensors"):
        path.chmod((staging / "config.json").stat().st_mode & 0o777)  # safetensors writes for its owner's eyes only
    _write_json(state / "state.json", asdict(progress))
    return checkpoints.seal(staging, folder, progress.step, facts)


def _generation_config(end_id: int) -> dict[str, Any]:
    return {"bos_token_id": end_id, "eos_token_id": end_id, "pad_token_id": end_id, "do_sample": True}


def load_training(path: Path, model: GPT, optimizers: Optimizers) -> Progress:
    """Put a checkpoint's whole state into `model`, `optimizers` and torch's generators.

    The folder has been verified against its manifest by the caller. Raises CheckpointError where something is missing
    or of another shape.
    """
    load_weights(path, model)
    tensors = _read(path / "training_state" / "state.safetensors")
    device.set_seed_state({k.removeprefix(_RNG): v for k, v in tensors.items() if k.startswith(_RNG)})
    optimizers.load_state({k: v for k, v in tensors.items() if not k.startswith(_RNG)})
    plain = _read_json(path / "training_state" / "state.json")
    try:
        return Progress(**plain)
    except TypeError as error:
        raise CheckpointError(
            f"{path.name}: its training state is of another version ({error})", "resume from another (--from STEP)"
        ) from None


def load_weights(path: Path, model: GPT) -> None:
    """Put `model.safetensors` of a checkpoint folder into `model`. Raises CheckpointError where they do not fit."""
    tensors = _read(path / "model.safetensors")
    wanted = model.state_dict()
    given = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    given.pop("lm_head.weight", None)
    for name, own in wanted.items():
        tensor = given.pop(name, None)
        if tensor is None:
            raise CheckpointError(f"{path.name}: model.safetensors lacks {name}", "take another checkpoint")
        tensor = tensor.T if name.endswith(_TRANSPOSED) else tensor
        if tensor.shape != own.shape:
            raise CheckpointError(
                f"{path.name}: {name} is {tuple(tensor.shape)}, not {tuple(own.shape)}", "take another checkpoint"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path.name}: {name} has values that are no numbers", "take another checkpoint")
        with torch.no_grad():
            own.copy_(tensor)
    if given:
        raise CheckpointError(f"{path.name}: {next(iter(given))} is no weight of a GPT-2", "take another checkpoint")


def load_model(path: Path) -> GPT:
    """The model of a checkpoint folder of ours, on the CPU. Raises CheckpointError."""
    config = _read_json(path / "config.json")
    try:
        shape = Shape(*(int(config[key]) for key in ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path.name}: config.json is off ({error})", "take another checkpoint") from None
    model = GPT(shape)
    load_weights(path, model)
    return model


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path.parent.name}/{path.name} cannot be read ({error})", "take another checkpoint")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not isinstance(plain, dict):
        raise CheckpointError(f"{path.parent.name}/{path.name} is no JSON object", "take another checkpoint")
    return plain


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")

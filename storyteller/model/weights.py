"""All the state of training, as a folder: saved, verified, loaded.

The folder is a Hugging Face model (`GPT2LMHeadModel.from_pretrained` loads it) plus `training_state/`: the optimisers'
tensors and the generators' states as safetensors, and `state.json` for the rest. Nothing is pickled. How such a folder
appears whole or not at all is `runs.checkpoints`' business.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from storyteller.config.configs import DataConfig, ModelConfig
from storyteller.errors import CheckpointError, UsageError
from storyteller.model.gpt2 import GPT, Shape
from storyteller.system.json_values import is_natural
from storyteller.system.safetensors_file import FLOATS, read_header, read_json
from storyteller.text import safe_line

_PREFIX = "transformer."
_TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
"""GPT-2 was published with these matrices as (in, out), where torch's linear layers have (out, in)."""
_WEIGHTS = "model.safetensors"
_TIED = "wte.weight"
_ANOTHER = "take another checkpoint"
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


# --- loading ----------------------------------------------------------------------------------------------------------


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
        ModelConfig(n_layer=layers, n_embd=width, n_head=heads, context=context, activation=activation)
        DataConfig(vocab_size=max(vocabulary, 257))  # a tokenizer of a user's own may have fewer entries
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

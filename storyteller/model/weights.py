"""Weights as a Hugging Face model folder, which `GPT2LMHeadModel.from_pretrained` loads, too."""

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
"""GPT-2 was published with these matrices as (in, out); torch's linear layers have (out, in)."""
WEIGHTS_FILE = "model.safetensors"
_REQUIRED_CONFIG = {
    "model_type": "gpt2",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
}
"""Values that `config.json` must have where it has these keys: `model.gpt2` implements no others."""


def hf_config(shape: Shape, end_id: int) -> dict[str, Any]:
    """The `config.json` from which transformers builds the same model."""
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
    """The weights under the names and in the layout of transformers, as copies on the CPU."""
    return {
        _PREFIX + name: (tensor.T if name.endswith(_TRANSPOSED) else tensor).detach().cpu().clone().contiguous()
        for name, tensor in model.state_dict().items()
    }


# --- loading ----------------------------------------------------------------------------------------------------------


def load_weights(path: Path, model: GPT) -> None:
    """Load `model.safetensors` of a checkpoint folder into `model`. Raises CheckpointError if it does not fit."""
    wanted = model.state_dict()
    names = _check_weights(path, {name: tuple(own.shape) for name, own in wanted.items()})
    try:
        with safe_open(path / WEIGHTS_FILE, framework="pt") as file, torch.no_grad():
            for name, own in wanted.items():
                tensor = file.get_tensor(names[name])
                if not bool(torch.isfinite(tensor).all()):
                    raise invalid_checkpoint(path, f"{name} has values that are not finite")
                own.copy_(tensor.T if name.endswith(_TRANSPOSED) else tensor)
            head = file.get_tensor("lm_head.weight") if "lm_head.weight" in names else None
            if head is not None and not torch.equal(head, wanted["wte.weight"].cpu()):
                raise invalid_checkpoint(path, "its output layer is not its token embedding")
    except (OSError, SafetensorError) as error:
        raise unreadable(path / WEIGHTS_FILE, error) from None


def _check_weights(path: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Check that the file has exactly these weights in these shapes; returns the name in the file of each.

    Only the file's header is read. Raises CheckpointError.
    """
    entries, _ = read_header(path / WEIGHTS_FILE)
    names = {name.removeprefix(_PREFIX): name for name in entries}
    if extra := sorted(names.keys() - wanted.keys() - {"lm_head.weight"}):
        raise invalid_checkpoint(path, f"{safe_line(extra[0], 80)} is not a weight of a GPT-2")
    for name, own in wanted.items():
        if name not in names:
            raise invalid_checkpoint(path, f"{WEIGHTS_FILE} lacks {name}")
        entry = entries[names[name]]
        shape = entry.shape[::-1] if name.endswith(_TRANSPOSED) else entry.shape
        if shape != own:
            raise invalid_checkpoint(path, f"{name} is {shape}, not {own}")
        if entry.kind not in FLOATS:
            raise invalid_checkpoint(path, f"{name} has type {safe_line(entry.kind, 20)}, which is not a float type")
    return names


def load_model(path: Path) -> GPT:
    """Load a model folder that this package has made, on the CPU. Raises CheckpointError for any other model."""
    config = read_json(path / "config.json")
    if config.get("auto_map"):
        raise CheckpointError(f"{path.name} brings its own code, which is not run", "use a checkpoint without auto_map")
    for key, value in _REQUIRED_CONFIG.items():
        if config.get(key, value) != value:
            shown = safe_line(str(config[key]), 40)
            raise invalid_checkpoint(path, f"config.json is invalid ({key} is {shown}, not {value})")
    keys = ("n_layer", "n_embd", "n_head", "n_positions", "vocab_size")
    if bad := next((key for key in keys if not is_natural(config.get(key))), None):
        raise invalid_checkpoint(path, f"config.json is invalid (no valid {bad})")
    layers, width, heads, context, vocabulary = (int(config[key]) for key in keys)
    activation = config.get("activation_function", "gelu_new")
    try:
        ModelConfig(n_layer=layers, n_embd=width, n_head=heads, context=context, activation=activation)
        DataConfig(vocab_size=max(vocabulary, 257))  # custom tokenizers may have fewer entries
    except UsageError as error:
        raise invalid_checkpoint(path, f"config.json is invalid ({error.problem})") from None
    shape = Shape(layers, width, heads, context, vocabulary, activation=activation)
    # Before the model is built: a crafted config.json cannot make it larger than the weights in the file.
    _check_weights(path, _weight_shapes(shape))
    model = GPT(shape)
    load_weights(path, model)
    return model


def _weight_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The shapes of `GPT(shape).state_dict()`, without building it.

    Building it on torch's meta device would import torch's compiler, which takes two seconds.
    """
    C = shape.n_embd
    linears = {"attn.c_attn": (3 * C, C), "attn.c_proj": (C, C), "mlp.c_fc": (4 * C, C), "mlp.c_proj": (C, 4 * C)}
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (shape.vocab_size, C), "wpe.weight": (shape.context, C)}
    for block in (f"h.{i}" for i in range(shape.n_layer)):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{block}.{norm}.weight": (C,), f"{block}.{norm}.bias": (C,)}
        for name, (rows, columns) in linears.items():
            shapes |= {f"{block}.{name}.weight": (rows, columns), f"{block}.{name}.bias": (rows,)}
    return shapes | {"ln_f.weight": (C,), "ln_f.bias": (C,)}


def invalid_checkpoint(path: Path, problem: str) -> CheckpointError:
    """The error for a checkpoint folder with this problem."""
    return CheckpointError(f"{path.name}: {problem}", "take another checkpoint")


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """The error for a file of a checkpoint that cannot be read."""
    return CheckpointError(f"{path.parent.name}/{path.name} cannot be read ({error})", "take another checkpoint")

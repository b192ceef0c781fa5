"""Model folders made in a moment: one with random weights, one that tells a script by heart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

END = "<|endoftext|>"
END_ID = 256
VOCABULARY = 257

Weights = dict[str, npt.NDArray[Any]]


def byte_tokenizer() -> Tokenizer:
    """256 byte tokens in the order of their values, and the end of text."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # GPT-2's table: bytes that cannot be printed are shown as characters from 256 on, in order.
    others = [byte for byte in range(256) if byte not in printable]
    shown = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    tokenizer = Tokenizer(models.BPE(vocab={shown[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


def config(width: int, layers: int, heads: int, context: int, **changes: object) -> dict[str, Any]:
    """A GPT-2 config for the byte tokenizer."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "n_positions": context,
        "vocab_size": VOCABULARY,
        "activation_function": "gelu_new",
        "bos_token_id": END_ID,
        "eos_token_id": END_ID,
        **changes,
    }


def random_weights(width: int = 32, layers: int = 2, context: int = 64, seed: int = 0) -> Weights:
    """A GPT-2 of random weights, large enough that it does not say one thing again and again."""
    draw = np.random.default_rng(seed)

    def matrix(*shape: int) -> npt.NDArray[Any]:
        return (draw.standard_normal(shape) * 0.3).astype(np.float32)

    weights = {
        "transformer.wte.weight": matrix(VOCABULARY, width),
        "transformer.wpe.weight": matrix(context, width),
        "transformer.ln_f.weight": 1 + matrix(width),
        "transformer.ln_f.bias": matrix(width),
    }
    for i in range(layers):
        for name, into, out in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            weights[f"transformer.h.{i}.{name}.weight"] = matrix(into, out)
            weights[f"transformer.h.{i}.{name}.bias"] = matrix(out)
        for norm in ("ln_1", "ln_2"):
            weights[f"transformer.h.{i}.{norm}.weight"] = 1 + matrix(width)
            weights[f"transformer.h.{i}.{norm}.bias"] = matrix(width)
    return weights


def default_shape_weights(vocabulary: int = 4096, context: int = 256, seed: int = 0) -> Weights:
    """Random weights of the default preset's shape, 4 layers of width 256.

    They are scaled as a trained model's: what a layer adds is of its input's size, and logits spread by 3, so that
    among 4,096 tokens the likeliest one has a tenth to a half of the chance.
    """
    draw, width = np.random.default_rng(seed), 256
    weights = random_weights(width, 4, context, seed)
    for name, values in weights.items():
        if values.ndim == 2:
            weights[name] = (draw.standard_normal(values.shape) / values.shape[0] ** 0.5).astype(np.float32)
    for name, rows in (("wte", vocabulary), ("wpe", context)):
        weights[f"transformer.{name}.weight"] = (draw.standard_normal((rows, width)) * 0.2).astype(np.float32)
    return weights


def script_weights(script: bytes, context: int) -> Weights:
    """A GPT-2 that says `script` by heart: after n tokens of prompt its bytes from the n-th on, then the end of text.

    Positions alone decide: each has a direction of its own, which the output layer turns into one token.
    """
    weights = {name: np.zeros_like(values) for name, values in random_weights(context, 1, context).items()}
    weights["transformer.wpe.weight"] = np.eye(context, dtype=np.float32)
    weights["transformer.ln_f.weight"] += 1
    head = np.zeros((VOCABULARY, context), np.float32)
    tokens = [*script, END_ID]
    for position in range(context):
        head[tokens[position] if position < len(tokens) else END_ID, position] = 20
    weights["lm_head.weight"] = head
    return weights


def write_folder(path: Path, weights: Weights, settings: Mapping[str, Any]) -> Path:
    """A checkpoint folder as transformers would write it."""
    path.mkdir(parents=True, exist_ok=True)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    (path / "config.json").write_text(json.dumps(settings))
    byte_tokenizer().save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END, "eos_token": END})
    )
    return path


def random_folder(path: Path, **changes: object) -> Path:
    """A folder with random weights."""
    return write_folder(path, random_weights(), config(32, 2, 4, 64, **changes))


def script_folder(path: Path, script: bytes | str, context: int = 64) -> Path:
    """A folder that says `script`."""
    said = script.encode() if isinstance(script, str) else script
    settings = config(context, 1, 1, context, tie_word_embeddings=False)
    return write_folder(path, script_weights(said, context), settings)

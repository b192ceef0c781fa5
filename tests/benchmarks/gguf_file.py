"""A GPT-2 checkpoint in llama.cpp's format, so that both tell from one model: `write(checkpoint, path, bits)`.

Needs the package `gguf`, which nothing else here does. The names are those of llama.cpp's own GPT-2 (`gguf.constants`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

_PARTS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
_WHOLE = {"wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight",
          "ln_f.weight": "output_norm.weight", "ln_f.bias": "output_norm.bias"}  # fmt: skip


def write(checkpoint: Path, path: Path, bits: int) -> Path:
    """Write the model of `checkpoint` to `path` with weights of 32 or 8 `bits` (F32, Q8_0), and return `path`."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    _add_tokenizer(writer, checkpoint)
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        values = tensor.float().numpy()
        bare = name.removeprefix("transformer.")
        if bare.startswith("h."):
            _, block, rest = bare.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            if part not in _PARTS:
                continue
            called = f"blk.{block}.{_PARTS[part]}.{kind}"
            values = values.T if part.split(".")[-1].startswith("c_") and kind == "weight" else values
        elif bare in _WHOLE:
            called = _WHOLE[bare]
        else:
            continue
        values = np.ascontiguousarray(values)
        if bits == 8 and values.ndim == 2 and "position" not in called:
            quantized = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(called, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(called, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(to: Any, checkpoint: Path) -> None:
    """The byte-level BPE of the checkpoint, which llama.cpp calls gpt2."""
    import gguf

    content = json.loads((checkpoint / "tokenizer.json").read_text())
    ids: dict[str, int] = content["model"]["vocab"]
    special = {token["content"] for token in content["added_tokens"]}
    ids |= {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = sorted(ids, key=lambda token: ids[token])
    merges = content["model"]["merges"]
    to.add_tokenizer_model("gpt2")
    to.add_tokenizer_pre("gpt-2")
    to.add_token_list(tokens)
    to.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    to.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    to.add_bos_token_id(0)
    to.add_eos_token_id(0)

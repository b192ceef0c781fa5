"""Converts the weights of GPT-2 and Llama to the binary format that CTranslate2 loads from memory.

`ctranslate2.specs` writes the same format, but it imports torch wherever torch is installed. A test compares both.

`model.bin`, little endian (`ModelSpec._serialize` in ctranslate2/specs/model_spec.py, `Model::load` in
src/models/model.cc):

    uint32 version, string spec name, uint32 spec revision
    uint32 number of variables, then for each:
        string name, uint8 rank, uint32 shape[rank], uint8 type, uint32 bytes, the values in row-major order
    uint32 number of aliases, then for each: string name, string name of the variable that it stands for

A string is a uint16 length, which counts the final zero byte, and the bytes of the text. Settings such as the number of
heads are variables of rank 0. The names are the paths of the attributes in ctranslate2/specs/transformer_spec.py.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

from storyteller.errors import CheckpointError
from storyteller.inference.model_folder import ModelFolder
from storyteller.system.json_values import finite, is_natural
from storyteller.system.safetensors_file import Tensor, concatenate
from storyteller.text import safe_line

_BINARY_VERSION, _SPEC_NAME, _SPEC_REVISION = 6, "TransformerDecoderSpec", 8
_TYPE_IDS = {"F32": 0, "int8": 1, "int16": 2, "int32": 3, "F16": 4, "BF16": 5}
"""The enum DataType of CTranslate2 (include/ctranslate2/types.h)."""
_ACTIVATIONS = {
    **{"relu": 0, "gelu_fast": 1, "gelu_new": 1, "gelu_pytorch_tanh": 1, "silu": 2, "swish": 2},
    **{"gelu": 3, "gelu_python": 3, "quick_gelu": 4},
}
"""The enum ActivationType (include/ctranslate2/ops/activation.h), by transformers' names."""


def is_supported(config: Mapping[str, Any]) -> bool:
    """True if CTranslate2 computes exactly the model that the config describes."""
    if config.get("quantization_config") or config.get("add_cross_attention"):
        return False
    if config.get("model_type") == "gpt2":
        return (
            str(config.get("activation_function", "gelu_new")) in _ACTIVATIONS
            and config.get("scale_attn_weights", True) is True
            and not config.get("scale_attn_by_inverse_layer_idx")
        )
    if config.get("model_type") == "llama":
        return str(config.get("hidden_act", "silu")) in _ACTIVATIONS and _rope(config)[0] == "default"
    return False


def pack(folder: ModelFolder, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Returns the files that CTranslate2 loads, by name.

    Raises CheckpointError if the config lacks a value, or a tensor is missing, has another shape than the config
    describes, or is not finite.
    """
    packer = _Packer(tensors)
    config = folder.config
    is_gpt2 = config["model_type"] == "gpt2"
    epsilon = _pack_gpt2(packer, config, folder.context) if is_gpt2 else _pack_llama(packer, config)
    settings = {"unk_token": "0", "bos_token": "0", "eos_token": "0", "layer_norm_epsilon": epsilon}
    # Tokens are named by their ids. CTranslate2 needs names, and those of tokenizers may be odd or occur twice.
    return {
        "model.bin": packer.binary(),
        "config.json": json.dumps({**settings, "multi_query_attention": True}).encode(),
        "vocabulary.json": json.dumps([str(token) for token in range(folder.vocab_size)]).encode(),
    }


def _positive_int(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    value = default if value is None else value
    if not is_natural(value, below=2**31) or value == 0:
        raise _invalid(key, value, "a positive integer")
    return value


def _positive_float(value: object, key: str) -> float:
    number = finite(value)
    if number is None or not 0 < number < 1e30:
        raise _invalid(key, value, "a positive number")
    return number


def _invalid(key: str, value: object, expected: str) -> CheckpointError:
    problem = f"config.json: invalid value {safe_line(str(value), 40)} for {key} (expected {expected})"
    return CheckpointError(problem, "take another checkpoint")


def _heads(config: Mapping[str, Any], key: str, width: int) -> int:
    heads = _positive_int(config, key)
    if heads > 2**15 - 1 or width % heads:
        raise _invalid(key, heads, f"a divisor of {width}")
    return heads


def _rope(config: Mapping[str, Any]) -> tuple[object, object]:
    """Returns the type and the base (theta) of rotary embeddings, from the config of transformers 4 or 5."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        return None, None
    return given.get("rope_type", given.get("type", "default")), given.get("rope_theta", config.get("rope_theta", 1e4))


class _Packer:
    """Takes tensors by their names in transformers, and collects variables under their names in CTranslate2."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.variables: dict[str, Tensor] = {}
        self.aliases: dict[str, str] = {}  # names that stand for a variable, which is stored once

    def take(self, name: str, *shape: int) -> Tensor:
        """Returns a tensor of the state dict, after checking it."""
        tensor = self.tensors.get(name)
        if tensor is None:
            raise CheckpointError(f"model.safetensors has no {name}", "take another checkpoint")
        if tensor.shape != shape:
            raise CheckpointError(
                f"model.safetensors: {name} has the shape {list(tensor.shape)}, config.json needs {list(shape)}",
                "take a folder whose files belong together",
            )
        tensor = tensor.single()
        if not tensor.finite():
            problem = f"model.safetensors: {name} has non-finite values"
            raise CheckpointError(problem, "go back to an earlier checkpoint")
        return tensor

    def scalar(self, name: str, kind: str, value: float) -> None:
        layout = {"int8": "b", "int16": "h", "int32": "i", "F32": "f"}[kind]
        self.variables[name] = Tensor(kind, (), memoryview(struct.pack(f"<{layout}", value)))

    def binary(self) -> bytes:
        """Returns the contents of `model.bin`."""
        out = io.BytesIO()
        out.write(struct.pack("<I", _BINARY_VERSION) + _string(_SPEC_NAME))
        out.write(struct.pack("<II", _SPEC_REVISION, len(self.variables)))
        for name, tensor in self.variables.items():
            axes = len(tensor.shape)
            out.write(_string(name) + struct.pack(f"<B{axes}I", axes, *tensor.shape))
            out.write(struct.pack("<BI", _TYPE_IDS[tensor.kind], tensor.raw.nbytes))
            out.write(tensor.raw)
        out.write(struct.pack("<I", len(self.aliases)))
        for name, other in self.aliases.items():
            out.write(_string(name) + _string(other))
        return out.getvalue()


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<H", len(raw) + 1) + raw + b"\0"


def _stacked(tensors: list[Tensor]) -> Tensor:
    """Concatenates tensors along their first axis. Raises CheckpointError if their types differ."""
    if len({tensor.kind for tensor in tensors}) > 1:
        raise CheckpointError("model.safetensors mixes data types in one layer", "save the checkpoint again")
    return concatenate(tensors)


def _pack_shared(packer: _Packer, heads: int, activation: int) -> None:
    for name in ("alibi", "alibi_use_positive_positions", "scale_alibi", "scale_embeddings"):
        packer.scalar(f"decoder/{name}", "int8", 0)
    packer.scalar("decoder/start_from_zero_embedding", "int8", 0)
    packer.scalar("decoder/pre_norm", "int8", 1)
    packer.scalar("decoder/activation", "int8", activation)
    packer.scalar("decoder/num_heads", "int16", heads)
    packer.scalar("decoder/alignment_layer", "int16", -1)
    packer.scalar("decoder/alignment_heads", "int16", 1)


def _pack_output(packer: _Packer, tied: bool, vocabulary: int, width: int) -> None:
    if tied or "lm_head.weight" not in packer.tensors:
        packer.aliases["decoder/projection/weight"] = "decoder/embeddings/weight"
    else:
        packer.variables["decoder/projection/weight"] = packer.take("lm_head.weight", vocabulary, width)


def _pack_gpt2(packer: _Packer, config: Mapping[str, Any], context: int) -> float:
    """Packs GPT-2. Returns the epsilon of its layer norms."""
    width, vocabulary = _positive_int(config, "n_embd"), _positive_int(config, "vocab_size")
    inner = _positive_int(config, "n_inner", 4 * width)
    _pack_shared(packer, _heads(config, "n_head", width), _ACTIVATIONS[config.get("activation_function", "gelu_new")])
    # The original GPT-2 checkpoints of OpenAI on the Hub have no prefix.
    prefix = "" if "wte.weight" in packer.tensors else "transformer."

    def norm(name: str, source: str) -> None:
        packer.variables[f"{name}/gamma"] = packer.take(f"{prefix}{source}.weight", width)
        packer.variables[f"{name}/beta"] = packer.take(f"{prefix}{source}.bias", width)

    def linear(name: str, source: str, into: int, out: int) -> None:
        # GPT-2 stores its matrices as (in, out), CTranslate2 as (out, in).
        packer.variables[f"{name}/weight"] = packer.take(f"{prefix}{source}.weight", into, out).transposed()
        packer.variables[f"{name}/bias"] = packer.take(f"{prefix}{source}.bias", out)

    packer.variables["decoder/embeddings/weight"] = packer.take(f"{prefix}wte.weight", vocabulary, width)
    packer.variables["decoder/position_encodings/encodings"] = packer.take(f"{prefix}wpe.weight", context, width)
    norm("decoder/layer_norm", "ln_f")
    _pack_output(packer, config.get("tie_word_embeddings", True), vocabulary, width)
    for i in range(_positive_int(config, "n_layer")):
        layer = f"decoder/layer_{i}"
        norm(f"{layer}/self_attention/layer_norm", f"h.{i}.ln_1")
        linear(f"{layer}/self_attention/linear_0", f"h.{i}.attn.c_attn", width, 3 * width)
        linear(f"{layer}/self_attention/linear_1", f"h.{i}.attn.c_proj", width, width)
        norm(f"{layer}/ffn/layer_norm", f"h.{i}.ln_2")
        linear(f"{layer}/ffn/linear_0", f"h.{i}.mlp.c_fc", width, inner)
        linear(f"{layer}/ffn/linear_1", f"h.{i}.mlp.c_proj", inner, width)
    return _positive_float(config.get("layer_norm_epsilon", 1e-5), "layer_norm_epsilon")


def _pack_llama(packer: _Packer, config: Mapping[str, Any]) -> float:
    """Packs Llama. Returns the epsilon of its norms."""
    width, vocabulary, inner = (
        _positive_int(config, key) for key in ("hidden_size", "vocab_size", "intermediate_size")
    )
    heads = _positive_int(config, "num_attention_heads")
    kv_heads = _heads(config, "num_key_value_heads", heads) if config.get("num_key_value_heads") else heads
    head_width = _positive_int(config, "head_dim", width // heads)
    theta = _positive_float(_rope(config)[1], "rope_theta")
    _pack_shared(packer, heads, _ACTIVATIONS[config.get("hidden_act", "silu")])

    def norm(name: str, source: str) -> None:
        packer.variables[f"{name}/gamma"] = packer.take(f"model.{source}.weight", width)

    def linear(name: str, *sources: tuple[str, int, int], bias: object) -> None:
        parts = [packer.take(f"model.{source}.weight", out, into) for source, out, into in sources]
        packer.variables[f"{name}/weight"] = _stacked(parts)
        if bias:
            packer.variables[f"{name}/bias"] = _stacked([packer.take(f"model.{s}.bias", out) for s, out, _ in sources])

    packer.variables["decoder/embeddings/weight"] = packer.take("model.embed_tokens.weight", vocabulary, width)
    norm("decoder/layer_norm", "norm")
    _pack_output(packer, config.get("tie_word_embeddings", False), vocabulary, width)
    for i in range(_positive_int(config, "num_hidden_layers")):
        attention, feed, source = f"decoder/layer_{i}/self_attention", f"decoder/layer_{i}/ffn", f"layers.{i}"
        packer.scalar(f"{attention}/rotary_dim", "int32", 0)  # 0: all dimensions of a head
        packer.scalar(f"{attention}/rotary_interleave", "int8", 0)
        packer.scalar(f"{attention}/rotary_base", "F32", theta)
        if kv_heads != heads:
            packer.scalar(f"{attention}/num_heads_kv", "int32", kv_heads)
        if head_width * heads != width:
            packer.scalar(f"{attention}/head_dim", "int32", head_width)
        norm(f"{attention}/layer_norm", f"{source}.input_layernorm")
        # CTranslate2 computes queries, keys and values with one product: their matrices are stacked.
        linear(
            f"{attention}/linear_0",
            (f"{source}.self_attn.q_proj", heads * head_width, width),
            (f"{source}.self_attn.k_proj", kv_heads * head_width, width),
            (f"{source}.self_attn.v_proj", kv_heads * head_width, width),
            bias=config.get("attention_bias"),
        )
        out = (f"{source}.self_attn.o_proj", width, heads * head_width)
        linear(f"{attention}/linear_1", out, bias=config.get("attention_bias"))
        norm(f"{feed}/layer_norm", f"{source}.post_attention_layernorm")
        linear(f"{feed}/linear_0", (f"{source}.mlp.gate_proj", inner, width), bias=config.get("mlp_bias"))
        linear(f"{feed}/linear_0_noact", (f"{source}.mlp.up_proj", inner, width), bias=config.get("mlp_bias"))
        linear(f"{feed}/linear_1", (f"{source}.mlp.down_proj", width, inner), bias=config.get("mlp_bias"))
    return _positive_float(config.get("rms_norm_eps", 1e-6), "rms_norm_eps")

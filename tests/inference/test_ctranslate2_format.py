"""The files of `pack` compared with those that CTranslate2's own converter writes."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storyteller.inference.ctranslate2_format import is_supported, pack
from storyteller.inference.model_folder import ModelFolder
from tests.support import tiny_models

_DTYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""CTranslate2's DataType, by its number; bfloat16 does not occur here."""

Variables = dict[str, tuple[int, tuple[int, ...], bytes]]


def gpt2(folder: Path, **changes: Any) -> Path:
    """A GPT-2 with weights that are different everywhere, and a tokenizer that the converter reads."""
    weights = tiny_models.random_weights(width=32, layers=2, context=48, seed=3)
    if changes.get("tie_word_embeddings") is False:
        weights["lm_head.weight"] = weights["transformer.wte.weight"][::-1].copy()
    settings = tiny_models.config(32, 2, 4, 48, **changes)
    return for_converter(tiny_models.write_folder(folder, weights, settings))


def llama(folder: Path, **changes: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings = {
        "vocab_size": tiny_models.VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 48,
        "rms_norm_eps": 1e-4,
        "rope_theta": 5000.0,
        "bos_token_id": tiny_models.END_ID,
        "eos_token_id": tiny_models.END_ID,
    }
    LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).save_pretrained(folder)
    tiny_models.byte_tokenizer().save(str(folder / "tokenizer.json"))
    return for_converter(folder)


def for_converter(folder: Path) -> Path:
    names = {f"{kind}_token": tiny_models.END for kind in ("bos", "eos", "unk")}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def converted(folder: Path, output: Path) -> Path:
    """What CTranslate2's own converter makes of the folder, with `ctranslate2.specs`."""
    from ctranslate2.converters import TransformersConverter

    return Path(TransformersConverter(str(folder)).convert(str(output)))


def read(binary: bytes) -> tuple[tuple[int, str, int], Variables, dict[str, str]]:
    """A model.bin: (version, spec name, spec revision), the variables and the aliases."""
    at = 0

    def take(layout: str) -> Any:
        nonlocal at
        values = struct.unpack_from(f"<{layout}", binary, at)
        at += struct.calcsize(f"<{layout}")
        return values if len(values) > 1 else values[0]

    def string() -> str:
        raw = take(f"{take('H')}s")
        assert raw.endswith(b"\0")
        return str(raw[:-1].decode())

    header = (take("I"), string(), take("I"))
    variables: Variables = {}
    for _ in range(take("I")):
        name = string()
        shape = tuple(take("I") for _ in range(take("B")))
        kind = take("B")
        variables[name] = (kind, shape, take(f"{take('I')}s"))
    aliases = {string(): string() for _ in range(take("I"))}
    assert at == len(binary)
    return header, variables, aliases


def packed(folder: Path) -> dict[str, bytes]:
    model = ModelFolder.open(folder, "model")
    assert is_supported(model.config)
    return pack(model, model.tensors())


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (gpt2, {}),
    "gpt2 with an output matrix of its own": (gpt2, {"tie_word_embeddings": False}),
    "gpt2 with relu": (gpt2, {"activation_function": "relu"}),
    "llama": (llama, {}),
    "llama with fewer heads for keys and values": (llama, {"num_key_value_heads": 2}),
    "llama with a head width of its own": (llama, {"head_dim": 16}),
    "llama with tied embeddings": (llama, {"tie_word_embeddings": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_packed_model_is_the_one_that_ctranslate2_converts(case: str, tmp_path: Path) -> None:
    make, changes = CASES[case]
    folder = make(tmp_path / "model", **changes)
    ours, theirs = packed(folder), converted(folder, tmp_path / "converted")
    header, variables, aliases = read(ours["model.bin"])
    expected_header, expected, expected_aliases = read((theirs / "model.bin").read_bytes())
    assert header == expected_header
    # The converter leaves out a head width that is not width / heads, which other specs of CTranslate2 have.
    for name in [name for name in variables if name.endswith("/head_dim")]:
        assert variables.pop(name) == (3, (), struct.pack("<i", changes["head_dim"]))
    assert variables.keys() | aliases.keys() == expected.keys() | expected_aliases.keys()
    for name in expected:
        source = name if name in variables else aliases[name]
        assert variables[source] == expected[name], name
    for name, source in expected_aliases.items():
        assert variables[aliases.get(name, name)] == expected[source], name


def test_the_values_of_the_packed_tensors_are_those_of_the_folder(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = gpt2(tmp_path / "model")
    _, variables, _ = read(packed(folder)["model.bin"])
    kind, shape, raw = variables["decoder/layer_1/self_attention/linear_0/weight"]
    source = load_file(folder / "model.safetensors")["transformer.h.1.attn.c_attn.weight"]
    assert (np.frombuffer(raw, _DTYPES[kind]).reshape(shape) == source.T).all()


@pytest.mark.parametrize("make", [gpt2, llama])
def test_the_settings_are_those_that_ctranslate2_converts(make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    ours, theirs = packed(folder), converted(folder, tmp_path / "converted")
    settings, expected = json.loads(ours["config.json"]), json.loads((theirs / "config.json").read_text())
    # Tokens are named by their ids here. GPT-2's epsilon is left to CTranslate2's default by its converter.
    expected |= {f"{kind}_token": "0" for kind in ("bos", "eos", "unk")}
    expected["layer_norm_epsilon"] = expected["layer_norm_epsilon"] or 1e-5
    assert settings == {key: expected[key] for key in settings}
    assert len(json.loads(ours["vocabulary.json"])) == len(json.loads((theirs / "vocabulary.json").read_text()))

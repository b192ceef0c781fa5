"""Exports a checkpoint as a model folder that can be shared: weights, tokenizer and a model card. Without torch."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storyteller.errors import CheckpointError, UsageError, invalid_value
from storyteller.system.files import fsync_files
from storyteller.system.safetensors_file import FLOATS, Tensor, read_json, read_safetensors
from storyteller.text import safe, safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder

_KINDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_WEIGHTS = "model.safetensors"
_COPIED = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


def export(path: Path, folder: Path, precision: str = "fp32", name: str = "") -> int:
    """Writes the checkpoint `path` to a new or empty folder, atomically. Returns its size in bytes.

    The card, README.md, is written from the records of the checkpoint's run, without paths of this machine. Raises
    CheckpointError, UsageError if `folder` is not empty or a weight is too large for fp16, or OSError.
    """
    if precision not in _DTYPES:
        raise invalid_value("--precision", precision, f"one of {', '.join(_DTYPES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{safe_line(str(folder), 200)} exists already", "name a folder that does not")
    facts = checkpoint_folders.verify(path) if (path / checkpoint_folders.MANIFEST).exists() else {}
    config = read_json(path / "config.json") | {"dtype": _DTYPES[precision]}
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    staging.mkdir()
    try:
        _write_weights(path / _WEIGHTS, staging / _WEIGHTS, precision)
        (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        shutil.copymode(staging / "config.json", staging / _WEIGHTS)  # safetensors gives access to the owner only
        for file in _COPIED:
            if (path / file).is_file():
                shutil.copyfile(path / file, staging / file)
            elif file == "tokenizer.json":
                raise CheckpointError(f"{safe_line(path.name, 60)} has no {file}", "take another checkpoint")
        card = _card(path, name or folder.name, config, facts)
        (staging / "README.md").write_text(safe(card), encoding="utf-8")
        fsync_files(staging)
        staging.replace(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return sum(file.stat().st_size for file in folder.iterdir())


def _write_weights(source: Path, target: Path, precision: str) -> None:
    import numpy as np
    from safetensors import TensorSpec, serialize_file

    tensors = read_safetensors(source)
    data = {name: np.frombuffer(_data(name, tensor, precision), np.uint8) for name, tensor in tensors.items()}
    dtype, specs = _DTYPES[precision], {}
    for name, tensor in tensors.items():
        # A spec only holds an address, so `data` has to stay alive until the file is written.
        address, size = data[name].ctypes.data, data[name].nbytes
        specs[name] = TensorSpec(dtype=dtype, shape=list(tensor.shape), data_ptr=address, data_len=size)
    serialize_file(specs, target, {"format": "pt"})


def _data(name: str, tensor: Tensor, precision: str) -> bytes:
    """The values rounded to `precision`, as bytes. Raises UsageError if fp16 cannot represent one."""
    import numpy as np

    if not tensor.finite():
        raise CheckpointError(f"{safe_line(name, 80)} has non-finite values", "take another checkpoint")
    if tensor.kind == _KINDS[precision]:
        return tensor.raw.tobytes()
    values = np.frombuffer(tensor.raw, FLOATS[tensor.kind])
    if tensor.kind == "BF16":  # the upper half of fp32
        values = np.left_shift(values.astype(np.uint32), 16).view(np.float32)
    values = values.astype(np.float32)
    if precision == "fp32":
        return values.tobytes()
    if precision == "bf16":
        bits = values.view(np.uint32)
        # bf16 is the upper half of fp32. Rounds to nearest, ties to even: adds just under half of the lowest bit that
        # stays, and one more if that bit is set, so that a tie carries only into odd values.
        halves = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    else:
        with np.errstate(over="ignore"):
            halves = values.astype("<f2")
        if not bool(np.isfinite(halves).all()):
            raise UsageError(f"{safe_line(name, 80)} has values too large for fp16", "take --precision bf16")
    return halves.tobytes()


# --- the card ---------------------------------------------------------------------------------------------------------


_SHAPE = {
    **{"layers": "n_layer", "width": "n_embd", "heads": "n_head"},
    **{"context": "n_positions", "vocabulary": "vocab_size"},
}
"""The sizes in the card, and their names in the config."""


def _card(path: Path, name: str, config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A model card in Markdown: architecture, training and evaluation."""
    try:
        run = RunFolder(path.resolve().parent.parent).read_run()
    except Exception:  # noqa: BLE001  a card can be written without it, as for a checkpoint that is not part of a run
        run = {}
    shape = ", ".join(f"{label} {config[key]:,}" for label, key in _SHAPE.items() if isinstance(config.get(key), int))
    parts = [
        f"# {safe_line(name, 100)}",
        f"A small GPT-2 model that generates short stories, trained from scratch with storyteller ({shape}).",
        f"Weights: {config['dtype']}.",
    ]
    if run:
        parts += ["## Training", "\n".join(f"- {fact}" for fact in _training_facts(run, facts))]
    if "eval/bpb" in facts:
        scored = _section(run, "data").get("held_out_stories")
        of = f" of {scored:,} held-out stories" if isinstance(scored, int) else ""
        parts += ["## Evaluation", f"{facts['eval/bpb']:.4f} bits per byte{of}."]
    kinds = config.get("architectures")
    kind = kinds[0] if isinstance(kinds, list) and kinds and isinstance(kinds[0], str) else "AutoModelForCausalLM"
    usage = f'`storyteller tell --model FOLDER "Once upon a time"`; transformers loads it as {safe_line(kind, 60)}.'
    return "\n\n".join([*parts, "## Usage", usage]) + "\n"


def _training_facts(run: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What is needed to reproduce the run, one item a line."""
    words = [Path(word).name if word.startswith(("/", "~")) else word for word in str(run.get("command", "")).split()]
    data, host = _section(run, "data"), _section(run, "host")
    tokens, seconds = facts.get("tokens"), facts.get("seconds")
    paths = data.get("paths")
    corpus = ", ".join(Path(str(one)).name for one in paths) if isinstance(paths, list) else str(data.get("kind", "?"))
    made = [f"command: `{safe_line(' '.join(words), 1000)}`", f"seed: {run.get('seed')}"]
    if run.get("git_commit"):
        made.append(f"commit: {safe_line(str(run['git_commit']), 60)}")
    made.append(f"data: {safe_line(corpus, 200)}, fingerprint {safe_line(str(data.get('fingerprint')), 80)}")
    if isinstance(tokens, int) and isinstance(seconds, int | float):
        made.append(f"trained: {tokens:,} tokens in {seconds / 3600:.2f} hours, step {facts.get('step')}")
    made.append(f"on: {safe_line(str(host.get('processor')), 100)}, {host.get('precision')}")
    return made


def _section(run: Mapping[str, Any], name: str) -> dict[str, Any]:
    values = run.get(name)
    return values if isinstance(values, dict) else {}

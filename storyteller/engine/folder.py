"""A model's folder, read without trusting it: its JSON, and its weights from safetensors, by hand."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from storyteller.errors import CheckpointError, ModelError
from storyteller.text import safe_line

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
"""The files that weights come in: one, or an index and its shards."""
_HEADER_LIMIT = 10 * 2**20
"""Bytes: more than this is no header of a model that anyone tells stories from."""
_JSON_LIMIT = 200 * 2**20
_ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""numpy has no bfloat16: its raw bits travel as 16-bit integers."""


@dataclass(frozen=True)
class Tensor:
    """One tensor: `kind` as safetensors names it (`F32`, `F16`, `BF16`), and its values (BF16: their bits)."""

    kind: str
    values: Array

    def finite(self) -> bool:
        """Whether every value is a number."""
        import numpy as np

        if self.kind == "BF16":
            return not bool(np.any((self.values & 0x7F80) == 0x7F80))
        return bool(np.isfinite(self.values).all())


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder with its JSON read; the weights are still on disk."""

    label: str
    """What messages call the model."""
    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer_json: str

    @classmethod
    def open(cls, path: Path, label: str) -> ModelFolder:
        """Read what stands beside the weights.

        Raises CheckpointError for a missing or broken file, ModelError for a model that brings its own code.
        """
        if not path.is_dir():
            raise CheckpointError(f"there is no folder {_shown(path)}", "name a run, a checkpoint folder or owner/name")
        config = _read_json(path / "config.json")
        if config.get("auto_map"):
            kind = safe_line(str(config.get("model_type", "?")), 40)
            raise ModelError(f"{label} ({kind}) brings its own code, which is not run", "take a model without auto_map")
        generation = path / "generation_config.json"
        return cls(
            label,
            path,
            config,
            _read_json(generation) if generation.exists() else {},
            _read_bytes(path / "tokenizer.json").decode("utf-8", "replace"),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of floating-point numbers, by name, mapped and not yet read.

        Raises CheckpointError for a missing or damaged file.
        """
        index = self.path / INDEX
        if not index.exists():
            return read_safetensors(self.path / WEIGHTS)
        shards = _read_json(index).get("weight_map")
        names = set(shards.values()) if isinstance(shards, dict) and _all_text(shards.values()) else set()
        if not names or not all(SHARD.fullmatch(name) for name in names):
            raise CheckpointError(f"{_shown(index)} is broken", "fetch the model again")
        return {name: tensor for shard in sorted(names) for name, tensor in read_safetensors(self.path / shard).items()}

    @property
    def context(self) -> int:
        """Tokens that the model sees at once. Raises ModelError where the config does not say."""
        for key in ("n_positions", "max_position_embeddings", "n_ctx"):
            tokens = self.config.get(key)
            if _is_natural(tokens) and tokens > 1:
                return int(tokens)
        raise ModelError(f"the config.json of {self.label} does not say how long its context is", "take another model")

    @property
    def ends(self) -> list[int]:
        """The tokens that end a story: what the folder says of generation, else of the model; and the next beginning.

        Models that were trained on `begin story begin story` (llama2.c's) never tell their end of text.
        """
        named = self._tokens("eos_token_id", self.generation) or self._tokens("eos_token_id", self.config)
        return list(dict.fromkeys([*named, *self._begins()]))

    @property
    def begin(self) -> int | None:
        """The token that a story begins with: the model's beginning, else its end of text."""
        return next(iter([*self._begins(), *self.ends]), None)

    def _begins(self) -> list[int]:
        return self._tokens("bos_token_id", self.config) or self._tokens("bos_token_id", self.generation)

    def _tokens(self, key: str, source: Mapping[str, Any]) -> list[int]:
        ids = source.get(key)
        return [token for token in (ids if isinstance(ids, list) else [ids]) if self._is_token(token)]

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows. Raises CheckpointError where the config does not say."""
        tokens = self.config.get("vocab_size")
        if not _is_natural(tokens) or tokens == 0:
            raise CheckpointError(f"the config.json of {self.label} has no vocab_size", "take another checkpoint")
        return tokens

    def _is_token(self, token: object) -> TypeGuard[int]:
        return _is_natural(token) and token < self.vocabulary


def _all_text(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


def _is_natural(number: object) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _shown(path: Path) -> str:
    return safe_line(str(path), 200)


# --- reading ----------------------------------------------------------------------------------------------------------


def _read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise CheckpointError(f"{_shown(path)} is too large to be true", "take another checkpoint")
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise CheckpointError(f"{_shown(path)} cannot be read ({error.strerror})", "check its permissions") from error


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{_shown(path.parent)} has no {path.name}", "take another checkpoint, or save this one anew"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(_read_bytes(path))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{_shown(path)} is no JSON object", "take another checkpoint, or save this one anew")
    return values


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a safetensors file, by name, mapped and not yet read.

    The header is checked whole before anything of the size that it claims is made: its length, each type, shape and
    place. Raises CheckpointError. Format: https://huggingface.co/docs/safetensors (8 bytes of header length, little
    endian; a JSON header; the data).
    """
    import numpy as np

    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(_HEADER_LIMIT, size - 8):
                raise _damaged(path, "its header does not fit")
            header = json.loads(file.read(header_bytes))
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise CheckpointError(f"{_shown(path)} cannot be read ({error.strerror})", "check its permissions") from error
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    places = list(_places(path, header, size - 8 - header_bytes))
    if not places:
        return {}
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + header_bytes)
    return {
        name: Tensor(kind, data[begin:end].view(_FLOATS[kind]).reshape(shape))
        for name, kind, shape, begin, end in places
        if kind in _FLOATS
    }


def _places(path: Path, header: Mapping[str, Any], data_bytes: int) -> Iterator[tuple[str, str, list[int], int, int]]:
    """Name, type, shape, beginning and end of each tensor; CheckpointError where one cannot be."""
    used = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, offsets = (
            (entry.get(key) for key in ("dtype", "shape", "data_offsets")) if isinstance(entry, dict) else (None,) * 3
        )
        if not (
            isinstance(kind, str)
            and isinstance(shape, list)
            and len(shape) <= 8
            and all(_is_natural(extent) for extent in shape)
            and isinstance(offsets, list)
            and len(offsets) == 2
            and all(_is_natural(offset) for offset in offsets)
        ):
            raise _damaged(path, f"its header says nothing sensible of {safe_line(name, 60)}")
        begin, end = offsets
        if kind in _ITEM_BYTES and end - begin != math.prod(shape) * _ITEM_BYTES[kind]:
            raise _damaged(path, f"{safe_line(name, 60)} is not as long as its shape says")
        used += end - begin
        # Tensors that share their bytes would let a small file claim any amount of memory.
        if not begin <= end <= data_bytes or used > data_bytes:
            raise _damaged(path, f"{safe_line(name, 60)} lies outside the file")
        yield name, kind, shape, begin, end


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{_shown(path)} is damaged ({why})", "take another checkpoint, or fetch the model again")

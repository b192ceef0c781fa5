"""Reads the folder of a model, whose contents are not trusted: its JSON files, and where its weights are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyteller.errors import CheckpointError, ModelError
from storyteller.system.json_values import is_natural
from storyteller.system.safetensors_file import Tensor, read_bytes, read_json, read_safetensors, shown
from storyteller.text import safe_line

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
"""Weights come in one file, or in shards listed by an index."""


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder with its JSON files read. The weights are still on disk."""

    label: str  # the model's name in messages
    path: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer_json: str

    @classmethod
    def open(cls, path: Path, label: str) -> ModelFolder:
        """Reads the JSON files of a folder.

        Raises CheckpointError if a file is missing or broken, and ModelError if the model needs code of its own.
        """
        if not path.is_dir():
            raise CheckpointError(f"there is no folder {shown(path)}", "name a run, a checkpoint folder or owner/name")
        config = read_json(path / "config.json")
        if config.get("auto_map"):
            kind = safe_line(str(config.get("model_type", "?")), 40)
            raise ModelError(f"{label} ({kind}) needs its own code, which is not run", "take a model without auto_map")
        generation = path / "generation_config.json"
        return cls(
            label,
            path,
            config,
            read_json(generation) if generation.exists() else {},
            read_bytes(path / "tokenizer.json").decode("utf-8", "replace"),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Memory-maps all floating-point tensors. Raises CheckpointError if a file is missing or damaged."""
        index = self.path / INDEX
        if not index.exists():
            return read_safetensors(self.path / WEIGHTS)
        shards = read_json(index).get("weight_map")
        names = set(map(str, shards.values())) if isinstance(shards, dict) else set()
        if not names or not all(map(SHARD.fullmatch, names)):
            raise CheckpointError(f"{shown(index)} is broken", "fetch the model again")
        return {name: tensor for shard in sorted(names) for name, tensor in read_safetensors(self.path / shard).items()}

    @property
    def context(self) -> int:
        """Maximum number of tokens that the model processes at once. Raises ModelError if it is not in the config."""
        for key in ("n_positions", "max_position_embeddings", "n_ctx"):
            tokens = self.config.get(key)
            if is_natural(tokens) and tokens > 1:
                return int(tokens)
        raise ModelError(f"the config.json of {self.label} does not say how long its context is", "take another model")

    @property
    def eos_ids(self) -> list[int]:
        """The tokens that end a story: those of the generation config, else of the config, and the bos token.

        Models that were trained on `bos story bos story` (llama2.c) never generate their end-of-text token.
        """
        named = self._tokens("eos_token_id", self.generation) or self._tokens("eos_token_id", self.config)
        return list(dict.fromkeys([*named, *self._bos_ids()]))

    @property
    def bos_id(self) -> int | None:
        """The token that a story begins with: the bos token, else the first end-of-text token."""
        return next(iter([*self._bos_ids(), *self.eos_ids]), None)

    def _bos_ids(self) -> list[int]:
        return self._tokens("bos_token_id", self.config) or self._tokens("bos_token_id", self.generation)

    def _tokens(self, key: str, source: Mapping[str, Any]) -> list[int]:
        ids = source.get(key)
        return [token for token in (ids if isinstance(ids, list) else [ids]) if is_natural(token, self.vocab_size)]

    @property
    def vocab_size(self) -> int:
        """Size of the model's vocabulary. Raises CheckpointError if it is not in the config."""
        tokens = self.config.get("vocab_size")
        if not is_natural(tokens) or tokens == 0:
            raise CheckpointError(f"the config.json of {self.label} has no vocab_size", "take another checkpoint")
        return tokens

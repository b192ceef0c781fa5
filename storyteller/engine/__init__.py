"""The engine: a checkpoint and a prompt in, pieces of text out. No torch in this process.

    engine = open_model("latest", runs_root)
    for piece in engine.stream("Once upon a time", Sample(seed=7)):
        ...

GPT-2 and Llama are told by CTranslate2 (`native`), every other architecture by transformers in a child process
(`foreign`), both through the same interface (`telling`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from storyteller.config import Sample
from storyteller.engine.telling import Story, with_seed
from storyteller.errors import CheckpointError, UsageError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.engine.folder import ModelFolder
    from storyteller.engine.telling import Voices
    from storyteller.tensors import Array, Tensor

__all__ = ["Engine", "Story", "engine_from_memory", "open_model", "with_seed"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Engine(Protocol):
    """A model that stories are told from."""

    label: str
    """What the model is called: `run@step`, a folder, or `owner/name`."""
    context: int
    """Tokens that the model sees at once."""
    end_of_text: str | None
    """The token that ends a story, as the tokenizer writes it."""

    def stream(self, prompt: str, sample: Sample) -> Generator[str, None, Story]:
        """Pieces of the story after `prompt`, as they are told; the generator's return value is the Story.

        Closing it stops the telling. Raises UsageError at once where the prompt does not fit.
        """
        ...

    def batch(self, prompts: Sequence[str], sample: Sample) -> list[Story]:
        """A story for each prompt, told side by side; a batch of one is what `stream` tells."""
        ...

    def count(self, prompt: str) -> int:
        """Tokens of `prompt`."""
        ...

    def recent(self, text: str) -> str:
        """As much of the newest part of `text` as leaves room for as much again, from a sentence's start."""
        ...

    def close(self) -> None:
        """Free the model, and end its process where it has one."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_model(
    reference: str, runs_root: Path | None = None, threads: int = 0, log: Callable[[str], None] = lambda _: None
) -> Engine:
    """The model that `reference` names: a run (`RUN`, `RUN@STEP`, `RUN@best`, `latest`), a folder, or `owner/name`.

    `runs_root` is where runs lie (None: where they lie by default), `threads` of the CPU (0: a default), `log` is told
    of what takes long. Raises RunError, CheckpointError, ModelError, HubError or UsageError.
    """
    from storyteller.engine.folder import ModelFolder

    if not reference.strip() or "\0" in reference:
        raise UsageError(f"--model {safe_line(reference, 60)} is off", "name a run, a checkpoint folder or owner/name")
    path, label = Path(reference).expanduser(), safe_line(reference, 100)
    if "/" not in reference and not reference.startswith((".", "~")):
        return _open_run(reference, runs_root, threads, log)
    if path.is_dir() or not _HUB_ID.fullmatch(reference):
        _verify(path)
        return _open_folder(ModelFolder.open(path, label), threads, log)
    from storyteller.engine.hub import fetch

    return _open_folder(ModelFolder.open(fetch(reference, log), label), threads, log)


def engine_from_memory(
    weights: Mapping[str, Array], config: Mapping[str, Any], tokenizer_json: str, threads: int = 0, label: str = "model"
) -> Engine:
    """Tell from weights in memory: a state dict in transformers' names (F32 or F16), and the config that goes with it.

    For a training process that tells a story on the way. Raises CheckpointError, ModelError.
    """
    from storyteller.engine.folder import ModelFolder
    from storyteller.tensors import Tensor

    tensors = {name: Tensor(f"F{8 * values.dtype.itemsize}", values) for name, values in weights.items()}
    return _native(ModelFolder(label, Path(), config, {}, tokenizer_json), tensors, threads)


def _open_run(reference: str, runs_root: Path | None, threads: int, log: Callable[[str], None]) -> Engine:
    from storyteller.engine.folder import ModelFolder
    from storyteller.runs import checkpoints
    from storyteller.runs.layout import runs_root as default_root
    from storyteller.runs.store import find_checkpoint

    while True:
        path = find_checkpoint(runs_root or default_root(), reference, lambda error: log(f"skipped: {error.problem}"))
        label = f"{path.parent.parent.name}@{int(path.name.rpartition('-')[2])}"
        try:
            if "@" in reference:
                checkpoints.verify(path)  # a run's newest was verified when it was found
            return _open_folder(ModelFolder.open(path, label), threads, log)
        except CheckpointError:
            # A training run may have pruned the checkpoint between finding and reading it: look again.
            if path.is_dir():
                raise


def _verify(path: Path) -> None:
    """Check the sums of a checkpoint that a run sealed; other folders have none."""
    from storyteller.runs import checkpoints

    if (path / checkpoints.MANIFEST).exists():
        checkpoints.verify(path)


def _open_folder(folder: ModelFolder, threads: int, log: Callable[[str], None]) -> Engine:
    from storyteller.engine.pack import packable

    if packable(folder.config):
        return _native(folder, folder.tensors(), threads)
    from storyteller.engine.foreign import ForeignVoices

    log(f"{folder.label} is told by transformers, which takes some seconds to start")
    return _teller(folder, ForeignVoices(folder, threads))


def _native(folder: ModelFolder, tensors: Mapping[str, Tensor], threads: int) -> Engine:
    from storyteller.engine.native import NativeVoices
    from storyteller.engine.pack import pack

    return _teller(folder, NativeVoices(pack(folder, tensors), folder.vocabulary, folder.ends, threads))


def _teller(folder: ModelFolder, voices: Voices) -> Engine:
    from storyteller.engine.telling import Teller, load_tokenizer

    tokenizer = load_tokenizer(folder.tokenizer_json, folder.label)
    return Teller(folder.label, voices, tokenizer, folder.context, folder.begin, folder.ends)

"""Opens models and generates stories from them, in a process without torch.

    engine = open_model("latest", runs_root)
    for piece in engine.stream("Once upon a time", SamplingParams(seed=7)):
        ...

GPT-2 and Llama run on CTranslate2, every other architecture on transformers in a child process. Both backends are used
through `Engine` (`generate`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import STARTER
from storyteller.errors import CheckpointError, UsageError, invalid_value
from storyteller.inference.generate import Backend, Engine, load_tokenizer
from storyteller.inference.model_folder import ModelFolder
from storyteller.system.safetensors_file import Tensor
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import runs_root as default_root
from storyteller.tracking.run_index import find_checkpoint, find_run

if TYPE_CHECKING:
    from storyteller.system.safetensors_file import Array

__all__ = ["Engine", "engine_from_memory", "find_model", "is_run", "newest_label", "open_model"]

_STARTER_FOLDER = Path(__file__).resolve().parent / "starter"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def open_model(
    reference: str,
    runs_root: Path | None = None,
    threads: int = 0,
    log: Callable[[str], None] = lambda _: None,
    compute_type: str = "fp32",
) -> Engine:
    """Opens a model: a run (`RUN`, `RUN@STEP`, `RUN@best`, `latest`), `starter`, a folder, or `owner/name` on the Hub.

    `runs_root` is the folder of the runs (None: the default), and `log` is called before work that takes long.
    `threads` is the number of CPU threads; the default, 0, depends only on the machine and the model, so that a seed
    gives the same story each time. `compute_type` is `fp32` or `int8`, which is twice as fast with CTranslate2 but
    gives another story for the same seed; for that reason it is never chosen automatically. Raises RunError,
    CheckpointError, ModelError, HubError or UsageError.
    """
    if compute_type not in ("fp32", "int8"):
        raise invalid_value("--compute-type", compute_type, "fp32 or int8")
    while True:
        folder = find_model(reference, runs_root, log)
        try:
            return _open_folder(folder, threads, compute_type, log)
        except CheckpointError:
            # A training run may have pruned the checkpoint between finding and reading it: search again.
            if not is_run(reference) or folder.path.is_dir():
                raise


def find_model(
    reference: str, runs_root: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> ModelFolder:
    """Finds the folder of a model, named as for `open_model`, and verifies the checksums of a run's checkpoint.

    Does not read the weights. Raises RunError, CheckpointError, ModelError, HubError or UsageError.
    """
    if not reference.strip() or "\0" in reference:
        raise invalid_value("--model", reference, "a run, a checkpoint folder or owner/name")
    path, label = Path(reference).expanduser(), safe_line(reference, 100)
    if reference == STARTER:
        if not (_STARTER_FOLDER / "config.json").exists():
            raise CheckpointError(
                "this installation has no starter model", "train one with storyteller train, or name one with --model"
            )
        path = _STARTER_FOLDER
    if is_run(reference):
        return _find_run(reference, runs_root, log)
    if path.is_dir() or not _HUB_ID.fullmatch(reference):
        if (path / checkpoint_folders.MANIFEST).exists():  # a run's checkpoint; other folders have no checksums
            checkpoint_folders.verify(path, for_inference=True)
        return ModelFolder.open(path, label)
    from storyteller.inference.hub_models import fetch

    return ModelFolder.open(fetch(reference, log), label)


def is_run(reference: str) -> bool:
    """True if the reference is a run, with or without a step, and not the starter, a folder or a model of the Hub."""
    return reference != STARTER and "/" not in reference and not reference.startswith((".", "~"))


def newest_label(reference: str, runs_root: Path | None = None) -> str | None:
    """Returns the label that `open_model(reference)` would have now, or None if the reference is not a run.

    A session calls it between two stories, and opens the model again if the label has changed. It is cheap: only names
    of folders are read (and the manifests, for `RUN@best`). Raises RunError if there is no such run or checkpoint.
    """
    if not is_run(reference):
        return None
    root = runs_root or default_root()
    name, _, which = reference.partition("@")
    if which not in ("", "latest"):
        return _label(find_checkpoint(root, reference))
    folder = find_run(root, name)
    steps = checkpoint_folders.steps(folder)
    return _label(folder.checkpoint(steps[-1])) if steps else None


def engine_from_memory(
    weights: Mapping[str, Array], config: Mapping[str, Any], tokenizer_json: str, threads: int = 0
) -> Engine:
    """Opens a model from a state dict with the parameter names of transformers (F32 or F16) and its config.

    A training process generates its samples with it. Raises CheckpointError or ModelError.
    """
    tensors = {
        name: Tensor(f"F{8 * values.dtype.itemsize}", values.shape, memoryview(values.tobytes()))
        for name, values in weights.items()
    }
    return _open_ctranslate2(ModelFolder("model", Path(), config, {}, tokenizer_json), tensors, threads, "fp32")


def _find_run(reference: str, runs_root: Path | None, log: Callable[[str], None]) -> ModelFolder:
    root = runs_root or default_root()
    while True:
        path = find_checkpoint(root, reference, lambda error: log(f"skipped: {error.problem}"), for_inference=True)
        try:
            if "@" in reference:
                checkpoint_folders.verify(path, for_inference=True)  # a run's newest was verified when it was found
            return ModelFolder.open(path, _label(path))
        except CheckpointError:
            # A training run may have pruned the checkpoint between finding and reading it: search again.
            if path.is_dir():
                raise


def _label(checkpoint: Path) -> str:
    return f"{checkpoint.parent.parent.name}@{int(checkpoint.name.rpartition('-')[2])}"


def _open_folder(folder: ModelFolder, threads: int, compute_type: str, log: Callable[[str], None]) -> Engine:
    from storyteller.inference.ctranslate2_format import is_supported

    if is_supported(folder.config):
        return _open_ctranslate2(folder, folder.tensors(), threads, compute_type)
    from storyteller.inference.transformers_backend import TransformersBackend

    if compute_type != "fp32":
        raise UsageError(
            f"--compute-type {compute_type} is not supported for {folder.label}, which runs on transformers",
            "leave it out",
        )
    log(f"{folder.label} runs on transformers, which takes some seconds to start")
    return _engine(folder, TransformersBackend(folder, threads))


def _open_ctranslate2(folder: ModelFolder, tensors: Mapping[str, Tensor], threads: int, compute_type: str) -> Engine:
    from storyteller.inference.ctranslate2_backend import CTranslate2Backend
    from storyteller.inference.ctranslate2_format import pack

    backend = CTranslate2Backend(pack(folder, tensors), folder.vocab_size, folder.eos_ids, threads, compute_type)
    engine = _engine(folder, backend)  # loads the tokenizer while CTranslate2 loads the model
    backend.wait_until_loaded()
    return engine


def _engine(folder: ModelFolder, backend: Backend) -> Engine:
    tokenizer = load_tokenizer(folder.tokenizer_json, folder.label)
    return Engine(folder.label, backend, tokenizer, folder.context, folder.bos_id, folder.eos_ids)

"""The engine: a checkpoint and a prompt in, pieces of text out. No torch in this process.

    engine = open_model("latest", runs_root)
    for piece in engine.stream("Once upon a time", Sample(seed=7)):
        ...

GPT-2 and Llama are told by CTranslate2 (`native`), every other architecture by transformers in a child process
(`foreign`), both through the same interface (`telling`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from storyteller.config.configs import STARTER, SamplingParams
from storyteller.errors import CheckpointError, UsageError
from storyteller.inference.generate import GeneratedStory, StoryGenerator, load_tokenizer, with_seed
from storyteller.text import safe_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from storyteller.inference.generate import Backend
    from storyteller.inference.model_folder import ModelFolder
    from storyteller.system.safetensors_file import Array, Tensor

__all__ = [
    "STARTER",
    "Engine",
    "GeneratedStory",
    "engine_from_memory",
    "find_model",
    "is_run",
    "newest_label",
    "open_model",
    "with_seed",
]

_STARTER_FOLDER = Path(__file__).resolve().parent / "starter"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Engine(Protocol):
    """A model that stories are told from."""

    label: str
    """What the model is called: `run@step`, a folder, or `owner/name`."""
    context: int
    """Tokens that the model sees at once."""
    end_of_text: str | None
    """The token that ends a story, as the tokenizer writes it."""

    def stream(self, prompt: str, sample: SamplingParams) -> Generator[str, None, GeneratedStory]:
        """Pieces of the story after `prompt`, as they are told; the generator's return value is the Story.

        Closing it stops the telling. Raises UsageError at once where the prompt does not fit.
        """
        ...

    def batch(self, prompts: Sequence[str], sample: SamplingParams) -> list[GeneratedStory]:
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
    reference: str,
    runs_root: Path | None = None,
    threads: int = 0,
    log: Callable[[str], None] = lambda _: None,
    numbers: str = "fp32",
) -> Engine:
    """The model that `reference` names: a run (`RUN`, `RUN@STEP`, `RUN@best`, `latest`), a folder, or `owner/name`.

    `starter` is the model that comes with the package, whatever runs there are. `runs_root` is where runs lie (None:
    where they lie by default), `threads` of the CPU (0: a default that depends on nothing but the machine and the
    model, so that a seed tells the same story), `log` is told of what takes long. `numbers`: `fp32`, or `int8`, which
    is twice as fast where CTranslate2 tells, and tells another story for the same seed. There is no choice between the
    two by itself: a seed should mean one story. Raises RunError, CheckpointError, ModelError, HubError or UsageError.
    """
    if numbers not in ("fp32", "int8"):
        raise UsageError(f"--numbers {safe_line(numbers, 40)} is off", "it wants fp32 or int8")
    way = _OpenOptions(threads, numbers, log)
    while True:
        folder = find_model(reference, runs_root, log)
        try:
            return _open_folder(folder, way)
        except CheckpointError:
            # A training run may have pruned the checkpoint between finding and reading it: look again.
            if not is_run(reference) or folder.path.is_dir():
                raise


def find_model(
    reference: str, runs_root: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> ModelFolder:
    """The folder of the model that `reference` names, as `open_model` has it, verified where a run sealed it.

    Its weights are not read yet. Raises RunError, CheckpointError, ModelError, HubError or UsageError.
    """
    from storyteller.inference.model_folder import ModelFolder

    if not reference.strip() or "\0" in reference:
        raise UsageError(f"--model {safe_line(reference, 60)} is off", "name a run, a checkpoint folder or owner/name")
    path, label = Path(reference).expanduser(), safe_line(reference, 100)
    if reference == STARTER:
        return _find_starter()
    if is_run(reference):
        return _find_run(reference, runs_root, log)
    if path.is_dir() or not _HUB_ID.fullmatch(reference):
        _verify(path)
        return ModelFolder.open(path, label)
    from storyteller.inference.hub_models import fetch

    return ModelFolder.open(fetch(reference, log), label)


def is_run(reference: str) -> bool:
    """Whether it names a run, with or without a step, rather than the starter, a folder or a model of the Hub."""
    return reference != STARTER and "/" not in reference and not reference.startswith((".", "~"))


def newest_label(reference: str, runs_root: Path | None = None) -> str | None:
    """The label that `open_model(reference)` would have now, where it names a run whose checkpoints come and go.

    None for any other reference. Cheap: names alone are read, and no file of a checkpoint is looked into (for `RUN` and
    `latest`; `RUN@best` reads the manifests). A session asks it between two stories, and opens the model anew where the
    answer is another than its engine's label. Raises RunError where there is no such run or checkpoint.
    """
    if not is_run(reference):
        return None
    from storyteller.tracking import checkpoint_folders
    from storyteller.tracking.run_folder import runs_root as default_root
    from storyteller.tracking.run_index import find_checkpoint, find_run

    root = runs_root or default_root()
    name, _, which = reference.partition("@")
    if which not in ("", "latest"):
        return _label(find_checkpoint(root, reference))
    folder = find_run(root, name)
    steps = checkpoint_folders.steps(folder)
    return _label(folder.checkpoint(steps[-1])) if steps else None


def engine_from_memory(
    weights: Mapping[str, Array], config: Mapping[str, Any], tokenizer_json: str, threads: int = 0, label: str = "model"
) -> Engine:
    """Tell from weights in memory: a state dict in transformers' names (F32 or F16), and the config that goes with it.

    For a training process that tells a story on the way. Raises CheckpointError, ModelError.
    """
    from storyteller.inference.model_folder import ModelFolder
    from storyteller.system.safetensors_file import Tensor

    tensors = {
        name: Tensor(f"F{8 * values.dtype.itemsize}", values.shape, memoryview(values.tobytes()))
        for name, values in weights.items()
    }
    return _native(ModelFolder(label, Path(), config, {}, tokenizer_json), tensors, threads)


class _OpenOptions(NamedTuple):
    """How a model is opened."""

    threads: int
    numbers: str
    log: Callable[[str], None]


def _find_starter() -> ModelFolder:
    from storyteller.inference.model_folder import ModelFolder

    if not (_STARTER_FOLDER / "config.json").exists():
        raise CheckpointError(
            "this installation has no starter model", "train one with storyteller train, or name one with --model"
        )
    _verify(_STARTER_FOLDER)
    return ModelFolder.open(_STARTER_FOLDER, STARTER)


def _find_run(reference: str, runs_root: Path | None, log: Callable[[str], None]) -> ModelFolder:
    from storyteller.inference.model_folder import ModelFolder
    from storyteller.tracking import checkpoint_folders
    from storyteller.tracking.run_folder import runs_root as default_root
    from storyteller.tracking.run_index import find_checkpoint

    root = runs_root or default_root()
    while True:
        path = find_checkpoint(root, reference, lambda error: log(f"skipped: {error.problem}"), to_tell=True)
        try:
            if "@" in reference:
                checkpoint_folders.verify(path, to_tell=True)  # a run's newest was verified when it was found
            return ModelFolder.open(path, _label(path))
        except CheckpointError:
            # A training run may have pruned the checkpoint between finding and reading it: look again.
            if path.is_dir():
                raise


def _label(checkpoint: Path) -> str:
    """`run@step`."""
    return f"{checkpoint.parent.parent.name}@{int(checkpoint.name.rpartition('-')[2])}"


def _verify(path: Path) -> None:
    """Check the sums of a checkpoint that a run sealed; other folders have none."""
    from storyteller.tracking import checkpoint_folders

    if (path / checkpoint_folders.MANIFEST).exists():
        checkpoint_folders.verify(path, to_tell=True)


def _open_folder(folder: ModelFolder, way: _OpenOptions) -> Engine:
    from storyteller.inference.ctranslate2_format import packable

    if packable(folder.config):
        return _native(folder, folder.tensors(), way.threads, way.numbers)
    from storyteller.inference.transformers_backend import TransformersBackend

    if way.numbers != "fp32":
        raise UsageError(
            f"{folder.label} is told by transformers, which has no --numbers {way.numbers} here", "leave it out"
        )
    way.log(f"{folder.label} is told by transformers, which takes some seconds to start")
    return _teller(
        folder, TransformersBackend(folder, way.threads), load_tokenizer(folder.tokenizer_json, folder.label)
    )


def _native(folder: ModelFolder, tensors: Mapping[str, Tensor], threads: int, numbers: str = "fp32") -> Engine:
    from storyteller.inference.ctranslate2_backend import CTranslate2Backend
    from storyteller.inference.ctranslate2_format import pack

    files = pack(folder, tensors)
    voices: list[CTranslate2Backend | BaseException] = []

    def load() -> None:
        try:
            voices.append(
                CTranslate2Backend(
                    files, folder.vocabulary, folder.ends, threads, "int8" if numbers == "int8" else "fp32"
                )
            )
        except BaseException as error:  # noqa: BLE001  raised below
            voices.append(error)

    # CTranslate2 loads the model while this thread reads the tokenizer.
    loading = threading.Thread(target=load)
    loading.start()
    try:
        tokenizer = load_tokenizer(folder.tokenizer_json, folder.label)
    finally:
        loading.join()
    loaded = voices[0]
    if isinstance(loaded, BaseException):
        raise loaded
    return _teller(folder, loaded, tokenizer)


def _teller(folder: ModelFolder, voices: Backend, tokenizer: Tokenizer) -> Engine:
    return StoryGenerator(folder.label, voices, tokenizer, folder.context, folder.begin, folder.ends)

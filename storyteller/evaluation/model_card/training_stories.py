"""Finds the stories that a model was trained on, in which copies are looked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.config.configs import Config, DataConfig
from storyteller.errors import CorpusError, StorytellerError
from storyteller.evaluation.bits_per_byte import read_stories
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.data.sources import StorySource

DEFAULT_STORIES = 20_000
"""Default number of training stories: what a run of some minutes reads. Indexing them takes seconds."""
_HUB_PATIENCE_MINUTES = 0.25


@dataclass(frozen=True)
class TrainingStories:
    """Training stories and where they come from."""

    stories: tuple[str, ...]
    description: str  # safe to show
    own: bool  # true if the model was trained on these stories. Otherwise copies from its training data go undetected.
    whole: bool  # true if these are all stories of the source


def from_files(paths: Sequence[str], limit: int = DEFAULT_STORIES) -> TrainingStories:
    """Reads the first `limit` stories of files and folders. Raises CorpusError."""
    found, names = read_stories(paths, limit + 1, options="--train-data")
    stories, whole = found[:limit], len(found) <= limit
    return TrainingStories(stories, _description(stories, whole, names), own=True, whole=whole)


def from_run(
    folder: RunFolder, limit: int = DEFAULT_STORIES, log: Callable[[str], None] = lambda _: None
) -> TrainingStories:
    """Reads the first `limit` stories that a run trains on, in corpus order.

    `log` receives warnings of the reader. Raises RunError, CorpusError or HubError if the stories cannot be read or
    have changed since the run started.
    """
    from storyteller.data import held_out_file
    from storyteller.data.sources import open_corpus
    from storyteller.data.story_stream import StoryStream

    plan = folder.read_run()
    known = plan.get("data")
    if not isinstance(known, dict):
        raise CorpusError(f"{folder.name} has not read any stories yet", "wait for its first step or set --train-data")
    data = Config.from_json(plan["config"]).data
    kind = known.get("kind")
    if kind in ("tinystories", "bundled"):
        data = dataclasses.replace(data, source=kind)
    data = dataclasses.replace(data, shuffle_stories=1, hub_patience_minutes=_HUB_PATIENCE_MINUTES)
    source = open_corpus(data, revision=known.get("revision"), log=log)
    if source.description.get("fingerprint") != known.get("fingerprint"):
        raise CorpusError(
            f"the stories have changed since {folder.name} started", "restore the files or set --train-data"
        )
    kept = held_out_file.load(folder.held_out)
    stories, whole = _one_pass(StoryStream(source, data, seed=0, held_out=kept[1] if kept else frozenset()), limit)
    return TrainingStories(stories, _description(stories, whole, _corpus_name(source, folder)), own=True, whole=whole)


def from_bundled(limit: int = DEFAULT_STORIES) -> TrainingStories:
    """Returns the first `limit` bundled stories, for a model whose training data is unknown."""
    from storyteller.data.sources import BundledSource
    from storyteller.data.story_stream import StoryStream

    data = DataConfig(source="bundled", shuffle_stories=1)
    stories, whole = _one_pass(StoryStream(BundledSource(), data, seed=0), limit)
    return TrainingStories(stories, _description(stories, whole, "the bundled stories"), own=False, whole=whole)


def find_training_stories(
    run: RunFolder | None,
    paths: Sequence[str] = (),
    limit: int = DEFAULT_STORIES,
    log: Callable[[str], None] = lambda _: None,
) -> TrainingStories:
    """Reads the stories of `paths`, of the run, or else the bundled ones, with a line to `log`. Raises CorpusError."""
    if paths:
        return from_files(paths, limit)
    why = "the training data of this model is unknown"
    if run is not None:
        try:
            return from_run(run, limit, log)
        except StorytellerError as error:
            why = error.problem
    log(f"{why}: only copies of the bundled stories are detected (--train-data PATH sets the training stories)")
    return from_bundled(limit)


def run_of_model(model: str, label: str, root: Path) -> RunFolder | None:
    """The run that a model belongs to, or None. `model`: as given by the user; `label`: the engine's label."""
    from storyteller.inference.engine import is_run

    if is_run(model):
        return RunFolder(root / label.rpartition("@")[0])
    path = Path(model).expanduser()
    if path.is_dir():
        folder = RunFolder(path.resolve().parent.parent)
        if path.resolve().parent == folder.checkpoints and folder.run_json.is_file():
            return folder
    return None


def _one_pass(stories: Iterable[tuple[str, dict[str, object]]], limit: int) -> tuple[tuple[str, ...], bool]:
    """Returns the first `limit` stories of the first epoch, and True if these are all of them."""
    found: list[str] = []
    iterator = iter(stories)
    try:
        for story, position in iterator:
            found.append(story)
            if position["epoch"]:  # the position of the next story: this was the last one of the epoch
                return tuple(found), True
            if len(found) == limit:
                break
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    return tuple(found), False


def _description(stories: Sequence[str], whole: bool, name: str) -> str:
    return f"all {len(stories):,} stories of {name}" if whole else f"the first {len(stories):,} stories of {name}"


def _corpus_name(source: StorySource, folder: RunFolder) -> str:
    kind = source.description.get("kind")
    names = {"bundled": "the bundled stories", "tinystories": "TinyStories"}
    return f"{names.get(str(kind), 'the training data')}, without those held out from {safe_line(folder.name, 64)}"

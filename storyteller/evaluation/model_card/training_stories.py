"""Finds the stories that a model was trained on, in which copies are looked for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from storyteller.config.configs import Config, DataConfig
from storyteller.data import held_out_file
from storyteller.data.sources import BundledSource, open_corpus
from storyteller.data.story_stream import StoryStream
from storyteller.errors import CorpusError, StorytellerError
from storyteller.evaluation.bits_per_byte import read_stories
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder

DEFAULT_STORIES = 20_000  # what a run of some minutes reads; indexing them takes seconds
_HUB_PATIENCE_MINUTES = 0.25


@dataclass(frozen=True)
class TrainingStories:
    """Training stories and where they come from."""

    stories: tuple[str, ...]
    description: str  # safe to show
    own: bool  # True if the model was trained on these stories. Otherwise copies from its training data go undetected.
    whole: bool  # True if these are all stories of the source


def from_files(paths: Sequence[str], limit: int = DEFAULT_STORIES) -> TrainingStories:
    """Reads the first `limit` stories of files and folders. Raises CorpusError."""
    found, names = read_stories(paths, limit + 1, options="--train-data")
    return _training_stories(found[:limit], names, own=True, whole=len(found) <= limit)


def from_run(
    folder: RunFolder, limit: int = DEFAULT_STORIES, log: Callable[[str], None] = lambda _: None
) -> TrainingStories:
    """Reads the first `limit` stories that a run trains on, in corpus order.

    `log` receives warnings of the reader. Raises RunError, CorpusError or HubError if the stories cannot be read or
    have changed since the run started.
    """
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
    stream = StoryStream(source, data, seed=0, held_out=kept[1] if kept else frozenset())
    names = {"bundled": "the bundled stories", "tinystories": "TinyStories"}
    name = names.get(str(source.description.get("kind")), "the training data")
    return _first_epoch(stream, limit, f"{name}, without those held out from {safe_line(folder.name, 64)}", own=True)


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
    stream = StoryStream(BundledSource(), DataConfig(source="bundled", shuffle_stories=1), seed=0)
    return _first_epoch(stream, limit, "the bundled stories", own=False)


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


def _first_epoch(stream: StoryStream, limit: int, name: str, own: bool) -> TrainingStories:
    """Reads the first `limit` stories of the first epoch."""
    found: list[str] = []
    with contextlib.closing(iter(stream)) as stories:
        for story, position in stories:
            found.append(story)
            whole = bool(position["epoch"])  # the position of the next story: this was the last one of the epoch
            if whole or len(found) == limit:
                break
    return _training_stories(found, name, own, whole)


def _training_stories(stories: Sequence[str], name: str, own: bool, whole: bool) -> TrainingStories:
    description = f"{'all' if whole else 'the first'} {len(stories):,} stories of {name}"
    return TrainingStories(tuple(stories), description, own, whole)

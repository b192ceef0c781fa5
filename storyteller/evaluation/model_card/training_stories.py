"""The stories that a model was trained on, as far as they are to be had: what it may have learned by heart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from storyteller.config.configs import Config, DataConfig
from storyteller.data.cleaning import clean
from storyteller.errors import CorpusError, StorytellerError
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.data.sources import StorySource

MOST_STORIES = 20_000
"""Looked at where nobody says how many: what a run of minutes reads, and seconds of work."""
_HUB_PATIENCE_MINUTES = 0.25


@dataclass(frozen=True)
class TrainedOn:
    """Stories that a copy may be of."""

    stories: tuple[str, ...]
    words: str
    """What they are, safe to show."""
    own: bool
    """Whether they are known to be the model's own; else a copy of what it was trained on goes unseen."""
    whole: bool
    """Whether these are all there are."""


def of_files(paths: Sequence[str], most: int = MOST_STORIES) -> TrainedOn:
    """The first `most` stories of files and folders, which whoever names them says are the model's. CorpusError."""
    from storyteller.data.local_files import Files

    texts = (text for raw, _ in Files(paths).read(0, None) if (text := clean(raw)))
    stories, whole = _first(texts, most)
    names = safe_line(", ".join(paths), 100)
    if not stories:
        raise CorpusError(f"there is no story in {names}", "look at --train-data")
    return TrainedOn(stories, _counted(stories, whole, names), own=True, whole=whole)


def of_run(folder: RunFolder, most: int = MOST_STORIES, say: Callable[[str], None] = lambda _: None) -> TrainedOn:
    """The first `most` stories, in the corpus's order, that the run trains on.

    `say` hears what reading them meets. Raises RunError, CorpusError, HubError where they cannot be read any more, or
    are not those that the run was begun with.
    """
    from storyteller.data import held_out_file
    from storyteller.data.sources import open_corpus
    from storyteller.data.story_stream import TextStream

    plan = folder.read_run()
    known = plan.get("data")
    if not isinstance(known, dict):
        raise CorpusError(f"{folder.name} has not read a story yet", "wait for its first step, or give --train-data")
    data = Config.from_json(plan["config"]).data
    kind = known.get("kind")
    if kind in ("tinystories", "bundled"):
        data = dataclasses.replace(data, source=kind)
    data = dataclasses.replace(data, shuffle_stories=1, hub_patience_minutes=_HUB_PATIENCE_MINUTES)
    source = open_corpus(data, revision=known.get("revision"), say=say)
    if source.description.get("fingerprint") != known.get("fingerprint"):
        raise CorpusError(
            f"the stories are not those that {folder.name} was begun with", "put the files back, or give --train-data"
        )
    kept = held_out_file.kept(folder.held_out)
    stories, whole = _one_pass(TextStream(source, data, seed=0, held_out=kept[1] if kept else frozenset()), most)
    return TrainedOn(stories, _counted(stories, whole, _named(source, folder)), own=True, whole=whole)


def of_bundled(most: int = MOST_STORIES) -> TrainedOn:
    """The first `most` bundled tales, for a model whose own stories nobody has."""
    from storyteller.data.sources import BundledSource
    from storyteller.data.story_stream import TextStream

    data = DataConfig(source="bundled", shuffle_stories=1)
    stories, whole = _one_pass(TextStream(BundledSource(), data, seed=0), most)
    return TrainedOn(stories, _counted(stories, whole, "the bundled tales"), own=False, whole=whole)


def find(
    run: RunFolder | None,
    paths: Sequence[str] = (),
    most: int = MOST_STORIES,
    say: Callable[[str], None] = lambda _: None,
) -> TrainedOn:
    """The stories of `paths`, else the run's, else the bundled tales, which `say` hears of. Raises CorpusError."""
    if paths:
        return of_files(paths, most)
    why = "what this model was trained on is not known"
    if run is not None:
        try:
            return of_run(run, most, say)
        except StorytellerError as error:
            why = error.problem
    say(f"{why}: copies are looked for among the bundled tales alone (--train-data PATH names its stories)")
    return of_bundled(most)


def run_of(model: str, label: str, root: Path) -> RunFolder | None:
    """The run that a model is a checkpoint of; `label` is what the engine calls it."""
    from storyteller.inference.engine import is_run

    if is_run(model):
        return RunFolder(root / label.rpartition("@")[0])
    path = Path(model).expanduser()
    if path.is_dir():
        folder = RunFolder(path.resolve().parent.parent)
        if path.resolve().parent == folder.checkpoints and folder.run_json.is_file():
            return folder
    return None


def _one_pass(stories: Iterable[tuple[str, dict[str, object]]], most: int) -> tuple[tuple[str, ...], bool]:
    """The first `most` stories of the first pass, and whether those are all of it."""
    found: list[str] = []
    iterator = iter(stories)
    try:
        for story, position in iterator:
            found.append(story)
            if position["epoch"]:  # of what follows: this was the pass's last
                return tuple(found), True
            if len(found) == most:
                break
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
    return tuple(found), False


def _first(texts: Iterable[str], most: int) -> tuple[tuple[str, ...], bool]:
    found = tuple(islice(texts, most + 1))
    return found[:most], len(found) <= most


def _counted(stories: Sequence[str], whole: bool, name: str) -> str:
    return f"all {len(stories):,} stories of {name}" if whole else f"the first {len(stories):,} stories of {name}"


def _named(source: StorySource, folder: RunFolder) -> str:
    kind = source.description.get("kind")
    names = {"bundled": "the bundled tales", "tinystories": "TinyStories"}
    return f"{names.get(str(kind), 'the training data')}, without those held out from {safe_line(folder.name, 64)}"

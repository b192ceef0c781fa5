"""All that is known of a run, read once; what is missing or broken is named, and nothing else is the worse for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import storyteller
from storyteller.config.configs import STARTER
from storyteller.errors import CheckpointError, RunError
from storyteller.evaluation.model_card.card import Card
from storyteller.evaluation.model_card.card import read as read_card
from storyteller.tracking import checkpoint_folders, run_index
from storyteller.tracking.compare_runs import Result, compare_runs, read_curves
from storyteller.tracking.curves import Curves
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import read_status
from storyteller.tracking.sample_history import SampleHistory

BPB, LOSS = "eval/bpb", "train/loss"
_MOST_MANIFESTS = 1000
_MOST_EARLIER = 8
_MOST_DIGITS = 18
_LONGEST_LOG_BYTES = 16 << 20


@dataclass(frozen=True)
class RunSnapshot:
    """A run as it was found."""

    folder: RunFolder
    run: Mapping[str, Any]
    """What `run.json` says; nothing where it cannot be read."""
    summary: RunSummary
    result: Result
    curves: Curves
    growth: SampleHistory
    saved: tuple[int, ...]
    """Steps that have a checkpoint."""
    best_step: int | None
    """The step of the best one."""
    scored_on: str
    """Tells the held-out stories from others: equal where two runs were scored on the same. Empty: not known."""
    card: tuple[int, Card] | None
    """The newest step of which there is a card, and the card."""
    missing: tuple[str, ...]
    """What a reader should know is not there or damaged, a sentence each."""

    @property
    def name(self) -> str:
        return self.folder.name

    def section(self, name: str) -> Mapping[str, Any]:
        """A part of `run.json`; nothing where there is none."""
        return mapping(self.run.get(name))

    def setting(self, section: str, name: str) -> Any:
        """A setting as it was resolved; None where it is not known."""
        return mapping(self.section("config").get(section)).get(name)

    def bpb_at(self, step: int) -> float | None:
        """Bits per byte of held-out stories at a step, where they were scored there."""
        line = self.curves.line(BPB, begin=step, end=step)
        return next((value for x, value in zip(line.x, line.mean, strict=True) if x == step), None)


@dataclass(frozen=True)
class EarlierRun:
    """What is held against a portrait."""

    result: Result
    scored_on: str


def earlier_runs(folder: RunFolder) -> list[EarlierRun]:
    """Some of the runs beside this one that were begun before it, the newest first; those with a very long log, which
    would take long to read, are passed over."""
    began = run_index.created_at(folder)
    others = [
        other
        for other in run_index.list_runs(folder.path.parent)
        if other.name != folder.name and run_index.created_at(other) <= began and _is_quick(other)
    ]
    results = compare_runs(others[:_MOST_EARLIER]).results
    return [EarlierRun(result, scored_on(other)) for result, other in zip(results, others, strict=False)]


def read_portrait(folder: RunFolder) -> RunSnapshot:
    """Read the run. Never raises for what is in it; a log of a million lines takes some seconds."""
    curves = read_curves(folder)
    growth = SampleHistory(folder)
    growth.catch_up()
    run: Mapping[str, Any] = {}
    missing = []
    try:
        run = folder.read_run()
    except RunError as error:
        missing.append(_sentence(f"{error.problem}: its settings, data and machine are not known"))
    saved = tuple(run_index.seen_steps(folder))
    return RunSnapshot(
        folder=folder,
        run=run,
        summary=run_index.summarise(folder, curves.last),
        result=compare_runs([folder], {folder.name: curves}).results[0],
        curves=curves,
        growth=growth,
        saved=saved,
        best_step=_best_step(folder),
        scored_on=scored_on(folder),
        card=_newest_card(folder),
        missing=(*missing, *_missing(folder, curves, growth, saved)),
    )


def scored_on(folder: RunFolder) -> str:
    """A digest of the held-out stories that the run is scored on; empty where they are not known."""
    from storyteller.data.held_out_file import kept

    held_out = kept(folder.held_out)
    if held_out is None:
        return ""
    digest = hashlib.sha256()
    for story in held_out[0]:
        text = story.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8) + text)
    return digest.hexdigest()


def _is_quick(folder: RunFolder) -> bool:
    try:
        return folder.metrics.stat().st_size <= _LONGEST_LOG_BYTES
    except OSError:
        return False


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _newest_card(folder: RunFolder) -> tuple[int, Card] | None:
    try:
        names = [path.stem.rpartition("-")[2] for path in folder.cards.iterdir()]
    except OSError:
        return None
    steps = sorted((int(name) for name in names if name.isdecimal() and len(name) <= _MOST_DIGITS), reverse=True)
    found = ((step, card) for step in steps if (card := read_card(folder.card(step))) is not None)
    return next(found, None)


def starter_card() -> Card | None:
    """The card of the model that comes with the package; None where it has none."""
    return read_card(Path(storyteller.__file__).parent / STARTER / "card.json")


def _best_step(folder: RunFolder) -> int | None:
    try:
        best = checkpoint_folders.best(folder)
    except OSError:
        return None
    return int(best.name.rpartition("-")[2]) if best is not None else None


def _missing(folder: RunFolder, curves: Curves, growth: SampleHistory, saved: tuple[int, ...]) -> Iterator[str]:
    if read_status(folder) is None:
        yield "The run's status is missing or broken: how it ended is not known."
    if not curves.keys:
        yield "There are no metrics, so there are no curves."
    if not growth.prompts:
        yield "No story was told during training."
    if not saved:
        yield "There is no checkpoint."
    for step in saved[-_MOST_MANIFESTS:]:
        try:
            checkpoint_folders.manifest(folder.checkpoint(step))
        except CheckpointError as error:
            yield _sentence(error.problem)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."

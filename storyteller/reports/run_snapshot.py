"""Reads everything that a report shows of a run. What is missing or damaged is listed instead of raising."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import storyteller
from storyteller.config.configs import STARTER
from storyteller.errors import CheckpointError, RunError
from storyteller.evaluation.model_card.card import Card, read_card
from storyteller.tracking import checkpoint_folders, run_index
from storyteller.tracking.compare_runs import RunResult, compare_runs, read_curves
from storyteller.tracking.curves import Curves
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import read_status
from storyteller.tracking.sample_history import SampleHistory

BPB, LOSS = "eval/bpb", "train/loss"
_MAX_MANIFESTS = 1000
_MAX_EARLIER = 8
_MAX_DIGITS = 18
_MAX_LOG_BYTES = 16 << 20


@dataclass(frozen=True)
class RunSnapshot:
    """The state of a run folder at one moment."""

    folder: RunFolder
    run: Mapping[str, Any]  # the contents of `run.json`; empty if it cannot be read
    summary: RunSummary
    result: RunResult
    curves: Curves
    samples: SampleHistory
    saved: tuple[int, ...]  # steps that have a checkpoint
    scored_on: str
    """Digest of the held-out stories, equal for runs that were scored on the same ones; empty if unknown."""
    card: tuple[int, Card] | None  # the newest step with a model card, and the card
    missing: tuple[str, ...]  # what is missing or damaged, one sentence each

    @property
    def name(self) -> str:
        return self.folder.name

    def section(self, name: str) -> Mapping[str, Any]:
        """An object in `run.json`; empty if there is none."""
        return mapping(self.run.get(name))

    def setting(self, section: str, name: str) -> Any:
        """The resolved value of a setting; None if unknown."""
        return mapping(self.section("config").get(section)).get(name)

    def bpb_at(self, step: int) -> float | None:
        """Bits per byte on held-out stories at `step`; None if it was not evaluated there."""
        line = self.curves.line(BPB, begin=step, end=step)
        return next((value for x, value in zip(line.x, line.mean, strict=True) if x == step), None)


@dataclass(frozen=True)
class EarlierRun:
    """The result of a run that is compared with a newer one."""

    result: RunResult
    scored_on: str


def earlier_runs(folder: RunFolder) -> list[EarlierRun]:
    """Returns up to 8 runs of the same folder that were created before this one, the newest first.

    Runs with a metrics log of more than 16 MiB are left out: reading them would take long.
    """
    began = run_index.created_at(folder)
    others = [
        other
        for other in run_index.list_runs(folder.path.parent)
        if other.name != folder.name and run_index.created_at(other) <= began and _is_short(other)
    ]
    results = compare_runs(others[:_MAX_EARLIER]).results
    return [EarlierRun(result, scored_on(other)) for result, other in zip(results, others, strict=False)]


def read_snapshot(folder: RunFolder) -> RunSnapshot:
    """Reads a run. Damaged files do not raise. A metrics log of a million lines takes some seconds."""
    curves = read_curves(folder)
    samples = SampleHistory(folder)
    samples.catch_up()
    run: Mapping[str, Any] = {}
    missing = []
    try:
        run = folder.read_run()
    except RunError as error:
        missing.append(_sentence(f"{error.problem}: its settings, data and machine are not known"))
    saved = tuple(run_index.readable_steps(folder))
    return RunSnapshot(
        folder=folder,
        run=run,
        summary=run_index.summarise(folder, curves.last),
        result=compare_runs([folder], {folder.name: curves}).results[0],
        curves=curves,
        samples=samples,
        saved=saved,
        scored_on=scored_on(folder),
        card=_newest_card(folder),
        missing=(*missing, *_missing(folder, curves, samples, saved)),
    )


def scored_on(folder: RunFolder) -> str:
    """SHA-256 of the held-out stories of the run; empty if unknown."""
    from storyteller.data.held_out_file import load

    held_out = load(folder.held_out)
    if held_out is None:
        return ""
    digest = hashlib.sha256()
    for story in held_out[0]:
        text = story.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8) + text)
    return digest.hexdigest()


def _is_short(folder: RunFolder) -> bool:
    with contextlib.suppress(OSError):
        return folder.metrics.stat().st_size <= _MAX_LOG_BYTES
    return False


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _newest_card(folder: RunFolder) -> tuple[int, Card] | None:
    try:
        names = [path.stem.rpartition("-")[2] for path in folder.cards.iterdir()]
    except OSError:
        return None
    steps = sorted((int(name) for name in names if name.isdecimal() and len(name) <= _MAX_DIGITS), reverse=True)
    found = ((step, card) for step in steps if (card := read_card(folder.card(step))) is not None)
    return next(found, None)


def starter_card() -> Card | None:
    """The card of the model that the package contains; None if it cannot be read."""
    return read_card(Path(storyteller.__file__).parent / "inference" / STARTER / "card.json")


def _missing(folder: RunFolder, curves: Curves, samples: SampleHistory, saved: tuple[int, ...]) -> Iterator[str]:
    if read_status(folder) is None:
        yield "The run's status is missing or broken: how it ended is not known."
    if not curves.keys:
        yield "There are no metrics, so there are no curves."
    if not samples.prompts:
        yield "No samples were generated during training."
    if not saved:
        yield "There is no checkpoint."
    for step in saved[-_MAX_MANIFESTS:]:
        try:
            checkpoint_folders.manifest(folder.checkpoint(step))
        except CheckpointError as error:
            yield _sentence(error.problem)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."

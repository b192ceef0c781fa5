"""The runs there are, looked at again and again: what did not change is not read again."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storyteller.system.json_values import finite
from storyteller.tracking.metrics_log import by_step, sampled_records
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import (
    FIGURES,
    LOOK_BACK_BYTES,
    RunSummary,
    check_readable,
    created_at,
    newest_figures,
    run_folders,
    summarise,
)
from storyteller.tracking.run_status import LIVING

_OVERLAP_BYTES = 1 << 16
"""Looked at once more before what is new in a log: a line that was under way the last time begins there."""
_SPARK_GROWTH = 1.02
"""A log that has grown by less than this gets no new sparkline, but its newest loss at the end."""

_Mark = tuple[int, int, int, int] | None
"""What tells one version of a file from another; None where there is none."""


@dataclass
class _Known:
    """What the last look at a run has found."""

    marks: tuple[_Mark, ...] = ()
    created_mark: _Mark = None
    created: float = 0.0
    summary: RunSummary | None = None
    log: _Mark = None
    figures: dict[str, Any] = field(default_factory=dict)
    figure_steps: dict[str, int] = field(default_factory=dict)
    sparks: dict[int, tuple[int, list[float]]] = field(default_factory=dict)
    """By the number of points: the log's size then, and the points."""


class RunWatcher:
    """The runs of a folder, for whoever shows them live: `look` as often as once a second costs next to nothing.

    May be called from any thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def poll(self) -> list[RunSummary]:
        """What `summarise` says of each run now, the newest first. Whether a living run still lives is always asked.

        Raises RunError as `store.check_readable`.
        """
        with self._lock:
            check_readable(self._root)
            folders = run_folders(self._root)
            self._known = {folder.name: self._known.get(folder.name) or _Known() for folder in folders}
            for folder in folders:
                known = self._known[folder.name]
                mark = _mark(folder.run_json)
                if known.summary is None or mark != known.created_mark:
                    known.created_mark, known.created = mark, created_at(folder)
            folders.sort(key=lambda folder: (self._known[folder.name].created, folder.name), reverse=True)
            return [_looked_at(folder, self._known[folder.name]) for folder in folders]

    def loss_sparkline(self, name: str, points: int = 24) -> list[float]:
        """The training loss of the run called so from its beginning to now, as at most so many points."""
        with self._lock:
            known = self._known.get(name)
            if known is None or points < 1:
                return []
            folder = RunFolder(self._root / name)
            mark = _mark(folder.metrics)
            size = mark[3] if mark is not None else 0
            before = known.sparks.get(points)
            if before is None or not before[0] <= size <= before[0] * _SPARK_GROWTH:
                before = known.sparks[points] = size, _sampled_losses(folder.metrics, points)
            newest = known.summary.train_loss if known.summary is not None else None
            return before[1] if newest is None else [*before[1][: points - 1], newest]


def _looked_at(folder: RunFolder, known: _Known) -> RunSummary:
    marks = tuple(_mark(path) for path in (folder.run_json, folder.status_json, folder.wandb_json, folder.metrics))
    if known.summary is None or marks != known.marks or known.summary.state in LIVING:
        if known.summary is None or marks[-1] != known.log:
            _look_at_log(folder, known, marks[-1])
        known.summary, known.marks = summarise(folder, known.figures), marks
    return known.summary


def _look_at_log(folder: RunFolder, known: _Known, mark: _Mark) -> None:
    """Bring the figures up to date: of a log that has grown, only what is new is read."""
    before, within = known.log, LOOK_BACK_BYTES
    grown = before is not None and mark is not None and before[:2] == mark[:2] and before[3] < mark[3]
    if grown and before is not None and mark is not None:
        within = min(within, mark[3] - before[3] + _OVERLAP_BYTES)
    figures, steps = newest_figures(folder, within)
    if grown:
        step = figures.get("step", known.figures.get("step"))
        kept = [key for key in FIGURES if key in known.figures and key not in figures]
        if any(known.figure_steps.get(key, 0) > step for key in kept if isinstance(step, int)):
            figures, steps = newest_figures(folder)  # a resume went back past where a figure was logged
        else:
            figures = {**{key: known.figures[key] for key in kept}, **figures}
            steps = {**known.figure_steps, **steps}
    known.figures, known.figure_steps, known.log = figures, steps, mark


def _sampled_losses(path: Path, points: int) -> list[float]:
    _, records = sampled_records(path, points)
    losses = [loss for record in by_step(records) if (loss := finite(record.get("train/loss"))) is not None]
    points = min(points, len(losses))
    parts = [losses[len(losses) * i // points : len(losses) * (i + 1) // points] for i in range(points)]
    return [sum(loss / len(part) for loss in part) for part in parts]


def _mark(path: Path) -> _Mark:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

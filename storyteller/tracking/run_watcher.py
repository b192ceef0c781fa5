"""Watches the runs of a folder: summarises them again and again, reading only files that changed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storyteller.system.files import open_regular
from storyteller.system.json_values import finite
from storyteller.tracking.log_follower import LogFollower
from storyteller.tracking.metrics_log import by_step, sampled_records
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import (
    FIGURES,
    RunSummary,
    check_readable,
    created_at,
    figures_in,
    newest_figures,
    run_folders,
    summarise,
)
from storyteller.tracking.run_status import LIVING

_MOST_NEW_BYTES = 1 << 20  # if more was added to a log since the last poll, its end is searched instead of reading all
_SPARK_GROWTH = 1.02  # a log must grow by this factor for a new sparkline; until then only the newest loss is appended

_Mark = tuple[int, int, int, int] | None  # a file's device, inode, mtime and size, which tell its versions apart


@dataclass
class _Known:
    """What is known of a run from the last poll."""

    marks: tuple[_Mark, ...] = ()
    created: float = 0.0
    summary: RunSummary | None = None
    log: LogFollower = field(default_factory=LogFollower)
    figures: dict[str, Any] = field(default_factory=dict)
    sparks: dict[int, tuple[int, list[float]]] = field(default_factory=dict)  # by number of points: log size, points


class RunWatcher:
    """Watches the runs of a folder for a live view; cheap enough to poll every second. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def poll(self) -> list[RunSummary]:
        """Summarises each run, newest first. Always checks whether the process of a live run is still alive.

        Raises RunError as `run_index.check_readable` does.
        """
        with self._lock:
            check_readable(self._root)
            folders = run_folders(self._root)
            self._known = {folder.name: self._known.get(folder.name) or _Known() for folder in folders}
            for folder in folders:
                known = self._known[folder.name]
                if known.summary is None or _mark(folder.run_json) != known.marks[1]:
                    known.created = created_at(folder)
            folders.sort(key=lambda folder: (self._known[folder.name].created, folder.name), reverse=True)
            return [_summary(folder, self._known[folder.name]) for folder in folders]

    def loss_sparkline(self, name: str, points: int = 24) -> list[float]:
        """The training loss of the run `name` from its start until now, as at most `points` values."""
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


def _summary(folder: RunFolder, known: _Known) -> RunSummary:
    marks = tuple(_mark(path) for path in (folder.metrics, folder.run_json, folder.status_json, folder.wandb_json))
    if known.summary is None or marks != known.marks or known.summary.state in LIVING:
        if known.summary is None or marks[0] != known.marks[0]:
            _update_figures(folder, known)
        known.summary, known.marks = summarise(folder, known.figures), marks
    return known.summary


def _update_figures(folder: RunFolder, known: _Known) -> None:
    """Updates the newest values; reads only what is new in a log that has grown."""
    try:
        with open_regular(folder.metrics) as file:
            is_new = known.log.restart_if_replaced(file) or not known.log.position
            if is_new or known.log.unread_bytes(file) > _MOST_NEW_BYTES:
                known.log.skip_to_end(file)
                known.figures = newest_figures(folder)
            for part in known.log.read_to_end(file):
                if part.is_resume:  # supersedes some of the values
                    known.figures = newest_figures(folder)
                for record in part.records:
                    kept = {key: known.figures[key] for key in FIGURES if key in known.figures}
                    known.figures = kept | figures_in(record)
    except OSError:
        known.figures = {}


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

"""What of a run is on its Weights & Biases page: the cursor in `wandb.json`, and the rows that the page is made of.

Every row has a number, its place in the page's history. A complete line of the metrics is a row; the stories told at
one step are a row, whose number is written down before it is sent. So the same files give the same rows with the same
numbers however often they are read, and a server that says how many rows it has says where to go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from storyteller.config.configs import Config
from storyteller.system.files import read_regular, write_json
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import seen_state

MOST_STORIES = 64
"""Stories in one row; more of one step make another."""


@dataclass(frozen=True)
class WandbCursor:
    """The contents of `wandb.json`. The first `rows` rows are known to be on the server."""

    id: str
    """The run's id on the server; one for all processes that ever mirror this run."""
    project: str
    entity: str | None = None
    url: str | None = None
    """The page's address; None until a server has answered."""
    mode: str = "online"
    rows: int = 0
    metrics_offset: int = 0
    """Bytes of the metrics that those rows hold."""
    samples_offset: int = 0
    """Bytes of the samples that those rows hold."""
    last_step: int | None = None
    """Of the last metrics among those rows."""
    planned: tuple[tuple[int, int, int], ...] = ()
    """Rows of stories after `rows`: number, and where their samples begin and end, in bytes."""
    ended_as: str = ""
    """The state of the run that the server was told with the summary; empty while the page is not complete."""
    artifact: str = ""
    """SHA-256 of the manifest of the checkpoint that was sent last."""
    was_stopped: bool = False
    """Whether the run was stopped from its page before."""
    problem: str = ""
    """Why the last attempt did not get through."""

    @classmethod
    def fresh(cls, project: str) -> Self:
        return cls(id=secrets.token_hex(5), project=project)

    @classmethod
    def from_json(cls, plain: object) -> Self | None:
        """What `write` wrote; None where it is something else."""
        if not isinstance(plain, dict) or not all(isinstance(plain.get(name), str) for name in ("id", "project")):
            return None
        known = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        try:
            known["planned"] = tuple((int(n), int(begin), int(end)) for n, begin, end in plain.get("planned", ()))
        except (TypeError, ValueError):
            return None
        for name in ("rows", "metrics_offset", "samples_offset"):
            if not isinstance(known.get(name, 0), int) or known.get(name, 0) < 0:
                return None
        kinds: dict[str, tuple[type, ...]] = {
            "url": (str, type(None)),
            "entity": (str, type(None)),
            "last_step": (int, type(None)),
            "was_stopped": (bool,),
        }
        for name in ("mode", "ended_as", "artifact", "problem", *kinds):
            if name in known and not isinstance(known[name], kinds.get(name, (str,))):
                return None
        return cls(**known)

    def write(self, folder: RunFolder) -> None:
        """Replace `wandb.json`, atomically. Raises OSError."""
        write_json(folder.wandb_json, asdict(self))


def page_address(folder: RunFolder) -> str:
    """The address of the run's page; empty where it has none (yet)."""
    mirrored = read_mirrored(folder)
    return (mirrored.url if mirrored is not None else None) or ""


def read_mirrored(folder: RunFolder) -> WandbCursor | None:
    """What `wandb.json` says; None where it is missing or broken."""
    try:
        return WandbCursor.from_json(json.loads(read_regular(folder.wandb_json)))
    except (OSError, ValueError, RecursionError):
        return None


@dataclass(frozen=True)
class WandbRow:
    """One row of the page: the metrics of one line, or stories of one step."""

    number: int
    metrics: Mapping[str, Any] | None = None
    stories: tuple[Mapping[str, Any], ...] = ()


class WandbRows:
    """The rows of a run from the cursor on, as its files grow."""

    def __init__(self, folder: RunFolder, mirrored: WandbCursor) -> None:
        self._folder = folder
        self.mirrored = mirrored
        """The cursor as it is on the disk: planned rows are added to it, `acknowledge` moves it."""
        self._number = mirrored.rows
        self._metrics_offset = mirrored.metrics_offset
        self._samples_offset = mirrored.samples_offset
        self._last_step = mirrored.last_step
        self._lines: Iterator[tuple[dict[str, Any], int]] = iter(())
        self._line: tuple[dict[str, Any], int] | None = None
        self._group: _RowGroup | None = None

    @property
    def number(self) -> int:
        """The number of the next row."""
        return self._number

    def at_end(self) -> bool:
        """Whether there is no row left."""
        return self._known() is None and self._peek() is None and self._look() is None

    def next(self, settled: bool) -> WandbRow | None:
        """The next row; None where there is none yet.

        Stories come before the metrics of later steps. They become a row when all of their step are there: when others
        follow, when a second look finds no more, or, with `settled`, at once. Raises OSError where the row's number
        cannot be written down.
        """
        return self._known() or self._stories(settled) or self._metrics()

    def skip_to(self, number: int) -> None:
        """Pass over the rows before `number`, which the server has, and move the cursor past them. Raises OSError."""
        while self._number < number and (self._known() or self._metrics()) is not None:
            pass  # stories that are not planned yet were never sent
        self.acknowledge()

    def acknowledge(self, **changes: Any) -> None:
        """Write down that the server has every row so far, and `changes` of the cursor. Raises OSError."""
        moved = replace(
            self.mirrored,
            rows=self._number,
            metrics_offset=self._metrics_offset,
            samples_offset=self._samples_offset,
            last_step=self._last_step,
            planned=tuple(row for row in self.mirrored.planned if row[0] >= self._number),
        )
        self.note(moved, **changes)

    def note(self, mirrored: WandbCursor | None = None, **changes: Any) -> None:
        """Write down `changes` of the cursor, which stays where it is. Raises OSError."""
        changed = replace(mirrored or self.mirrored, **changes)
        if changed != self.mirrored:
            changed.write(self._folder)
            self.mirrored = changed

    def _known(self) -> WandbRow | None:
        """The next row, where it is one of stories that was planned before."""
        for number, begin, end in self.mirrored.planned:
            if number == self._number:
                return self._told(begin, end)
        return None

    def _stories(self, settled: bool) -> WandbRow | None:
        """A new row of stories, its number written down."""
        if any(number > self._number for number, _, _ in self.mirrored.planned):
            return None  # the metrics before those are read again first
        line = self._peek()
        group, seen = self._look(), self._group
        self._group = group
        if group is None or (line is not None and not group.comes_before(line[0])):
            return None
        if not (settled or group.is_whole or (line is None and seen == group)):
            return None
        self.note(planned=(*self.mirrored.planned, (self._number, self._samples_offset, group.end)))
        return self._told(self._samples_offset, group.end)

    def _metrics(self) -> WandbRow | None:
        line, self._line = self._peek(), None
        if line is None:
            return None
        record, self._metrics_offset = line
        step = record.get("step")
        self._last_step = step if isinstance(step, int) else self._last_step
        self._number += 1
        return WandbRow(self._number - 1, metrics=record)

    def _peek(self) -> tuple[dict[str, Any], int] | None:
        """The next line of the metrics, and the offset after it."""
        if self._line is None:
            self._line = next(self._lines, None)
        if self._line is None:
            self._lines = records_from(self._folder.metrics, self._metrics_offset)
            self._line = next(self._lines, None)
        return self._line

    def _look(self) -> _RowGroup | None:
        """The stories of one step that come next."""
        if self._group is not None and self._group.is_whole:
            return self._group
        group: _RowGroup | None = None
        for n, (record, end) in enumerate(records_from(self._folder.samples, self._samples_offset)):
            if group is not None and (record.get("step") != group.step or n >= MOST_STORIES):
                return replace(group, is_whole=True)
            group = _RowGroup(record.get("step"), end)
        return group

    def _told(self, begin: int, end: int) -> WandbRow:
        told = itertools.takewhile(lambda line: line[1] <= end, records_from(self._folder.samples, begin))
        stories = [record for record, _ in told]
        self._samples_offset, self._group = end, None
        self._number += 1
        return WandbRow(self._number - 1, stories=tuple(stories))


@dataclass(frozen=True)
class _RowGroup:
    """Stories told at one step."""

    step: object
    end: int
    """Of the last one's line, in bytes."""
    is_whole: bool = False
    """Stories of another step follow."""

    def comes_before(self, metrics: Mapping[str, Any]) -> bool:
        step = metrics.get("step")
        return not (isinstance(step, int) and isinstance(self.step, int)) or self.step < step


def is_at_work(folder: RunFolder) -> bool:
    """Whether a mirror of the run lives."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder.mirror_lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def is_complete(folder: RunFolder) -> bool:
    """Whether the server is known to have every row of a run that has ended, its summary and what else was asked for.

    Raises RunError where the run's plan cannot be read.
    """
    mirrored = read_mirrored(folder)
    if mirrored is None or mirrored.mode != "online" or mirrored.ended_as != seen_state(folder):
        return False
    wants_artifact = Config.from_json(folder.read_run().get("config") or {}).mirror.wandb_artifacts
    return WandbRows(folder, mirrored).at_end() and (not wants_artifact or mirrored.artifact == best_seal(folder))


def best_seal(folder: RunFolder) -> str:
    """SHA-256 of the best checkpoint's manifest; empty where there is none."""
    best = checkpoint_folders.best(folder)
    if best is None:
        return ""
    with contextlib.suppress(OSError):
        return hashlib.sha256((best / checkpoint_folders.MANIFEST).read_bytes()).hexdigest()
    return ""


def records_from(path: Path, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
    """The objects of all complete lines from a byte offset on, each with the offset after it; none without a file.

    One at a time, so that a log of any length may be read. Broken lines are passed over.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record, offset

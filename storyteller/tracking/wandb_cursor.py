"""Which rows of a run are on its Weights & Biases page: the rows, and the cursor kept in `wandb.json`.

The page's history is a sequence of numbered rows. A line of the metrics is a row; so are the stories of one step. The
numbering is the same however often the files are read, so a mirror that starts anew asks the server how many rows it
has and goes on with the next one. No row is left out, none is sent twice.

The order of metrics rows follows from the file. The place of a story row among them does not: it depends on when the
stories were seen. Its number and its bytes in the samples are therefore written to the cursor before it is sent.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from storyteller.config.configs import Config
from storyteller.system.files import write_json
from storyteller.system.json_values import read_dataclass_file
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import iter_records
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import seen_state

MOST_STORIES = 64  # stories in one row; a step with more of them has several rows


@dataclass(frozen=True)
class WandbCursor:
    """The contents of `wandb.json`. The server is known to have the first `rows` rows."""

    id: str  # the run's id on the server, the same for every mirror of this run
    project: str
    entity: str | None = None
    url: str | None = None  # address of the page; None until a server has answered
    mode: str = "online"
    rows: int = 0
    metrics_offset: int = 0  # bytes of the metrics in those rows
    samples_offset: int = 0  # bytes of the samples in those rows
    last_step: int | None = None  # step of the last metrics in those rows
    planned: tuple[tuple[int, int, int], ...] = ()  # story rows after `rows`: number, and range of bytes in the samples
    ended_as: str = ""  # the run's state that was sent with the summary; empty while the page is not complete
    artifact: str = ""  # SHA-256 of the manifest of the checkpoint that was uploaded last
    was_stopped: bool = False  # the run was stopped from its page before
    problem: str = ""  # why the last attempt failed

    @classmethod
    def fresh(cls, project: str) -> Self:
        return cls(id=secrets.token_hex(5), project=project)


def page_url(folder: RunFolder) -> str:
    """Address of the run's page; empty if it has none yet."""
    cursor = read_cursor(folder)
    return (cursor.url if cursor is not None else None) or ""


def read_cursor(folder: RunFolder) -> WandbCursor | None:
    """Reads `wandb.json`; None if it is missing or broken."""
    found = read_dataclass_file(WandbCursor, folder.wandb_json)
    return found if found is not None and min(found.rows, found.metrics_offset, found.samples_offset) >= 0 else None


@dataclass(frozen=True)
class WandbRow:
    """One row of the page: the metrics of one line, or the stories of one step."""

    number: int
    metrics: Mapping[str, Any] | None = None
    stories: tuple[Mapping[str, Any], ...] = ()


class WandbRows:
    """Reads the rows of a run, from the cursor on, as its files grow."""

    def __init__(self, folder: RunFolder, cursor: WandbCursor) -> None:
        self._folder = folder
        self.cursor = cursor  # the cursor as it is on the disk. Planning a story row adds to it; `skip_to` moves it.
        self.number = cursor.rows  # number of the next row
        self._metrics_offset = cursor.metrics_offset
        self._samples_offset = cursor.samples_offset
        self._last_step = cursor.last_step
        self._lines: Iterator[tuple[dict[str, Any], int]] = iter(())
        self._line: tuple[dict[str, Any], int] | None = None
        self._group: _StoryGroup | None = None

    def at_end(self) -> bool:
        """True if no row is left."""
        return self._planned_range() is None and self._next_line() is None and self._next_group() is None

    def next(self, settled: bool) -> WandbRow | None:
        """Returns the next row; None if there is none yet.

        Stories come before the metrics of later steps. They are sent once their step is complete: when stories of
        another step follow, when a second look finds no more of them, or, with `settled`, at once. Raises OSError if
        the number of a story row cannot be written down.
        """
        planned = self._planned_range()
        return self._story_row(*planned) if planned else self._new_story_row(settled) or self._metrics_row()

    def skip_to(self, number: int) -> None:
        """Skips the rows before `number`, which the server has, and moves the cursor past them. Raises OSError."""
        while self.number < number:
            # Story rows without a planned number were never sent, so they are not among these.
            planned = self._planned_range()
            if (self._story_row(*planned) if planned else self._metrics_row()) is None:
                break
        self.update_cursor(
            rows=self.number,
            metrics_offset=self._metrics_offset,
            samples_offset=self._samples_offset,
            last_step=self._last_step,
            planned=tuple(row for row in self.cursor.planned if row[0] >= self.number),
        )

    def update_cursor(self, **changes: Any) -> None:
        """Replaces `wandb.json` atomically if any of the changes makes a difference. Raises OSError."""
        changed = replace(self.cursor, **changes)
        if changed != self.cursor:
            write_json(self._folder.wandb_json, asdict(changed))
            self.cursor = changed

    def _planned_range(self) -> tuple[int, int] | None:
        """First byte and end of the next row's samples, if it is a story row whose number was written down before."""
        return next(((begin, end) for number, begin, end in self.cursor.planned if number == self.number), None)

    def _new_story_row(self, settled: bool) -> WandbRow | None:
        if any(number > self.number for number, _, _ in self.cursor.planned):
            return None  # a later row is planned already: until then, all rows are metrics
        line = self._next_line()
        group, seen = self._next_group(), self._group
        self._group = group
        step = line[0].get("step") if line is not None else None
        if group is None or (isinstance(step, int) and isinstance(group.step, int) and group.step >= step):
            return None
        if not (settled or group.is_complete or (line is None and seen == group)):
            return None
        begin = self._samples_offset
        self.update_cursor(planned=(*self.cursor.planned, (self.number, begin, group.end)))
        return self._story_row(begin, group.end)

    def _story_row(self, begin: int, end: int) -> WandbRow:
        lines = itertools.takewhile(lambda line: line[1] <= end, iter_records(self._folder.samples, begin))
        stories = tuple(record for record, _ in lines)
        self._samples_offset, self._group = end, None
        self.number += 1
        return WandbRow(self.number - 1, stories=stories)

    def _metrics_row(self) -> WandbRow | None:
        line, self._line = self._next_line(), None
        if line is None:
            return None
        record, self._metrics_offset = line
        step = record.get("step")
        self._last_step = step if isinstance(step, int) else self._last_step
        self.number += 1
        return WandbRow(self.number - 1, metrics=record)

    def _next_line(self) -> tuple[dict[str, Any], int] | None:
        """The next record of the metrics, not consumed, and the offset behind its line."""
        if self._line is None:
            self._line = next(self._lines, None)
        if self._line is None:
            # The iterator ended at what was then the end of the file: look whether the file has grown.
            self._lines = iter_records(self._folder.metrics, self._metrics_offset)
            self._line = next(self._lines, None)
        return self._line

    def _next_group(self) -> _StoryGroup | None:
        """The stories of one step that come next, not consumed."""
        if self._group is not None and self._group.is_complete:
            return self._group
        group: _StoryGroup | None = None
        for n, (record, end) in enumerate(iter_records(self._folder.samples, self._samples_offset)):
            if group is not None and (record.get("step") != group.step or n >= MOST_STORIES):
                return replace(group, is_complete=True)
            group = _StoryGroup(record.get("step"), end)
        return group


@dataclass(frozen=True)
class _StoryGroup:
    """The stories of one step."""

    step: object
    end: int  # offset behind the last story's line, in bytes
    is_complete: bool = False  # stories of another step follow


def mirror_is_running(folder: RunFolder) -> bool:
    """True if a mirror of the run is running: it holds the lock."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(folder.mirror_lock).acquire(timeout=0):
            return False
    except Timeout:
        return True


def is_complete(folder: RunFolder) -> bool:
    """True if the run has ended and the server is known to have its rows, its summary and its artifact, if asked for.

    Raises RunError if `run.json` cannot be read.
    """
    cursor = read_cursor(folder)
    if cursor is None or cursor.mode != "online" or cursor.ended_as != seen_state(folder):
        return False
    wants_artifact = Config.from_json(folder.read_run().get("config") or {}).mirror.wandb_artifacts
    has_artifact = not wants_artifact or cursor.artifact == checkpoint_folders.best_manifest_sha256(folder)
    return has_artifact and WandbRows(folder, cursor).at_end()

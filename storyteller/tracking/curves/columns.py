"""Rows of a metrics log, one a step, as columns of numbers; a resume replaces the rows from its step on."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from storyteller.system.json_values import finite
from storyteller.tracking.metrics_log import has_step, split_at_resumes

Numbers = NDArray[Any]
X = Literal["step", "tokens", "seconds"]
AXES: tuple[X, ...] = ("step", "tokens", "seconds")

_LONGEST_TIME = 200
_DOWN_SECONDS = 2.5
"""A jump of the wall clock against the trained seconds by more than this means that no process was training. Two
lines of one process differ by rounding only, and starting a process takes longer."""


@dataclass
class MetricColumns:
    """The metrics of N steps, in ascending order of step."""

    offsets: Numbers  # where the first line of each step starts in the file, in bytes: int64, N
    x: dict[X, Numbers]  # by axis: float64, N; NaN where a line has none, never for `step`
    values: dict[str, Numbers]  # by metric: float64, N; NaN where the step has none

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, chosen: Numbers | slice) -> MetricColumns:
        return MetricColumns(
            self.offsets[chosen],
            {axis: column[chosen] for axis, column in self.x.items()},
            {key: column[chosen] for key, column in self.values.items()},
        )

    def record(self, row: int) -> dict[str, Any]:
        """One row in the form of a line of the log."""
        columns: dict[str, Numbers] = {**dict(self.x.items()), **self.values}
        found = {key: float(column[row]) for key, column in columns.items() if column[row] == column[row]}
        return {**found, "step": int(found["step"])}


def rows_of(offsets: Sequence[int], records: Sequence[Mapping[str, Any]], keys: Collection[str]) -> MetricColumns:
    """Makes one row a step from records of ascending steps, merging the lines of a step; the later value wins.

    Values that are not finite numbers count as missing.
    """
    steps = np.array([record["step"] for record in records], dtype=np.float64)
    starts = np.flatnonzero(np.concatenate(([True], steps[1:] != steps[:-1])))[: len(steps)]
    merged = len(starts) < len(steps)

    def column(key: str) -> Numbers:
        values = _numbers([record.get(key) for record in records])
        if not merged:
            return values
        lines = np.where(np.isnan(values), -1, np.arange(len(values)))
        newest = np.maximum.reduceat(lines, starts)
        return np.where(newest >= 0, values[newest], np.nan)

    x: dict[X, Numbers] = {"step": steps[starts], "tokens": column("tokens"), "seconds": column("seconds")}
    return MetricColumns(np.array(offsets, dtype=np.int64)[starts], x, {key: column(key) for key in keys})


def rows_as_left(offsets: Sequence[int], records: Sequence[dict[str, Any]], keys: Collection[str]) -> MetricColumns:
    """Makes rows from records in the order of the log; a resume replaces the rows from its step on."""
    rows = rows_of((), (), keys)
    for part in split_at_resumes(records):
        rows = joined(rows, rows_of(offsets[part], records[part], keys))
    return rows


def joined(before: MetricColumns, after: MetricColumns) -> MetricColumns:
    """The rows `before` with steps below the first one of `after`, then the rows `after`."""
    if len(after):
        before = before.where(before.x["step"] < after.x["step"][0])
    lacking = [np.full(len(rows), np.nan) for rows in (before, after)]
    return MetricColumns(
        np.concatenate((before.offsets, after.offsets)),
        {axis: np.concatenate((before.x[axis], after.x[axis])) for axis in AXES},
        {
            key: np.concatenate((before.values.get(key, lacking[0]), after.values.get(key, lacking[1])))
            for key in {**before.values, **after.values}
        },
    )


def newest_values(rows: MetricColumns) -> dict[str, float | str]:
    """The newest value of each metric in the rows."""
    there = {key: np.flatnonzero(~np.isnan(column)) for key, column in rows.values.items()}
    return {key: float(rows.values[key][places[-1]]) for key, places in there.items() if len(places)}


def position_of(record: Mapping[str, Any]) -> dict[str, float | str]:
    """Step, tokens, seconds and time of a record, without those that are not valid."""
    axes = AXES if has_step(record) else AXES[1:]
    found: dict[str, float | str] = {key: record[key] for key in axes if finite(record.get(key)) is not None}
    if isinstance(record.get("time"), str):
        found["time"] = record["time"][:_LONGEST_TIME]
    return found


def breaks(records: Sequence[Mapping[str, Any]], ahead: float | None) -> tuple[list[int], float | None]:
    """Returns the steps before which training was interrupted, and by how much the wall clock is ahead of the trained
    seconds at the last record.

    `ahead` is that lead before these records. Only training records count: an evaluation is logged later than the
    trained seconds that it names.
    """
    trained = [record for record in records if "train/loss" in record]
    newest = _ahead(trained[-1]) if trained else None
    if newest is None or (ahead is not None and newest - ahead <= _DOWN_SECONDS):
        return [], ahead if newest is None else newest
    steps = []
    for record in trained:
        now = _ahead(record)
        if now is None:
            continue
        if ahead is not None and now - ahead > _DOWN_SECONDS:
            steps.append(record["step"])
        ahead = now
    return steps, ahead


def _ahead(record: Mapping[str, Any]) -> float | None:
    seconds, time = finite(record.get("seconds")), record.get("time")
    if seconds is not None and isinstance(time, str):
        with contextlib.suppress(ValueError, OverflowError, OSError):
            return datetime.datetime.fromisoformat(time).timestamp() - seconds
    return None


def _numbers(values: list[Any]) -> Numbers:
    """float64 of the same length; NaN for values that are not finite numbers."""
    if set(map(type, values)) <= {float, int, type(None)}:
        with contextlib.suppress(OverflowError):  # an integer of hundreds of digits
            column = np.array(values, dtype=np.float64)
            column[np.isinf(column)] = np.nan
            return column
    return np.array([finite(value) for value in values], dtype=np.float64)

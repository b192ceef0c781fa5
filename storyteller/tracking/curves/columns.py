"""Lines of a log as rows: one a step, in columns of numbers."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from storyteller.system.json_values import finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

X = Literal["step", "tokens", "seconds"]
AXES: tuple[X, ...] = ("step", "tokens", "seconds")

_LARGEST_STEP = 2**53
"""Beyond it a step is no exact number in a column; no run comes near."""
_DOWN_SECONDS = 2.5
"""The wall clock gets so far ahead of the trained seconds only where no process trained: two lines of one process
differ by their rounding, and a start takes longer than this."""


@dataclass
class MetricColumns:
    """What N steps logged, by ascending step."""

    offsets: Numbers
    """Of each step's first line, in bytes. int64, N."""
    x: dict[X, Numbers]
    """float64, N; NaN where a line has none. Steps always are there."""
    values: dict[str, Numbers]
    """By key. float64, N; NaN where the step has none."""

    def __len__(self) -> int:
        return len(self.offsets)

    def where(self, chosen: Numbers | slice) -> MetricColumns:
        """Some of the rows."""
        return MetricColumns(
            self.offsets[chosen],
            {axis: column[chosen] for axis, column in self.x.items()},
            {key: column[chosen] for key, column in self.values.items()},
        )

    def record(self, row: int) -> dict[str, Any]:
        """One row as a line would have it."""
        columns: dict[str, Numbers] = {**dict(self.x.items()), **self.values}
        found = {key: float(column[row]) for key, column in columns.items() if column[row] == column[row]}
        return {**found, "step": int(found["step"])}


def is_step(step: object) -> bool:
    """Whether it is a whole number that a column can hold."""
    return type(step) is int and -_LARGEST_STEP <= step <= _LARGEST_STEP


def courses(
    offsets: Sequence[int], records: Sequence[dict[str, Any]]
) -> Iterator[tuple[Sequence[int], Sequence[dict[str, Any]]]]:
    """The lines parted where a step is below the one before it: each part but the first begins with a resume."""
    begin = 0
    for i in range(1, len(records)):
        if records[i]["step"] < records[i - 1]["step"]:
            yield offsets[begin:i], records[begin:i]
            begin = i
    yield offsets[begin:], records[begin:]


def rows_of(offsets: Sequence[int], records: Sequence[Mapping[str, Any]], keys: Collection[str]) -> MetricColumns:
    """One row a step from lines of ascending steps; lines of one step are merged, the later value winning.

    What is no finite number counts as not there.
    """
    import numpy as np

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
    """The rows of lines in the order of the log, as the last course left them: a resume replaces what was there from
    its step on."""
    rows = rows_of((), (), keys)
    for course_offsets, course in courses(offsets, records):
        rows = joined(rows, rows_of(course_offsets, course, keys))
    return rows


def joined(before: MetricColumns, after: MetricColumns) -> MetricColumns:
    """The rows before, as far as those after do not replace them, and the rows after."""
    import numpy as np

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


def with_steps(offsets: list[int], records: list[dict[str, Any]]) -> tuple[list[int], list[dict[str, Any]]]:
    """The lines that name a whole-number step; the others have no place on a curve."""
    if all(is_step(record.get("step")) for record in records):
        return offsets, records
    chosen = [i for i, record in enumerate(records) if is_step(record.get("step"))]
    return [offsets[i] for i in chosen], [records[i] for i in chosen]


def breaks(records: Sequence[Mapping[str, Any]], ahead: float | None) -> tuple[list[int], float | None]:
    """Steps before which nobody trained for a while, and how far the wall clock now is ahead of the trained seconds.

    `ahead` is the latter before these lines. Only lines about training count: those of an evaluation are written later
    than the trained seconds that they name.
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
    if seconds is None or not isinstance(time, str):
        return None
    try:
        return datetime.datetime.fromisoformat(time).timestamp() - seconds
    except (ValueError, OverflowError, OSError):
        return None


def _numbers(values: list[Any]) -> Numbers:
    """float64 of the same length; NaN for what is no finite number."""
    import numpy as np

    if set(map(type, values)) <= {float, int, type(None)}:
        try:
            column = np.array(values, dtype=np.float64)
        except OverflowError:  # a whole number of hundreds of digits
            pass
        else:
            column[np.isinf(column)] = np.nan
            return column
    return np.array([finite(value) for value in values], dtype=np.float64)

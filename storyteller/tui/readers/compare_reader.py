"""The reader of the compare screen: follows the logs of several runs, and compares their settings and results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.tracking.compare_runs import RunComparison, RunResult, compare_runs
from storyteller.tracking.curves import Line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tui.readers.chart_reader import ChartReader, LineRequest

_COMPARE_SECONDS = 1.0  # least time between two comparisons


@dataclass
class LinesCompared(Message):
    """The lines of the requested metric, by run; a run without the metric has none."""

    request: LineRequest
    lines: Mapping[str, Line]
    keys: frozenset[str]  # all metrics that at least one of the runs has
    is_whole: bool  # False while a log is still being read; the lines are then sketches


@dataclass
class RunsCompared(Message):
    """The differing settings and the results of the runs; a run whose folder is gone is in state `deleted`."""

    comparison: RunComparison


class CompareReader(ChartReader):
    """Reads the runs of the request, and posts their lines and their comparison."""

    look_seconds = 0.25
    draw_seconds = 0.7

    def __init__(self, owner: MessagePump, root: Path) -> None:
        super().__init__(owner, root, "compare reader")
        self._results: dict[str, RunResult] = {}
        self._compared_at = -1e9
        self._compared: RunComparison | None = None

    def wake(self) -> None:
        self._compared_at = -1e9
        super().wake()

    def want(self, request: LineRequest) -> None:
        if request.runs != self._request.runs:
            self._compared_at = -1e9
        super().want(request)

    def _read(self) -> float:
        request = self._request
        caught = self._catch_up(request.runs)
        due_seconds = self._draw(request)
        self._compare(request.runs)
        return self._pause(caught, due_seconds)

    def _draw(self, request: LineRequest) -> float:
        is_whole = self._whole.issuperset(request.runs)
        versions = tuple(self._curves[name].version for name in request.runs)
        if due_seconds := self._seconds_until_due(request, is_whole, versions):
            return due_seconds
        keys = frozenset(key for name in request.runs for key in self._curves[name].keys)
        lines = next(iter(self._lines(request).values()), {})
        self._post(LinesCompared(request, lines, keys, is_whole))
        return self.look_seconds

    def _compare(self, names: tuple[str, ...]) -> None:
        now = time.monotonic()
        if now - self._compared_at < _COMPARE_SECONDS:
            return
        self._compared_at = now
        present = [name for name in names if (self._root / name).is_dir()]
        found = compare_runs([RunFolder(self._root / name) for name in present], self._curves)
        known = self._results | {result.name: result for result in found.results}
        self._results = {name: known.get(name) or RunResult(name, "", *[None] * 8) for name in names}
        for name in set(names).difference(present):
            self._results[name] = replace(self._results[name], state="deleted")
        comparison = with_columns(found, names, self._results)
        if comparison != self._compared:
            self._compared = comparison
            self._post(RunsCompared(comparison))


def with_columns(comparison: RunComparison, names: tuple[str, ...], results: Mapping[str, RunResult]) -> RunComparison:
    """The comparison with the columns of the runs `names`; a run that it does not have gets an empty column."""
    places = [comparison.names.index(name) if name in comparison.names else None for name in names]
    differences = tuple(
        (key, tuple(None if place is None else values[place] for place in places))
        for key, values in comparison.differences
    )
    return RunComparison(names, differences, tuple(results[name] for name in names))

"""How late a run's reader may be: its waits, by a clock that only its waits move."""

from __future__ import annotations

import datetime
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual.message import Message

from storyteller.tracking import run_index
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
from storyteller.tui.readers import chart_reader, run_reader
from storyteller.tui.readers.chart_reader import LineRequest
from storyteller.tui.readers.run_reader import LinesUpdated, RunReader, SummaryUpdated

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LATEST_SECONDS = 0.5
"""A line comes at most so long after it was written; what it takes to read and draw it comes on top."""


class World:
    """A run that trains, and the only clock there is: time passes while the reader waits."""

    def __init__(self, folder: RunFolder, lines: dict[int, float]) -> None:
        """`lines`: when each step is logged, seconds; a heartbeat is written each second, as in training."""
        self.now = 0.0
        self.posted: list[tuple[float, Message]] = []
        self.over: Callable[[], object] = lambda: None
        self.folder = folder
        self._due = sorted(
            [(at, "line", step) for step, at in lines.items()]
            + [(float(n), "beat", 0) for n in range(1, int(max(lines.values())) + 3)]
        )
        self._step = 0
        self._end = max(lines.values()) + 2

    def wait(self, seconds: float) -> None:
        """The reader's wait."""
        self.now += seconds
        while self._due and self._due[0][0] <= self.now:
            at, what, step = self._due.pop(0)
            if what == "line":
                self._step = step
                record = {"step": step, "tokens": 64 * step, "time": stamp(at), "train/loss": 1 / step}
                with self.folder.metrics.open("a") as log:
                    log.write(json.dumps(record) + "\n")
            else:
                self.beat(at)
        if self.now >= self._end:
            self.over()

    def beat(self, at: float) -> None:
        beat = own_status("running", step=self._step, tokens=64 * self._step)
        write_status(self.folder, replace(beat, heartbeat_at=stamp(at)))

    def monotonic(self) -> float:
        return self.now

    def post_message(self, message: Message) -> None:
        self.posted.append((self.now, message))

    def clear(self) -> None: ...

    def set(self) -> None: ...

    def is_set(self) -> bool:
        return False


def stamp(at: float) -> str:
    moment = BEGIN + datetime.timedelta(seconds=at)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def read_through(folder: RunFolder, lines: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> World:
    """What a reader of the run posts, and when."""
    world = World(folder, lines)
    world.beat(0)
    reader = RunReader(cast(Any, world), folder)
    reader.want(LineRequest((folder.name,), ("train/loss",)))
    world.over = reader.stop
    for module in (chart_reader, run_reader):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=world.monotonic))
    monkeypatch.setattr(reader, "_poked", world)
    reader.run()
    return world


def late(world: World, step: int, at: float) -> tuple[float, float]:
    """Seconds from a line's writing to its step in the head, and to its point in the chart."""
    head = next(
        seen for seen, what in world.posted if isinstance(what, SummaryUpdated) and (what.summary.step or 0) >= step
    )
    chart = next(
        seen
        for seen, what in world.posted
        if isinstance(what, LinesUpdated)
        and what.lines.get("train/loss")
        and what.lines["train/loss"][world.folder.name].x[-1] >= step
    )
    return head - at, chart - at


@pytest.mark.parametrize("every_seconds", [0.03, 0.45, 0.7, 1.01, 3.0])
def test_a_new_line_waits_half_a_second_at_most_whatever_its_pace_and_the_heartbeats(
    tmp_path: Path, every_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "fox")
    folder.path.mkdir()
    folder.write_run({"name": "fox", "config": {}})
    source = random.Random(3)
    lines = {n: n * every_seconds + source.uniform(0, every_seconds) for n in range(1, 1 + int(12 / every_seconds))}
    looks: list[float] = []
    seen = run_index.summarise

    def summarise(*given: Any) -> Any:
        looks.append(0)
        return seen(*given)

    monkeypatch.setattr(run_index, "summarise", summarise)
    world = read_through(folder, lines, monkeypatch)
    delays = [late(world, step, at) for step, at in lines.items()]
    assert max(max(both) for both in delays) <= LATEST_SECONDS + 1e-6
    # It costs no more looks and pictures than its pauses allow, however fast the run logs.
    pictures = sum(isinstance(what, LinesUpdated) for _, what in world.posted)
    assert pictures <= world.now / 0.5 + 3
    assert len(looks) <= pictures + world.now / 0.6 + 3
    assert sum(isinstance(what, SummaryUpdated) for _, what in world.posted) <= len(looks)


def test_a_line_after_a_while_of_none_waits_for_one_look_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "fox")
    folder.path.mkdir()
    folder.write_run({"name": "fox", "config": {}})
    lines = {1: 1.11, 2: 3.37, 3: 5.03}
    world = read_through(folder, lines, monkeypatch)
    assert max(max(late(world, step, at)) for step, at in lines.items()) <= 0.2 + 1e-6

"""The reader of several runs: a thread that follows their logs and posts their lines and how they compare."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.tracking.compare_runs import Result, RunComparison, compare_runs
from storyteller.tracking.curves import Curves, Line, X
from storyteller.tracking.run_folder import RunFolder

_LOOK_SECONDS = 0.25
"""Between two looks at whether a log has grown."""
_DRAW_SECONDS = 0.7
"""Between two pictures of runs that log without end."""
_COMPARE_SECONDS = 1.0
_READ_SECONDS = 0.05
"""Of reading one log in one go: between two of them, what was asked for is answered."""
_BREATH_SECONDS = 0.005


@dataclass(frozen=True)
class Sight:
    """What the chart shows."""

    names: tuple[str, ...] = ()
    key: str = "train/loss"
    x: X = "step"
    begin: float | None = None
    end: float | None = None
    points: int = 400
    smoothing: float = 0.0


class CompareLines(Message):
    """The lines of what was wanted, by run; a run without the metric has none."""

    def __init__(self, sight: Sight, lines: Mapping[str, Line], keys: frozenset[str], is_whole: bool) -> None:
        super().__init__()
        self.sight = sight
        self.lines = lines
        self.keys = keys
        """Every metric that one of the runs has."""
        self.is_whole = is_whole
        """Whether every log was read; else a sketch stands for the rest."""


class Compared(Message):
    """How the runs differ and what came of each; a run whose folder is gone is in state `deleted`."""

    def __init__(self, comparison: RunComparison) -> None:
        super().__init__()
        self.comparison = comparison


class CompareReader:
    """Reads on a thread of its own and posts to `owner`; it never raises for what is on the disk."""

    def __init__(self, owner: MessagePump, root: Path) -> None:
        self._owner = owner
        self._root = root
        self._curves: dict[str, Curves] = {}
        self._whole: set[str] = set()
        self._results: dict[str, Result] = {}
        self._lock = threading.Lock()
        self._sight = Sight()
        self._over = threading.Event()
        self._nudged = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._drawn: object = None
        self._drawn_at = self._compared_at = -1e9
        self._compared: RunComparison | None = None

    def start(self) -> None:
        threading.Thread(target=self._work, name="reader of several runs", daemon=True).start()

    def stop(self) -> None:
        """Read no more; returns at once."""
        self._over.set()
        self._awake.set()
        self._nudged.set()

    def sleep(self) -> None:
        """Read nothing while nobody sees it."""
        self._awake.clear()

    def wake(self) -> None:
        """Read again, at once."""
        self._compared_at = -1e9
        self._awake.set()
        self._nudged.set()

    def want(self, sight: Sight) -> None:
        """Post lines for this from now on, the first of them at once."""
        with self._lock:
            if sight.names != self._sight.names:
                self._compared_at = -1e9
            self._sight = sight
        self._nudged.set()

    def _work(self) -> None:
        while not self._over.is_set():
            self._nudged.clear()
            with self._lock:
                sight = self._sight
            caught = self._read(sight.names)
            self._draw(sight)
            self._compare(sight)
            self._nudged.wait(_LOOK_SECONDS if caught else _BREATH_SECONDS)
            self._awake.wait()

    def _post(self, message: Message) -> None:
        if not self._over.is_set():
            self._owner.post_message(message)

    def _read(self, names: Sequence[str]) -> bool:
        """Read on in each log; True once at the end of all. A run that is new here is sketched first."""
        for name in [name for name in self._curves if name not in names]:
            del self._curves[name], self._results[name]
            self._whole.discard(name)
        fresh = [name for name in names if name not in self._curves]
        for name in fresh:
            self._curves[name] = Curves(RunFolder(self._root / name))
            self._curves[name].sketch()
            self._results[name] = _nothing_known(name)
        if fresh:
            return False
        caught = True
        for name in names:
            if self._curves[name].catch_up(_READ_SECONDS):
                self._whole.add(name)
            else:
                caught = False
        return caught

    def _draw(self, sight: Sight) -> None:
        """Work the lines out, where they are not as they were posted last."""
        whole = all(name in self._whole for name in sight.names)
        version = (sight, whole, tuple(self._curves[name].version for name in sight.names))
        now = time.monotonic()
        asked = not isinstance(self._drawn, tuple) or self._drawn[0] != sight
        if version == self._drawn or (not asked and now - self._drawn_at < _DRAW_SECONDS):
            return
        self._drawn, self._drawn_at = version, now
        lines = {
            name: self._curves[name].line(sight.key, sight.x, sight.begin, sight.end, sight.points, sight.smoothing)
            for name in sight.names
            if sight.key in self._curves[name].keys
        }
        keys = frozenset(key for name in sight.names for key in self._curves[name].keys)
        self._post(CompareLines(sight, lines, keys, whole))

    def _compare(self, sight: Sight) -> None:
        now = time.monotonic()
        if now - self._compared_at < _COMPARE_SECONDS:
            return
        self._compared_at = now
        there = [name for name in sight.names if (self._root / name).is_dir()]
        found = compare_runs([RunFolder(self._root / name) for name in there], self._curves)
        self._results |= {result.name: result for result in found.results}
        gone = {name: replace(self._results[name], state="deleted") for name in sight.names if name not in there}
        places = [there.index(name) if name in there else None for name in sight.names]
        comparison = RunComparison(
            sight.names,
            tuple(
                (key, tuple(None if place is None else values[place] for place in places))
                for key, values in found.differences
            ),
            tuple(gone.get(name) or self._results[name] for name in sight.names),
        )
        if comparison != self._compared:
            self._compared = comparison
            self._post(Compared(comparison))


def _nothing_known(name: str) -> Result:
    return Result(name, "", None, None, None, None, None, None, None, None)

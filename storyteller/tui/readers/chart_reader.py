"""What the readers behind charts share: they follow the metrics logs of some runs and compute the requested lines."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.message_pump import MessagePump

from storyteller.tracking.curves import Curves, Line, X
from storyteller.tracking.run_folder import RunFolder
from storyteller.tui.readers.reader_thread import ReaderThread

_READ_SECONDS = 0.05  # longest read of one log before requests are answered again
_YIELD_SECONDS = 0.005
"""Pause between two reads of a long log, which leaves the interpreter to the thread that handles keys."""


@dataclass(frozen=True)
class LineRequest:
    """The lines that a chart shows."""

    runs: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()  # the metrics, such as `train/loss`
    x: X = "step"
    begin: float | None = None  # the range of the x axis; None: as far as the data goes
    end: float | None = None
    points: int = 400
    smoothing: float = 0.0


class ChartReader(ReaderThread):
    """Follows the metrics logs of the requested runs. `root` is the runs folder."""

    look_seconds: ClassVar[float]  # pause between two looks at whether a log has grown
    draw_seconds: ClassVar[float]  # least time between two updates of the lines while the runs keep logging

    def __init__(self, owner: MessagePump, root: Path, name: str) -> None:
        super().__init__(owner, name)
        self._root = root
        self._curves: dict[str, Curves] = {}
        self._whole: set[str] = set()
        """Runs whose log was read to its end; the lines of the others are sketched from parts of it."""
        self._request = LineRequest()  # replaced by the screen's thread, and read once in each `_read`
        self._drawn: tuple[object, ...] = (None,)
        """The request and the versions of the data of the last lines."""
        self._drawn_at = -1e9

    def want(self, request: LineRequest) -> None:
        """Post the lines of `request` from now on, the first of them at once."""
        self._request = request
        self.poke()

    def _catch_up(self, names: Collection[str]) -> bool:
        """Read on in each log. Returns True once all are at their end. A new run is sketched first."""
        for name in set(self._curves).difference(names):
            del self._curves[name]
            self._whole.discard(name)
        caught = True
        for name in names:
            if name not in self._curves:
                self._curves[name] = Curves(RunFolder(self._root / name))
                self._curves[name].sketch()
                caught = False
            elif self._curves[name].catch_up(_READ_SECONDS):
                self._whole.add(name)
            else:
                caught = False
        return caught

    def _seconds_until_due(self, request: LineRequest, *versions: object) -> float:
        """Seconds until new lines are to be posted, 0 for now. New data waits for its turn, a new request does not."""
        if self._drawn == (request, *versions):
            return self.look_seconds
        now = time.monotonic()
        if not self._is_new(request) and now - self._drawn_at < self.draw_seconds:
            return self._drawn_at + self.draw_seconds - now
        self._drawn, self._drawn_at = (request, *versions), now
        return 0.0

    def _is_new(self, request: LineRequest) -> bool:
        return self._drawn[0] != request

    def _pause(self, caught: bool, due_seconds: float) -> float:
        return min(due_seconds, self.look_seconds) if caught else _YIELD_SECONDS

    def _lines(self, request: LineRequest) -> dict[str, dict[str, Line]]:
        """The lines by metric, then by run; a run without the metric has none."""
        shape = (request.x, request.begin, request.end, request.points, request.smoothing)
        curves = {name: self._curves[name] for name in request.runs}
        return {
            key: {name: each.line(key, *shape) for name, each in curves.items() if key in each.keys}
            for key in request.keys
        }

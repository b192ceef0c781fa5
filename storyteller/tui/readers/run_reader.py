"""The reader of the run screen: follows one run's folder and posts what it finds.

Everything that touches the disk or takes long happens on its thread: following the metrics log, computing the lines of
the charts, reading stories and the training process's log, and checking that the process is alive.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.errors import RunError, StorytellerError
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_index
from storyteller.tracking.curves import Curves, Line, X
from storyteller.tracking.log_file import FileTail
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import LIVING
from storyteller.tracking.sample_history import SampleHistory
from storyteller.tui.readers.chart_reader import ChartReader, LineRequest
from storyteller.tui.readers.reader_thread import stamp

_STATE_SECONDS = 0.6  # pause between two checks that the process is alive
_AXIS_POINTS = 1 << 14
_MOST_EVALUATIONS = 4000
_TAIL_BYTES = 256 << 10
_LONGEST_LOG_LINE = 2000


@dataclass(frozen=True)
class StepAxis:
    """Converts between steps and places on the x axis, which may count tokens or seconds."""

    steps: Sequence[float] = ()  # ascending; empty if the axis counts steps
    places: Sequence[float] = ()  # the place of each step, ascending

    def place_of(self, step: float) -> float:
        return _interpolate(step, self.steps, self.places) if self.steps else step

    def step_at(self, place: float) -> float:
        return _interpolate(place, self.places, self.steps) if self.steps else place


# --- messages ---------------------------------------------------------------------------------------------------------


@dataclass
class SummaryUpdated(Message):
    """The state of the run; `gone` means that its folder was deleted, and the summary is the last one known."""

    summary: RunSummary
    gone: bool


@dataclass
class PlanRead(Message):
    """The contents of `run.json`, or the problem that kept it from being read."""

    plan: Mapping[str, Any]
    problem: str


@dataclass
class LinesUpdated(Message):
    """The requested lines: by metric, then by run."""

    request: LineRequest
    lines: Mapping[str, Mapping[str, Line]]
    resumes: tuple[float, ...]  # places on the x axis at which the run was resumed
    checkpoints: tuple[float, ...]  # places on the x axis at which a checkpoint was saved
    axis: StepAxis
    bpb: Line  # held-out bits per byte over steps
    share_read: float  # the share of the metrics log that was read, 0 to 1; the rest is sketched

    def bpb_at(self, step: int) -> float | None:
        """Held-out bits per byte of the evaluation at a step, or within 0.2 % of it; None if there is none."""
        steps = self.bpb.x
        after = bisect_left(steps, step)
        near = [at for at in (after - 1, after) if 0 <= at < len(steps)]
        nearest = min(near, key=lambda at: abs(steps[at] - step), default=None)
        if nearest is None or abs(steps[nearest] - step) > max(0.5, step * 0.002):
            return None
        return self.bpb.mean[nearest]


@dataclass
class StoriesUpdated(Message):
    """New stories were sampled, or checkpoints were saved or deleted."""

    checkpoint_steps: tuple[int, ...]
    best_step: int | None


@dataclass
class LogUpdated(Message):
    """New lines of the training process's log, safe to show."""

    lines: Sequence[str]
    anew: bool  # True if they replace all earlier lines
    cut: bool  # True if lines before these were left out


# --- the reader -------------------------------------------------------------------------------------------------------


class RunReader(ChartReader):
    """Reads one run's folder, and the metrics logs of runs drawn over it. `history` may be used from any thread."""

    look_seconds = 0.2
    draw_seconds = 0.5

    def __init__(self, owner: MessagePump, folder: RunFolder) -> None:
        super().__init__(owner, folder.path.parent, f"reader of {folder.name}")
        self.history = SampleHistory(folder)
        self._folder = folder
        self._own = self._curves[folder.name] = Curves(folder)
        self._log = FileTail(folder.log, most_bytes=_TAIL_BYTES)
        self._summary: RunSummary | None = None
        self._gone = False
        self._checkpoints: tuple[int, ...] = ()
        self._seen: dict[str, object] = {}  # what each part of the folder looked like when it was read last
        self._looked_at = -1e9

    def wake(self) -> None:
        self._seen.pop("state", None)
        self._looked_at = -1e9
        super().wake()

    def _begin(self) -> None:
        self._look()
        self._own.sketch()
        self._see_state()

    def _read(self) -> float:
        self._look()
        request = self._request
        was_whole = self._is_whole
        caught = self._catch_up(dict.fromkeys((self._folder.name, *request.runs)))
        if self._is_whole and not was_whole:
            self._see_state()
        is_drawn = self._folder.path.is_dir() or self._poked.is_set()
        return self._pause(caught, self._draw(request) if is_drawn else self.look_seconds)

    @property
    def _is_whole(self) -> bool:
        return self._folder.name in self._whole

    # --- status, plan, stories, log -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Checks status, samples, checkpoints and log, and posts what has changed."""
        now = time.monotonic()
        gone = not self._folder.path.is_dir()
        if now - self._looked_at >= _STATE_SECONDS or gone != self._gone:
            self._looked_at, self._gone = now, gone
            self._see_state()
        if gone:
            return
        if self._changed("plan", stamp(self._folder.run_json)):
            self._see_plan()
        has_new_stories = self.history.catch_up()
        if self._changed("checkpoints", stamp(self._folder.checkpoints)) or has_new_stories:
            self._see_stories()
        if self._changed("log", stamp(self._folder.log)):
            with contextlib.suppress(OSError):  # of a log that cannot be read nothing is shown
                lines, restarted, skipped = self._log.read()
                if lines or restarted:
                    self._post(LogUpdated(safe_log_lines(lines), restarted, skipped))

    def _changed(self, what: str, seen: object) -> bool:
        changed = self._seen.get(what, self) != seen  # `self` equals nothing: the first look is always a change
        self._seen[what] = seen
        return changed

    def _see_state(self) -> None:
        last = dict(self._own.last)
        for key in ("step", "tokens"):
            value = last.get(key)
            if isinstance(value, float) and value.is_integer():
                last[key] = int(value)
        if not self._gone or self._summary is None:
            self._summary = run_index.summarise(self._folder, last)
        elif self._summary.state in LIVING:
            self._summary = replace(self._summary, state="died", eta_seconds=None)
        if self._changed("state", (self._summary, self._gone)):
            self._post(SummaryUpdated(self._summary, self._gone))

    def _see_plan(self) -> None:
        try:
            self._post(PlanRead(self._folder.read_run(), ""))
        except RunError as error:
            self._post(PlanRead({}, str(error)))

    def _see_stories(self) -> None:
        best = None
        try:
            self._checkpoints = tuple(checkpoint_folders.steps(self._folder))
            best = checkpoint_folders.best(self._folder)
        except (OSError, StorytellerError):
            self._checkpoints = ()
        self._post(StoriesUpdated(self._checkpoints, int(best.name.rpartition("-")[2]) if best is not None else None))

    # --- lines --------------------------------------------------------------------------------------------------------

    def _draw(self, request: LineRequest) -> float:
        """Post the requested lines if they are due; returns the seconds until the next try."""
        is_new = self._is_new(request)
        versions = tuple(curves.version for curves in self._curves.values())
        if due_seconds := self._seconds_until_due(request, self._is_whole, self._checkpoints, versions):
            return due_seconds
        if not is_new:  # the header's figures and the lines change in one repaint
            self._looked_at = time.monotonic()
            self._see_state()
        axis = self._axis(request.x)
        resumes, saved = (tuple(map(axis.place_of, steps)) for steps in (self._own.resumes, self._checkpoints))
        bpb = self._own.line("eval/bpb", "step", points=_MOST_EVALUATIONS)
        share_read = 1.0 if self._is_whole else self._own.share_read
        self._post(LinesUpdated(request, self._lines(request), resumes, saved, axis, bpb, share_read))
        return self.look_seconds

    def _axis(self, x: X) -> StepAxis:
        """Match steps to places: the same points of one line, once over steps and once over `x`."""
        if x == "step":
            return StepAxis()
        for key in ("train/loss", "eval/bpb"):
            steps, places = (self._own.line(key, over, points=_AXIS_POINTS).x for over in ("step", x))
            if steps and len(steps) == len(places):
                return StepAxis(steps, places)
        return StepAxis()


def safe_log_lines(lines: Sequence[str]) -> list[str]:
    """Lines of the log, safe to show and cut to 2,000 characters."""
    return [safe_line(line[: _LONGEST_LOG_LINE + 1], _LONGEST_LOG_LINE) for line in lines]


def _interpolate(value: float, known: Sequence[float], others: Sequence[float]) -> float:
    """Interpolate linearly from `known`, ascending, to `others`; the ends are not extrapolated."""
    after = bisect_left(known, value)
    if after == 0:
        return others[0]
    if after == len(known):
        return others[-1]
    begin, end = known[after - 1], known[after]
    return others[after - 1] + (others[after] - others[after - 1]) * (value - begin) / (end - begin)

"""The reader of one run: a thread that reads its folder and posts what it saw as typed messages to the Run screen.

Everything that touches the disk or takes long happens here: following the log of metrics, working out the lines of the
charts, the stories, the training process's log, whether the process lives.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.errors import RunError, StorytellerError
from storyteller.system.files import open_regular
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_index
from storyteller.tracking.curves import Curves, Line, X
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import LIVING
from storyteller.tracking.sample_history import SampleHistory

if TYPE_CHECKING:
    from storyteller.inference.background import Event

_LOOK_SECONDS = 0.2
"""Between two looks at whether a file has grown."""
_STATE_SECONDS = 0.6
"""Between two looks at whether the process lives."""
_DRAW_SECONDS = 0.5
"""Between two pictures of a run that logs without end."""
_READ_SECONDS = 0.05
"""Of reading the log in one go: between two of them, what was asked for is answered."""
_BREATH_SECONDS = 0.005
"""Between two goes, so that the screen's thread is not kept from its keys."""
_AXIS_POINTS = 1 << 14
_MOST_EVALUATIONS = 4000
_TAIL_BYTES = 256 << 10
_LONGEST_LOG_LINE = 2000


@dataclass(frozen=True)
class Wanted:
    """What the charts show."""

    keys: tuple[str, ...] = ()
    """The metrics, such as `train/loss`."""
    x: X = "step"
    begin: float | None = None
    """Where the x axis begins and ends; None: with the data."""
    end: float | None = None
    points: int = 400
    smoothing: float = 0.0
    overlays: tuple[str, ...] = ()
    """Other runs that are drawn too."""


@dataclass(frozen=True)
class Axis:
    """Where steps lie on the x axis."""

    steps: Sequence[float] = ()
    """Ascending; none: x is the step itself."""
    places: Sequence[float] = ()
    """Where each of them lies, ascending too."""

    def place_of(self, step: float) -> float:
        """Where a step lies."""
        return _between(step, self.steps, self.places) if self.steps else step

    def step_at(self, place: float) -> float:
        """The step that lies there."""
        return _between(place, self.places, self.steps) if self.steps else place


# --- messages ---------------------------------------------------------------------------------------------------------


class HeadSeen(Message):
    """What the run is doing; `gone` where its folder is no longer there, and the summary is the last one known."""

    def __init__(self, summary: RunSummary, gone: bool) -> None:
        super().__init__()
        self.summary = summary
        self.gone = gone


class PlanSeen(Message):
    """What `run.json` says, or why it says nothing."""

    def __init__(self, plan: Mapping[str, Any], problem: str) -> None:
        super().__init__()
        self.plan = plan
        self.problem = problem


class LinesSeen(Message):
    """The lines that were wanted: by metric, then by run, this one first."""

    def __init__(
        self,
        wanted: Wanted,
        lines: Mapping[str, Mapping[str, Line]],
        keys: tuple[str, ...],
        resumes: tuple[float, ...],
        checkpoints: tuple[float, ...],
        axis: Axis,
        bpb: Mapping[float, float],
        share_read: float,
    ) -> None:
        super().__init__()
        self.wanted = wanted
        self.lines = lines
        self.keys = keys
        """Every metric that the log has."""
        self.resumes = resumes
        """Where on the x axis the run was resumed."""
        self.checkpoints = checkpoints
        self.axis = axis
        self.bpb = bpb
        """Held-out bits per byte by step, ascending."""
        self.share_read = share_read
        """How much of the log was read, 0 to 1; the rest is sketched."""


class StoriesSeen(Message):
    """Stories were told, or checkpoints came or went."""

    def __init__(self, checkpoint_steps: tuple[int, ...], best_step: int | None) -> None:
        super().__init__()
        self.checkpoint_steps = checkpoint_steps
        self.best_step = best_step


class LogSeen(Message):
    """New lines of the training process's log, safe to show."""

    def __init__(self, lines: Sequence[str], anew: bool, cut: bool) -> None:
        super().__init__()
        self.lines = lines
        self.anew = anew
        """Whether they take the place of all lines before."""
        self.cut = cut
        """Whether lines before these were left out."""


class BoothSaid(Message):
    """A story that is told in the booth goes on."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


# --- the reader -------------------------------------------------------------------------------------------------------


class RunReader:
    """Reads one run's folder on a thread of its own and posts messages to `owner`; it never raises for what is there.

    `growth` may be asked from any thread.
    """

    def __init__(self, owner: MessagePump, folder: RunFolder) -> None:
        self.growth = SampleHistory(folder)
        self._owner = owner
        self._folder = folder
        self._curves = Curves(folder)
        self._others: dict[str, Curves] = {}
        self._log = LogTail(folder.log)
        self._lock = threading.Lock()
        self._wanted = Wanted()
        self._over = threading.Event()
        self._nudged = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._thread = threading.Thread(target=self._work, name=f"reader {folder.name}", daemon=True)
        self._summary: RunSummary | None = None
        self._gone = False
        self._checkpoints: tuple[int, ...] = ()
        self._stamps: dict[str, object] = {}
        self._shown: object = None
        self._drawn_at = self._looked_at = -1e9

    def start(self) -> None:
        self._thread.start()

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
        self._stamps.pop("state", None)
        self._looked_at = -1e9
        self._awake.set()
        self._nudged.set()

    def want(self, wanted: Wanted) -> None:
        """Post lines for this from now on, the first of them at once."""
        with self._lock:
            self._wanted = wanted
        self._nudged.set()

    def _work(self) -> None:
        self._look()
        if self._curves.version == 0:
            self._curves.sketch()
        self._see_state()
        whole = False
        while not self._over.is_set():
            self._nudged.clear()
            self._look()
            caught = self._curves.catch_up(_READ_SECONDS)
            if caught and not whole:
                whole = True
                self._see_state()
            others = self._catch_up_others()
            due_seconds = _LOOK_SECONDS
            if self._folder.path.is_dir() or self._nudged.is_set():
                due_seconds = self._draw(whole)
            if self._over.is_set():
                return
            self._nudged.wait(min(due_seconds, _LOOK_SECONDS) if caught and others else _BREATH_SECONDS)
            self._awake.wait()

    def _post(self, message: Message) -> None:
        if not self._over.is_set():
            self._owner.post_message(message)

    # --- status, plan, stories, log -----------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at all but the metrics; what has not changed is not posted."""
        now = time.monotonic()
        gone = not self._folder.path.is_dir()
        if now - self._looked_at >= _STATE_SECONDS or gone != self._gone:
            self._looked_at = now
            self._gone = gone
            self._see_state()
        if gone:
            return
        if self._changed("plan", _stamp(self._folder.run_json)):
            self._see_plan()
        told = self.growth.catch_up()
        if self._changed("checkpoints", _stamp(self._folder.checkpoints)) or told:
            self._see_stories()
        if self._changed("log", _stamp(self._folder.log)):
            lines, anew, cut = self._log.read()
            if lines or anew:
                self._post(LogSeen(lines, anew, cut))

    def _changed(self, what: str, seen: object) -> bool:
        changed = self._stamps.get(what, self) != seen
        self._stamps[what] = seen
        return changed

    def _see_state(self) -> None:
        last = dict(self._curves.last)
        for key in ("step", "tokens"):
            value = last.get(key)
            if isinstance(value, float) and value.is_integer():
                last[key] = int(value)
        if not self._gone or self._summary is None:
            self._summary = run_index.summarise(self._folder, last)
        elif self._summary.state in LIVING:
            self._summary = replace(self._summary, state="died", eta_seconds=None)
        if self._changed("state", (self._summary, self._gone)):
            self._post(HeadSeen(self._summary, self._gone))

    def _see_plan(self) -> None:
        try:
            plan, problem = self._folder.read_run(), ""
        except RunError as error:
            plan, problem = {}, str(error)
        self._post(PlanSeen(plan, problem))

    def _see_stories(self) -> None:
        try:
            self._checkpoints = tuple(checkpoint_folders.steps(self._folder))
            best = checkpoint_folders.best(self._folder)
        except (OSError, StorytellerError):
            self._checkpoints, best = (), None
        self._post(StoriesSeen(self._checkpoints, int(best.name.rpartition("-")[2]) if best is not None else None))

    # --- lines --------------------------------------------------------------------------------------------------------

    def _catch_up_others(self) -> bool:
        """Read on in the runs that are drawn too; True once at the end of each."""
        with self._lock:
            names = self._wanted.overlays
        caught = True
        for name in names:
            if name not in self._others:
                self._others[name] = Curves(RunFolder(self._folder.path.parent / name))
                self._others[name].sketch()
                caught = False
            else:
                caught = self._others[name].catch_up(_READ_SECONDS) and caught
        for name in [name for name in self._others if name not in names]:
            del self._others[name]
        return caught

    def _draw(self, whole: bool) -> float:
        """Work the lines out, where they are not as they were posted last; seconds until that is to be tried again."""
        with self._lock:
            wanted = self._wanted
        runs = {self._folder.name: self._curves} | {name: self._others[name] for name in wanted.overlays}
        version = (wanted, whole, self._checkpoints, tuple(curves.version for curves in runs.values()))
        if version == self._shown:
            return _LOOK_SECONDS
        now = time.monotonic()
        asked = not isinstance(self._shown, tuple) or self._shown[0] != wanted
        if not asked and now - self._drawn_at < _DRAW_SECONDS:
            return self._drawn_at + _DRAW_SECONDS - now
        if not asked:  # figures and lines in one painting
            self._looked_at = now
            self._see_state()
        self._shown, self._drawn_at = version, now
        lines = {
            key: {
                name: curves.line(key, wanted.x, wanted.begin, wanted.end, wanted.points, wanted.smoothing)
                for name, curves in runs.items()
                if key in curves.keys
            }
            for key in wanted.keys
        }
        axis = self._axis(wanted.x)
        resumes, saved = (tuple(map(axis.place_of, steps)) for steps in (self._curves.resumes, self._checkpoints))
        evaluated = self._curves.line("eval/bpb", "step", points=_MOST_EVALUATIONS)
        bpb = dict(zip(evaluated.x, evaluated.mean, strict=True))
        share_read = 1.0 if whole else self._curves.share_read
        self._post(LinesSeen(wanted, lines, self._curves.keys, resumes, saved, axis, bpb, share_read))
        return _LOOK_SECONDS

    def _axis(self, x: X) -> Axis:
        """Where steps lie on the x axis, from the same points of a line over both."""
        if x == "step":
            return Axis()
        for key in ("train/loss", "eval/bpb"):
            steps, places = (self._curves.line(key, over, points=_AXIS_POINTS).x for over in ("step", x))
            if steps and len(steps) == len(places):
                return Axis(steps, places)
        return Axis()


class LogTail:
    """The lines that come to a log: the end of it first, then what is appended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None
        self._piece = b""

    def read(self) -> tuple[list[str], bool, bool]:
        """New lines, safe to show; whether they begin anew, and whether lines before them were left out.

        A last line without its newline comes once it is whole. A file that is gone has no new lines.
        """
        try:
            with open_regular(self._path) as log:
                size = log.seek(0, os.SEEK_END)
                anew = self._offset is None or size < self._offset
                begin = 0 if anew or self._offset is None else self._offset
                cut = size - begin > _TAIL_BYTES
                if cut:
                    begin = size - _TAIL_BYTES
                log.seek(begin)
                data = log.read(size - begin)
        except OSError:
            return [], False, False
        self._offset = begin + len(data)
        whole = (b"" if cut or anew else self._piece) + data
        *lines, self._piece = whole.split(b"\n")
        if len(self._piece) > _TAIL_BYTES:
            self._piece = self._piece[-_LONGEST_LOG_LINE:]
        if cut:
            lines = lines[1:]  # the first is a piece of one
        shown = [
            safe_line(line[: 4 * _LONGEST_LOG_LINE].decode("utf-8", "replace"), _LONGEST_LOG_LINE) for line in lines
        ]
        return shown, anew, cut


def _between(value: float, known: Sequence[float], others: Sequence[float]) -> float:
    """What `others` has at `value`'s place among `known`, in a straight line between two of them."""
    after = bisect_left(known, value)
    if after == 0:
        return others[0]
    if after == len(known):
        return others[-1]
    begin, end = known[after - 1], known[after]
    return others[after - 1] + (others[after] - others[after - 1]) * (value - begin) / (end - begin)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes whenever the file or the folder's entries do."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns

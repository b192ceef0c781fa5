"""The reader of the runs screen: looks at the runs folder twice a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.tracking.run_folder import RunFolder
from storyteller.tui.readers.reader_thread import ReaderThread, stamp

if TYPE_CHECKING:
    from storyteller.tracking.run_index import RunSummary
    from storyteller.tracking.run_watcher import RunWatcher

_EVERY_SECONDS = 0.5
_SPARK_POINTS = 60
_LONGEST_STORY = 2000


@dataclass
class RunsUpdated(Message):
    """The runs as they are now, newest first."""

    summaries: Sequence[RunSummary]
    losses: Mapping[str, Sequence[float]] | None = None
    """The loss of each run, at evenly spaced steps; None before the logs were read."""
    story: tuple[str, int, str] | None = None  # the newest story of the chosen run: its run, step and text
    problem: str = ""  # why the runs could not be read


class RunsReader(ReaderThread):
    """Posts `RunsUpdated` twice a second."""

    def __init__(self, owner: MessagePump, root: Path) -> None:
        super().__init__(owner, "runs reader")
        self._root = root
        self._watcher: RunWatcher | None = None
        self._chosen: str | None = None
        self._story_read: tuple[object, tuple[str, int, str] | None] = (None, None)
        """The newest story of the chosen run, with what its file looked like when it was read."""

    def choose(self, name: str | None) -> None:
        """Choose the run whose newest story is posted too."""
        if name != self._chosen:
            self._chosen = name
            self.poke()

    def _read(self) -> float:
        self._post(self._look())
        return _EVERY_SECONDS

    def _on_error(self, problem: str) -> None:
        self._post(RunsUpdated((), {}, problem=problem))

    def _look(self) -> RunsUpdated:
        from storyteller.tracking.run_watcher import RunWatcher  # imported once the first frame is drawn

        if self._watcher is None:
            # The first look leaves the loss curves out, which take time to read; the second follows at once.
            self._watcher = RunWatcher(self._root)
            self.poke()
            return RunsUpdated(self._watcher.poll())
        summaries = self._watcher.poll()
        losses = {summary.name: self._watcher.loss_sparkline(summary.name, _SPARK_POINTS) for summary in summaries}
        return RunsUpdated(summaries, losses, self._story(self._chosen))

    def _story(self, name: str | None) -> tuple[str, int, str] | None:
        if name is None:
            return None
        path = RunFolder(self._root / name).samples
        mark = (name, stamp(path))
        if mark != self._story_read[0]:
            self._story_read = (mark, _newest_story(name, path))
        return self._story_read[1]


def _newest_story(name: str, path: Path) -> tuple[str, int, str] | None:
    from storyteller.tracking.metrics_log import last_record

    try:
        record = last_record(path, needs="text", within_bytes=1 << 20)
    except OSError:
        return None
    if record is None or not isinstance(record.get("text"), str):
        return None
    prompt, step = record.get("prompt"), record.get("step")
    text = (prompt if isinstance(prompt, str) else "")[:_LONGEST_STORY] + record["text"][:_LONGEST_STORY]
    return name, step if isinstance(step, int) else 0, text

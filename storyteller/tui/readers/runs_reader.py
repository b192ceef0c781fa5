"""The reader thread of the runs: it looks at the disk and posts what it saw; the screen is never kept waiting."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.errors import StorytellerError
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.tracking.run_index import RunSummary
    from storyteller.tracking.run_watcher import RunList

_EVERY_SECONDS = 0.5
_SPARK_POINTS = 60
_LONGEST_STORY = 2000


class RunsSeen(Message):
    """The runs as they are now, the newest first."""

    def __init__(
        self,
        summaries: Sequence[RunSummary],
        losses: Mapping[str, Sequence[float]] | None = None,
        story: tuple[str, int, str] | None = None,
        problem: str = "",
    ) -> None:
        """`losses` by run, evenly over it, None before they were looked at; `story`: the chosen run's newest one.

        A story is its run, its step and its text. `problem`: why none could be looked at.
        """
        super().__init__()
        self.summaries = summaries
        self.losses = losses
        self.story = story
        self.problem = problem


class RunsReader:
    """A thread that looks at the runs twice a second, posts `RunsSeen`, and rests while nobody watches."""

    def __init__(self, owner: MessagePump, root: Path, every_seconds: float = _EVERY_SECONDS) -> None:
        self._owner = owner
        self._root = root
        self._list: RunList | None = None
        self._every_seconds = every_seconds
        self._over = threading.Event()
        self._nudged = threading.Event()
        self._awake = threading.Event()
        self._awake.set()
        self._chosen: str | None = None
        self._told: tuple[object, tuple[str, int, str] | None] = (None, None)

    def start(self) -> None:
        """Begin to look, at once."""
        threading.Thread(target=self._work, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no more; returns at once."""
        self._over.set()
        self._awake.set()
        self._nudged.set()

    def rest(self) -> None:
        """Look no more until `wake`."""
        self._awake.clear()

    def wake(self) -> None:
        """Look again, at once."""
        self._awake.set()
        self._nudged.set()

    def choose(self, name: str | None) -> None:
        """The run whose newest story is wanted too."""
        if name != self._chosen:
            self._chosen = name
            self._nudged.set()

    def look(self) -> RunsSeen:
        """One look at all of them."""
        from storyteller.tracking.run_watcher import RunList  # by the thread, once the first frame is drawn

        if self._list is None:
            self._list = RunList(self._root)
            self._nudged.set()  # the rows first; how each loss came down takes reading, and comes at once after
            return RunsSeen(self._list.look())
        summaries = self._list.look()
        losses = {summary.name: self._list.spark(summary.name, _SPARK_POINTS) for summary in summaries}
        return RunsSeen(summaries, losses, self._story(self._chosen))

    def _story(self, name: str | None) -> tuple[str, int, str] | None:
        if name is None:
            return None
        path = RunFolder(self._root / name).samples
        try:
            found = path.stat()
        except OSError:
            return None
        mark = (name, found.st_ino, found.st_size, found.st_mtime_ns)
        if mark != self._told[0]:
            self._told = (mark, _newest_story(name, path))
        return self._told[1]

    def _work(self) -> None:
        while not self._over.is_set():
            self._nudged.clear()
            try:
                seen = self.look()
            except StorytellerError as error:
                seen = RunsSeen((), {}, problem=str(error))
            except OSError as error:  # of a disk that fails: the next look may find it well again
                seen = RunsSeen((), {}, problem=f"the runs cannot be read ({error.strerror or error})")
            if self._over.is_set():
                return
            self._owner.post_message(seen)
            self._nudged.wait(self._every_seconds)
            self._awake.wait()


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

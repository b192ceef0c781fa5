"""The parent's side: stories asked for, heard, and given up where the child does not answer."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, TextPiece
from storyteller.inference.background.process import Child
from storyteller.text import safe_line

_CANCEL_SECONDS = 0.12
"""A story whose cancel the child has not answered after so long is given up."""
_FREE_SECONDS = 2.0
"""A story that was cancelled may hold its model for so long; then a new child takes the place of this one."""


@dataclass
class _PendingRequest:
    """A story that was asked for and has not ended."""

    number: int
    hear: Callable[[Event], None]
    child: Child
    asked: dict[str, Any]
    opened: bool = False
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    seed: int = 0
    began: float = field(default_factory=time.monotonic)


class GenerationClient:
    """A child process that tells stories, several at once; started by the first. Every method may be called anywhere.

    `hear` is called on the booth's own thread, a story's events in their order: Opened and Piece and Note as they come,
    and Ended or Failed as the last.
    """

    def __init__(self, runs_root: Path, command: Sequence[str] | None = None) -> None:
        """`runs_root` is where runs lie. `command` takes the place of the child's command line."""
        self._command = list(
            command or (sys.executable, "-m", "storyteller.inference.background", "--runs-dir", str(runs_root))
        )
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._open: dict[int, _PendingRequest] = {}
        self._child: Child | None = None
        self._closed = False
        self._heard: queue.SimpleQueue[tuple[Callable[[Event], None], Event] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(
        self,
        model: str,
        prompt: str,
        sample: SamplingParams,
        hear: Callable[[Event], None],
        *,
        goes_on: bool = False,
        numbers: str = "fp32",
    ) -> int:
        """Begin a story from `model`, named as everywhere; its ticket. Whatever goes wrong is heard as Failed.

        `goes_on`: the prompt is a story so far, of which the model is given the newest part, with room for more.
        `numbers` is what the model computes with, `fp32` or `int8`.
        """
        with self._lock:
            number = next(self._numbers)
            self._listen()
            try:
                child = self._begin()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                problem = f"the process that tells stories cannot be started ({safe_line(why, 100)})"
                self._heard.put((hear, Failed(number, problem, "free some memory, and try again")))
                return number
            asked = {"tell": number, "model": model, "numbers": numbers, "prompt": prompt, "goes_on": goes_on}
            asked["sample"] = dataclasses.asdict(sample)
            self._open[number] = _PendingRequest(number, hear, child, asked)
            child.say(asked)
            return number

    def prepare(self, model: str, numbers: str = "fp32") -> None:
        """Start the child and open `model` ahead of its first story; nothing is heard of it."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._begin().say({"prepare": model, "numbers": numbers})

    def cancel(self, ticket: int) -> None:
        """Stop a story: its Ended comes within 0.2 s, whatever the child does. One that is over stays as it is."""
        with self._lock:
            story = self._open.get(ticket)
            if story is None:
                return
            story.child.cancelled.add(ticket)
            story.child.say({"cancel": ticket})
        _later(_CANCEL_SECONDS, lambda: self._give_up(ticket))
        _later(_FREE_SECONDS, lambda: self._replace(story.child, ticket))

    def close(self) -> None:
        """End the child, also one that hangs, and its stories; nothing is heard after."""
        with self._lock:
            self._closed = True
            children = {id(story.child): story.child for story in self._open.values()}
            if self._child is not None:
                children[id(self._child)] = self._child
            self._open.clear()
            self._child = None
            if self._thread is not None:
                self._heard.put(None)
        for child in children.values():
            child.kill()

    # Under the lock:

    def _begin(self) -> Child:
        """The child that the next story is told by."""
        if self._closed:
            raise ValueError("it was closed")
        if self._child is None:
            self._child = Child(self._command, self._said, self._ended)
        return self._child

    def _retire(self, child: Child) -> None:
        """No new story for this child; once it has none open, it is ended."""
        if self._child is child:
            self._child = None
        if not any(story.child is child for story in self._open.values()):
            threading.Thread(target=child.kill, name="booth-kill", daemon=True).start()

    def _finish(self, story: _PendingRequest, last: Event) -> None:
        del self._open[story.number]
        self._heard.put((story.hear, last))
        if self._child is not story.child:
            self._retire(story.child)

    # From other threads:

    def _listen(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="booth", daemon=True)
            self._thread.start()

    def _deliver(self) -> None:
        while (heard := self._heard.get()) is not None:
            if not self._closed:
                hear, event = heard
                hear(event)

    def _give_up(self, ticket: int) -> None:
        """End a story whose cancel the child did not answer."""
        with self._lock:
            story = self._open.get(ticket)
            if story is not None:
                seconds = time.monotonic() - story.began if story.opened else 0.0
                self._finish(
                    story, Ended(ticket, "".join(story.pieces), story.tokens, seconds, story.seed, False, stopped=True)
                )

    def _replace(self, child: Child, ticket: int) -> None:
        """Take a new child where the cancelled story still holds its model; what has not begun is asked of the new."""
        with self._lock:
            if ticket not in child.cancelled or self._child is not child:
                return
            self._child = None
            with contextlib.suppress(OSError, ValueError):
                for story in self._open.values():
                    if story.child is child and not story.opened:
                        story.child = self._begin()
                        story.child.say(story.asked)
            self._retire(child)

    def _said(self, child: Child, line: dict[str, Any]) -> None:
        """Take one line of the child. Raises KeyError, TypeError, ValueError where it is not one of ours."""
        with self._lock:
            kind, value = next(iter(line.items()))
            if kind == "free":
                child.cancelled.discard(value)
                return
            story = self._open.get(value)
            if story is None or story.child is not child:
                return  # it was given up
            event = _event(kind, story, line)
            if isinstance(event, Ended | Failed):
                self._finish(story, event)
            else:
                self._heard.put((story.hear, event))

    def _ended(self, child: Child, why: str) -> None:
        """The child is gone: fail what it was telling."""
        with self._lock:
            if self._child is child:
                self._child = None
            for story in [story for story in self._open.values() if story.child is child]:
                remedy = "tell it again: a new one starts then. Is there memory for the model?"
                self._finish(story, Failed(story.number, f"the process that tells stories ended ({why})", remedy))


def _later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


def _event(kind: str, story: _PendingRequest, line: dict[str, Any]) -> Event:
    """A line of the child as an event; what it says of the story is kept. Raises KeyError, TypeError, ValueError."""
    if kind == "piece":
        story.pieces.append(_text(line["text"]))
        story.tokens = _whole(line["tokens"])
        return TextPiece(story.number, story.pieces[-1], story.tokens)
    if kind == "opened":
        story.opened, story.seed, story.began = True, _whole(line["seed"]), time.monotonic()
        return ModelOpened(story.number, safe_line(_text(line["label"]), 200), story.seed, line["cut"] is True)
    if kind == "note":
        return Note(story.number, safe_line(_text(line["text"]), 300))
    if kind == "failed":
        return Failed(story.number, safe_line(_text(line["problem"]), 500), safe_line(_text(line["remedy"]), 300))
    if kind == "ended":
        seconds = float(line["seconds"])
        if not math.isfinite(seconds):
            raise ValueError("seconds")
        finished, stopped = line["finished"] is True, line["stopped"] is True
        text = "".join(story.pieces)
        return Ended(story.number, text, _whole(line["tokens"]), seconds, story.seed, finished, stopped)
    raise ValueError(kind)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    return value

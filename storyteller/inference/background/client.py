"""The parent's side of background generation: requests, their events, and a child process that may hang or die."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, Released, TextPiece, parse
from storyteller.system.child_process import JsonLinesProcess
from storyteller.text import safe_line

_CANCEL_SECONDS = 0.12
"""How long the child may take to confirm a cancel, before the client ends the story without it."""
_RELEASE_SECONDS = 2.0
"""How long a cancelled story may keep its model busy, before a new child process replaces this one."""


@dataclass
class _PendingRequest:
    """A story that was requested and has not ended."""

    on_event: Callable[[Event], None]
    process: JsonLinesProcess
    message: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    seed: int = 0
    began: float = 0.0  # when the model was open; 0 before

    def apply(self, event: Event) -> Event:
        """Updates the request, and returns the event with its text, which is safe to show except for pieces."""
        if isinstance(event, TextPiece):
            self.pieces.append(event.text)
            self.tokens = event.tokens
        elif isinstance(event, ModelOpened):
            self.seed, self.began = event.seed, time.monotonic()
            event = replace(event, label=safe_line(event.label, 200))
        elif isinstance(event, Note):
            event = replace(event, text=safe_line(event.text, 300))
        elif isinstance(event, Failed):
            event = replace(event, problem=safe_line(event.problem, 500), remedy=safe_line(event.remedy, 300))
        else:
            event = replace(event, text="".join(self.pieces))
        return event


class GenerationClient:
    """Generates stories, several at once, in a child process that the first request starts.

    All methods are thread-safe. `on_event` is called on the client's own thread, with a story's events in their order;
    the last one is `Ended` or `Failed`.
    """

    def __init__(self, runs_root: Path, command: Sequence[str] | None = None) -> None:
        """`runs_root` is the folder of the runs; `command` replaces the child's command line."""
        module = "storyteller.inference.background.worker"
        self._command = command or [sys.executable, "-m", module, "--runs-dir", str(runs_root)]
        self._lock = threading.RLock()
        self._tickets = itertools.count(1)
        self._pending: dict[int, _PendingRequest] = {}
        self._cancelled: dict[int, JsonLinesProcess] = {}  # cancelled stories that hold a model, and where
        self._process: JsonLinesProcess | None = None  # the child that gets the next story
        self._closed = False
        self._events: queue.SimpleQueue[tuple[Callable[[Event], None], Event] | None] = queue.SimpleQueue()
        threading.Thread(target=self._deliver_events, name="generation-events", daemon=True).start()

    def generate(
        self,
        model: str,
        prompt: str,
        params: SamplingParams,
        on_event: Callable[[Event], None],
        *,
        goes_on: bool = False,
        compute_type: str = "fp32",
    ) -> int:
        """Requests a story from `model`, named as for `open_model`, and returns its ticket. Errors become `Failed`.

        With `goes_on`, the prompt is an unfinished story: the model is given its newest part, with room for more.
        `compute_type` is `fp32` or `int8`.
        """
        with self._lock:
            ticket = next(self._tickets)
            try:
                process = self._current_process()
            except (OSError, ValueError) as error:
                why = safe_line(str(getattr(error, "strerror", None) or error), 100)
                problem = f"the generation process cannot be started ({why})"
                self._events.put((on_event, Failed(ticket, problem, "free some memory, and try again")))
                return ticket
            message = {"generate": ticket, "model": model, "compute_type": compute_type, "prompt": prompt}
            message |= {"goes_on": goes_on, "sampling": dataclasses.asdict(params)}
            self._pending[ticket] = _PendingRequest(on_event, process, message)
            process.send(message)
            return ticket

    def prepare(self, model: str) -> None:
        """Starts the child and loads `model`, in fp32, before its first story. Failures are ignored."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._current_process().send({"prepare": model})

    def cancel(self, ticket: int) -> None:
        """Stops a story: its `Ended` comes within 0.2 s, whatever the child does. Does nothing if it has ended."""
        with self._lock:
            request = self._pending.get(ticket)
            if request is None:
                return
            self._cancelled[ticket] = request.process
            request.process.send({"cancel": ticket})
        _call_later(_CANCEL_SECONDS, lambda: self._end_cancelled(ticket))
        _call_later(_RELEASE_SECONDS, lambda: self._replace_busy_process(ticket))

    def close(self) -> None:
        """Kills the child and drops its stories; no event is delivered afterwards."""
        with self._lock:
            self._closed = True
            processes = {self._process, *(request.process for request in self._pending.values())}
            self._pending.clear()
            self._process = None
            self._events.put(None)
        for process in processes:
            if process is not None:
                process.kill()

    # Called with the lock held:

    def _current_process(self) -> JsonLinesProcess:
        if self._closed:
            raise ValueError("it was closed")
        if self._process is None:
            self._process = JsonLinesProcess(self._command, self._receive, self._process_exited)
        return self._process

    def _retire(self, process: JsonLinesProcess) -> None:
        """Sends no more stories to this child, and kills it once none of its stories is pending."""
        if self._process is process:
            self._process = None
        if not any(request.process is process for request in self._pending.values()):
            threading.Thread(target=process.kill, name="generation-kill", daemon=True).start()

    def _finish(self, request: _PendingRequest, last: Event) -> None:
        del self._pending[last.ticket]
        self._events.put((request.on_event, last))
        if self._process is not request.process:
            self._retire(request.process)

    # Called on other threads:

    def _deliver_events(self) -> None:
        while (delivery := self._events.get()) is not None:
            if not self._closed:
                on_event, event = delivery
                on_event(event)

    def _end_cancelled(self, ticket: int) -> None:
        """Ends a cancelled story if the child has not confirmed the cancel."""
        with self._lock:
            request = self._pending.get(ticket)
            if request is not None:
                seconds = time.monotonic() - request.began if request.began else 0.0
                text = "".join(request.pieces)
                self._finish(request, Ended(ticket, text, request.tokens, seconds, request.seed, False, stopped=True))

    def _replace_busy_process(self, ticket: int) -> None:
        """Starts a new child if the cancelled story still holds its model, and moves stories there that wait."""
        with self._lock:
            process = self._cancelled.pop(ticket, None)
            if process is None or self._process is not process:
                return
            self._process = None
            with contextlib.suppress(OSError, ValueError):
                for request in self._pending.values():
                    if request.process is process and not request.began:
                        request.process = self._current_process()
                        request.process.send(request.message)
            self._retire(process)

    def _receive(self, process: JsonLinesProcess, message: Any) -> None:
        """Handles a message of the child. Raises KeyError, TypeError or ValueError if it is invalid."""
        event = parse(message)
        with self._lock:
            request = self._pending.get(event.ticket)
            if isinstance(event, Released):
                if self._cancelled.get(event.ticket) is process:
                    del self._cancelled[event.ticket]
            elif request is not None and request.process is process:  # else the client has ended it
                event = request.apply(event)
                if isinstance(event, Ended | Failed):
                    self._finish(request, event)
                else:
                    self._events.put((request.on_event, event))

    def _process_exited(self, process: JsonLinesProcess, reason: str) -> None:
        """Fails the stories of a child that is gone."""
        with self._lock:
            if self._process is process:
                self._process = None
            problem = f"the generation process ended ({reason})"
            remedy = "try again: that starts a new process. Is there enough memory for the model?"
            for ticket, request in list(self._pending.items()):
                if request.process is process:
                    self._finish(request, Failed(ticket, problem, remedy))


def _call_later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()

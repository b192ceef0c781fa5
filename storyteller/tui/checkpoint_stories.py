"""Generates stories at checkpoints that have none yet, one after another, with the prompt and seed of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, Note, TextPiece
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory, SampleRecord

Place = tuple[str, int]  # a prompt and a step


@dataclass
class _Generation:
    place: Place
    ticket: int
    text: str = ""
    note: str = ""


class CheckpointStories:
    """The queue of requested stories, and the errors of those that failed. Not thread-safe: for the app's thread."""

    def __init__(self, run_name: str, history: SampleHistory, begin: Callable[[str, str, SamplingParams], int]) -> None:
        """`begin(model, prompt, sampling)` starts a generation and returns its ticket; its events go to `handle`."""
        self._run_name = run_name
        self._history = history
        self._begin = begin
        self.sampling = SamplingParams(seed=0)
        """The sampling parameters of stories that are started from now on."""
        self._waiting: deque[Place] = deque()
        self._now: _Generation | None = None
        self._failed: dict[Place, str] = {}

    @property
    def current(self) -> Place | None:
        """The prompt and step of the story being generated."""
        return self._now.place if self._now is not None else None

    def request(self, prompt: str, steps: tuple[int, ...]) -> int:
        """Queue `prompt` at those steps that have no story yet. Returns how many are new."""
        missing = [(prompt, step) for step in steps if self._history.at(prompt, step) is None]
        new = [place for place in missing if place not in self._waiting and place != self.current]
        for place in new:
            self._failed.pop(place, None)
        self._waiting += new
        self._start_next()
        return len(new)

    def cancel(self) -> int | None:
        """Empty the queue and forget the current story. Returns the ticket of its generation, for the client."""
        self._waiting.clear()
        now, self._now = self._now, None
        return now.ticket if now is not None else None

    def partial_text(self, prompt: str, step: int) -> str | None:
        """The text generated so far, empty while the story is queued; None if none was requested."""
        place = (prompt, step)
        if self._now is not None and self._now.place == place:
            return self._now.text
        return "" if place in self._waiting else None

    def status(self, prompt: str, step: int) -> str:
        """What to show instead of a story that is not there: waiting, opening the model, or the error."""
        place = (prompt, step)
        if self._now is not None and self._now.place == place:
            return self._now.note or ("" if self._now.text else "opening the model \u2026")
        return "queued \u2026" if place in self._waiting else self._failed.get(place, "")

    def handle(self, event: Event) -> bool:
        """Apply an event of the generation client. Returns whether it belongs to the current story."""
        now = self._now
        if now is None or event.ticket != now.ticket:
            return False
        if isinstance(event, TextPiece):
            now.text = (now.text + event.text)[:LONGEST_CHARS]
            now.note = ""
        elif isinstance(event, Note):
            now.note = event.text
        elif isinstance(event, Ended):
            prompt, step = now.place
            text = event.text[:LONGEST_CHARS]
            self._history.add(SampleRecord(step, prompt, text, event.seed, finished=event.finished, later=True))
        elif isinstance(event, Failed):
            self._failed[now.place] = f"{event.problem}: {event.remedy}" if event.remedy else event.problem
        if isinstance(event, Ended | Failed):
            self._now = None
            self._start_next()
        return True

    def _start_next(self) -> None:
        if self._now is None and self._waiting:
            prompt, step = self._waiting.popleft()
            sampling = replace(self.sampling, seed=self.sampling.seed or 0)
            self._now = _Generation((prompt, step), self._begin(f"{self._run_name}@{step}", prompt, sampling))

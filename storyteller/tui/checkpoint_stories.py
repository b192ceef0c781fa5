"""Stories told later: the same prompt and seed at checkpoints where nothing was told, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, Note, TextPiece
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory, SampleRecord

if TYPE_CHECKING:
    from storyteller.inference.background import GenerationClient

Place = tuple[str, int]
"""A prompt, and a step."""


@dataclass
class _Generation:
    place: Place
    ticket: int
    text: str = ""
    note: str = ""


class CheckpointStories:
    """What is told now, what waits, and what failed. Lives on the screen's thread alone: `hear` is called there."""

    def __init__(self, run_name: str, growth: SampleHistory, begin: Callable[[str, str, SamplingParams], int]) -> None:
        """`begin` starts a story (model, prompt, sample) and returns its ticket; its events are to come to `hear`."""
        self._run_name = run_name
        self._growth = growth
        self._begin = begin
        self._sample = SamplingParams(seed=0)
        self._waiting: deque[Place] = deque()
        self._now: _Generation | None = None
        self._failed: dict[Place, str] = {}

    @property
    def telling(self) -> Place | None:
        """Where a story is being told."""
        return self._now.place if self._now is not None else None

    @property
    def n_waiting(self) -> int:
        """Stories that are told after it."""
        return len(self._waiting)

    def by(self, sample: SamplingParams) -> None:
        """How stories are told from now on."""
        self._sample = sample

    def ask(self, prompt: str, steps: tuple[int, ...]) -> int:
        """Tell from `prompt` at these steps, those that have none yet; how many that are."""
        known = {*self._waiting, self.telling}
        wanted = [(prompt, step) for step in steps if self._growth.at(prompt, step) is None]
        fresh = [place for place in wanted if place not in known]
        for place in fresh:
            self._failed.pop(place, None)
        self._waiting += fresh
        self._go_on()
        return len(fresh)

    def cancel(self, booth: GenerationClient) -> None:
        """Tell no more of what was asked for."""
        self._waiting.clear()
        if self._now is not None:
            booth.cancel(self._now.ticket)
            self._now = None

    def so_far(self, prompt: str, step: int) -> str | None:
        """The story as far as it was told; None where none is being told or waits to be."""
        place = (prompt, step)
        if self._now is not None and self._now.place == place:
            return self._now.text
        return "" if place in self._waiting else None

    def words(self, prompt: str, step: int) -> str:
        """What is to be said of a place where no story is: that it waits, is being opened, or failed."""
        place = (prompt, step)
        if self._now is not None and self._now.place == place:
            return self._now.note or ("" if self._now.text else "opening the model \u2026")
        return "waits for its turn \u2026" if place in self._waiting else self._failed.get(place, "")

    def hear(self, event: Event) -> bool:
        """Take what the booth says; whether it was of a story of ours."""
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
            self._growth.add(SampleRecord(step, prompt, text, event.seed, finished=event.finished, later=True))
        elif isinstance(event, Failed):
            self._failed[now.place] = f"{event.problem}: {event.remedy}" if event.remedy else event.problem
        if isinstance(event, Ended | Failed):
            self._now = None
            self._go_on()
        return True

    def _go_on(self) -> None:
        if self._now is None and self._waiting:
            prompt, step = self._waiting.popleft()
            sample = replace(self._sample, seed=self._sample.seed or 0)
            self._now = _Generation((prompt, step), self._begin(f"{self._run_name}@{step}", prompt, sample))

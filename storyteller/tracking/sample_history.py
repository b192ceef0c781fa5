"""How a run learned to speak: the same prompts and the same seed, step after step.

What was told during training is read from the run's samples; what is missing at a checkpoint can be told later, by the
same recipe, word for word as it would have been told then.
"""

from __future__ import annotations

import stat
import threading
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyteller.config.configs import PROMPTS, Config, SamplingParams
from storyteller.errors import StorytellerError
from storyteller.system.json_values import is_natural
from storyteller.tracking.metrics_log import read_records
from storyteller.tracking.run_folder import RunFolder

LONGEST_CHARS = 20_000
"""Of a prompt or a story; what is longer is cut."""
_MOST_TOKENS = 200
_MOST_CHARS = 8 << 20
_MOST_PROMPTS = 32
_LARGEST_STEP = 10**15
_RECORDS_AT_ONCE = 500


@dataclass(frozen=True)
class SampleRecord:
    """A story as a run told it at one step."""

    step: int
    prompt: str
    text: str
    """What came after the prompt."""
    seed: int | None = None
    finished: bool = True
    """Whether the model ended it, rather than the limit of tokens."""
    later: bool = False
    """Told from the step's checkpoint afterwards, not during training."""


def sampling_params(config: Config) -> SamplingParams:
    """How a run's stories are told, each time alike: the same seed, and no more tokens than a glance can hold."""
    return SamplingParams(max_tokens=min(_MOST_TOKENS, config.model.context), seed=config.train.seed % 2**32)


def sampling_params_of(config: object) -> SamplingParams:
    """The same from a `run.json`'s config; the defaults' where it is none."""
    try:
        return sampling_params(Config.from_json(config if isinstance(config, Mapping) else {}))
    except (StorytellerError, TypeError, ValueError, AttributeError):
        return sampling_params(Config())


class SampleHistory:
    """The stories of one run by prompt and step, in memory that does not grow with the file. Any thread may ask.

    Of too many, the first, the newest and some evenly between them are kept.
    """

    def __init__(self, folder: RunFolder, most_chars: int = _MOST_CHARS) -> None:
        """Nothing is read yet; `most_chars` bounds what is kept, prompts and stories together."""
        self._path = folder.samples
        self._most_chars = most_chars
        self._lock = threading.Lock()
        self._offset = 0
        self._seen: tuple[int, int] | None = None
        self._stories: dict[str, dict[int, SampleRecord]] = {}
        self._steps: dict[str, list[int]] = {}
        self._chars = 0
        self._last_step = -1
        self.version = 0
        """Rises whenever something changed."""

    def catch_up(self) -> bool:
        """Read what came to the file since the last time; whether anything changed. Never raises for what is in it.

        What was read of a file that is gone is kept.
        """
        before = self.version
        seen = _stamp(self._path)
        if seen is None:
            self._offset, self._seen = 0, None
        while seen is not None and seen != self._seen:  # or a torn line of megabytes would be read at every look
            try:
                records, offset = read_records(self._path, self._offset, most=_RECORDS_AT_ONCE)
            except OSError:
                break
            with self._lock:
                if offset < self._offset and records:  # the file was begun anew
                    self._forget_from(0)
                moved, self._offset = offset != self._offset, offset
                for record in records:
                    if (told := _told(record)) is not None:
                        self._take(told)
            if not moved:
                self._seen = seen
        return self.version != before

    def add(self, told: SampleRecord) -> None:
        """Take a story that was told afterwards."""
        with self._lock:
            self._put(told)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts that were told from, the usual ones first and in their order."""
        with self._lock:
            known = [prompt for prompt, steps in self._steps.items() if steps]
        return tuple(sorted(known, key=lambda prompt: PROMPTS.index(prompt) if prompt in PROMPTS else len(PROMPTS)))

    def steps(self, prompt: str) -> tuple[int, ...]:
        """The steps at which a story was told from `prompt`, ascending."""
        with self._lock:
            return tuple(self._steps.get(prompt, ()))

    def at(self, prompt: str, step: int) -> SampleRecord | None:
        """The story told from `prompt` at `step`; None where none was."""
        with self._lock:
            return self._stories.get(prompt, {}).get(step)

    def _take(self, told: SampleRecord) -> None:
        """A story from the file: a step below the one before it is a resume, and what came after it is given up."""
        if told.step < self._last_step:
            self._forget_from(told.step)
        self._last_step = told.step
        self._put(told)

    def _put(self, told: SampleRecord) -> None:
        stories = self._stories.get(told.prompt)
        if stories is None:
            if len(self._stories) >= _MOST_PROMPTS:
                return
            stories = self._stories[told.prompt] = {}
            self._steps[told.prompt] = []
        if (known := stories.get(told.step)) is not None:
            self._chars -= _size(known)
        else:
            insort(self._steps[told.prompt], told.step)
        stories[told.step] = told
        self._chars += _size(told)
        self.version += 1
        while self._chars > self._most_chars and self._thin():
            pass

    def _thin(self) -> bool:
        """Keep the first, the newest, and one step in each of so many equal stretches between; whether any went."""
        freed = False
        for prompt, steps in self._steps.items():
            if not steps:
                continue
            first, last, n_stretches = steps[0], steps[-1], len(steps) * 3 // 4
            kept = {(step - first) * n_stretches // (last - first + 1): step for step in reversed(steps)}
            for step in set(steps) - {*kept.values(), last}:
                self._chars -= _size(self._stories[prompt].pop(step))
                freed = True
            self._steps[prompt] = sorted(self._stories[prompt])
        return freed

    def _forget_from(self, step: int) -> None:
        for prompt, steps in self._steps.items():
            first = bisect_left(steps, step)
            for later in steps[first:]:
                self._chars -= _size(self._stories[prompt].pop(later))
            del steps[first:]
        self._last_step = -1
        self.version += 1


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever the file does; None where there is none, or what could not be read to an end."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


def _size(told: SampleRecord) -> int:
    return len(told.prompt) + len(told.text) + 100


def _told(record: Mapping[str, Any]) -> SampleRecord | None:
    """The story that a line of the file is; None where it is none."""
    step, prompt, text, seed = (record.get(key) for key in ("step", "prompt", "text", "seed"))
    if not (is_natural(step, below=_LARGEST_STEP) and isinstance(prompt, str) and isinstance(text, str)):
        return None
    return SampleRecord(
        step=step,
        prompt=prompt[:LONGEST_CHARS],
        text=text[:LONGEST_CHARS],
        seed=seed if is_natural(seed, below=2**32) else None,
        finished=record.get("finished") is not False,
    )

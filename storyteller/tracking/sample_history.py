"""The stories that a run generated while it trained: from the same prompts and with the same seed at each step.

They are read from `samples.jsonl`. A step without a story can be filled in later from its checkpoint: the same sampling
parameters give the same story, word for word.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storyteller.config.configs import PROMPTS, Config, SamplingParams
from storyteller.errors import StorytellerError
from storyteller.system.files import open_regular
from storyteller.system.json_values import is_natural
from storyteller.tracking.log_follower import LogFollower
from storyteller.tracking.run_folder import RunFolder

LONGEST_CHARS = 20_000  # longer prompts and stories are cut
_MOST_TOKENS = 200
_MOST_CHARS = 8 << 20
_MOST_PROMPTS = 32
_LARGEST_STEP = 10**15
_LONGEST_LINE_BYTES = 64 << 20


@dataclass(frozen=True)
class SampleRecord:
    """A story that a run generated at one step."""

    step: int
    prompt: str
    text: str  # what the model wrote after the prompt
    seed: int | None = None
    finished: bool = True  # the model ended the story; False if it reached the limit of tokens
    later: bool = False  # generated afterwards from the step's checkpoint, not during training


def sampling_params(config: Config) -> SamplingParams:
    """The sampling parameters of a run's stories: the run's seed, and few enough tokens to be read at a glance."""
    return SamplingParams(max_tokens=min(_MOST_TOKENS, config.model.context), seed=config.train.seed % 2**32)


def sampling_params_of(config: object) -> SamplingParams:
    """The same for the config in a `run.json`; those of the default config if it is not valid."""
    try:
        return sampling_params(Config.from_json(config if isinstance(config, Mapping) else {}))
    except (StorytellerError, TypeError, ValueError, AttributeError):
        return sampling_params(Config())


class SampleHistory:
    """The stories of a run by prompt and step, in memory that does not grow with the file. Thread-safe.

    Keeps the first story, the newest, and some evenly spaced between them if there are too many.
    """

    def __init__(self, folder: RunFolder, most_chars: int = _MOST_CHARS) -> None:
        """Nothing is read yet. `most_chars` limits the prompts and stories in memory."""
        self._path = folder.samples
        self._most_chars = most_chars
        self._follower = LogFollower(lambda record: _sample(record) is not None, _LONGEST_LINE_BYTES)
        self._lock = threading.Lock()
        self._stories: dict[str, dict[int, SampleRecord]] = {}  # by prompt and step
        self._chars = 0
        self.version = 0  # rises whenever something changes

    def catch_up(self) -> bool:
        """Reads what was added to the file since the last time. Returns True if anything changed.

        A resume replaces the stories from its step on; so does a file that was started anew. After the file is gone,
        its stories stay. Contents of the file never raise an error.
        """
        before = self.version
        with contextlib.suppress(OSError), open_regular(self._path) as file:
            if self._follower.restart_if_replaced(file):
                self._drop_from(0)
            for part in self._follower.read_to_end(file):
                if part.is_resume:
                    self._drop_from(part.records[0]["step"])
                for record in part.records:
                    if (sample := _sample(record)) is not None:
                        self.add(sample)
        return self.version != before

    def add(self, sample: SampleRecord) -> None:
        """Adds a story, or replaces that of the same prompt and step."""
        with self._lock:
            if sample.prompt not in self._stories and len(self._stories) >= _MOST_PROMPTS:
                return
            stories = self._stories.setdefault(sample.prompt, {})
            self._chars += _size(sample) - (_size(stories[sample.step]) if sample.step in stories else 0)
            stories[sample.step] = sample
            self.version += 1
            while self._chars > self._most_chars and self._thin_out():
                pass

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts with stories: first the built-in ones in their order, then others."""
        with self._lock:
            known = [prompt for prompt, stories in self._stories.items() if stories]
        return tuple(sorted(known, key=lambda prompt: PROMPTS.index(prompt) if prompt in PROMPTS else len(PROMPTS)))

    def steps(self, prompt: str) -> tuple[int, ...]:
        """The steps with a story from `prompt`, ascending."""
        with self._lock:
            return tuple(sorted(self._stories.get(prompt, ())))

    def at(self, prompt: str, step: int) -> SampleRecord | None:
        """The story from `prompt` at `step`; None if there is none."""
        with self._lock:
            return self._stories.get(prompt, {}).get(step)

    def _thin_out(self) -> bool:
        """Drops about a quarter of the stories, evenly over the steps. Returns False if there was none to drop."""
        dropped = False
        for stories in self._stories.values():
            if not stories:
                continue
            steps = sorted(stories)
            # The range of steps is divided into fewer equal intervals than there are stories. The first story in each
            # interval stays, and so does the newest of all.
            first, last, n_intervals = steps[0], steps[-1], len(steps) * 3 // 4
            kept = {(step - first) * n_intervals // (last - first + 1): step for step in reversed(steps)}
            for step in set(steps) - {*kept.values(), last}:
                self._chars -= _size(stories.pop(step))
                dropped = True
        return dropped

    def _drop_from(self, step: int) -> None:
        with self._lock:
            for stories in self._stories.values():
                for later in [each for each in stories if each >= step]:
                    self._chars -= _size(stories.pop(later))
            self.version += 1


def _size(sample: SampleRecord) -> int:
    return len(sample.prompt) + len(sample.text) + 100


def _sample(record: Mapping[str, Any]) -> SampleRecord | None:
    """The story in a line of the file; None if there is none."""
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

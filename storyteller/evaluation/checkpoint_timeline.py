"""The timeline of a run: the story of one prompt and one seed at every checkpoint.

Stories that training recorded are reused, missing ones are generated from the checkpoints. Each story is compared with
the previous one word by word, which shows what the training in between changed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, ModelError, RunError
from storyteller.inference.engine import open_model
from storyteller.tracking import run_index
from storyteller.tracking.compare_runs import read_curves
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory, SampleRecord, sampling_params_of

DiffPart = tuple[str, bool]  # a piece of a story, and True if it is not in the previous story

SIMILAR_SHARE = 1 / 3  # share of kept words from which on a story counts as an edit of the previous one
_MIN_KEPT_WORDS = 3  # words in a row that must match to count as kept: any two stories share `was a`
_MAX_WORDS = 1000  # words of a story that are compared; later ones count as new


@dataclass(frozen=True)
class TimelineStory:
    """The story at one step, or the problem that prevented it."""

    step: int
    story: SampleRecord | None
    problem: str = ""
    bpb: float | None = None  # bits per byte of held-out stories, if the run was evaluated at this step
    parts: tuple[DiffPart, ...] = ()  # the story without its prompt, in pieces
    kept: float | None = None  # share of words kept from the previous story; None for the first story

    @property
    def is_similar(self) -> bool:
        """True if this is an edit of the previous story rather than a different one."""
        return self.kept is not None and self.kept >= SIMILAR_SHARE

    def to_json(self) -> dict[str, Any]:
        story = self.story
        return {
            "step": self.step,
            "text": story.text if story is not None else None,
            "finished": story.finished if story is not None else None,
            "told": ("later" if story.later else "training") if story is not None else None,
            "problem": self.problem or None,
            "bits_per_byte": self.bpb,
            "kept_pct": round(100 * self.kept, 1) if self.kept is not None else None,
        }


@dataclass(frozen=True)
class Timeline:
    """A run, a prompt and the steps at which there is a story or a checkpoint."""

    folder: RunFolder
    prompt: str
    params: SamplingParams  # sampling parameters; the seed is set
    steps: Sequence[int]
    history: SampleHistory
    bpb: Mapping[int, float]  # bits per byte by step

    @property
    def is_complete(self) -> bool:
        """True if no story has to be generated."""
        return all(_has_seed(self.history.at(self.prompt, step), self.params) for step in self.steps)

    def stories(self) -> Iterator[TimelineStory]:
        """Yields the story at each step. Missing stories are generated, which takes about a second each.

        A checkpoint that cannot be used yields a `TimelineStory` with a problem. Raises UsageError if the prompt does
        not fit into the model.
        """
        root = self.folder.path.parent
        previous: str | None = None
        for step in self.steps:
            story, problem = self.history.at(self.prompt, step), ""
            if not _has_seed(story, self.params):
                try:
                    story = generate_story(root, f"{self.folder.name}@{step}", self.prompt, self.params)
                except (RunError, CheckpointError, ModelError) as error:
                    story, problem = None, error.problem
            parts, kept = diff_words(previous, story.text) if story is not None else ((), None)
            yield TimelineStory(step, story, problem, self.bpb.get(step), parts, kept)
            previous = story.text if story is not None else previous


def open_timeline(folder: RunFolder, prompt: str, seed: int | None = None, limit: int = 0) -> Timeline:
    """Finds the steps of a timeline, at most `limit` (0: all). `seed`: None is the run's own.

    Raises RunError if there is neither a story nor a checkpoint.
    """
    config: object = None
    with contextlib.suppress(RunError):
        config = folder.read_run().get("config")
    params = sampling_params_of(config)
    if seed is not None:
        params = replace(params, seed=seed)
    history = SampleHistory(folder)
    history.catch_up()
    steps = timeline_steps(history, prompt, params, run_index.readable_steps(folder), limit)
    if not steps:
        raise RunError(
            f"{folder.name} has neither a story of this prompt nor a checkpoint",
            f"wait for its first checkpoint (storyteller logs {folder.name} -f)",
        )
    evaluated = read_curves(folder).line("eval/bpb", points=10_000)
    bpb = dict(zip(map(int, evaluated.x), evaluated.mean, strict=True))
    return Timeline(folder, prompt, params, steps, history, bpb)


def timeline_steps(
    history: SampleHistory, prompt: str, params: SamplingParams, saved: Sequence[int], limit: int = 0
) -> list[int]:
    """Returns the steps with a recorded story of this prompt and seed, or with a checkpoint (`saved`), ascending.

    If there are more than `limit` (0: no limit), returns `limit` evenly spaced ones, the first and the last included.
    """
    recorded = [step for step in history.steps(prompt) if _has_seed(history.at(prompt, step), params)]
    steps = sorted({*recorded, *saved})
    if not 0 < limit < len(steps):
        return steps
    return sorted({steps[i * (len(steps) - 1) // max(1, limit - 1)] for i in range(limit)})


def diff_words(before: str | None, text: str) -> tuple[tuple[DiffPart, ...], float | None]:
    """Splits a text into pieces that are new or kept from `before`; also returns the share of words that are kept.

    Kept are runs of three or more words that `before` contains in the same order (of all words if there are fewer).
    """
    # Each word with the white space in front of it, so that the pieces add up to the text.
    pieces = re.findall(r"\s*\S+(?:\s+\Z)?|\A\s+\Z", text)
    if before is None:
        return ((text, False),) if text else (), None
    words, old = [piece.strip() for piece in pieces][:_MAX_WORDS], before.split()[:_MAX_WORDS]
    shortest = min(_MIN_KEPT_WORDS, len(words), len(old))
    kept = [False] * len(pieces)
    for block in SequenceMatcher(None, old, words, autojunk=False).get_matching_blocks():
        if block.size >= max(1, shortest):
            kept[block.b : block.b + block.size] = [True] * block.size
    runs = groupby(zip(pieces, kept, strict=True), key=itemgetter(1))
    parts = tuple(("".join(piece for piece, _ in run), not is_kept) for is_kept, run in runs)
    return parts, sum(kept) / len(pieces) if pieces else 0.0


def _has_seed(story: SampleRecord | None, params: SamplingParams) -> bool:
    """True if the story was generated with this seed. Early files of samples name no seed: it was the run's own."""
    return story is not None and (story.seed is None or story.seed == params.seed)


def generate_story(root: Path, model: str, prompt: str, params: SamplingParams) -> SampleRecord:
    """Generates a story as the training process would have: on one thread, as rounding depends on their number."""
    with open_model(model, root, threads=1) as engine:
        story = engine.batch([prompt], params)[0]
    step = int(model.rpartition("@")[2])
    return SampleRecord(step, prompt, story.text[:LONGEST_CHARS], params.seed, finished=story.finished, later=True)

"""One prompt and one seed over all checkpoints of a run: what was told in training, and what is told now.

Each story is held against the one before it, so that a reader sees what another stretch of training changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, ModelError, RunError
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory, SampleRecord

DiffPart = tuple[str, bool]
"""A piece of a story, and whether it is new against the story before."""

SIMILAR_SHARE = 1 / 3
"""The share of words kept from which on the new ones are worth pointing out; below it, the story is another one."""
_SHORTEST_KEPT_WORDS = 3
"""So many words in a row that stood there before are kept; two stories share `was a` by chance."""
_MOST_WORDS = 1000
"""Held against each other; what comes after them counts as new."""


@dataclass(frozen=True)
class TimelineStory:
    """The story at one step; without one, `problem` says why."""

    step: int
    told: SampleRecord | None
    problem: str = ""
    bpb: float | None = None
    """Bits per byte of held-out stories at this step, where they were scored."""
    parts: tuple[DiffPart, ...] = ()
    """The story after its prompt, in pieces."""
    kept: float | None = None
    """The share of its words that stood in the story before; None where there is none before."""

    @property
    def is_alike(self) -> bool:
        """Whether it is the story before with changes, rather than another one."""
        return self.kept is not None and self.kept >= SIMILAR_SHARE

    def to_json(self) -> dict[str, Any]:
        told = self.told
        return {
            "step": self.step,
            "text": told.text if told is not None else None,
            "finished": told.finished if told is not None else None,
            "told": ("later" if told.later else "training") if told is not None else None,
            "problem": self.problem or None,
            "bits_per_byte": self.bpb,
            "kept_pct": round(100 * self.kept, 1) if self.kept is not None else None,
        }


def timeline_steps(
    growth: SampleHistory, prompt: str, sample: SamplingParams, saved: Sequence[int], most: int = 0
) -> list[int]:
    """The steps at which there is a story told like this, or a checkpoint to tell one from; with `most`, so many of
    them, evenly, the first and the last among them."""
    told = [step for step in growth.steps(prompt) if _is_like(growth.at(prompt, step), sample)]
    steps = sorted({*told, *saved})
    if not 0 < most < len(steps):
        return steps
    return sorted({steps[i * (len(steps) - 1) // max(1, most - 1)] for i in range(most)})


def timeline_stories(
    root: Path,
    run: str,
    growth: SampleHistory,
    prompt: str,
    sample: SamplingParams,
    steps: Sequence[int],
    bpb_at: Callable[[int], float | None] = lambda _: None,
    tell: Callable[[Path, str, str, SamplingParams], SampleRecord] | None = None,
) -> Iterator[TimelineStory]:
    """The story at each of these steps, in their order; what is missing is told now, which takes about a second each.

    `sample.seed` is set. A checkpoint that cannot be told from gives a moment without a story. Raises UsageError where
    the prompt does not fit into the model.
    """
    tell = tell or _tell
    before: SampleRecord | None = None
    for step in steps:
        told, problem = growth.at(prompt, step), ""
        if not _is_like(told, sample):
            try:
                told = tell(root, f"{run}@{step}", prompt, sample)
            except (RunError, CheckpointError, ModelError) as error:
                told, problem = None, error.problem
        if told is None:
            yield TimelineStory(step, None, problem, bpb_at(step))
            continue
        parts, kept = diff_words(before.text if before is not None else None, told.text)
        yield TimelineStory(step, told, "", bpb_at(step), parts, kept)
        before = told


def diff_words(before: str | None, text: str) -> tuple[tuple[DiffPart, ...], float | None]:
    """The text in pieces, new or kept from the one before, and the share of its words that are kept.

    Kept are words of which three or more in a row stood before, in the same order (or all, where there are fewer).
    """
    pieces = re.findall(r"\s*\S+(?:\s+\Z)?|\A\s+\Z", text)
    if before is None:
        return ((text, False),) if text else (), None
    words, old = [piece.strip() for piece in pieces][:_MOST_WORDS], before.split()[:_MOST_WORDS]
    shortest = min(_SHORTEST_KEPT_WORDS, len(words), len(old))
    kept = [False] * len(pieces)
    for block in SequenceMatcher(None, old, words, autojunk=False).get_matching_blocks():
        if block.size >= max(1, shortest):
            kept[block.b : block.b + block.size] = [True] * block.size
    parts: list[DiffPart] = []
    for piece, is_kept in zip(pieces, kept, strict=True):
        if parts and parts[-1][1] is not is_kept:
            parts[-1] = (parts[-1][0] + piece, not is_kept)
        else:
            parts.append((piece, not is_kept))
    return tuple(parts), sum(kept) / len(pieces) if pieces else 0.0


def _is_like(told: SampleRecord | None, sample: SamplingParams) -> bool:
    """Whether the story is what the sample's seed tells; in files that name no seed it was the run's own."""
    return told is not None and (told.seed is None or told.seed == sample.seed)


def _tell(root: Path, model: str, prompt: str, sample: SamplingParams) -> SampleRecord:
    """Tell the story now, as the training process would have: on one thread, whose number the last digits depend on."""
    from storyteller.inference.engine import open_model

    with open_model(model, root, threads=1) as engine:
        pieces = engine.stream(prompt, replace(sample))
        try:
            while True:  # piece by piece, so that Ctrl-C is heard
                next(pieces)
        except StopIteration as end:
            story = end.value
        finally:
            pieces.close()
    step = int(model.rpartition("@")[2])
    return SampleRecord(step, prompt, story.text[:LONGEST_CHARS], sample.seed, finished=story.finished, later=True)

"""Cuts real stories to the lengths of the generated ones, so that the same metrics of both are comparable."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, split_prompt

_SENTENCE_END = re.compile(r"[.!?]+[\"')]*(?=\s|$)")
_MIN_WORDS = 20  # words of a continuation below which a real story is not shortened


def match_lengths(generated: Sequence[StoryCompletion], stories: Sequence[str]) -> list[StoryCompletion]:
    """Splits real stories into prompt and continuation, and shortens them to the lengths of the generated ones.

    The longest real story is paired with the longest generated one, and so on; if there are fewer real stories, their
    counterparts are spread evenly over the generated ones. A longer continuation is cut after its last sentence that
    fits. All count as ended.
    """
    if not generated:
        return [split_prompt(story) for story in stories]
    lengths = sorted(len(story.text.split()) for story in generated)
    real = sorted(map(split_prompt, stories[: len(generated)]), key=lambda story: len(story.text.split()))
    ranks = (round((number + 0.5) * len(lengths) / len(real) - 0.5) for number in range(len(real)))
    return [_shortened(story, lengths[rank]) for story, rank in zip(real, ranks, strict=True)]


def _shortened(story: StoryCompletion, words: int) -> StoryCompletion:
    """Cuts the continuation after the last sentence that ends within `words` words, or else after its first one."""
    words = max(words, _MIN_WORDS)
    found = list(re.finditer(r"\S+", story.text))
    if len(found) <= words:
        return story
    ends = [end.end() for end in _SENTENCE_END.finditer(story.text, 0, found[words - 1].end())]
    later = _SENTENCE_END.search(story.text, found[words - 1].start())
    at = ends[-1] if ends else later.end() if later else len(story.text)
    return StoryCompletion(story.prompt, story.text[:at], ended=True)

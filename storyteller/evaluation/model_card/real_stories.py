"""Real stories beside the told ones: as long as these, so that a figure of the two compares like with like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from storyteller.evaluation.text_metrics.metrics import TokenizedStory
from storyteller.evaluation.text_metrics.word_tokens import cut

_SENTENCE_END = re.compile(r"[.!?]+[\"')]*(?=\s|$)")
_FEWEST_WORDS = 20
"""Of what is left of a story that is cut; a shorter one says too little."""


def beside(told: Sequence[TokenizedStory], stories: Sequence[str]) -> list[TokenizedStory]:
    """Each of the real stories as if it had been told, the longest against the longest told, and so on.

    One that is longer than its counterpart ends with the last sentence that is not; where there are fewer real stories
    than told ones, the counterparts are spread evenly over these. All ended by themselves, as real stories do.
    """
    if not told:
        return [cut(story) for story in stories]
    lengths = sorted(len(story.text.split()) for story in told)
    real = sorted((cut(story) for story in stories[: len(told)]), key=lambda story: len(story.text.split()))
    places = (round((number + 0.5) * len(lengths) / len(real) - 0.5) for number in range(len(real)))
    return [_shortened(story, lengths[place]) for story, place in zip(real, places, strict=True)]


def _shortened(story: TokenizedStory, words: int) -> TokenizedStory:
    """The story up to the last sentence that ends within so many words."""
    words = max(words, _FEWEST_WORDS)
    found = list(re.finditer(r"\S+", story.text))
    if len(found) <= words:
        return story
    ends = [end.end() for end in _SENTENCE_END.finditer(story.text, 0, found[words - 1].end())]
    later = _SENTENCE_END.search(story.text, found[words - 1].start())
    at = ends[-1] if ends else later.end() if later else len(story.text)
    return TokenizedStory(story.prompt, story.text[:at], ended=True)

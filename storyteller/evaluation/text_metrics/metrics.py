"""Metrics of generated stories: one row each, with its direction and a function that computes it per story.

A value means little by itself. The same metrics of held-out real stories, split into prompt and continuation by
`split_prompt`, are the baseline; a metric whose `better` is `like` is best when it equals that baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from storyteller.evaluation.bootstrap import RESAMPLES, Interval, interval
from storyteller.evaluation.text_metrics import consistency
from storyteller.evaluation.text_metrics.grammar import grammar_errors
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.repetition import distinct, repeated_words, self_bleu
from storyteller.evaluation.text_metrics.word_tokens import (
    QUOTE,
    StoryCompletion,
    TokenizedStory,
    is_sentence_end,
    tokenize,
)

Better = Literal["higher", "lower", "like"]
Compute = Callable[[Sequence[TokenizedStory], ReferenceCorpus], "PerStory"]  # one value per story, in their order

_FEWEST_GROUPS = 8  # prompts from which on the bootstrap resamples prompts instead of stories


@dataclass(frozen=True)
class PerStory:
    """One value and weight per story: the metric is sum(values) / sum(weights). Weight 0 leaves a story out."""

    values: list[float]
    weights: list[float]


@dataclass(frozen=True)
class Measure:
    """A metric."""

    key: str
    title: str
    explanation: str
    unit: str  # `%`, `words`, `per 1,000 words`, or empty for a share from 0 to 1
    better: Better
    compute: Compute


def per_story(stories: Sequence[StoryCompletion], reference: ReferenceCorpus) -> dict[str, PerStory]:
    """Computes all metrics per story, by key, for intervals and for paired differences between models."""
    tokenized = [tokenize(story) for story in stories]
    return {each.key: each.compute(tokenized, reference) for each in MEASURES}


def measure(
    stories: Sequence[StoryCompletion], reference: ReferenceCorpus, *, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Computes all metrics with their 95 % bootstrap intervals, by key.

    Metrics without anything to measure (pronouns in a text that has none) are left out. Continuations of one prompt are
    alike, so that the bootstrap resamples prompts with all their stories; below 8 prompts it resamples stories.
    """
    prompts = [story.prompt for story in stories]
    groups = prompts if len(set(prompts)) >= _FEWEST_GROUPS else None
    return {
        key: interval(found.values, found.weights, groups=groups, resamples=resamples)
        for key, found in per_story(stories, reference).items()
        if sum(found.weights) > 0
    }


def _ratio(count: Callable[[TokenizedStory, ReferenceCorpus], tuple[float, float]], scale: float = 100) -> Compute:
    """A metric from a function that counts (part, whole) in each story; 100 * part / whole by default."""

    def compute(stories: Sequence[TokenizedStory], reference: ReferenceCorpus) -> PerStory:
        pairs = [count(story, reference) for story in stories]
        return PerStory([scale * float(part) for part, _ in pairs], [float(whole) for _, whole in pairs])

    return compute


def _mean(values: Callable[[Sequence[TokenizedStory]], Sequence[float | None]]) -> Compute:
    """A metric that is the mean of one value per story; stories whose value is None are left out."""

    def compute(stories: Sequence[TokenizedStory], _: ReferenceCorpus) -> PerStory:
        found = values(stories)
        return PerStory([value or 0.0 for value in found], [float(value is not None) for value in found])

    return compute


def _ends_closed(story: TokenizedStory, _: ReferenceCorpus) -> tuple[int, int]:
    tokens = [story.tokens[i] for i in story.continuation]
    while tokens and tokens[-1] in {QUOTE, "'", ")"}:
        tokens.pop()
    return int(bool(tokens) and is_sentence_end(tokens[-1])), 1


def _known_words(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    prompt, words = set(story.prompt_words()), story.words()
    return sum(reference.knows(word) or word in prompt for word in words), len(words)


def _copied(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    found = reference.copies.look_up(story.words())
    return found.n_copied, found.n_spans


_COMPUTE: dict[str, Compute] = {
    "ended_pct": _ratio(lambda story, _: (int(story.ended), 1)),
    "closed_pct": _ratio(_ends_closed),
    "words": _ratio(lambda story, _: (len(story.words()), 1), 1),
    "known_words_pct": _ratio(_known_words),
    "slips": _ratio(lambda story, corpus: (len(grammar_errors(story, corpus)), len(story.words())), 1000),
    "odd_pairs_pct": _ratio(lambda story, corpus: corpus.unseen_pairs(story)),
    "distinct_1": _mean(lambda stories: [distinct(story.words(), 1) for story in stories]),
    "distinct_2": _mean(lambda stories: [distinct(story.words(), 2) for story in stories]),
    "distinct_3": _mean(lambda stories: [distinct(story.words(), 3) for story in stories]),
    "looped_pct": _ratio(lambda story, _: (len(repeated_words(story)), len(story.words()))),
    "self_bleu": _mean(lambda stories: self_bleu([story.words() for story in stories])),
    "changed_names_pct": _ratio(lambda story, corpus: (int(consistency.changed_name(story, corpus) is not None), 1)),
    "stray_pronouns_pct": _ratio(consistency.unresolved_pronouns),
    "not_introduced_pct": _ratio(consistency.definite_first_mentions),
    "thread_pct": _ratio(consistency.second_half_overlap),
    "prompt_pct": _ratio(consistency.prompt_overlap),
    "copied_pct": _ratio(_copied),
    "longest_copy_words": _ratio(lambda story, corpus: (corpus.copies.look_up(story.words()).longest_words, 1), 1),
}

# Key, title, explanation, unit and direction of each metric, in display order.
_TABLE: tuple[tuple[str, str, str, str, Better], ...] = (
    ("ended_pct", "ends by itself", "stories that the model ended before the token limit", "%", "higher"),
    ("closed_pct", "ends with an end mark", "stories whose last sentence has an end mark", "%", "higher"),
    ("words", "length", "words per story", "words", "like"),
    ("known_words_pct", "known words", "words of the prompt or of at least two training stories", "%", "higher"),
    ("slips", "grammar errors", "errors that rules detect, such as doubled words", "per 1,000 words", "lower"),
    ("odd_pairs_pct", "unseen word pairs", "adjacent words that are never adjacent in training stories", "%", "like"),
    ("distinct_1", "distinct words", "distinct-1: share of distinct words among 50 in a row", "", "like"),
    ("distinct_2", "distinct word pairs", "distinct-2: share of distinct pairs among 50 words in a row", "", "like"),
    ("distinct_3", "distinct triples", "distinct-3: share of distinct triples among 50 words in a row", "", "like"),
    ("looped_pct", "repetition", "words in a sentence or 8-gram that the story contains already", "%", "lower"),
    ("self_bleu", "similar stories", "self-BLEU: wording shared with 19 other stories of the set", "", "like"),
    ("changed_names_pct", "changed names", "stories in which a character's name changes", "%", "lower"),
    ("stray_pronouns_pct", "unresolved pronouns", "he, she, him, her ... without an antecedent", "%", "lower"),
    ("not_introduced_pct", "not introduced", 'first mentions with "the" where stories have "a"', "%", "lower"),
    ("thread_pct", "keeps its thread", "content words of the second half that the first half contains", "%", "like"),
    ("prompt_pct", "follows the prompt", "names and content words of the prompt that are repeated", "%", "like"),
    ("copied_pct", "copied from training", "8-grams that occur in the training stories", "%", "like"),
    ("longest_copy_words", "longest copy", "mean longest span copied from one training story", "words", "like"),
)

MEASURES = tuple(Measure(*row, _COMPUTE[row[0]]) for row in _TABLE)

"""The measures of told stories: each a table row that says what it is, which way is better, and its figure a story.

A figure alone says little: the same measures over held-out real stories, cut into a prompt and the rest by `cut`, say
what good looks like. Those whose `better` is `like` are best where they are as in real stories, neither more nor less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from storyteller.evaluation.bootstrap import RESAMPLES, Interval, interval
from storyteller.evaluation.text_metrics import consistency
from storyteller.evaluation.text_metrics.grammar import slips
from storyteller.evaluation.text_metrics.reference_corpus import Reference
from storyteller.evaluation.text_metrics.repetition import distinct, looped_words, self_bleu
from storyteller.evaluation.text_metrics.word_tokens import QUOTE, Prose, TokenizedStory, cut, is_end, parse

__all__ = ["MEASURES", "Measure", "PerStory", "Reference", "TokenizedStory", "cut", "measure", "per_story"]

Better = Literal["higher", "lower", "like"]
Set = Sequence[Prose]


@dataclass(frozen=True)
class PerStory:
    """A measure's numbers, one a story: the figure is sum(values) / sum(weights). Weight 0: nothing to measure."""

    values: list[float]
    weights: list[float]


@dataclass(frozen=True)
class Measure:
    """One measure."""

    key: str
    title: str
    explanation: str
    unit: str
    """`%`, `words`, `per 1,000 words`, or empty for a share of 1."""
    better: Better
    of: Callable[[Set, Reference], PerStory]
    """Its numbers, one a story of the set, in order."""


def per_story(stories: Sequence[TokenizedStory], reference: Reference) -> dict[str, PerStory]:
    """Each measure's numbers, by its key: for intervals, and for paired differences between models."""
    proses = [parse(story) for story in stories]
    return {each.key: each.of(proses, reference) for each in MEASURES}


def measure(
    stories: Sequence[TokenizedStory], reference: Reference, *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, Interval]:
    """Each measure's figure with its 95 % interval, by its key.

    A measure for which the stories have nothing to measure (no pronoun at all, say) is not among them. Where there are
    8 prompts or more, prompts are resampled with all their stories, else stories.
    """
    prompts = [story.prompt for story in stories]
    groups = prompts if len(set(prompts)) >= _FEWEST_GROUPS else None
    return {
        key: interval(found.values, found.weights, groups=groups, seed=seed, resamples=resamples)
        for key, found in per_story(stories, reference).items()
        if sum(found.weights) > 0
    }


_FEWEST_GROUPS = 8


# --- how each is taken ------------------------------------------------------------------------------------------------


def _counted(
    count: Callable[[Prose, Reference], tuple[float, float]], times: float = 100
) -> Callable[[Set, Reference], PerStory]:
    """A measure from a count of so many out of so many in each story."""

    def of(proses: Set, reference: Reference) -> PerStory:
        pairs = [count(prose, reference) for prose in proses]
        return PerStory([times * float(some) for some, _ in pairs], [float(total) for _, total in pairs])

    return of


def _share_or_none(
    share: Callable[[Set, Reference], Sequence[float | None]],
) -> Callable[[Set, Reference], PerStory]:
    """A measure that is a number for each story, or nothing; each story weighs the same."""

    def of(proses: Set, reference: Reference) -> PerStory:
        shares = share(proses, reference)
        return PerStory([found or 0.0 for found in shares], [float(found is not None) for found in shares])

    return of


def _closed(prose: Prose, _: Reference) -> tuple[int, int]:
    told = [prose.tokens[i] for i in prose.told]
    while told and told[-1] in {QUOTE, "'", ")"}:
        told.pop()
    return int(bool(told) and is_end(told[-1])), 1


def _known(prose: Prose, reference: Reference) -> tuple[int, int]:
    prompt, told = set(prose.prompt_words()), prose.told_words()
    return sum(reference.knows(word) or word in prompt for word in told), len(told)


def _looped(prose: Prose, _: Reference) -> tuple[int, int]:
    return looped_words(prose), len(prose.told_words())


def _distinct(n: int) -> Callable[[Set, Reference], PerStory]:
    return _share_or_none(lambda proses, _: [distinct(prose.told_words(), n) for prose in proses])


def _copied(prose: Prose, reference: Reference) -> tuple[int, int]:
    found = reference.copies.look_up(prose.told_words())
    return found.n_copied, found.n_spans


def _longest_copy(prose: Prose, reference: Reference) -> tuple[int, int]:
    return reference.copies.look_up(prose.told_words()).longest_words, 1


MEASURES: tuple[Measure, ...] = (
    Measure(
        "ended_pct",
        "ends by itself",
        "stories that the model ended, rather than a limit on their length",
        "%",
        "higher",
        _counted(lambda prose, _: (int(prose.ended), 1)),
    ),
    Measure(
        "closed_pct",
        "ends with a full stop",
        "stories whose last mark ends a sentence, quotes after it left out",
        "%",
        "higher",
        _counted(_closed),
    ),
    Measure(
        "words",
        "length",
        "words told a story",
        "words",
        "like",
        _counted(lambda prose, _: (len(prose.told_words()), 1), 1),
    ),
    Measure(
        "known_words_pct",
        "spelling",
        "words that stand in at least two training stories, or in the prompt",
        "%",
        "higher",
        _counted(_known),
    ),
    Measure(
        "slips",
        "grammar slips",
        "slips that rules can find: doubled words, a and an, verb forms, capitals, quotes",
        "per 1,000 words",
        "lower",
        _counted(lambda prose, reference: (len(slips(prose, reference)), len(prose.told_words())), 1000),
    ),
    Measure(
        "odd_pairs_pct",
        "odd neighbours",
        "neighbouring words that never stand side by side in the training stories",
        "%",
        "like",
        _counted(lambda prose, reference: reference.odd_pairs(prose)),
    ),
    Measure(
        "distinct_1",
        "different words",
        "distinct-1: of 50 words in a row, the share that are different",
        "",
        "like",
        _distinct(1),
    ),
    Measure(
        "distinct_2",
        "different pairs",
        "distinct-2: of the pairs in 50 words in a row, the share that are different",
        "",
        "like",
        _distinct(2),
    ),
    Measure(
        "distinct_3",
        "different triples",
        "distinct-3: of the triples in 50 words in a row, the share that are different",
        "",
        "like",
        _distinct(3),
    ),
    Measure(
        "looped_pct",
        "says it again",
        "words inside a sentence, or a run of 8 words, that the story already had",
        "%",
        "lower",
        _counted(_looped),
    ),
    Measure(
        "self_bleu",
        "alike stories",
        "self-BLEU: how much of a story's wording 19 other stories of the set share",
        "",
        "like",
        _share_or_none(lambda proses, _: self_bleu([prose.told_words() for prose in proses])),
    ),
    Measure(
        "changed_names_pct",
        "names that change",
        "stories whose first person gets another name on the way",
        "%",
        "lower",
        _counted(lambda prose, reference: (int(consistency.changed_name(prose, reference) is not None), 1)),
    ),
    Measure(
        "stray_pronouns_pct",
        "he or she without anyone",
        "he, she, him, her ... whom nobody in the story can be",
        "%",
        "lower",
        _counted(consistency.stray_pronouns),
    ),
    Measure(
        "not_introduced_pct",
        "things not brought in",
        'things that are "the ..." at once, of those that stories bring in with "a"',
        "%",
        "lower",
        _counted(consistency.not_introduced),
    ),
    Measure(
        "thread_pct",
        "keeps its thread",
        "content words of the later half that the first half had",
        "%",
        "like",
        _counted(consistency.thread),
    ),
    Measure(
        "prompt_pct",
        "takes up the prompt",
        "names and content words of the prompt that come again",
        "%",
        "like",
        _counted(consistency.taken_up),
    ),
    Measure(
        "copied_pct",
        "copied from training",
        "runs of 8 words that stand in the training stories",
        "%",
        "like",
        _counted(_copied),
    ),
    Measure(
        "longest_copy_words",
        "longest copy",
        "the longest span that stands in one training story, a story on average",
        "words",
        "like",
        _counted(_longest_copy, 1),
    ),
)
"""Every measure, in the order in which they are shown."""

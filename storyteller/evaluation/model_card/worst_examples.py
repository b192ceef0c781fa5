"""The worst of what was told: copies, loops, names that change, slips, each with its place in the story."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from storyteller.data.cleaning import clean
from storyteller.evaluation.model_card.card import Example
from storyteller.evaluation.text_metrics.consistency import changed_name
from storyteller.evaluation.text_metrics.grammar import slips
from storyteller.evaluation.text_metrics.metrics import Reference, TokenizedStory
from storyteller.evaluation.text_metrics.repetition import looped
from storyteller.evaluation.text_metrics.word_tokens import TOKEN, Prose, parse

EACH = 3
"""Examples of a kind."""
FEWEST_COPIED_WORDS = 12
"""A shorter copy is what any two stories have in common."""
_FEWEST_LOOPED_PCT = 20
_FEWEST_SLIPS = 2
_AROUND_CHARS = 80
_MOST_SOURCE_CHARS = 600
_DOTS = "\u2026"

Kind = Callable[[TokenizedStory, Prose, Reference, Sequence[str]], tuple[float, Example] | None]


def examples(stories: Sequence[TokenizedStory], reference: Reference, training: Sequence[str]) -> tuple[Example, ...]:
    """The worst `EACH` of each kind, the worst first; `training` are the stories that the reference was built from."""
    proses = [parse(story) for story in stories]
    found: list[Example] = []
    for kind in _KINDS:
        rated = [
            rated
            for story, prose in zip(stories, proses, strict=True)
            if (rated := kind(story, prose, reference, training))
        ]
        seen: set[str] = set()
        for _, example in sorted(rated, key=lambda pair: -pair[0]):
            if example.prompt + example.text not in seen and len(seen) < EACH:
                seen.add(example.prompt + example.text)
                found.append(example)
    return tuple(found)


def _copied(
    story: TokenizedStory, prose: Prose, reference: Reference, training: Sequence[str]
) -> tuple[float, Example] | None:
    copied = reference.copies.look_up(prose.told_words())
    if copied.source is None or copied.longest_words < FEWEST_COPIED_WORDS:
        return None
    words = [i for i in prose.told if prose.is_word[i]][copied.at_word : copied.at_word + copied.longest_words]
    title = f"{copied.longest_words} words in a row from training story {copied.source + 1:,}"
    source = _excerpt(training[copied.source], copied.span(prose.told_words()).split(" "))
    return copied.longest_words, _example("copied", title, story, prose, _runs(words), source)


def _looped(
    story: TokenizedStory, prose: Prose, _reference: Reference, _: Sequence[str]
) -> tuple[float, Example] | None:
    said_again, n_words = looped(prose), len(prose.told_words())
    pct = 100 * len(said_again) / max(n_words, 1)
    if pct < _FEWEST_LOOPED_PCT:
        return None
    return pct, _example("looped", f"{pct:.0f} % of it was said before", story, prose, _runs(sorted(said_again)))


def _renamed(
    story: TokenizedStory, prose: Prose, reference: Reference, _: Sequence[str]
) -> tuple[float, Example] | None:
    names = changed_name(prose, reference)
    if names is None:
        return None
    places = [i for i, word in enumerate(prose.lower) if word.removesuffix("'s") in names]
    title = f"{names[0].capitalize()} becomes {names[1].capitalize()}"
    return 1.0, _example("renamed", title, story, prose, [(i, i) for i in places])


def _slipped(
    story: TokenizedStory, prose: Prose, reference: Reference, _: Sequence[str]
) -> tuple[float, Example] | None:
    found = slips(prose, reference)
    if len(found) < _FEWEST_SLIPS:
        return None
    rules = ", ".join(dict.fromkeys(slip.rule.replace("_", " ") for slip in found))
    share = len(found) / max(len(prose.told_words()), 1)
    title = f"{len(found)} slips of grammar ({rules})"
    return share, _example("slips", title, story, prose, [(slip.at, slip.at) for slip in found])


_KINDS: tuple[Kind, ...] = (_copied, _looped, _renamed, _slipped)


# --- places -----------------------------------------------------------------------------------------------------------


def _example(
    kind: str, title: str, story: TokenizedStory, prose: Prose, tokens: Iterable[tuple[int, int]], source: str = ""
) -> Example:
    """The story, cleaned as it was measured, with runs of its tokens marked, each from its first to its last."""
    whole = clean(story.prompt + story.text)
    places = [match.span() for match in TOKEN.finditer(whole)]
    told_from = places[prose.told_from][0] if prose.told_from < len(places) else len(whole)
    marks = tuple((places[first][0], places[last][1]) for first, last in tokens)
    return Example(kind, title, whole[:told_from], whole[told_from:], marks, source)


def _runs(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Tokens of which some follow each other, marks between them passed over, as first and last of each run."""
    found: list[tuple[int, int]] = []
    for i in tokens:
        if found and i - found[-1][1] <= 3:
            found[-1] = (found[-1][0], i)
        else:
            found.append((i, i))
    return found


def _excerpt(training: str, words: Sequence[str]) -> str:
    """The training story's own words that the span (its words in lower case) is a copy of, and a few around them."""
    text = " ".join(clean(training).split())
    match = re.search(r"[\W\d_]+".join(map(re.escape, words)), text, re.IGNORECASE)
    if match is None:
        return text[:_MOST_SOURCE_CHARS]
    begin, end = max(0, match.start() - _AROUND_CHARS), min(len(text), match.end() + _AROUND_CHARS)
    before, after = _DOTS if begin else "", _DOTS if end < len(text) else ""
    excerpt = before + text[begin:end] + after
    return excerpt if len(excerpt) <= _MOST_SOURCE_CHARS else excerpt[: _MOST_SOURCE_CHARS - 1] + _DOTS

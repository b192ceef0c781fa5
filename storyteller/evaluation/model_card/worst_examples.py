"""The worst generated stories of each kind of failure: copies, repetition, changed names, grammar errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from storyteller.data.cleaning import clean
from storyteller.evaluation.model_card.card import Example
from storyteller.evaluation.text_metrics.consistency import changed_name
from storyteller.evaluation.text_metrics.grammar import grammar_errors
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.repetition import repeated_words
from storyteller.evaluation.text_metrics.word_tokens import TOKEN, StoryCompletion, TokenizedStory, tokenize

_EXAMPLES_PER_KIND = 3
_MIN_COPIED_WORDS = 12  # any two stories may share a shorter span
_MIN_REPEATED_PCT = 20
_MIN_GRAMMAR_ERRORS = 2
_CONTEXT_CHARS = 80
_MAX_SOURCE_CHARS = 600
_DOTS = "\u2026"


@dataclass(frozen=True)
class _Case:
    """A story and what it is compared with."""

    story: StoryCompletion
    tokens: TokenizedStory
    reference: ReferenceCorpus
    training: Sequence[str]


def worst_examples(
    stories: Sequence[StoryCompletion], reference: ReferenceCorpus, training: Sequence[str]
) -> tuple[Example, ...]:
    """Returns up to three examples of each kind, worst first; `reference` was built from the stories in `training`."""
    cases = [_Case(story, tokenize(story), reference, training) for story in stories]
    found: list[Example] = []
    # Each function returns the severity of a failure and the example, or None.
    for find in (_copied, _repeated, _renamed, _ungrammatical):
        rated = [rated for case in cases if (rated := find(case))]
        unique: dict[str, Example] = {}
        for _, example in sorted(rated, key=lambda pair: -pair[0]):
            unique.setdefault(example.prompt + example.text, example)
        found += list(unique.values())[:_EXAMPLES_PER_KIND]
    return tuple(found)


def _copied(case: _Case) -> tuple[float, Example] | None:
    tokens = case.tokens
    copied = case.reference.copies.look_up(tokens.words())
    if copied.source is None or copied.longest_words < _MIN_COPIED_WORDS:
        return None
    words = [i for i in tokens.continuation if tokens.is_word[i]][copied.at_word :][: copied.longest_words]
    title = f"{copied.longest_words} words in a row from training story {copied.source + 1:,}"
    source = _excerpt(case.training[copied.source], copied.span(tokens.words()).split(" "))
    return copied.longest_words, _example(case, "copied", title, words, source)


def _repeated(case: _Case) -> tuple[float, Example] | None:
    repeated = repeated_words(case.tokens)
    pct = 100 * len(repeated) / max(len(case.tokens.words()), 1)
    if pct < _MIN_REPEATED_PCT:
        return None
    return pct, _example(case, "looped", f"{pct:.0f} % of the words are repetition", sorted(repeated))


def _renamed(case: _Case) -> tuple[float, Example] | None:
    names = changed_name(case.tokens, case.reference)
    if names is None:
        return None
    places = [i for i, word in enumerate(case.tokens.lower) if word.removesuffix("'s") in names]
    title = f"{names[0].capitalize()} becomes {names[1].capitalize()}"
    return 1.0, _example(case, "renamed", title, places, merge=False)


def _ungrammatical(case: _Case) -> tuple[float, Example] | None:
    errors = grammar_errors(case.tokens, case.reference)
    if len(errors) < _MIN_GRAMMAR_ERRORS:
        return None
    title = f"{len(errors)} grammar errors ({', '.join(dict.fromkeys(error.rule for error in errors))})"
    share = len(errors) / max(len(case.tokens.words()), 1)
    return share, _example(case, "slips", title, [error.at for error in errors], merge=False)


def _example(
    case: _Case, kind: str, title: str, marked: Iterable[int], source: str = "", *, merge: bool = True
) -> Example:
    """The cleaned story with marks at the given tokens; with `merge`, marks up to 3 tokens apart become one."""
    text, start = clean(case.story.prompt + case.story.text), case.tokens.start
    spans = [match.span() for match in TOKEN.finditer(text)]
    split = spans[start][0] if start < len(spans) else len(text)
    marks: list[tuple[int, int]] = []
    last = -math.inf
    for i in marked:
        begin = marks.pop()[0] if merge and i - last <= 3 else spans[i][0]
        marks.append((begin, spans[i][1]))
        last = i
    return Example(kind, title, text[:split], text[split:], tuple(marks), source)


def _excerpt(training: str, words: Sequence[str]) -> str:
    """Cuts the copied span (its words in lower case) and some context out of the training story."""
    text = " ".join(clean(training).split())
    match = re.search(r"[\W\d_]+".join(map(re.escape, words)), text, re.IGNORECASE)
    if match is None:
        return text[:_MAX_SOURCE_CHARS]
    begin, end = max(0, match.start() - _CONTEXT_CHARS), min(len(text), match.end() + _CONTEXT_CHARS)
    before, after = _DOTS if begin else "", _DOTS if end < len(text) else ""
    excerpt = before + text[begin:end] + after
    return excerpt if len(excerpt) <= _MAX_SOURCE_CHARS else excerpt[: _MAX_SOURCE_CHARS - 1] + _DOTS

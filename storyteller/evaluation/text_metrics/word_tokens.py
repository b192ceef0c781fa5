"""Splits a story into word tokens and finds its continuation, direct speech and sentence boundaries.

Assumes the English of short stories: double quotes for direct speech, a newline between paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from storyteller.data.cleaning import clean

TOKEN = re.compile(r"""[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[.!?]+|[^\w\s]|_|\n""")
"""A word (with its apostrophes), a number, an end mark, another punctuation mark, or the end of a paragraph."""


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


SENTENCE_ENDS = frozenset(".!?")
QUOTE, PARAGRAPH = '"', "\n"
ABBREVIATIONS = frozenset({"mr", "mrs", "ms", "dr", "st"})
I_FORMS = frozenset({"i", "i'm", "i'll", "i've", "i'd"})
_CLOSING = frozenset({QUOTE, ")", "'"})


@dataclass(frozen=True)
class StoryCompletion:
    """A prompt and its continuation; `ended` is False if a token limit cut the continuation off."""

    prompt: str
    text: str
    ended: bool


def split_prompt(story: str, prompt_words: int = 15) -> StoryCompletion:
    """Splits a real story into its first words as the prompt and the rest as the continuation."""
    words = list(re.finditer(r"\S+", story))
    at = words[prompt_words - 1].end() if len(words) > prompt_words else 0
    return StoryCompletion(story[:at], story[at:], ended=True)


class TokenizedStory:
    """The word tokens of a prompt and its continuation, which begins at token `start`."""

    def __init__(self, tokens: Sequence[str], start: int, ended: bool) -> None:
        self.tokens, self.start, self.ended = tokens, start, ended
        self.lower = [token.lower() for token in tokens]
        self.is_word = [token[0].isalpha() for token in tokens]
        self.in_speech = _speech(tokens)  # True for tokens inside double quotes (the end of a paragraph closes them)
        self.begins_sentence, self.sentences = _sentences(tokens)
        """True for words that begin a sentence, also in direct speech; token ranges [start, end) of the sentences."""

    @property
    def continuation(self) -> range:
        """Token indices of the continuation."""
        return range(self.start, len(self.tokens))

    def words(self) -> list[str]:
        """Words of the continuation, in lower case."""
        return [self.lower[i] for i in self.continuation if self.is_word[i]]

    def prompt_words(self) -> list[str]:
        """Words of the prompt, in lower case."""
        return [self.lower[i] for i in range(self.start) if self.is_word[i]]

    def word_pairs(self) -> list[tuple[int, str, str]]:
        """Adjacent words whose second word is in the continuation: (index of the first, first, second)."""
        lower, is_word = self.lower, self.is_word
        first = max(1, self.start)
        return [(i - 1, lower[i - 1], lower[i]) for i in range(first, len(lower)) if is_word[i] and is_word[i - 1]]


def tokenize(story: StoryCompletion) -> TokenizedStory:
    """Cleans a story as training stories are cleaned, then splits it into tokens.

    A word that is split between prompt and continuation counts as part of the continuation.
    """
    prompt, whole = clean(story.prompt), clean(story.prompt + story.text)
    at = len(prompt) if whole.startswith(prompt) else min(len(prompt), len(whole))
    matches = list(TOKEN.finditer(whole))
    start = next((n for n, match in enumerate(matches) if match.end() > at), len(matches))
    return TokenizedStory([match.group() for match in matches], start, story.ended)


def is_sentence_end(token: str) -> bool:
    """True for a full stop, question mark, exclamation mark or ellipsis."""
    return token[0] in SENTENCE_ENDS


def _speech(tokens: Sequence[str]) -> list[bool]:
    inside, found = False, []
    for token in tokens:
        if token == PARAGRAPH:
            inside = False
        found.append(inside and token != QUOTE)
        if token == QUOTE:
            inside = not inside
    return found


def _sentences(tokens: Sequence[str]) -> tuple[list[bool], list[tuple[int, int]]]:
    """Finds the words that begin a sentence, and the sentences' token ranges.

    Two state variables decide at each token: `expecting` is True between an end mark and the next word, `may_continue`
    where a lower-case word continues the sentence nevertheless: after an end mark inside direct speech
    ("Stop!" she said) and after an ellipsis.
    """
    begins, starts = [False] * len(tokens), []
    expecting, may_continue = True, False
    for i, token in enumerate(tokens):
        if token == PARAGRAPH:
            expecting, may_continue = True, False
        elif is_sentence_end(token):
            # The full stop of an initial ("J. Smith") or an abbreviation ("Mr. Fox") ends no sentence.
            before = tokens[i - 1] if i else ""
            initial = len(before) == 1 and before.isupper() and before != "I"
            abbreviated = token == "." and (initial or before.lower() in ABBREVIATIONS)
            expecting, may_continue = not abbreviated, len(token) > 1
        elif token in _CLOSING:
            may_continue = True
        elif expecting:
            if token[0].isalpha() and not (may_continue and token[0].islower()):
                begins[i] = True
                starts.append(i)
            expecting = not (token[0].isalnum() or begins[i])
    bounds = [*starts, len(tokens)]
    return begins, [(start, bounds[n + 1]) for n, start in enumerate(starts)]


@lru_cache(maxsize=50_000)  # stories repeat the same words
def stem(word: str) -> str:
    """Strips common endings (plural, possessive, -ed, -ing): kites, kite's -> kite; hopped -> hop.

    A rough stemmer for recognising a word in another form. The result need not be a word.
    """
    for ending in ("'s", "s'"):
        if word.endswith(ending):
            word = word[:-2]
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes", "zes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        if len(word) > len(ending) + 2 and word.endswith(ending) and re.search("[aeiouy]", word[: -len(ending)]):
            word = word[: -len(ending)]
            # A doubled consonant was doubled for the ending (hopped -> hop), except l, s, z (called, missed, buzzed).
            if len(word) > 2 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word

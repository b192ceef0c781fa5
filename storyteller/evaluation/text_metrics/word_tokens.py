"""A story taken apart: its words and marks, which of them the model told, what is speech, where sentences begin.

English as small stories write it: speech stands in double quotes, a new paragraph on a new line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from storyteller.data.cleaning import clean

TOKEN = re.compile(r"""[^\W\d_]+(?:'[^\W\d_]+)*|\d+|[.!?]+|[^\w\s]|_|\n""")
"""A word (with its apostrophes), a number, an end of sentence, another mark, or the end of a paragraph."""


def word_set(text: str) -> frozenset[str]:
    """The words of a line of words."""
    return frozenset(text.split())


ENDS = frozenset(".!?")
QUOTE, PARAGRAPH = '"', "\n"
ABBREVIATIONS = frozenset({"mr", "mrs", "ms", "dr", "st"})
I_FORMS = frozenset({"i", "i'm", "i'll", "i've", "i'd"})
_CLOSING = frozenset({QUOTE, ")", "'"})


@dataclass(frozen=True)
class TokenizedStory:
    """A prompt, what a model went on with, and whether it came to an end by itself (not by a limit)."""

    prompt: str
    text: str
    ended: bool


def cut(story: str, prompt_words: int = 15) -> TokenizedStory:
    """A real story as a model would have told it: its first words as the prompt, the rest as what was told."""
    words = list(re.finditer(r"\S+", story))
    at = words[prompt_words - 1].end() if len(words) > prompt_words else 0
    return TokenizedStory(story[:at], story[at:], ended=True)


@dataclass(frozen=True, eq=False)
class Prose:
    """A story's tokens, prompt included. What lies from `told_from` on was told by the model."""

    tokens: Sequence[str]
    told_from: int
    ended: bool
    lower: Sequence[str] = field(init=False)
    is_word: Sequence[bool] = field(init=False)
    in_speech: Sequence[bool] = field(init=False)
    """Whether the token stands inside double quotes (a paragraph's end closes them)."""
    begins: Sequence[bool] = field(init=False)
    """Whether the token is a word that begins a sentence, outside speech or in it."""
    sentences: Sequence[tuple[int, int]] = field(init=False)
    """From which token to before which each sentence goes, its end mark included."""

    def __post_init__(self) -> None:
        begins, sentences = _sentences(self.tokens)
        known = {
            "lower": [token.lower() for token in self.tokens],
            "is_word": [token[0].isalpha() for token in self.tokens],
            "in_speech": _speech(self.tokens),
            "begins": begins,
            "sentences": sentences,
        }
        for name, value in known.items():
            object.__setattr__(self, name, value)

    @property
    def told(self) -> range:
        """The indices of the tokens that the model told."""
        return range(self.told_from, len(self.tokens))

    def told_words(self) -> list[str]:
        """The words that the model told, in lower case."""
        return [self.lower[i] for i in self.told if self.is_word[i]]

    def prompt_words(self) -> list[str]:
        """The words of the prompt, in lower case."""
        return [self.lower[i] for i in range(self.told_from) if self.is_word[i]]

    def told_pairs(self) -> list[tuple[int, str, str]]:
        """Words that stand side by side, the second of them told: (index of the first, first, second)."""
        lower, is_word = self.lower, self.is_word
        first = max(1, self.told_from)
        return [(i - 1, lower[i - 1], lower[i]) for i in range(first, len(lower)) if is_word[i] and is_word[i - 1]]


def parse(story: TokenizedStory) -> Prose:
    """The story's tokens, after the same cleaning that stories get before training.

    A word that the prompt breaks off belongs to what was told.
    """
    prompt, whole = clean(story.prompt), clean(story.prompt + story.text)
    at = len(prompt) if whole.startswith(prompt) else min(len(prompt), len(whole))
    matches = list(TOKEN.finditer(whole))
    told_from = next((n for n, match in enumerate(matches) if match.end() > at), len(matches))
    return Prose([match.group() for match in matches], told_from, story.ended)


def is_end(token: str) -> bool:
    """Whether the token is a full stop, a question mark, dots and the like."""
    return token[0] in ENDS


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
    """Which words begin a sentence, and the sentences' bounds.

    After an end mark inside speech, a lower-case word goes on with the same sentence ("Stop!" she said), and so it does
    after dots.
    """
    begins, starts = [False] * len(tokens), []
    fresh, may_go_on = True, False
    for i, token in enumerate(tokens):
        if token == PARAGRAPH:
            fresh, may_go_on = True, False
        elif is_end(token):
            before = tokens[i - 1] if i else ""
            initial = len(before) == 1 and before.isupper() and before != "I"
            abbreviated = token == "." and (initial or before.lower() in ABBREVIATIONS)
            fresh, may_go_on = not abbreviated, len(token) > 1
        elif token in _CLOSING:
            may_go_on = True
        elif fresh:
            if token[0].isalpha() and not (may_go_on and token[0].islower()):
                begins[i] = True
                starts.append(i)
            fresh, may_go_on = not (token[0].isalnum() or begins[i]) and fresh, may_go_on
    bounds = [*starts, len(tokens)]
    return begins, [(start, bounds[n + 1]) for n, start in enumerate(starts)]


_ENDINGS = ("'s", "s'")


def stem(word: str) -> str:
    """The word without its ending, roughly: plurals, possessives, -ed and -ing (kites, kite's -> kite; hopped -> hop).

    Only for finding a word again in another form; what it gives need not be a word.
    """
    for ending in _ENDINGS:
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
            if len(word) > 2 and word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word

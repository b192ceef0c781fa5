"""Vocabulary, names, genders, word pairs and 8-grams of the training stories, against which stories are measured.

Everything is counted from the training stories themselves rather than taken from a dictionary, so that a model trained
on other stories is measured by the language of those.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storyteller.data.cleaning import clean
from storyteller.evaluation.text_metrics.memorization import CopyIndex
from storyteller.evaluation.text_metrics.word_tokens import (
    ABBREVIATIONS,
    I_FORMS,
    PARAGRAPH,
    QUOTE,
    TOKEN,
    TokenizedStory,
    stem,
    word_set,
)

Ints = NDArray[np.int64]

LIMIT_WORDS = 5_000_000  # default limit of the words that are counted: about 25 MB of text

SPEECH_VERBS = word_set("said asked replied shouted cried whispered yelled answered called laughed smiled thought")
NAMING_VERBS = word_set("named called")
FEMALE = word_set(
    "girl woman lady mom mommy mother mum mummy mama grandma grandmother granny nana sister aunt auntie "
    "queen princess witch wife daughter niece mrs miss ms she her hers herself"
)
MALE = word_set(
    "boy man dad daddy father papa pa grandpa grandfather granddad brother uncle king prince wizard husband "
    "son nephew mr sir he him his himself"
)

_COMMON_PCT = 20  # words in more than this share of the stories say little about what a story is about


@dataclass(frozen=True, eq=False)
class ReferenceCorpus:
    """Word statistics of the training stories, built by `ReferenceCorpus.build`. All words are in lower case."""

    n_words: int
    known: frozenset[str]  # words that occur in at least two stories
    common: frozenset[str]  # words of more than a fifth of the stories: function words and ubiquitous topics
    frequent: frozenset[str]  # words of at least one story in 200
    always_capital: frozenset[str]  # words that are (nearly) always capitalised inside sentences: names, weekdays
    never_capital: frozenset[str]  # words that are (nearly) never capitalised inside sentences
    doubled: frozenset[str]  # words that occur twice in a row (very, very)
    introduced: frozenset[str]  # stems of words whose first mention in a story has "a" or "an" rather than "the"
    verbs: frozenset[str]  # words that follow he, she, they, we or I: verbs and adverbs
    persons: frozenset[str]  # names of characters: they speak, or something is "named" so
    genders: dict[str, str]  # `he`, `she` or `either` for character words: names, relatives, animals that speak
    copies: CopyIndex  # index of the 8-grams
    pair_classes: dict[str, int]  # ids of the classes of tokens in word pairs, see `_class_of`
    pairs: Ints  # adjacent classes in the training stories, as id of the first * number of classes + id of the second

    @classmethod
    def build(cls, training_stories: Iterable[str], *, limit_words: int = LIMIT_WORDS) -> ReferenceCorpus:
        """Counts the stories, in their order, up to `limit_words` words. Raises ValueError if there are no words.

        `copies` identifies a training story by its position, from 0.
        """
        return _CorpusCounts(training_stories, limit_words).reference()

    def knows(self, word: str) -> bool:
        """True for a lower-case word of at least two training stories, with or without a possessive 's."""
        return word in self.known or (word.endswith("'s") and word[:-2] in self.known)

    def is_content(self, word: str) -> bool:
        """True for a lower-case word that says what a story is about: a name, or a known word of few stories."""
        return word in self.persons or (word in self.known and word not in self.common and len(word) > 2)

    def unseen_pairs(self, story: TokenizedStory) -> tuple[int, int]:
        """Counts adjacent word pairs of the continuation that never occur in the training stories: (unseen, all pairs).

        Pairs consist of words, commas and end marks; quotes are skipped. All names count as one word, and all numbers.
        """
        numbers, in_continuation = [], []
        for i, token in enumerate(story.lower):
            kind = _class_of(token, self.persons)
            if kind:
                # A word unknown to the training stories that is capitalised inside a sentence is a name too.
                name = kind not in self.pair_classes and story.tokens[i][0].isupper() and not story.begins_sentence[i]
                numbers.append(self.pair_classes.get("<name>" if name else kind, -1))
                in_continuation.append(i >= story.start)
        if len(numbers) < 2:
            return 0, 0
        ids = np.array(numbers, dtype=np.int64)
        pairs = ids[:-1] * len(self.pair_classes) + ids[1:]
        at = np.minimum(np.searchsorted(self.pairs, pairs), len(self.pairs) - 1)
        unseen = (self.pairs[at] != pairs) | (ids[:-1] < 0) | (ids[1:] < 0)
        counted = np.array(in_continuation[1:])
        return int((unseen & counted).sum()), int(counted.sum())


def _class_of(token: str, persons: frozenset[str]) -> str:
    """Maps a lower-case token to its class in word pairs; empty for tokens that are skipped."""
    if token[0].isalpha():
        return "<name>" if token in persons else token
    if token[0].isdigit():
        return "<number>"
    return "<end>" if token[0] in ".!?" else "," if token == "," else ""


class _CorpusCounts:
    """One pass over the stories; every count is an array expression over their tokens."""

    def __init__(self, stories: Iterable[str], limit_words: int) -> None:
        numbers: defaultdict[str, int] = defaultdict(count().__next__)
        boundary = numbers[PARAGRAPH]
        all_tokens, lengths, n_words = array("i"), array("i"), 0
        for story in stories:
            cleaned = clean(story)
            found = TOKEN.findall(cleaned)
            all_tokens.extend(map(numbers.__getitem__, found))
            all_tokens.append(boundary)
            lengths.append(len(found) + 1)
            n_words += cleaned.count(" ") + 1
            if n_words >= limit_words:
                break
        self.n_stories = len(lengths)
        self.stories: NDArray[np.int32] = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        texts, tokens = list(numbers), np.frombuffer(all_tokens, dtype=np.int32)
        self.ids: dict[str, int] = {}  # the id of each token in lower case
        of_text = [self.ids.setdefault(text.lower(), len(self.ids)) for text in texts]
        self.words, self.n = list(self.ids), len(self.ids)
        self.low: Ints = np.array(of_text, dtype=np.int64)[tokens]
        self.is_word = np.array([text[0].isalpha() for text in texts])[tokens]
        if not self.is_word.any():
            raise ValueError("the training stories have no words")
        self.is_capital = np.array([text[0].isupper() for text in texts])[tokens]
        breaks = np.array([text[0] in ".!?" or text in {PARAGRAPH, QUOTE, "'", ":", "-", "(", "*"} for text in texts])
        self.after_word = np.concatenate([[False], self.is_word[:-1]])
        self.inside = self.is_word & ~np.concatenate([[True], breaks[tokens[:-1]]])  # words inside a sentence

    def reference(self) -> ReferenceCorpus:
        words = np.array([word[0].isalpha() for word in self.words])
        low, stories = self.low[self.is_word], self.stories[self.is_word]
        in_stories = np.bincount(np.unique(stories * np.int64(self.n) + low) % self.n, minlength=self.n)
        within, capitals = self._counts(self.inside), self._counts(self.inside & self.is_capital)
        no_name = I_FORMS | ABBREVIATIONS
        names = self._words_where(words & (within >= 3) & (capitals >= 0.9 * within)) - no_name
        persons = self._persons(names)
        classes, pairs = self._pairs(persons)
        same_as_before = np.concatenate([[False], self.low[1:] == self.low[:-1]])
        return ReferenceCorpus(
            n_words=len(low),
            known=self._words_where(words & (in_stories >= 2)),
            common=self._words_where(words & (in_stories * 100 > _COMMON_PCT * self.n_stories)),
            frequent=self._words_where(words & (in_stories >= max(2, self.n_stories / 200))),
            always_capital=self._words_where(words & (within >= 20) & (capitals >= 0.99 * within)) - no_name,
            never_capital=self._words_where(words & (within >= 100) & (capitals <= 0.002 * within)),
            doubled=self._words_where(self._counts(self.after_word & self.is_word & same_as_before) > 0),
            introduced=self._introduced(),
            verbs=self._verbs(),
            persons=persons,
            genders=self._genders(persons),
            copies=CopyIndex(self.ids, low, stories),
            pair_classes=classes,
            pairs=pairs,
        )

    def _words_where(self, chosen: Any) -> frozenset[str]:
        return frozenset(self.words[i] for i in chosen.nonzero()[0])

    def _counts(self, where: Any) -> Ints:
        counts: Ints = np.bincount(self.low[where], minlength=self.n)
        return counts

    def _among(self, words: Iterable[str]) -> Any:
        """Boolean mask of the tokens that are one of these lower-case words."""
        chosen = np.zeros(self.n, dtype=bool)
        chosen[[self.ids[word] for word in words if word in self.ids]] = True
        return chosen[self.low]

    def _adjacent_to(self, words: Iterable[str]) -> tuple[Any, Any]:
        """Masks of the words right after, and right before, one of these words in the same story."""
        among = self._among(words)
        after = np.concatenate([[False], among[:-1]]) & self.is_word
        before = np.concatenate([among[1:], [False]]) & self.is_word
        return after, before

    def _persons(self, names: frozenset[str]) -> frozenset[str]:
        """The names that follow "named" or "called", or stand next to a verb of speech."""
        after_naming, _ = self._adjacent_to(NAMING_VERBS)
        after_saying, before_saying = self._adjacent_to(SPEECH_VERBS)
        evidence = self._counts((after_naming | after_saying | before_saying) & self.is_capital)
        return names & self._words_where(evidence >= 2)

    def _introduced(self) -> frozenset[str]:
        """Stems whose first mention in a story, if it has an article, has "a" or "an" in 9 stories of 10."""
        stems: dict[str, int] = {}
        of_word = np.array([stems.setdefault(stem(word), len(stems)) for word in self.words], dtype=np.int64)
        at = np.flatnonzero(self.is_word)
        keys = self.stories[at] * np.int64(len(stems)) + of_word[self.low[at]]
        _, first = np.unique(keys, return_index=True)
        first = at[first]
        definite, indefinite = self._adjacent_to({"the"})[0][first], self._adjacent_to({"a", "an"})[0][first]
        numbers = of_word[self.low[first]]
        the = np.bincount(numbers[definite], minlength=len(stems))
        some = np.bincount(numbers[indefinite], minlength=len(stems))
        chosen = (the + some >= 20) & (some >= 0.9 * (the + some))
        names = list(stems)
        return frozenset(names[i] for i in chosen.nonzero()[0])

    def _verbs(self) -> frozenset[str]:
        after, _ = self._adjacent_to({"he", "she", "they", "we", "i"})
        counts, total = self._counts(after), self._counts(self.is_word)
        return self._words_where((counts >= 3) & (counts >= 0.01 * np.maximum(total, 1)))

    def _genders(self, persons: frozenset[str]) -> dict[str, str]:
        """Decides for each character word whether `he` or `she` refers to it.

        Each pronoun is attributed to the nearest character word up to 20 tokens before it in the same story. Single
        attributions are often wrong, so that only names with 10 pronouns or more, 85 % of them alike, get a gender.
        """
        after_saying, before_saying = self._adjacent_to(SPEECH_VERBS)
        after_the, _ = self._adjacent_to({"the", "his", "her", "their", "a", "little"})
        speaks = self._counts((after_saying | before_saying) & after_the)
        nouns = self._counts(after_the) >= 0.1 * self._counts(self.is_word)
        actors = {word for word in self._words_where((speaks >= 2) & nouns) if not self._plural(word)} | persons
        actors -= FEMALE | MALE
        chosen = self._among(actors | (FEMALE | MALE) - {"he", "she"})
        places = np.flatnonzero(chosen)
        counts = {}
        for pronoun in ("he", "she"):
            at = np.flatnonzero(self._among([pronoun]))
            nearest = np.searchsorted(places, at) - 1
            kept = nearest >= 0  # pronouns before the first character word of all have none
            antecedents, at = places[nearest[kept]], at[kept]
            same = (self.stories[antecedents] == self.stories[at]) & (at - antecedents <= 20)
            counts[pronoun] = np.bincount(self.low[antecedents[same]], minlength=self.n)
        genders = dict.fromkeys(FEMALE, "she") | dict.fromkeys(MALE, "he")
        for word in actors:
            he, she = (int(counts[pronoun][self.ids[word]]) for pronoun in ("he", "she"))
            enough = 0.85 * (he + she) if word in persons and he + she >= 10 else math.inf
            genders[word] = "he" if he >= enough else "she" if she >= enough else "either"
        return genders

    def _plural(self, word: str) -> bool:
        return word in {"children", "people", "mice"} or (word.endswith("s") and word[:-1] in self.ids)

    def _pairs(self, persons: frozenset[str]) -> tuple[dict[str, int], Ints]:
        """Collects the adjacent pairs of token classes: the classes and the pairs, as in `ReferenceCorpus`."""
        classes: dict[str, int] = {}
        kinds = [_class_of(word, persons) for word in self.words]
        of_word = np.array([classes.setdefault(kind, len(classes)) if kind else -1 for kind in kinds], dtype=np.int64)
        numbers = of_word[self.low]
        kept = numbers >= 0
        numbers, stories = numbers[kept], self.stories[kept]
        pairs = numbers[:-1] * len(classes) + numbers[1:]
        # The sentinel keeps the array from being empty and sorts after every pair.
        return classes, np.unique(np.append(pairs[stories[:-1] == stories[1:]], np.iinfo(np.int64).max))

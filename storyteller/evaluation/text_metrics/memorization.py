"""Memorization: the share of a story's 8-grams that occur in the training stories, and the longest copied span.

Words are compared in lower case, without punctuation. Every 8-gram inside a training story is stored as a 64-bit hash
in one sorted array: 4 million words take about 50 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPAN_WORDS = 8  # words of the shortest span that counts as copied. Real stories share shorter ones by chance.


@dataclass(frozen=True)
class CopiedSpans:
    """The overlap of a text with the training stories."""

    n_spans: int  # 8-grams of the text
    n_copied: int  # 8-grams that occur in a training story
    longest_words: int  # words of the longest span that occurs verbatim in one training story; 0 if no 8-gram does
    source: int | None  # index of the first training story that contains the longest span
    at_word: int  # index of the word of the text at which the longest span begins

    def span(self, words: Sequence[str]) -> str:
        """The longest span, taken from the words that were looked up."""
        return " ".join(words[self.at_word : self.at_word + self.longest_words])


class CopyIndex:
    """Index of all 8-grams of the training stories."""

    def __init__(self, ids: Mapping[str, int], words: NDArray[np.int64], stories: NDArray[np.int32]) -> None:
        """Builds the index.

        ids: word -> word id.
        words: (N,) word ids of all training stories, concatenated.
        stories: (N,) the story that each word belongs to.
        """
        self._ids = ids
        values = np.random.default_rng(0).integers(2**64, size=len(ids) + 1, dtype=np.uint64)
        self._values = values | np.uint64(1)
        hashes = self._hashes(words)
        # Only 8-grams whose first and last word belong to the same story.
        inside = stories[: len(hashes)] == stories[SPAN_WORDS - 1 :] if len(hashes) else np.zeros(0, dtype=bool)
        places = np.flatnonzero(inside).astype(np.int32)
        order = np.argsort(hashes[places], kind="stable")  # stable: equal hashes stay in text order
        self._places: NDArray[np.int32] = places[order]
        self._hashes_sorted: NDArray[np.uint64] = hashes[self._places]
        self._stories = stories

    def _hashes(self, words: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hashes each 8-gram with a polynomial of random word values modulo 2**64: (N,) -> (max(0, N - 7),).

        The multiplier is 2**64 divided by the golden ratio, as in Knuth's multiplicative hashing; the shift mixes high
        bits into low ones.
        """
        n = max(0, len(words) - SPAN_WORDS + 1)
        values, hashes = self._values[words], np.zeros(n, dtype=np.uint64)
        for k in range(SPAN_WORDS):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + values[k : k + n]
            hashes ^= hashes >> np.uint64(29)
        return hashes

    def look_up(self, words: Sequence[str]) -> CopiedSpans:
        """Finds the 8-grams of `words` (lower case) in the training stories, and the longest copied span."""
        if len(words) < SPAN_WORDS:
            return CopiedSpans(0, 0, 0, None, 0)
        unknown = len(self._ids)
        numbers = np.array([self._ids.get(word, unknown) for word in words], dtype=np.int64)
        hashes = self._hashes(numbers)
        first = np.searchsorted(self._hashes_sorted, hashes, "left")
        last = np.searchsorted(self._hashes_sorted, hashes, "right")
        # All unknown words share one id, so that an 8-gram with one of them could match by accident.
        known = np.convolve(numbers == unknown, np.ones(SPAN_WORDS), "valid") == 0
        found = np.flatnonzero((last > first) & known)
        longest, at, place = self._longest(found.tolist(), first, last)
        source = int(self._stories[place]) if longest else None
        return CopiedSpans(len(hashes), len(found), longest, source, at)

    def _longest(self, found: list[int], first: Any, last: Any) -> tuple[int, int, int]:
        """Finds the longest copied span: (its words, its start in the text, its start in the training words).

        Adjacent copied 8-grams form one span only where their occurrences in the training words are adjacent too. For
        each occurrence of the current 8-gram, `lengths` is the number of adjacent 8-grams that end there.
        """
        best = (0, 0, 0)
        before, places, runs = -2, np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
        for i in found:
            here = self._places[first[i] : last[i]]
            lengths = np.ones(len(here), dtype=np.int64)
            if i == before + 1:
                # An occurrence extends a span if the previous 8-gram occurs one word before it.
                at = np.minimum(np.searchsorted(places, here - 1), len(places) - 1)
                lengths += np.where(places[at] == here - 1, runs[at], 0)
            top = int(lengths.argmax())
            if lengths[top] + SPAN_WORDS - 1 > best[0]:
                run = int(lengths[top])
                best = (run + SPAN_WORDS - 1, i - run + 1, int(here[top]) - run + 1)
            before, places, runs = i, here, lengths
        return best

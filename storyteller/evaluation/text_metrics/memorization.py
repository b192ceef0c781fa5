"""What a story copied from the training stories: which of its 8-grams stand there, and the longest span, and whose.

Words are compared in lower case, without marks. Each run of 8 words inside a training story is a 64-bit hash; the
hashes lie sorted in one array, so that 4 million words take about 50 MB. The longest span is exact: where the told
words and a training story go on alike, so do the matches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPAN_WORDS = 8
"""The shortest span that counts: shorter ones real stories share by chance."""


@dataclass(frozen=True)
class Copied:
    """What of a told text stands in the training stories."""

    n_spans: int
    """How many runs of 8 words the text has."""
    n_copied: int
    """How many of them stand in a training story."""
    longest_words: int
    """The longest span that stands in one training story word for word; 0 where none of 8 words does."""
    source: int | None
    """Which training story has that span (the first of them, from 0)."""
    at_word: int
    """With which of the told words the span begins (from 0)."""

    def span(self, words: Sequence[str]) -> str:
        """The longest copied span, from the words that were looked up."""
        return " ".join(words[self.at_word : self.at_word + self.longest_words])


class Copies:
    """An index of all runs of 8 words of the training stories."""

    def __init__(self, ids: Mapping[str, int], words: NDArray[np.int64], stories: NDArray[np.int32]) -> None:
        """`ids`: each word's number; `words`: the numbers of all training words in turn; `stories`: whose each is."""
        import numpy as np

        self._ids = ids
        values = np.random.default_rng(0).integers(2**64, size=len(ids) + 1, dtype=np.uint64)
        self._values = values | np.uint64(1)
        hashes = self._hashes(words)
        inside = stories[: len(hashes)] == stories[SPAN_WORDS - 1 :] if len(hashes) else np.zeros(0, dtype=bool)
        places = np.flatnonzero(inside).astype(np.int32)
        order = np.argsort(hashes[places], kind="stable")  # stable: the places of one hash stay in their order
        self._places: NDArray[np.int32] = places[order]
        self._hashes_sorted: NDArray[np.uint64] = hashes[self._places]
        self._stories = stories

    def _hashes(self, words: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A polynomial hash modulo 2**64 of each run of 8 words; none where there are fewer."""
        import numpy as np

        n = max(0, len(words) - SPAN_WORDS + 1)
        values, hashes = self._values[words], np.zeros(n, dtype=np.uint64)
        for k in range(SPAN_WORDS):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + values[k : k + n]
            hashes ^= hashes >> np.uint64(29)
        return hashes

    def look_up(self, words: Sequence[str]) -> Copied:
        """What of these words (in lower case) the training stories have."""
        import numpy as np

        if len(words) < SPAN_WORDS:
            return Copied(0, 0, 0, None, 0)
        unknown = len(self._ids)
        numbers = np.array([self._ids.get(word, unknown) for word in words], dtype=np.int64)
        hashes = self._hashes(numbers)
        first = np.searchsorted(self._hashes_sorted, hashes, "left")
        last = np.searchsorted(self._hashes_sorted, hashes, "right")
        known = np.convolve(numbers == unknown, np.ones(SPAN_WORDS), "valid") == 0
        found = np.flatnonzero((last > first) & known)
        longest, at, place = self._longest(found.tolist(), first, last)
        source = int(self._stories[place]) if longest else None
        return Copied(len(hashes), len(found), longest, source, at)

    def _longest(self, found: list[int], first: Any, last: Any) -> tuple[int, int, int]:
        """The longest span's words, the told word and the training word with which it begins."""
        import numpy as np

        best = (0, 0, 0)
        before, places, runs = -2, np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int64)
        for i in found:
            here = self._places[first[i] : last[i]]
            lengths = np.ones(len(here), dtype=np.int64)
            if i == before + 1:
                # A place goes on with a run where the place just before it matched the word just before.
                at = np.minimum(np.searchsorted(places, here - 1), len(places) - 1)
                lengths += np.where(places[at] == here - 1, runs[at], 0)
            top = int(lengths.argmax())
            if lengths[top] + SPAN_WORDS - 1 > best[0]:
                run = int(lengths[top])
                best = (run + SPAN_WORDS - 1, i - run + 1, int(here[top]) - run + 1)
            before, places, runs = i, here, lengths
        return best

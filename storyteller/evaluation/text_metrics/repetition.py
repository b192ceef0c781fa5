"""Repetition: how many different words a story uses, how much of it says again what it said, how alike stories are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from storyteller.evaluation.text_metrics.word_tokens import Prose, is_end

WINDOW_WORDS = 50
LOOP_WORDS = 8
SENTENCE_WORDS = 4
"""A shorter sentence ("Thank you!") may well be said twice."""
BLOCK_STORIES = 20
BLEU_WORDS = 100
BLEU_N = 4


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of `n` words."""
    return list(zip(*(words[k:] for k in range(n)), strict=False))


def distinct(words: Sequence[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): different n-grams over all of them, 0 to 1; None where there is no n-gram.

    A long text has fewer new words than a short one, so it is the mean over all windows of 50 words (as Covington &
    McFall 2010 do for single words), and stories of any length compare.
    """
    grams = ngrams(words, n)
    if not grams:
        return None
    size = min(len(grams), WINDOW_WORDS - n + 1)
    inside = Counter(grams[:size])
    total, windows = len(inside), 1
    for i in range(size, len(grams)):
        inside[grams[i]] += 1
        gone = grams[i - size]
        inside[gone] -= 1
        if not inside[gone]:
            del inside[gone]
        total += len(inside)
        windows += 1
    return total / windows / size


def looped(prose: Prose) -> set[int]:
    """The told words (by token) that say again what the story said: in a sentence told before, or a run of 8 words."""
    lower, is_word = prose.lower, prose.is_word
    found: set[int] = set()
    said: set[tuple[str, ...]] = set()
    for start, end in prose.sentences:
        inside = [i for i in range(start, end) if is_word[i]]
        # The model's last sentence may be cut off: only what has its end mark can be the same sentence.
        if len(inside) < SENTENCE_WORDS or not any(is_end(prose.tokens[i]) for i in range(start, end)):
            continue
        words = tuple(lower[i] for i in inside)
        if words in said:
            found.update(inside)
        said.add(words)
    places = [i for i in range(len(lower)) if is_word[i]]
    runs: set[tuple[str, ...]] = set()
    for k, run in enumerate(ngrams([lower[i] for i in places], LOOP_WORDS)):
        if run in runs:
            found.update(places[k : k + LOOP_WORDS])
        runs.add(run)
    return {i for i in found if i >= prose.told_from}


def looped_words(prose: Prose) -> int:
    """How many words of a story are `looped`."""
    return len(looped(prose))


def self_bleu(stories: Sequence[Sequence[str]], seed: int = 0) -> list[float | None]:
    """Of each story's words its BLEU (0 to 1) against other stories of the set: near 1 where they are all alike.

    Zhu et al. 2018, with three changes. The stories are dealt into blocks of 20 and compared within them, by their
    first 100 words, so that the figure does not grow with the number or the length of stories, and each story has one
    of its own to resample (a resampled set would hold a story twice, which is BLEU 1). There is no brevity penalty: a
    short story is not a more varied one. n-grams to 4, smoothed by adding one above single words (Lin & Och 2004).
    None: fewer than 4 words, or no other story.
    """
    usable = [i for i, words in enumerate(stories) if len(words) >= BLEU_N]
    Random(seed).shuffle(usable)
    found: list[float | None] = [None] * len(stories)
    size = min(BLOCK_STORIES, len(usable))
    if size < 2:
        return found
    for start in range(0, len(usable), size):
        # The last block is filled up with stories of the one before: each meets as many others.
        block = usable[start : start + size]
        filled = usable[-size:] if len(block) < size else block
        scores = dict(zip(filled, _block_bleu([stories[i][:BLEU_WORDS] for i in filled]), strict=True))
        for i in block:
            found[i] = scores[i]
    return found


def _block_bleu(block: Sequence[Sequence[str]]) -> list[float]:
    logs = [0.0] * len(block)
    for n in range(1, BLEU_N + 1):
        counts = [Counter(ngrams(words, n)) for words in block]
        most: dict[tuple[str, ...], tuple[int, int, int]] = {}  # the highest count, whose, and the next highest
        for i, counted in enumerate(counts):
            for gram, count in counted.items():
                top, owner, second = most.get(gram, (0, -1, 0))
                if count > top:
                    most[gram] = (count, i, top)
                elif count > second:
                    most[gram] = (top, owner, count)
        added = 0 if n == 1 else 1
        for i, counted in enumerate(counts):
            clipped = 0
            for gram, count in counted.items():
                top, owner, second = most[gram]
                clipped += min(count, second if owner == i else top)
            total = sum(counted.values())
            precision = (clipped + added) / (total + added)
            logs[i] += math.log(precision) if precision else -math.inf
    return [math.exp(log / BLEU_N) for log in logs]

"""Repetition metrics: distinct-n, repeated sentences and spans within a story, and self-BLEU between stories."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from random import Random

from storyteller.evaluation.text_metrics.word_tokens import TokenizedStory, is_sentence_end

WINDOW_WORDS = 50
LOOP_WORDS = 8
SENTENCE_WORDS = 4  # shorter sentences ("Thank you!") may be repeated
BLOCK_STORIES = 20
BLEU_WORDS = 100
BLEU_N = 4


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[k:] for k in range(n)), strict=False))


def distinct(words: Sequence[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): the share of distinct n-grams, 0 to 1; None if there are no n-grams.

    The share falls with the length of a text. Therefore it is averaged over all windows of 50 words, as Covington &
    McFall (2010) do for single words, which makes stories of any length comparable.
    """
    grams = ngrams(words, n)
    if not grams:
        return None
    size = min(len(grams), WINDOW_WORDS - n + 1)
    # The window slides by one n-gram: one is added, one removed, and the number of distinct ones read off the counter.
    inside = Counter(grams[:size])
    total = len(inside)
    for i in range(size, len(grams)):
        inside[grams[i]] += 1
        gone = grams[i - size]
        inside[gone] -= 1
        if not inside[gone]:
            del inside[gone]
        total += len(inside)
    n_windows = len(grams) - size + 1
    return total / n_windows / size


def repeated_words(story: TokenizedStory) -> set[int]:
    """Token indices of words of the continuation inside a repeated sentence or a repeated 8-gram.

    The first occurrence, which may lie in the prompt, is not counted.
    """
    lower, is_word = story.lower, story.is_word
    found: set[int] = set()
    seen: set[tuple[str, ...]] = set()
    for start, end in story.sentences:
        inside = [i for i in range(start, end) if is_word[i]]
        # A sentence without an end mark may have been cut off at the token limit and is not compared.
        if len(inside) < SENTENCE_WORDS or not any(is_sentence_end(story.tokens[i]) for i in range(start, end)):
            continue
        words = tuple(lower[i] for i in inside)
        if words in seen:
            found.update(inside)
        seen.add(words)
    places = [i for i in range(len(lower)) if is_word[i]]
    runs: set[tuple[str, ...]] = set()
    for k, run in enumerate(ngrams([lower[i] for i in places], LOOP_WORDS)):
        if run in runs:
            found.update(places[k : k + LOOP_WORDS])
        runs.add(run)
    return {i for i in found if i >= story.start}


def self_bleu(stories: Sequence[Sequence[str]]) -> list[float | None]:
    """Self-BLEU (Zhu et al. 2018) of each story: its BLEU-4, 0 to 1, against other stories; near 1 if all are alike.

    Three differences to the paper:
    - Stories are compared within random blocks of 20, by their first 100 words, so that the value does not grow with
      the number or the length of stories.
    - Each story has a value of its own. The bootstrap resamples these values instead of the stories, as a resampled set
      would contain copies of a story, whose BLEU is 1.
    - There is no brevity penalty: a short story is not a more varied one.

    Counts of 2- to 4-grams are smoothed by adding one (Lin & Och 2004). None for a story of fewer than 4 words or
    without another story to compare with.
    """
    usable = [i for i, words in enumerate(stories) if len(words) >= BLEU_N]
    Random(0).shuffle(usable)
    found: list[float | None] = [None] * len(stories)
    size = min(BLOCK_STORIES, len(usable))
    if size < 2:
        return found
    for start in range(0, len(usable), size):
        # The last block is filled up with earlier stories, so that every story is compared with as many others.
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
        # BLEU clips a count at its maximum over the other stories. The highest count, its owner and the second highest
        # give that maximum for every story of the block in one pass.
        most: dict[tuple[str, ...], tuple[int, int, int]] = {}
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

"""A reference over bundled stories, made once, and ways to damage a story."""

from __future__ import annotations

import re
from functools import lru_cache
from random import Random

from storyteller.data.bundled import story
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, split_prompt

N_TRAINING = 800


@lru_cache(maxsize=1)
def training() -> list[str]:
    return [story(index) for index in range(N_TRAINING)]


@lru_cache(maxsize=1)
def reference() -> ReferenceCorpus:
    return ReferenceCorpus.build(training())


@lru_cache(maxsize=1)
def held_out() -> list[StoryCompletion]:
    """Tales that the reference has not read, cut into a prompt and the rest."""
    return [split_prompt(story(index)) for index in range(40_000, 40_070)]


def damaged(story: StoryCompletion, share: float, random: Random) -> StoryCompletion:
    """So many of the told words left out, said twice, put elsewhere or another's in their place."""
    words = story.text.split()
    found: list[str] = []
    for word in words:
        how = random.randrange(4) if random.random() < share else 4
        if how == 1:
            found += [word, word]
        elif how == 2:
            found.append(random.choice(words))
        elif how == 3:
            found.insert(max(0, len(found) - 1), word)
        elif how == 4:
            found.append(word)
    return StoryCompletion(story.prompt, " " + " ".join(found), story.ended)


def shuffled(story: StoryCompletion, random: Random) -> StoryCompletion:
    """All the told words, in any order."""
    words = story.text.split()
    random.shuffle(words)
    return StoryCompletion(story.prompt, " " + " ".join(words), story.ended)


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?\"])\s+", text.strip())


def spliced(story: StoryCompletion, share: float, others: list[StoryCompletion], random: Random) -> StoryCompletion:
    """So many of the told sentences replaced by those of other stories: each is good, the story is not."""
    found = [
        random.choice(sentences(random.choice(others).text)) if random.random() < share else sentence
        for sentence in sentences(story.text)
    ]
    return StoryCompletion(story.prompt, " " + " ".join(found), story.ended)


def sentences_shuffled(story: StoryCompletion, random: Random) -> StoryCompletion:
    """The told sentences in any order."""
    found = sentences(story.text)
    random.shuffle(found)
    return StoryCompletion(story.prompt, " " + " ".join(found), story.ended)


OTHER = {"he": "she", "she": "he", "his": "her", "her": "his", "him": "her"}


def misgendered(story: StoryCompletion, share: float, random: Random) -> StoryCompletion:
    """So many of the told sentences with he for she and she for he."""

    def other(match: re.Match[str]) -> str:
        word = OTHER[match.group().lower()]
        return word.capitalize() if match.group()[0].isupper() else word

    found = [
        re.sub(r"\b(he|she|his|her|him)\b", other, sentence, flags=re.IGNORECASE)
        if random.random() < share
        else sentence
        for sentence in sentences(story.text)
    ]
    return StoryCompletion(story.prompt, " " + " ".join(found), story.ended)

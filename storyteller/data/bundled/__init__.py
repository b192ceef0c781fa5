"""The bundled stories: an endless, seeded sequence of short stories, generated from plots written for this project.

Each story is complete (a beginning, a problem, a turn, and an ending that follows from them) and has 80 to 250 words,
in paragraphs separated by one newline. `story(index, seed)` depends on its arguments alone, so this corpus needs no
download and is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from storyteller.data.bundled import plots_animals, plots_home, plots_outdoors, plots_people, plots_wonder
from storyteller.data.bundled.story_templates import Character, TemplateFiller

__all__ = ["FAMILIES", "MAX_WORDS", "MIN_WORDS", "N_STORIES", "BundledStory", "bundled_story", "stories", "story"]

N_STORIES = 50_000
"""Number of stories from index 0 on that are known to be all different."""

MIN_WORDS, MAX_WORDS = 80, 250
"""Bounds of a story's length in words."""

FAMILIES = (
    *plots_home.PLOTS,
    *plots_outdoors.PLOTS,
    *plots_people.PLOTS,
    *plots_animals.PLOTS,
    *plots_wonder.PLOTS,
)
"""The plots. Each generates one kind of story in very many variants."""


@dataclass(frozen=True, slots=True)
class BundledStory:
    """A story with the name of its plot and its characters."""

    text: str
    family: str
    cast: tuple[Character, ...]


def bundled_story(index: int, seed: int = 0) -> BundledStory:
    """Generates the story at `index` with its plot and its characters. Raises ValueError for a negative index."""
    if index < 0:
        raise ValueError(f"a story's index must not be negative, but is {index}")
    plot = FAMILIES[int(Random(f"storyteller:{seed}:{index}").random() * len(FAMILIES))]
    # A story that comes out too short or too long is generated again from another seed.
    for attempt in count():
        filler = TemplateFiller(Random(f"storyteller:{seed}:{index}:{attempt}").random)
        plot(filler)
        text = filler.text()
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return BundledStory(text, plot.__name__, tuple(filler.cast))
    raise AssertionError("unreachable: the count of attempts never ends")


def story(index: int, seed: int = 0) -> str:
    """Generates the story at `index` (from 0)."""
    return bundled_story(index, seed).text


def stories(start: int = 0, seed: int = 0) -> Iterator[str]:
    """Generates the stories from index `start` on, without end. Raises ValueError for a negative index."""
    if start < 0:
        raise ValueError(f"a story's index must not be negative, but is {start}")
    return (story(index, seed) for index in count(start))

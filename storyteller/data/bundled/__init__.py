"""The bundled corpus: an endless, seeded run of small stories, told by plots written for this project.

Each tale is a whole story (a beginning, a problem, a turn, and an ending that follows from them) of 80 to 250 words,
in paragraphs separated by one newline. ``tale(index, seed)`` depends on its two arguments alone, so a corpus made
of tales needs no download and is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from storyteller.data.bundled import plots_animals, plots_home, plots_outdoors, plots_people, plots_wonder
from storyteller.data.bundled.story_templates import Character, TemplateFiller

__all__ = ["FAMILIES", "MAX_WORDS", "MIN_WORDS", "N_TALES", "BundledStory", "story", "tale", "tales"]

N_TALES = 50_000
"""The first so many tales are known to be all different."""

MIN_WORDS, MAX_WORDS = 80, 250
"""No tale has fewer or more words than these."""

FAMILIES = (
    *plots_home.PLOTS,
    *plots_outdoors.PLOTS,
    *plots_people.PLOTS,
    *plots_animals.PLOTS,
    *plots_wonder.PLOTS,
)
"""The plots: each tells its own kind of story, in very many ways."""


@dataclass(frozen=True, slots=True)
class BundledStory:
    """A tale with what its teller knows of it: the plot's name and everybody who has a part."""

    text: str
    family: str
    cast: tuple[Character, ...]


def story(index: int, seed: int = 0) -> BundledStory:
    """The ``index``-th tale with its plot and its cast."""
    if index < 0:
        raise ValueError(f"a tale's index must not be negative, but is {index}")
    plot = FAMILIES[int(Random(f"storyteller:{seed}:{index}").random() * len(FAMILIES))]
    # A telling that comes out too short or too long is told again, so every tale keeps within the bounds.
    for attempt in count():
        teller = TemplateFiller(Random(f"storyteller:{seed}:{index}:{attempt}").random)
        plot(teller)
        text = teller.text()
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return BundledStory(text, plot.__name__, tuple(teller.cast))
    raise AssertionError("unreachable: the count of attempts never ends")


def tale(index: int, seed: int = 0) -> str:
    """The ``index``-th tale (from 0), the same for the same ``index`` and ``seed`` on every machine."""
    return story(index, seed).text


def tales(start: int = 0, seed: int = 0) -> Iterator[str]:
    """The tales from ``start`` on, without end."""
    if start < 0:
        raise ValueError(f"a tale's index must not be negative, but is {start}")
    return (tale(index, seed) for index in count(start))

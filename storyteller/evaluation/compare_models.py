"""Models side by side: the same prompts told by each with the same seed, the same held-out stories scored by each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import SamplingParams

if TYPE_CHECKING:
    from storyteller.evaluation.bits_per_byte import EvalSet, ModelScores
    from storyteller.evaluation.bootstrap import Difference
    from storyteller.inference.engine import Engine

ROWS = 16
"""Stories told side by side; each so many have the next seed."""


@dataclass(frozen=True)
class ModelStories:
    """What a model told after a prompt."""

    text: str
    """Without the prompt. As untrusted as the model."""
    tokens: int
    ended: bool
    """By the model itself, rather than cut."""


@dataclass(frozen=True)
class PairedDifference:
    """How two models differ on the same stories."""

    a: str
    b: str
    bits_per_byte: Difference
    """Those of `a` less those of `b`: below 0, `a` foretells better."""


@dataclass(frozen=True)
class ModelComparison:
    """All that was told and scored; `tellings` and `scores` are in the order of `labels`."""

    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    sample: SamplingParams
    """How every story was told; its seed is set."""
    tellings: tuple[tuple[ModelStories | None, ...], ...]
    """By model, then by prompt; None where the prompt does not fit into the model's context."""
    held: EvalSet
    scores: tuple[ModelScores, ...]

    def differences(self) -> Iterator[PairedDifference]:
        """Each model against each that comes after it."""
        for (a, one), (b, other) in combinations(zip(self.labels, self.scores, strict=True), 2):
            yield PairedDifference(a, b, one.difference(other))

    def behind_best(self) -> list[Difference | None]:
        """How many bits per byte each model is behind the best one; None for that one."""
        best = min(self.scores, key=lambda scores: scores.bits_per_byte.value)
        return [None if each is best else each.difference(best) for each in self.scores]

    def to_json(self) -> dict[str, Any]:
        return {
            "models": [{**scores.to_json(), "model": label} for label, scores in self._scored()],
            "score_differences": [
                {"a": each.a, "b": each.b, "bits_per_byte": each.bits_per_byte.to_json()} for each in self.differences()
            ],
            "held_out": {"stories": len(self.held.stories), "source": self.held.source},
            "sample": asdict(self.sample),
            "stories": [
                {
                    "prompt": prompt,
                    "tellings": [
                        {"model": label, **asdict(telling)} if telling is not None else None
                        for label, telling in zip(self.labels, row, strict=True)
                    ],
                }
                for prompt, row in zip(self.prompts, zip(*self.tellings, strict=True), strict=True)
            ],
        }

    def _scored(self) -> Iterator[tuple[str, ModelScores]]:
        yield from zip(self.labels, self.scores, strict=True)


def tell(
    engine: Engine, prompts: Sequence[str], sample: SamplingParams, say: Callable[[int], None] = lambda _: None
) -> tuple[ModelStories | None, ...]:
    """A story for each prompt, `ROWS` at a time; None for a prompt that the model's context does not hold.

    `sample.seed` is set; `say` hears how many are done. Raises ModelError where telling fails.
    """
    fitting = [i for i, prompt in enumerate(prompts) if engine.count(prompt) < engine.context]
    told: list[ModelStories | None] = [None] * len(prompts)
    for number, first in enumerate(range(0, len(fitting), ROWS)):
        say(first)
        some = fitting[first : first + ROWS]
        seeded = replace(sample, seed=((sample.seed or 0) + number) % 2**32)
        for i, story in zip(some, engine.batch([prompts[i] for i in some], seeded), strict=True):
            told[i] = ModelStories(story.text, story.tokens, story.finished)
    return tuple(told)


def verdict(versus: PairedDifference, n_stories: int) -> str:
    """One line on which of two models foretells better, if that can be told; as untrusted as their labels."""
    difference = versus.bits_per_byte
    low, high = sorted((abs(difference.low), abs(difference.high)))
    if not difference.significant:
        return (
            f"{versus.a} and {versus.b} cannot be told apart on these {n_stories:,} stories: "
            f"{difference.value:+.4f} bits per byte, 95 % from {difference.low:+.4f} to {difference.high:+.4f}"
        )
    better, worse = (versus.a, versus.b) if difference.value < 0 else (versus.b, versus.a)
    return (
        f"{better} foretells better than {worse}: by {abs(difference.value):.4f} bits per byte, "
        f"95 % from {low:.4f} to {high:.4f}, a real difference"
    )

"""The model card: generated stories, their metrics, and the JSON file in which a card is kept.

The JSON (`SCHEMA` 1) is an object of

    schema, kind ("card"), model, made_at (UTC, ISO 8601), seconds
    parameters           of the model; null if it was not scored
    telling              how the stories were generated: prompts, completions, stories, tokens, temperature, top_k,
                         top_p, max_tokens, seed, seconds, left_out (prompts that do not fit the model)
    real                 the real stories: words (a description), stories (their number)
    trained_on           the training stories: words (a description), stories (their number), own (true if the model
                         was trained on them), whole (true if these are all stories of the source)
    figures              a list of {key, title, what, unit, better, value, low, high, real}: 95 % intervals; `better`
                         is "higher", "lower" or "like" (real stories); `real` is {value, low, high} or null
    judge                null, or {host, model, stories, real_stories, unreadable, problem}; its grades are figures
                         `judge_grammar` and so on
    examples             a list of {kind, title, prompt, text, marks, source}: the worst stories; `marks` are
                         [begin, end] in prompt + text; `source` is text of the training story, or empty
    notes                a list of messages for the reader
    stories              a list of {prompt, text, ended}

Readers ignore unknown keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.text_metrics.metrics import Better
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.system.files import read_regular
from storyteller.system.json_values import is_natural, read_as, read_dataclass

SCHEMA = 1
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Figure:
    """The value of one metric."""

    key: str  # its name in logs, such as `known_words_pct`
    title: str
    what: str  # explanation in one line
    unit: str  # see `metrics.Measure`
    better: Better
    value: Interval
    real: Interval | None = None  # the same metric of real stories; None if it does not apply

    @property
    def verdict(self) -> str:
        """`alike` if the interval overlaps that of real stories, else `better`, `worse`, `higher` or `lower`."""
        if self.real is None:
            return ""
        if self.value.low <= self.real.high and self.real.low <= self.value.high:
            return "alike"
        above = self.value.value > self.real.value
        if self.better == "like":
            return "higher" if above else "lower"
        return "better" if above == (self.better == "higher") else "worse"


@dataclass(frozen=True)
class Example:
    """A story with a failure, and its place in the story."""

    kind: str  # `copied`, `looped`, `renamed` or `slips`
    title: str
    prompt: str
    text: str
    marks: tuple[tuple[int, int], ...] = ()  # places of the failure: character ranges in prompt + text
    source: str = ""  # the text of the training story that was copied


@dataclass(frozen=True)
class JudgeUsage:
    """The judge and the number of stories that it graded."""

    host: str
    model: str
    stories: int  # graded generated stories
    real_stories: int
    unreadable: int
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """A model card. All texts are untrusted: they come from a model or a file."""

    model: str  # `run@step`, a folder, or `owner/name`
    made_at: str
    seconds: float
    parameters: int | None
    telling: Mapping[str, Any]
    real: Mapping[str, Any]
    trained_on: Mapping[str, Any]
    figures: tuple[Figure, ...]
    examples: tuple[Example, ...]
    stories: tuple[StoryCompletion, ...]
    judge: JudgeUsage | None = None
    notes: tuple[str, ...] = ()

    def figure(self, key: str) -> Figure | None:
        return next((each for each in self.figures if each.key == key), None)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values as described in the module docstring."""
        return {"schema": SCHEMA, "kind": "card", **asdict(self), "figures": [_flat(figure) for figure in self.figures]}


def _flat(figure: Figure) -> dict[str, Any]:
    plain = asdict(figure)
    return {**plain, **plain.pop("value"), "real": plain["real"]}


def read_card(path: Path) -> Card | None:
    """Reads the card in a file; None if there is no file or no valid card in it."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        return from_json(json.loads(read_regular(path)))
    except (OSError, ValueError, RecursionError):
        return None


def from_json(plain: Any) -> Card:
    """Reads what `to_json` returned. Raises ValueError for anything else and for a newer schema."""
    try:
        if plain["kind"] != "card" or not 1 <= plain["schema"] <= SCHEMA:
            raise ValueError("unknown kind or schema")
        figures = [{**figure, "value": figure} for figure in plain["figures"]]  # value, low and high are inlined
    except (KeyError, TypeError) as error:
        raise ValueError("not a card") from error
    card = read_dataclass(Card, {**plain, "figures": figures})
    for example in card.examples:
        if not all(0 <= begin <= end <= len(example.prompt + example.text) for begin, end in example.marks):
            raise ValueError("a mark lies outside its story")
    return replace(card, telling=_facts(card.telling), real=_facts(card.real), trained_on=_facts(card.trained_on))


def _facts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys of a part, each value of its type."""
    facts = {key: read_as(plain[key], hint, key) for key, hint in _FACTS.items() if key in plain}
    for key, value in facts.items():
        if _FACTS[key] is int and not is_natural(value, below=2**63):
            raise ValueError(f"{key}: expected a count")
    return facts


# The type of each value of `telling`, `real` and `trained_on`.
_FACTS: dict[str, Any] = {
    **dict.fromkeys(("prompts", "completions", "stories", "tokens", "top_k", "max_tokens", "seed"), int),
    **dict.fromkeys(("temperature", "top_p", "seconds"), float),
    **dict.fromkeys(("own", "whole"), bool),
    "left_out": list[str],
    "words": str,
}


VERDICT_LABELS = {
    "": "",
    "alike": "as real stories",
    "better": "better than real",
    "worse": "worse than real",
    "higher": "higher than real",
    "lower": "lower than real",
}
DIRECTION_LABELS = {"higher": "higher is better", "lower": "lower is better", "like": "best like real stories"}


def format_value(unit: str, value: float) -> str:
    """Formats a value. Only percent signs are included: other units are shown with the title."""
    if unit == "%":
        return f"{value:.1f} %"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_interval(figure: Figure, interval: Interval | None) -> str:
    """`93.1 % (92.0 to 94.1)`; `-` for None."""
    if interval is None:
        return "-"
    low, high = (format_value(figure.unit, bound).removesuffix(" %") for bound in (interval.low, interval.high))
    return f"{format_value(figure.unit, interval.value)} ({low} to {high})"


def title_with_unit(figure: Figure) -> str:
    """The title, followed by the unit unless the value shows it."""
    return figure.title if figure.unit in ("", "%", figure.title) else f"{figure.title}, {figure.unit}"


def headline(figures: Sequence[Figure], keys: Sequence[str]) -> list[tuple[str, str]]:
    """Title and value of the figures with these keys, for a row of tiles."""
    found = [each for key in keys for each in figures if each.key == key]
    return [(title_with_unit(each), format_value(each.unit, each.value.value)) for each in found]

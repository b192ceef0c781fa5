"""A card as a document: what a model told, what was measured of it, and the JSON in which it is kept.

The JSON (`SCHEMA` 1) is an object of

    schema, kind ("card"), model, made_at (UTC, ISO 8601), seconds
    parameters           of the model; null where nothing was scored
    telling              prompts, completions, stories, tokens, temperature, top_k, top_p, max_tokens, seed, seconds,
                         left_out (prompts that the model cannot be given)
    real                 words (what they are), stories
    trained_on           words, stories, own (whether they are the model's own), whole (whether they are all of them)
    figures              a list of {key, title, what, unit, better, value, low, high, real}: 95 % intervals; `better`
                         is "higher", "lower" or "like" (real stories); `real` is {value, low, high} or null
    judge                null, or {host, model, stories, real_stories, unreadable, problem}: its grades are figures
                         `judge_grammar` and so on
    examples             a list of {kind, title, prompt, text, marks, source}: the worst stories; `marks` are
                         [begin, end] in prompt + text; `source` is text of the training story, or empty
    notes                a list of lines: what a reader has to know of how it came about
    stories              a list of {prompt, text, ended}

A reader passes over what it does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.text_metrics.metrics import Better, TokenizedStory
from storyteller.system.files import read_regular
from storyteller.system.json_values import finite
from storyteller.tracking.run_folder import RunFolder

SCHEMA = 1
_BETTER: tuple[Better, ...] = ("higher", "lower", "like")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Figure:
    """One thing that was measured."""

    key: str
    """Its name in logs, such as `spelling_pct`."""
    title: str
    what: str
    """What it is, in one line."""
    unit: str
    """As `judging.measures.Measure` has it."""
    better: Better
    value: Interval
    real: Interval | None = None
    """The same of real stories; None where that says nothing."""

    @property
    def verdict(self) -> str:
        """Beside real stories: `alike` where the intervals meet, else `better`, `worse`, or `higher` and `lower`."""
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
    """A story in which something is wrong, and where."""

    kind: str
    """`copied`, `looped`, `renamed`."""
    title: str
    """What is wrong with it."""
    prompt: str
    text: str
    marks: tuple[tuple[int, int], ...] = ()
    """Where it is wrong, in prompt + text."""
    source: str = ""
    """Of a copy: the training story's own words."""


@dataclass(frozen=True)
class JudgeUsage:
    """Who judged, and how much."""

    host: str
    model: str
    stories: int
    """Told stories that were graded."""
    real_stories: int
    unreadable: int
    problem: str = ""


@dataclass(frozen=True)
class Card:
    """Everything of a card; its texts are as untrusted as the stories in it."""

    model: str
    """`run@step`, a folder, or `owner/name`."""
    made_at: str
    seconds: float
    parameters: int | None
    telling: Mapping[str, Any]
    real: Mapping[str, Any]
    trained_on: Mapping[str, Any]
    figures: tuple[Figure, ...]
    examples: tuple[Example, ...]
    stories: tuple[TokenizedStory, ...]
    judge: JudgeUsage | None = None
    notes: tuple[str, ...] = ()

    def figure(self, key: str) -> Figure | None:
        return next((each for each in self.figures if each.key == key), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as the module's docstring has them."""
        plain = {"schema": SCHEMA, "kind": "card", **asdict(self)}
        plain["figures"] = [_flat(figure) for figure in self.figures]
        plain["examples"] = [{**asdict(each), "marks": [list(mark) for mark in each.marks]} for each in self.examples]
        plain["stories"] = [{"prompt": each.prompt, "text": each.text, "ended": each.ended} for each in self.stories]
        plain["notes"] = list(self.notes)
        return plain


def _flat(figure: Figure) -> dict[str, Any]:
    plain = asdict(figure)
    return {**plain, **plain.pop("value"), "real": plain["real"]}


def read(path: Path) -> Card | None:
    """The card in a file; None where there is none, or what is there is no card that can be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        return from_json(json.loads(read_regular(path)))
    except (OSError, ValueError, RecursionError):
        return None


def newest(folder: RunFolder) -> Card | None:
    """The card of the run's highest step that has one that can be read."""
    try:
        paths = sorted(folder.cards.glob("step-*.json"), key=lambda path: (len(path.name), path.name), reverse=True)
    except OSError:
        return None
    return next((found for path in paths if (found := read(path)) is not None), None)


def from_json(plain: Any) -> Card:
    """The card that `to_json` wrote. Raises ValueError for what is none, or of a newer schema."""
    try:
        if plain["kind"] != "card" or not 1 <= plain["schema"] <= SCHEMA:
            raise ValueError("no card of a schema that is known")
        judge = plain["judge"]
        return Card(
            model=_text(plain["model"]),
            made_at=_text(plain["made_at"]),
            seconds=_number(plain["seconds"]),
            parameters=None if plain["parameters"] is None else int(_number(plain["parameters"])),
            telling=_facts(plain["telling"]),
            real=_facts(plain["real"]),
            trained_on=_facts(plain["trained_on"]),
            figures=tuple(_figure(each) for each in plain["figures"]),
            examples=tuple(_example(each) for each in plain["examples"]),
            stories=tuple(
                TokenizedStory(_text(each["prompt"]), _text(each["text"]), each["ended"] is True)
                for each in plain["stories"]
            ),
            judge=None if judge is None else _asked(judge),
            notes=tuple(_text(note) for note in plain["notes"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError("this is no card") from error


def _facts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Those facts of a part that are known, each of its kind."""
    return {key: kind(plain[key]) for key, kind in _KINDS.items() if key in plain}


def _figure(plain: Mapping[str, Any]) -> Figure:
    if plain["better"] not in _BETTER:
        raise ValueError("a figure is neither higher nor lower nor like")
    real = plain["real"]
    return Figure(
        key=_text(plain["key"]),
        title=_text(plain["title"]),
        what=_text(plain["what"]),
        unit=_text(plain["unit"]),
        better=plain["better"],
        value=_interval(plain),
        real=None if real is None else _interval(real),
    )


def _example(plain: Mapping[str, Any]) -> Example:
    prompt, text = _text(plain["prompt"]), _text(plain["text"])
    marks = tuple((int(_number(begin)), int(_number(end))) for begin, end in plain["marks"])
    if not all(0 <= begin <= end <= len(prompt + text) for begin, end in marks):
        raise ValueError("a mark lies outside of its story")
    return Example(_text(plain["kind"]), _text(plain["title"]), prompt, text, marks, _text(plain["source"]))


def _asked(plain: Mapping[str, Any]) -> JudgeUsage:
    told, true, unreadable = (int(_number(plain[name])) for name in ("stories", "real_stories", "unreadable"))
    return JudgeUsage(_text(plain["host"]), _text(plain["model"]), told, true, unreadable, _text(plain["problem"]))


def _interval(plain: Mapping[str, Any]) -> Interval:
    return Interval(*(_number(plain[name]) for name in ("value", "low", "high")))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is none")
    return value


def _number(value: object) -> float:
    number = finite(value)
    if number is None:
        raise ValueError("a number is none")
    return number


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError("a count is none")
    return value


def _truth(value: object) -> bool:
    return value is True


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a list of texts is none")
    return [_text(each) for each in value]


_KINDS: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(("prompts", "completions", "stories", "tokens", "top_k", "max_tokens", "seed"), _count),
    **dict.fromkeys(("temperature", "top_p", "seconds"), _number),
    **dict.fromkeys(("own", "whole"), _truth),
    "left_out": _texts,
    "words": _text,
}
"""What each fact of `telling`, `real` and `trained_on` is."""


# --- as words ---------------------------------------------------------------------------------------------------------

VERDICTS = {
    "": "",
    "alike": "as real stories",
    "better": "better than real",
    "worse": "worse than real",
    "higher": "higher than real",
    "lower": "lower than real",
}
"""A figure's verdict, in words."""
BETTER = {"higher": "higher is better", "lower": "lower is better", "like": "best like real stories"}


def form(unit: str, value: float) -> str:
    """A value as it is shown; a share with its sign, other units are said beside the title."""
    if unit == "%":
        return f"{value:.1f} %"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(figure: Figure, interval: Interval | None) -> str:
    """`93.1 % (92.0 to 94.1)`; `-` for None."""
    if interval is None:
        return "-"
    low, high = (form(figure.unit, bound).removesuffix(" %") for bound in (interval.low, interval.high))
    return f"{form(figure.unit, interval.value)} ({low} to {high})"


def named(figure: Figure) -> str:
    """The title, and what it counts in where the value does not say."""
    return figure.title if figure.unit in ("", "%", figure.title) else f"{figure.title}, {figure.unit}"


def headline(figures: Sequence[Figure], keys: Sequence[str]) -> list[tuple[str, str]]:
    """A few figures for a line or a row of tiles: title and value."""
    found = {each.key: each for each in figures}
    return [(named(found[key]), form(found[key].unit, found[key].value.value)) for key in keys if key in found]

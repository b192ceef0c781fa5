"""A card for a browser: on a page of its own, or as parts of another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from storyteller.evaluation.bootstrap import Interval
from storyteller.evaluation.model_card.card import (
    BETTER,
    VERDICTS,
    Card,
    Example,
    Figure,
    form,
    headline,
    named,
    spread,
)
from storyteller.evaluation.text_metrics.metrics import TokenizedStory
from storyteller.reports import HtmlPage, Markup
from storyteller.reports.svg_plots import Dot, dots, grid

HEADLINES = ("bits_per_byte", "ended_pct", "known_words_pct", "slips", "looped_pct", "copied_pct")
"""The figures that are shown large, as far as there are any."""
_MOST_PROMPTS = 100
_MOST_EACH = 20
_MODEL, _REAL = 0, 1
"""Colours of the palette."""


def page(card: Card) -> HtmlPage:
    """The card, whole."""
    lead = (
        f"{len(card.stories):,} stories told from {card.telling.get('prompts', '?')} prompts, measured, and held "
        f"against {card.real.get('stories', 0):,} real ones."
    )
    made = HtmlPage(f"The card of {card.model}", lead=lead, footer=f"Made by storyteller, {card.made_at}.")
    put(made, card)
    made.heading("All stories")
    _stories(made, card.stories)
    made.heading("How this was made")
    made.facts(facts(card))
    return made


def put(page: HtmlPage, card: Card, level: int = 2) -> None:
    """The card's figures and its worst stories, for a page of its own or of a run."""
    page.figures(headline(card.figures, HEADLINES))
    for note in card.notes:
        page.warning(note)
    page.heading("Measures", level)
    page.note(
        "Each with its 95 % interval, by bootstrap over the prompts. Real stories are cut to the length of the told "
        "ones; where the two intervals meet, nothing tells the model's stories from them."
    )
    page.table(
        ("measure", "this model", "real stories", "so it is", "what it says"),
        [row(figure) for figure in card.figures],
        caption="What was measured, of this model's stories and of real ones",
        hide_caption=True,
    )
    drawn = [_plot(figure) for figure in card.figures]
    page.figure(grid(drawn), "Dots are the figures, lines their 95 % intervals.")
    if card.examples:
        page.heading("What went wrong", level)
        page.note("The worst of each kind; what is meant is marked.")
        for example in card.examples:
            _example(page, example)


def facts(card: Card) -> list[tuple[str, str]]:
    """How the card came about, in words: its last table on a page, and in Markdown."""
    telling = card.telling
    told = (
        f"{telling.get('stories', 0):,} stories, {telling.get('completions')} from each of {telling.get('prompts')} "
        f"prompts, {telling.get('tokens', 0):,} tokens in {telling.get('seconds', 0):.0f} s"
    )
    drawn = f"temperature {telling.get('temperature')}, at most {telling.get('max_tokens')} tokens, seed"
    found = [("model", card.model)]
    if card.parameters:
        found.append(("parameters", f"{card.parameters:,}"))
    found += [
        ("told", told),
        ("drawn", f"{drawn} {telling.get('seed')}"),
        ("real stories", f"{card.real.get('stories', 0):,}: {card.real.get('words', '?')}"),
        ("copies looked for in", str(card.trained_on.get("words", "?"))),
    ]
    if card.judge is not None:
        judge = card.judge
        graded = f"{judge.model} at {judge.host}: {judge.stories:,} told and {judge.real_stories:,} real stories"
        found.append(
            ("judge", graded + (f", {judge.unreadable:,} without a readable answer" if judge.unreadable else ""))
        )
    return [*found, ("made", f"{card.made_at}, in {card.seconds:.0f} s")]


def row(figure: Figure) -> tuple[str, ...]:
    """A figure as a row of words: what it is of, its value, that of real stories, what follows, what it says."""
    said = f"{figure.what} ({BETTER[figure.better]})"
    value, real = spread(figure, figure.value), spread(figure, figure.real)
    return named(figure), value, real, VERDICTS[figure.verdict], said


def _plot(figure: Figure) -> Markup:
    rows = [_dot("this model", figure.value, _MODEL)]
    if figure.real is not None:
        rows.append(_dot("real stories", figure.real, _REAL))
    return dots(rows, title=named(figure), note=BETTER[figure.better], form=partial(form, figure.unit))


def _dot(label: str, interval: Interval, color: int) -> Dot:
    return Dot(label, interval.value, interval.low, interval.high, color)


def _example(page: HtmlPage, example: Example) -> None:
    source = f"It stands in the training stories: {example.source}" if example.source else ""
    page.told(parts(example), label=example.title, note=source)


def parts(example: Example) -> list[tuple[str, str]]:
    """A story in pieces, each with its kind: `prompt`, `new` for what is marked, or none."""
    whole, told_from = example.prompt + example.text, len(example.prompt)
    borders = sorted({0, told_from, len(whole), *(at for mark in example.marks for at in mark)})
    found = []
    for begin, end in pairwise(borders):
        marked = any(first <= begin and end <= last for first, last in example.marks)
        found.append(("new" if marked else "prompt" if end <= told_from else "", whole[begin:end]))
    return found


def _stories(page: HtmlPage, stories: Sequence[TokenizedStory]) -> None:
    prompts = list(dict.fromkeys(story.prompt for story in stories))
    for prompt in prompts[:_MOST_PROMPTS]:
        told = [story for story in stories if story.prompt == prompt]
        with page.details(prompt):
            for story in told[:_MOST_EACH]:
                page.story(story.prompt, story.text, note=_ending(story))
            _more(page, len(told) - _MOST_EACH)
    _more(page, len(prompts) - _MOST_PROMPTS)


def _more(page: HtmlPage, left: int) -> None:
    if left > 0:
        page.note(f"{left:,} more are in the card's JSON.")


def _ending(story: TokenizedStory) -> str:
    return "" if story.ended else "cut off at the limit of tokens"

"""Model cards as HTML: a page of their own, or sections of another page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from storyteller.evaluation.model_card.card import (
    DIRECTION_LABELS,
    VERDICT_LABELS,
    Card,
    Example,
    Figure,
    format_interval,
    format_value,
    headline,
    title_with_unit,
)
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion
from storyteller.reports.html import HtmlPage, Markup
from storyteller.reports.svg_plots import Dot, dots, grid

HEADLINES = ("bits_per_byte", "ended_pct", "known_words_pct", "slips", "looped_pct", "copied_pct")
"""The figures shown as tiles."""
_MAX_PROMPTS = 100
_MAX_PER_PROMPT = 20
FIGURE_COLUMNS = ("measure", "this model", "real stories", "verdict", "meaning")


def card_page(card: Card) -> HtmlPage:
    """Returns a page with the whole card."""
    page = HtmlPage(f"Model card of {card.model}", lead=lead(card), footer=f"Made by storyteller, {card.made_at}.")
    add_card(page, card)
    page.heading("All stories")
    _stories(page, card.stories)
    page.heading("How this card was made")
    page.facts(card_facts(card))
    return page


def lead(card: Card) -> str:
    """The sentence below the title."""
    prompts, real = card.telling.get("prompts", "?"), card.real.get("stories", 0)
    return f"{len(card.stories):,} stories generated from {prompts} prompts, compared with {real:,} real ones."


def add_card(page: HtmlPage, card: Card, level: int = 2) -> None:
    """Adds the card's figures and worst stories to a page. `level` is that of its headings."""
    page.facts(headline(card.figures, HEADLINES), large=True)
    for note in card.notes:
        page.warning(note)
    page.heading("Measures", level)
    page.note(
        "With 95 % bootstrap intervals over the prompts. Real stories are cut to the length of the generated ones. "
        "Where the intervals overlap, no difference was found."
    )
    page.table(
        FIGURE_COLUMNS,
        [figure_row(figure) for figure in card.figures],
        caption="Measures of this model's stories and of real ones",
        hide_caption=True,
    )
    drawn = [_plot(figure) for figure in card.figures]
    page.figure(grid(drawn), "Dots are values, lines their 95 % intervals.")
    if card.examples:
        page.heading("What went wrong", level)
        page.note("The worst story of each kind, with the place highlighted.")
        for example in card.examples:
            source = f"In the training stories: {example.source}" if example.source else ""
            page.marked_story(marked_pieces(example), label=example.title, note=source)


def card_facts(card: Card) -> list[tuple[str, str]]:
    """How the card was made, as names and values."""
    telling = card.telling
    generated = (
        f"{telling.get('stories', 0):,} stories, {telling.get('completions')} from each of {telling.get('prompts')} "
        f"prompts, {telling.get('tokens', 0):,} tokens in {telling.get('seconds', 0):.0f} s"
    )
    sampling = f"temperature {telling.get('temperature')}, at most {telling.get('max_tokens')} tokens, seed"
    found = {"model": card.model}
    if card.parameters:
        found["parameters"] = f"{card.parameters:,}"
    found |= {
        "stories": generated,
        "sampling": f"{sampling} {telling.get('seed')}",
        "real stories": f"{card.real.get('stories', 0):,}: {card.real.get('words', '?')}",
        "searched for copies": str(card.trained_on.get("words", "?")),
    }
    if (judge := card.judge) is not None:
        found["judge"] = (
            f"{judge.model} at {judge.host}: {judge.stories:,} generated and {judge.real_stories:,} real stories"
            + (f", {judge.unreadable:,} without a readable answer" if judge.unreadable else "")
        )
    return [*found.items(), ("made", f"{card.made_at}, in {card.seconds:.0f} s")]


def figure_row(figure: Figure) -> tuple[str, ...]:
    """The cells of a figure under `FIGURE_COLUMNS`."""
    meaning = f"{figure.what} ({DIRECTION_LABELS[figure.better]})"
    value, real = format_interval(figure, figure.value), format_interval(figure, figure.real)
    return title_with_unit(figure), value, real, VERDICT_LABELS[figure.verdict], meaning


def _plot(figure: Figure) -> Markup:
    named = (("this model", figure.value), ("real stories", figure.real))
    rows = [
        Dot(label, interval.value, interval.low, interval.high, color)
        for color, (label, interval) in enumerate(named)
        if interval is not None
    ]
    return dots(
        rows,
        title=title_with_unit(figure),
        note=DIRECTION_LABELS[figure.better],
        form=partial(format_value, figure.unit),
    )


def marked_pieces(example: Example) -> list[tuple[str, str]]:
    """Splits a story into pieces, each with its kind: `prompt`, `new` if it is marked, or empty."""
    whole, prompt_end = example.prompt + example.text, len(example.prompt)
    borders = sorted({0, prompt_end, len(whole), *(at for mark in example.marks for at in mark)})
    found = []
    for begin, end in pairwise(borders):
        marked = any(first <= begin and end <= last for first, last in example.marks)
        found.append(("new" if marked else "prompt" if end <= prompt_end else "", whole[begin:end]))
    return found


def _stories(page: HtmlPage, stories: Sequence[StoryCompletion]) -> None:
    prompts = list(dict.fromkeys(story.prompt for story in stories))
    for prompt in prompts[:_MAX_PROMPTS]:
        completions = [story for story in stories if story.prompt == prompt]
        with page.details(prompt):
            for story in completions[:_MAX_PER_PROMPT]:
                page.story(story.prompt, story.text, note="" if story.ended else "cut off at the token limit")
            _more(page, len(completions) - _MAX_PER_PROMPT)
    _more(page, len(prompts) - _MAX_PROMPTS)


def _more(page: HtmlPage, left: int) -> None:
    if left > 0:
        page.note(f"{left:,} more are in the JSON of the card.")

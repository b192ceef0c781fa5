"""The timeline as a page."""

from __future__ import annotations

from collections.abc import Sequence

from storyteller.charts import Series
from storyteller.config.configs import SamplingParams
from storyteller.evaluation.checkpoint_timeline import TimelineStory
from storyteller.reports.html import HtmlPage
from storyteller.reports.svg_plots import lines
from storyteller.text import safe_line
from storyteller.tracking.curves import Curves


def said(moment: TimelineStory) -> str:
    """What is known of a moment beside its story, in a line; safe to show."""
    words = []
    if moment.bpb is not None:
        words.append(f"{moment.bpb:.4f} bits per byte")
    if moment.kept is not None:
        words.append(f"{100 * moment.kept:.0f} % as before")
    if moment.told is not None and moment.told.later:
        words.append("told now")
    if moment.told is not None and not moment.told.finished:
        words.append("cut at its length")
    return safe_line(", ".join(words))


def timeline_page(
    run: str, prompt: str, sample: SamplingParams, found: Sequence[TimelineStory], curves: Curves
) -> HtmlPage:
    """The stories as a page for a browser."""
    page = HtmlPage(
        f"How {run} learned to speak",
        lead=f"The same prompt and the same seed ({sample.seed}) at {len(found)} steps of its training. "
        "What a story has from the one before it is lighter; where that is much, what is new is marked.",
        footer="Made by storyteller.",
    )
    line = curves.line("eval/bpb", points=2000)
    if len(line.x):
        series = Series("held out", line.x, line.mean, 0)
        page.figure(lines([series], title="Held-out stories", note="bits per byte, by step", height_px=160))
    for moment in found:
        put_moment(page, prompt, moment)
    return page


def put_moment(page: HtmlPage, prompt: str, moment: TimelineStory) -> None:
    """A moment's story on a page: what it has from the one before is lighter; where that is much, what is new is
    marked."""
    if moment.told is None:
        page.warning(f"Step {moment.step:,}: {moment.problem}.")
        return
    new = "new" if moment.is_alike else ""
    parts = [(new if is_new or moment.kept is None else "kept", text) for text, is_new in moment.parts]
    page.told([("prompt", prompt), *parts], label=f"step {moment.step:,}", note=said(moment))

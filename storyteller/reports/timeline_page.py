"""The HTML page of a timeline: one prompt at each step of a run."""

from __future__ import annotations

from collections.abc import Sequence

from storyteller.charts import Series
from storyteller.config.configs import SamplingParams
from storyteller.evaluation.checkpoint_timeline import TimelineStory
from storyteller.reports.html import HtmlPage
from storyteller.reports.svg_plots import lines
from storyteller.text import safe_line
from storyteller.tracking.curves import Curves


def describe(moment: TimelineStory) -> str:
    """Describes a story in one line that is safe to show: bits per byte, share unchanged, how it came about."""
    words = []
    if moment.bpb is not None:
        words.append(f"{moment.bpb:.4f} bits per byte")
    if moment.kept is not None:
        words.append(f"{100 * moment.kept:.0f} % unchanged")
    if moment.story is not None and moment.story.later:
        words.append("generated later")
    if moment.story is not None and not moment.story.finished:
        words.append("cut off at the token limit")
    return safe_line(", ".join(words))


def timeline_page(
    run: str, prompt: str, sample: SamplingParams, found: Sequence[TimelineStory], curves: Curves
) -> HtmlPage:
    """Returns the page of the stories `found`, with the curve of bits per byte."""
    page = HtmlPage(
        f"Samples of {run} during training",
        lead=f"The same prompt and the same seed ({sample.seed}) at {len(found)} steps. Text that is unchanged from "
        "the previous step is lighter; in a story that is mostly unchanged, new text is highlighted.",
        footer="Made by storyteller.",
    )
    line = curves.line("eval/bpb", points=2000)
    if len(line.x):
        series = Series("held out", line.x, line.mean, 0)
        page.figure(lines([series], title="Held-out stories", note="bits per byte, by step", height_px=160))
    for moment in found:
        if moment.story is None:
            page.warning(f"Step {moment.step:,}: {moment.problem}.")
            continue
        new = "new" if moment.is_similar else ""
        parts = [(new if is_new or moment.kept is None else "kept", text) for text, is_new in moment.parts]
        page.marked_story([("prompt", prompt), *parts], label=f"step {moment.step:,}", note=describe(moment))
    return page

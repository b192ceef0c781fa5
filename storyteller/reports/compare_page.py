"""The HTML page of a comparison of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storyteller.charts import Series, Unit
from storyteller.evaluation.bootstrap import Difference, Interval
from storyteller.evaluation.compare_models import ModelComparison, verdict
from storyteller.evaluation.prompts import bundled_prompts
from storyteller.reports.html import HtmlPage
from storyteller.reports.svg_plots import Dot, dots, lines
from storyteller.text import safe_line
from storyteller.tracking.compare_runs import RunComparison, format_setting
from storyteller.tracking.curves import Line


def comparison_page(
    comparison: ModelComparison,
    compared: RunComparison | None = None,
    curves: Mapping[str, Line] | None = None,
    *,
    y_name: str = "",
    x_name: str = "",
    remarks: Sequence[str] = (),
) -> HtmlPage:
    """Returns a page with the scores, the curves and settings of the models that are runs, and every story.

    `curves` are lines by run name, of the metric `y_name` over `x_name`; `remarks` are shown with the scores.
    """
    models = " and ".join(comparison.labels) if len(comparison.labels) < 3 else f"{len(comparison.labels)} models"
    page = HtmlPage(
        f"{models} compared",
        lead=f"The same {len(comparison.prompts):,} prompts with the same seed, and the same "
        f"{len(comparison.eval_set.stories):,} held-out stories.",
        footer="Made by storyteller compare.",
    )
    _scores(page, comparison)
    for remark in remarks:
        page.warning(remark)
    if compared is not None:
        _runs(page, compared, curves or {}, y_name, x_name)
    _stories(page, comparison)
    return page


def _scores(page: HtmlPage, comparison: ModelComparison) -> None:
    page.heading("Scores")
    n_stories = len(comparison.eval_set.stories)
    page.paragraph(
        f"Bits per byte on {n_stories:,} stories: {comparison.eval_set.source}. Lower is better; models of any "
        "tokenizer can be compared. The bars are 95 % bootstrap intervals over the stories."
    )
    rows = [
        Dot(label, each.bits_per_byte.value, each.bits_per_byte.low, each.bits_per_byte.high, color=i % 8)
        for i, (label, each) in enumerate(zip(comparison.labels, comparison.scores, strict=True))
    ]
    page.figure(dots(rows, title="bits per byte", note="lower is better", form=lambda value: f"{value:.4f}"))
    table = []
    for label, scores, behind in zip(comparison.labels, comparison.scores, comparison.behind_best(), strict=True):
        doubt = "" if behind is None or behind.significant else ", not significant"
        gap = "the best" if behind is None else f"{_interval(behind)}{doubt}"
        nats, perplexity = f"{scores.nats_per_token.value:.4f}", f"{scores.perplexity.value:.2f}"
        table.append((label, f"{scores.parameters:,}", _interval(scores.bits_per_byte), nats, perplexity, gap))
    head = ("model", "parameters", "bits per byte (95 %)", "nats per token", "perplexity", "behind the best (95 %)")
    page.table(head, table, caption="Scores on the same held-out stories")
    for pair in comparison.differences():
        page.note(verdict(*pair, n_stories))


def _interval(figure: Interval | Difference) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _runs(page: HtmlPage, compared: RunComparison, curves: Mapping[str, Line], y_name: str, x_name: str) -> None:
    page.heading("Training")
    series = [Series(safe_line(name, 80), line.x, line.smooth, i % 8) for i, (name, line) in enumerate(curves.items())]
    if any(len(each.x) for each in series):
        in_seconds = x_name == "seconds"
        unit: Unit = "seconds" if in_seconds else "number"
        page.figure(lines(series, title=y_name, x_name="" if in_seconds else x_name, x_unit=unit))
    if compared.differences:
        rows = [(key, *(format_setting(value) for value in values)) for key, values in compared.differences]
        page.table(("setting", *compared.names), rows, caption="Settings that differ", left=len(compared.names) + 1)
    elif len(compared.names) > 1:
        page.paragraph("All settings are the same.")


def _stories(page: HtmlPage, comparison: ModelComparison) -> None:
    page.heading("Stories")
    sample = comparison.params
    page.paragraph(
        f"Generated at temperature {sample.temperature:g}, top-k {sample.top_k}, top-p {sample.top_p:g}, "
        f"seed {sample.seed}, at most {sample.max_tokens:,} tokens."
    )
    kinds = {prompt.text: prompt.kind for prompt in bundled_prompts()}
    before = None
    for i, prompt in enumerate(comparison.prompts):
        kind = kinds.get(prompt)
        if kind is not None and kind != before:
            page.heading(kind, level=3)
        before = kind
        page.paragraph(f"{i + 1:,}. {prompt}")
        with page.side_by_side():
            for label, stories in zip(comparison.labels, comparison.stories, strict=True):
                if (story := stories[i]) is None:
                    page.story("", "The prompt does not fit into this model's context.", label=label)
                else:
                    cut = "" if story.ended else f"cut after {story.tokens:,} tokens"
                    page.story(prompt, story.text, label=label, note=cut)

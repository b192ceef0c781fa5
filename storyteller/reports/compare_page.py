"""What came of a contest, as one page for a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from storyteller.charts import Series, Unit
from storyteller.evaluation.compare_models import ModelComparison, verdict
from storyteller.evaluation.prompts import bundled
from storyteller.reports.html import HtmlPage
from storyteller.reports.svg_plots import Dot, dots, lines
from storyteller.text import safe_line
from storyteller.tracking.compare_runs import RunComparison, shown
from storyteller.tracking.curves import Line


def contest_page(
    contest: ModelComparison,
    compared: RunComparison | None = None,
    curves: Mapping[str, Line] | None = None,
    *,
    y_name: str = "",
    x_name: str = "",
    remarks: Sequence[str] = (),
) -> HtmlPage:
    """Scores, then curves and settings of those models that are whole runs, then every story.

    `curves` are the runs' by name, of what `y_name` says over `x_name`; `remarks` are said beside the scores.
    """
    models = " and ".join(contest.labels) if len(contest.labels) < 3 else f"{len(contest.labels)} models"
    page = HtmlPage(
        f"{models} side by side",
        lead=f"The same {len(contest.prompts):,} prompts with the same seed, the same {len(contest.held.stories):,} "
        "held-out stories.",
        footer="Made by storyteller compare.",
    )
    _scores(page, contest)
    for remark in remarks:
        page.warning(remark)
    if compared is not None:
        _runs(page, compared, curves or {}, y_name, x_name)
    _stories(page, contest)
    return page


def _scores(page: HtmlPage, contest: ModelComparison) -> None:
    page.heading("Scores")
    page.paragraph(
        f"Bits per byte on {len(contest.held.stories):,} stories: {contest.held.source}. Lower is better; models of "
        "any tokenizer can be compared. The bars are 95 % intervals by bootstrap over the stories."
    )
    rows = [
        Dot(label, each.bits_per_byte.value, each.bits_per_byte.low, each.bits_per_byte.high, color=i % 8)
        for i, (label, each) in enumerate(zip(contest.labels, contest.scores, strict=True))
    ]
    page.figure(dots(rows, title="bits per byte", note="lower is better", form=lambda value: f"{value:.4f}"))
    table = []
    for label, scores, behind in zip(contest.labels, contest.scores, contest.behind_best(), strict=True):
        bits, nats, perplexity = scores.bits_per_byte, scores.nats_per_token, scores.perplexity
        table.append(
            (
                label,
                f"{scores.parameters:,}",
                f"{bits.value:.4f} ({bits.low:.4f} to {bits.high:.4f})",
                f"{nats.value:.4f}",
                f"{perplexity.value:.2f}",
                "the best"
                if behind is None
                else f"{behind.value:.4f} ({behind.low:.4f} to {behind.high:.4f}){'' if behind.real else ', not sure'}",
            )
        )
    head = ("model", "parameters", "bits per byte (95 %)", "nats a token", "perplexity", "behind the best (95 %)")
    page.table(head, table, caption="Scores on the same held-out stories")
    for versus in contest.differences():
        page.note(verdict(versus, len(contest.held.stories)))


def _runs(page: HtmlPage, compared: RunComparison, curves: Mapping[str, Line], y_name: str, x_name: str) -> None:
    page.heading("Training")
    series = [Series(safe_line(name, 80), line.x, line.smooth, i % 8) for i, (name, line) in enumerate(curves.items())]
    if any(len(each.x) for each in series):
        in_seconds = x_name == "seconds"
        unit: Unit = "seconds" if in_seconds else "number"
        page.figure(lines(series, title=y_name, x_name="" if in_seconds else x_name, x_unit=unit))
    if compared.differences:
        rows = [(key, *(shown(value) for value in values)) for key, values in compared.differences]
        page.table(("setting", *compared.names), rows, caption="Settings that differ", left=len(compared.names) + 1)
    elif len(compared.names) > 1:
        page.paragraph("Their settings do not differ.")


def _stories(page: HtmlPage, contest: ModelComparison) -> None:
    page.heading("Stories")
    sample = contest.sample
    page.paragraph(
        f"Told at temperature {sample.temperature:g}, top-k {sample.top_k}, top-p {sample.top_p:g}, "
        f"seed {sample.seed}, at most {sample.max_tokens:,} tokens."
    )
    kinds = {prompt.text: prompt.kind for prompt in bundled()}
    before = None
    for i, prompt in enumerate(contest.prompts):
        kind = kinds.get(prompt)
        if kind is not None and kind != before:
            page.heading(kind, level=3)
        before = kind
        page.paragraph(f"{i + 1:,}. {prompt}")
        with page.side_by_side():
            for label, tellings in zip(contest.labels, contest.tellings, strict=True):
                if (told := tellings[i]) is None:
                    page.story("", "The prompt does not fit into this model's context.", label=label)
                else:
                    cut = "" if told.ended else f"cut after {told.tokens:,} tokens"
                    page.story(prompt, told.text, label=label, note=cut)

"""`storyteller compare`: runs by their metrics, and models by their scores and stories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from storyteller.cli import options
from storyteller.cli.eval import interval_cells, score_remarks, yield_to_training
from storyteller.cli.options import Axis, option
from storyteller.cli.progress_line import run_with_progress
from storyteller.cli.show import BPB, LOSS, NAMES, POINTS, ChartPrinter, chosen_keys, plain, read_curves
from storyteller.cli.story_output import terminal_columns
from storyteller.cli.text_tables import note, number, out, out_json, print_table, span
from storyteller.cli.wrapped_text import side_by_side
from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError
from storyteller.text import safe_line
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.evaluation.compare_models import ComparedStory, ModelComparison
    from storyteller.tracking.compare_runs import RunComparison
    from storyteller.tracking.curves import Line

_DEFAULTS = SamplingParams()
_SHOWN = 3
_SEED = 42
_stories = options.panel("Stories")


def compare(
    models: Annotated[list[str], options.argument(options.MODEL_HELP, metavar="MODEL")],
    tell: Annotated[
        bool,
        _stories("Generate stories and scores for runs, too. Implied by the other options here and Scoring.", "--tell"),
    ] = False,
    prompts: Annotated[
        Path | None,
        _stories('File of prompts, one per line, or .jsonl of {"prompt": ...}.  [default: 44 bundled prompts]'),
    ] = None,
    show: Annotated[
        int | None, _stories(f"Print the stories of N prompts, evenly spaced.  [default: {_SHOWN}]", min=0)
    ] = None,
    html: Annotated[Path | None, _stories("Write an HTML page with all stories and scores.")] = None,
    seed: Annotated[int | None, _stories(f"Seed of every model.  [default: {_SEED}]", min=0, max=2**32 - 1)] = None,
    temperature: Annotated[
        float | None,
        _stories(f"Sampling temperature; 0: greedy.  [default: {_DEFAULTS.temperature:g}]", min=0, max=100),
    ] = None,
    max_tokens: Annotated[
        int | None, _stories(f"Longest story in tokens.  [default: {_DEFAULTS.max_tokens}]", min=1, max=100_000)
    ] = None,
    data: options.ScoringData = None,
    stories: options.MaxStories = None,
    clean: options.Cleaning = "light",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    key: Annotated[str | None, option("Metric to chart.  [default: eval/bpb, else train/loss]", metavar="KEY")] = None,
    by: Annotated[Axis, option("Unit of the x axis.", metavar="step|tokens|seconds")] = "step",
    width: options.Width = None,
    rows: options.Height = 18,
    log_y: options.LogY = False,
    smoothing: options.Smoothing = 0.05,
    ascii: options.Ascii = False,
    as_json: options.AsJsonWithCurves = False,
    runs_dir: options.RunsDir = None,
) -> None:
    """Compare models and runs.

    Runs alone are compared by their metrics, at once: a chart, the settings that differ, and the results. With --tell,
    or if any model is not a whole run (first@500, starter, a folder, a Hub id), every model continues the same prompts
    with the same seed and is scored on the same held-out stories, with 95 % intervals and significance. This takes a
    minute or more per model.

    Example: storyteller compare first@best starter --data valid.jsonl --html both.html
    """
    from storyteller.inference.engine import is_run

    root = run_folder.runs_root(runs_dir)
    names = list(dict.fromkeys(models))
    runs = [name for name in names if is_run(name) and "@" not in name]
    given = (prompts, show, html, seed, temperature, max_tokens, data, stories)
    if key is not None and not runs:
        raise UsageError("--key is a metric of runs, but no run is given", "omit --key")
    metrics = _read_metrics(root, runs, key, by, smoothing) if runs else None
    comparison = None
    if tell or len(runs) < len(names) or any(each is not None for each in given):
        from storyteller.config.configs import TrainConfig
        from storyteller.evaluation.compare_models import ComparisonRequest, compare_models
        from storyteller.evaluation.prompts import load_prompts
        from storyteller.reports.html import check_writable

        request = ComparisonRequest(
            models=tuple(names),
            prompts=tuple(load_prompts(prompts)),
            params=SamplingParams(
                seed=_SEED if seed is None else seed,
                temperature=_DEFAULTS.temperature if temperature is None else temperature,
                max_tokens=_DEFAULTS.max_tokens if max_tokens is None else max_tokens,
            ),
            settings=TrainConfig(device=device, precision=precision, threads=threads),
            data=tuple(data or ()),
            max_stories=stories,
            cleaning=clean,
        )
        if html is not None:
            check_writable(html)  # before minutes of work
        yield_to_training(root)
        comparison = run_with_progress(lambda on_progress: compare_models(request, root, on_progress, note))
        if html is not None:
            _write_page(html, comparison, metrics)
    if as_json:
        out_json({**(metrics.to_json() if metrics else {}), **(comparison.to_json() if comparison else {})})
        return
    if metrics is not None:
        _print_metrics(metrics, ChartPrinter(ascii, width, rows, log_y))
    if comparison is not None:
        if metrics is not None:
            out()
        _print_scores(comparison)
        _print_stories(comparison, _SHOWN if show is None else show, width or terminal_columns())
    if html is not None:
        out()
        out(f"{html}: all stories, the scores{' and the curves' if metrics is not None else ''}")


@dataclass(frozen=True)
class _Metrics:
    """The metrics, settings and results of several runs."""

    comparison: RunComparison
    key: str | None
    """The metric of the chart; None if there are no metrics yet."""
    by: Axis
    lines: Mapping[str, Line]
    """By run name."""

    def to_json(self) -> dict[str, Any]:
        points = {name: plain(line) for name, line in self.lines.items()}
        return {**self.comparison.to_json(), "key": self.key, "x": self.by, "lines": points}


def _read_metrics(root: Path, names: Sequence[str], key: str | None, by: Axis, smoothing: float) -> _Metrics:
    from storyteller.tracking import compare_runs

    folders = list({(folder := run_index.find_run(root, name)).name: folder for name in names}.values())
    all_curves = read_curves(folders)
    known = {each: None for curves in all_curves.values() for each in curves.keys}
    default = BPB if BPB in known or LOSS not in known else LOSS
    whose = "these runs" if len(folders) > 1 else folders[0].name
    chosen = next(iter(chosen_keys([key] if key else None, tuple(known), whose, (default,))), None)
    smoothing = 0.0 if chosen is not None and chosen.startswith("eval/") else smoothing
    lines = {
        name: curves.line(chosen, by, points=POINTS, smoothing=smoothing)
        for name, curves in all_curves.items()
        if chosen is not None
    }
    return _Metrics(compare_runs.compare_runs(folders, all_curves), chosen, by, lines)


def _print_metrics(metrics: _Metrics, charts: ChartPrinter) -> None:
    from storyteller.tracking.compare_runs import format_setting

    comparison = metrics.comparison
    if metrics.key is None:
        out("no metrics yet: storyteller ps shows what the runs are doing")
    else:
        charts.draw(metrics.lines, metrics.by, NAMES.get(metrics.key, safe_line(metrics.key)))
        out()
    head = ("RUN", "STATE", "STEPS", "TOKENS", "TIME", "PARAMETERS", "LOSS", "BITS/BYTE", "BEST", "TOKENS/S")
    results = [
        (
            result.name,
            result.state,
            number(result.steps),
            number(result.tokens),
            span(result.seconds),
            number(result.parameters),
            number(result.train_loss, ".4f"),
            number(result.last_bpb, ".4f"),
            number(result.best_bpb, ".4f"),
            number(result.tokens_per_second),
        )
        for result in comparison.results
    ]
    print_table(head, results)
    if len(comparison.names) < 2:
        return
    out()
    if not comparison.differences:
        out("their settings do not differ")
        return
    differences = [
        (name, *(safe_line(format_setting(value), 32) for value in values)) for name, values in comparison.differences
    ]
    print_table(("SETTING", *comparison.names), differences, left=len(comparison.names) + 1)


def _print_scores(comparison: ModelComparison) -> None:
    """Prints a table with a row per model, and a line per pair of models."""
    from storyteller.evaluation.compare_models import verdict

    n_stories = len(comparison.eval_set.stories)
    out(f"scores on {n_stories:,} stories: {comparison.eval_set.source}")
    rows = [
        (
            label,
            number(scores.parameters),
            *interval_cells(scores.bits_per_byte, ".4f"),
            number(scores.nats_per_token.value, ".4f"),
            number(scores.perplexity.value, ".2f"),
        )
        for label, scores in zip(comparison.labels, comparison.scores, strict=True)
    ]
    head = ("MODEL", "PARAMETERS", "BITS/BYTE", "95 %: FROM", "TO", "NATS/TOKEN", "PERPLEXITY")
    print_table(head, rows, left=1)
    for pair in comparison.differences():
        out(verdict(*pair, n_stories))
    for remark in score_remarks(comparison.scores):
        note(remark)


def _print_stories(comparison: ModelComparison, n_shown: int, columns: int) -> None:
    """Prints evenly spaced prompts, each with the stories of all models."""
    n_prompts = len(comparison.prompts)
    n_shown = min(n_shown, n_prompts)
    for number_shown in range(n_shown):
        i = number_shown * n_prompts // n_shown
        out()
        out(f"{i + 1:,} of {n_prompts:,}: {comparison.prompts[i]}")
        out()
        texts = [_story_text(of_model[i]) for of_model in comparison.stories]
        for line in side_by_side(comparison.labels, texts, columns):
            out(line)


def _story_text(story: ComparedStory | None) -> str:
    if story is None:
        return "(the prompt does not fit into the context)"
    return story.text.strip() + ("" if story.ended else " ...")


def _write_page(path: Path, comparison: ModelComparison, metrics: _Metrics | None) -> None:
    from storyteller.reports.compare_page import comparison_page
    from storyteller.reports.html import write

    curves: dict[str, Any] = {}
    if metrics is not None:
        name = NAMES.get(metrics.key, metrics.key) if metrics.key is not None else ""
        curves = {"compared": metrics.comparison, "curves": metrics.lines, "y_name": name, "x_name": metrics.by}
    write(path, comparison_page(comparison, remarks=score_remarks(comparison.scores), **curves))

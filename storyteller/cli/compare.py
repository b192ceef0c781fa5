"""`storyteller compare`: runs by their logs, and models by what they tell and how they score."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storyteller.cli.eval import (
    AtPrecision,
    Clean,
    DataPaths,
    OnDevice,
    Stories,
    Threads,
    bounds,
    remarks,
    scored,
    step_back,
)
from storyteller.cli.progress_line import ProgressLine, leave, run_interruptibly
from storyteller.cli.show import (
    BPB,
    LOSS,
    NAMES,
    POINTS,
    Ascii,
    AsJson,
    Axis,
    ChartPrinter,
    Height,
    LogY,
    Smoothing,
    Width,
    chosen_keys,
    plain,
    read_curves,
)
from storyteller.cli.story_output import cells
from storyteller.cli.text_tables import note, number, out, out_json, span, table
from storyteller.cli.train import RunsDir
from storyteller.config.configs import SamplingParams
from storyteller.errors import UsageError
from storyteller.text import safe, safe_line
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.config.configs import TrainConfig
    from storyteller.evaluation.bits_per_byte import EvalSet
    from storyteller.evaluation.compare_models import ModelComparison, ModelStories
    from storyteller.tracking.compare_runs import RunComparison
    from storyteller.tracking.curves import Line

_DEFAULTS = SamplingParams()
_SHOWN = 3
_SEED = 42
_GAP = "   "
_NARROWEST = 28
"""Columns of a story; where there is less room, stories stand one under another."""


def compare(
    models: Annotated[
        list[str],
        typer.Argument(help="Runs, RUN@STEP, RUN@best, latest, starter, folders, or owner/name on the Hub."),
    ],
    tells: Annotated[
        bool,
        typer.Option(
            "--tell", help="Runs too tell stories and are scored. So they do with any of the options up to --stories."
        ),
    ] = False,
    prompts: Annotated[
        Path | None,
        typer.Option(help='Prompts to tell from, one a line, or .jsonl of {"prompt": ...}.  [44 of our own]'),
    ] = None,
    show: Annotated[
        int | None, typer.Option(min=0, help=f"Prompts whose stories are shown here, evenly chosen.  [{_SHOWN}]")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all of it, every story too, as a page for a browser.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help=f"The same for every model.  [{_SEED}]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=100, help="0: the likeliest token each time.  [0.8]")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, max=100_000, help="Most tokens of a story.  [400]")] = None,
    data: DataPaths = None,
    stories: Stories = None,
    clean: Clean = "light",
    device: OnDevice = "auto",
    precision: AtPrecision = "auto",
    threads: Threads = 0,
    key: Annotated[
        str | None, typer.Option(help="The metric of the chart; default: eval/bpb, else train/loss.", metavar="KEY")
    ] = None,
    by: Annotated[Axis, typer.Option(help="What the x axis counts: step, tokens or seconds.")] = "step",
    width: Width = None,
    rows: Height = 18,
    log_y: LogY = False,
    smoothing: Smoothing = 0.05,
    ascii: Ascii = False,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
) -> None:
    """Models and runs side by side.

    Runs alone are compared by their logs, at once: a chart of them all, where their settings differ, what came of each.
    With --tell, or where a model is named that is no whole run (first@500, starter, a folder, an id on the Hub), each
    tells the same prompts with the same seed and is scored on the same held-out stories, with 95 % intervals and
    whether a difference is real; which takes a minute or more for each.

    Example: storyteller compare first@best starter --data valid.jsonl --html both.html
    """
    from storyteller.config.configs import TrainConfig
    from storyteller.evaluation import bits_per_byte
    from storyteller.evaluation.prompts import load_prompts
    from storyteller.reports.html import check as check_page

    root = run_folder.runs_root(runs_dir)
    names = list(dict.fromkeys(models))
    runs = [name for name in names if _is_whole_run(name)]
    given = (prompts, show, html, seed, temperature, max_tokens, data, stories)
    tells = tells or len(runs) < len(names) or any(each is not None for each in given)
    if key is not None and not runs:
        raise UsageError("--key is a metric of runs, and none is named", "leave it out")
    logs = _read_logs(root, runs, key, by, smoothing) if runs else None
    contest = None
    if tells:
        # Before minutes of work: what cannot come to an end.
        if html is not None:
            check_page(html)
        for name in names:
            _check(name, root)
        sample = SamplingParams(
            seed=_SEED if seed is None else seed,
            temperature=_DEFAULTS.temperature if temperature is None else temperature,
            max_tokens=_DEFAULTS.max_tokens if max_tokens is None else max_tokens,
        )
        settings = TrainConfig(device=device, precision=precision, threads=threads)
        asked = load_prompts(prompts)
        held = bits_per_byte.held_out(names, root, data=data or (), limit=stories, cleaning=clean)
        contest = _hold(names, root, asked, sample, held, settings)
    if html is not None and contest is not None:
        _write_page(html, contest, logs)
    if as_json:
        out_json({**(logs.to_json() if logs is not None else {}), **(contest.to_json() if contest is not None else {})})
        return
    if logs is not None:
        _show_logs(logs, ChartPrinter(ascii), width, rows, log_y)
    if contest is not None:
        if logs is not None:
            out()
        _show_scores(contest)
        _show_stories(contest, _SHOWN if show is None else show, width or shutil.get_terminal_size().columns)
    if html is not None:
        out()
        out(f"{html}: every story, the scores{' and the curves' if logs is not None else ''}")


# --- runs by their logs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Logs:
    """What the logs of runs say."""

    compared: RunComparison
    key: str | None
    """The metric of the chart; None where there is none yet."""
    by: Axis
    smoothing: float
    lines: Mapping[str, Line]
    """By run."""
    has_metrics: bool

    def to_json(self) -> dict[str, Any]:
        points = {name: plain(line) for name, line in self.lines.items()}
        return {**self.compared.to_json(), "key": self.key, "x": self.by, "lines": points}


def _read_logs(root: Path, names: Sequence[str], key: str | None, by: Axis, smoothing: float) -> _Logs:
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
    return _Logs(compare_runs.compare_runs(folders, all_curves), chosen, by, smoothing, lines, bool(known))


def _show_logs(logs: _Logs, paint: ChartPrinter, width: int | None, rows: int, log_y: bool) -> None:
    from storyteller.tracking.compare_runs import format_setting

    compared = logs.compared
    if not logs.has_metrics:
        out("no metrics yet: storyteller ps shows what the runs are doing")
    if logs.key is not None:
        drawn = [
            paint.series(name, line, i, logs.smoothing, band=False) for i, (name, line) in enumerate(logs.lines.items())
        ]
        paint.chart(drawn, width, rows, logs.by, log_y, (), NAMES.get(logs.key, safe_line(logs.key)))
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
        for result in compared.results
    ]
    for row in table(head, results):
        out(row)
    if len(compared.names) < 2:
        return
    out()
    if not compared.differences:
        out("their settings do not differ")
        return
    differences = [
        (name, *(safe_line(format_setting(value), 32) for value in values)) for name, values in compared.differences
    ]
    for row in table(("SETTING", *compared.names), differences, left=len(compared.names) + 1):
        out(row)


# --- models by what they tell and how they score ----------------------------------------------------------------------


def _is_whole_run(name: str) -> bool:
    from storyteller.inference.engine import is_run

    return is_run(name) and "@" not in name


def _check(name: str, root: Path) -> None:
    """Raise where there is no such model; one of the Hub is left for when its turn comes."""
    from storyteller.inference.engine import STARTER, find_model, is_run

    here = Path(name).expanduser().is_dir() or name.startswith((".", "/", "~"))
    if here or name == STARTER or is_run(name):
        find_model(name, root)


def _hold(
    names: Sequence[str],
    root: Path,
    prompts: Sequence[str],
    sample: SamplingParams,
    held: EvalSet,
    settings: TrainConfig,
) -> ModelComparison:
    """Let each model tell and be scored, one after the other, with a line of progress at a terminal."""
    from storyteller.evaluation.compare_models import ModelComparison

    step_back(root)
    labels, tellings, scores = [], [], []
    for name in names:
        label, exact, told = _tell(name, root, prompts, sample, settings.threads)
        labels.append(label)
        tellings.append(told)
        scores.append(scored(exact, held, root, settings))
    return ModelComparison(tuple(labels), tuple(prompts), sample, tuple(tellings), held, tuple(scores))


def _tell(
    name: str, root: Path, prompts: Sequence[str], sample: SamplingParams, threads: int
) -> tuple[str, str, tuple[ModelStories | None, ...]]:
    """The model's label, a name that means these very weights, and what was told."""
    from storyteller.cli.loaded_model import LoadedModel
    from storyteller.evaluation import compare_models

    with (
        LoadedModel(name, root, threads) as loaded,
        ProgressLine(len(prompts), f"{loaded.engine.label}: told") as progress,
    ):
        try:
            told = run_interruptibly(lambda: compare_models.tell(loaded.engine, prompts, sample, progress.show))
        except KeyboardInterrupt:
            progress.close()
            note("interrupted")
            loaded.close()
            leave()
        label = loaded.engine.label
        return label, label if loaded.run is not None else name, told


def _show_scores(contest: ModelComparison) -> None:
    """A row a model, and below it which differences are real."""
    from storyteller.evaluation.compare_models import verdict

    n_stories = len(contest.held.stories)
    out(f"scores on {n_stories:,} stories: {contest.held.source}")
    rows = [
        (
            label,
            number(scores.parameters),
            *bounds(scores.bits_per_byte, ".4f"),
            number(scores.nats_per_token.value, ".4f"),
            number(scores.perplexity.value, ".2f"),
        )
        for label, scores in zip(contest.labels, contest.scores, strict=True)
    ]
    head = ("MODEL", "PARAMETERS", "BITS/BYTE", "95 %: FROM", "TO", "NATS/TOKEN", "PERPLEXITY")
    for row in table(head, rows, left=1):
        out(row)
    for versus in contest.differences():
        out(verdict(versus, n_stories))
    for remark in remarks(contest.scores):
        note(remark)


def _show_stories(contest: ModelComparison, n_shown: int, columns: int) -> None:
    """Some prompts, evenly chosen, each with what every model told after it."""
    n_prompts = len(contest.prompts)
    n_shown = min(n_shown, n_prompts)
    for number_shown in range(n_shown):
        i = number_shown * n_prompts // n_shown
        out()
        out(f"{i + 1:,} of {n_prompts:,}: {contest.prompts[i]}")
        out()
        tellings = [told[i] for told in contest.tellings]
        for line in side_by_side(contest.labels, [_words(each) for each in tellings], columns):
            out(line)


def _words(telling: ModelStories | None) -> str:
    if telling is None:
        return "(the prompt does not fit into its context)"
    return telling.text.strip() + ("" if telling.ended else " ...")


def side_by_side(titles: Sequence[str], texts: Sequence[str], columns: int) -> list[str]:
    """Texts below their titles, wrapped between words: in columns where each has room, else one under another.

    The lines are safe to show.
    """
    width = (columns - len(_GAP) * (len(texts) - 1)) // len(texts)
    if width < _NARROWEST or len(texts) < 2:
        blocks = [
            [safe_line(title), *wrapped(text, columns, "  "), ""] for title, text in zip(titles, texts, strict=True)
        ]
        return [line for block in blocks for line in block][:-1]
    blocks = [
        [line for part in (title, "-" * min(cells(safe_line(title)), width), text) for line in wrapped(part, width)]
        for title, text in zip(titles, texts, strict=True)
    ]
    return [
        _GAP.join(line + " " * (width - cells(line)) for line in lines).rstrip()
        for lines in itertools.zip_longest(*blocks, fillvalue="")
    ]


def wrapped(text: str, columns: int, indent: str = "") -> list[str]:
    """Lines of at most `columns` cells, made safe, broken between words; a word that is longer than a line within."""
    width = max(columns - len(indent), 1)
    lines = []
    for paragraph in safe(text).splitlines():
        line = ""
        for word in paragraph.split():
            if line and cells(line) + 1 + cells(word) > width:
                lines.append(line)
                line = ""
            line = f"{line} {word}" if line else word
            while cells(line) > width:
                fits = next(n for n in range(len(line), 0, -1) if cells(line[:n]) <= width or n == 1)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line)
    return [indent + line for line in lines]


def _write_page(path: Path, contest: ModelComparison, logs: _Logs | None) -> None:
    from storyteller.reports.compare_page import comparison_page
    from storyteller.reports.html import write

    page = comparison_page(
        contest,
        logs.compared if logs is not None else None,
        logs.lines if logs is not None else None,
        y_name=NAMES.get(logs.key, logs.key) if logs is not None and logs.key is not None else "",
        x_name=logs.by if logs is not None else "",
        remarks=remarks(contest.scores),
    )
    write(path, page)

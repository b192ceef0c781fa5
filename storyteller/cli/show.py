"""`storyteller show`: a run as text with charts, or as JSON; also draws the charts of `compare`."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from storyteller.cli.runs import Run
from storyteller.cli.text_tables import note, number, out, out_json, span, writes
from storyteller.cli.train import RunsDir
from storyteller.errors import RunError, UsageError
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_folder, run_index
from storyteller.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from storyteller.charts import Marks, Series
    from storyteller.tracking.curves import Curves, Line

LOSS, BPB = "train/loss", "eval/bpb"
NAMES = {
    LOSS: "training loss, nats a token",
    BPB: "held out, bits per byte",
}
_COLORS = (36, 33, 35, 32, 34, 31, 96, 37)
"""SGR colour codes (ECMA-48) of the lines of a chart, for terminals with 16 colours."""
POINTS = 2000
_SLOW_SECONDS = 1.0
_SAMPLES = 3

Axis = Literal["step", "tokens", "seconds"]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="KEY", help="Metric to chart, e.g. train/lr; repeatable.  [default: train/loss and eval/bpb]"
    ),
]
Width = Annotated[
    int | None, typer.Option(min=20, max=1000, help="Width of the charts in columns.  [default: the terminal's]")
]
Height = Annotated[int, typer.Option(min=3, max=500, help="Height of each chart in rows.")]
LogY = Annotated[bool, typer.Option("--log-y", help="Logarithmic y axis.")]
Smoothing = Annotated[
    float, typer.Option(min=0, max=1, help="Smoothing window as a share of the chart's width; 0: none.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters, for fonts without braille.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, with the points of the curves.")]


def show(
    run: Run = "latest",
    key: Keys = None,
    x: Annotated[Axis, typer.Option(help="Unit of the x axis.")] = "step",
    width: Width = None,
    rows: Height = 14,
    log_y: LogY = False,
    smoothing: Smoothing = 0.05,
    ascii: Ascii = False,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show one run: state, settings, charts of its metrics, and its latest stories.

    Example: storyteller show latest --key train/loss --x tokens --log-y
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    curves = read_curves([folder])[folder.name]
    keys = chosen_keys(key, curves.keys, folder.name, (LOSS, BPB))
    # Evaluations are few and precise: they are not smoothed.
    spans = {each: 0.0 if each.startswith("eval/") else smoothing for each in keys}
    lines = {each: curves.line(each, x, points=POINTS, smoothing=spans[each]) for each in keys}
    summary = run_index.summarise(folder, curves.last)
    stories = _last_stories(folder)
    saved = checkpoint_folders.steps(folder)
    if as_json:
        out_json(
            {
                **summary.to_json(),
                "config": _plan(folder).get("config"),
                "x": x,
                "lines": {each: plain(line) for each, line in lines.items()},
                "resumes": curves.resumes,
                "checkpoints": saved,
                "stories": stories,
            }
        )
        return
    for name, words in _facts(folder, summary, curves, saved):
        out(f"{name:<12}{words}")
    if not curves.keys:
        out()
        out(f"no metrics yet: storyteller logs {folder.name} -f shows what the run is doing")
    paint = ChartPrinter(ascii)
    marks = _marks(curves, x, saved, paint)
    for each in keys:
        line = lines[each]
        out()
        name = NAMES.get(each, safe_line(each))
        paint.chart([paint.series(name, line, 0, spans[each])], width, rows, x, log_y, marks, name)
    for story in stories:
        out()
        out(f"a story at step {story['step']:,}:")
        for paragraph in f"{story['prompt']}{story['text']}".splitlines():
            out(f"  {paragraph}")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_curves(folders: Sequence[RunFolder]) -> dict[str, Curves]:
    """Read the metrics of each run to the end of its log."""
    from storyteller.tracking import compare_runs

    with _patience("reading the metrics; a log of a million lines takes some seconds"):
        return {folder.name: compare_runs.read_curves(folder) for folder in folders}


@contextlib.contextmanager
def _patience(words: str) -> Iterator[None]:
    """Print `words` at a terminal when the block takes longer than a second."""
    timer = threading.Timer(_SLOW_SECONDS, note, [words])
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def chosen_keys(wanted: list[str] | None, known: Sequence[str], whose: str, default: Sequence[str]) -> list[str]:
    """Return the metrics to show. Raises UsageError for an unknown one, RunError where there are none yet."""
    for key in wanted or ():
        if not known:
            raise RunError(f"{whose} has no metrics yet", "wait for the first line")
        if key not in known:
            names = ", ".join(safe_line(name, 40) for name in sorted(known))
            raise UsageError(f"{whose} has no metric {safe_line(key, 60)}", f"it has {names}")
    return list(dict.fromkeys(wanted)) if wanted else [key for key in default if key in known]


def plain(line: Line) -> dict[str, list[float]]:
    return {name: list(values) for name, values in vars(line).items()}


def _plan(folder: RunFolder) -> Mapping[str, Any]:
    try:
        return folder.read_run()
    except RunError:
        return {}


def _last_stories(folder: RunFolder) -> list[dict[str, Any]]:
    """Return the latest story of each prompt."""
    from storyteller.tracking.sample_history import SampleHistory

    growth = SampleHistory(folder)
    growth.catch_up()
    told = [growth.at(prompt, steps[-1]) for prompt in growth.prompts if (steps := growth.steps(prompt))]
    newest = [story for story in told if story is not None][:_SAMPLES]
    return [{"step": story.step, "prompt": story.prompt, "text": story.text, "seed": story.seed} for story in newest]


# --- facts ------------------------------------------------------------------------------------------------------------


def _facts(
    folder: RunFolder, summary: run_index.RunSummary, curves: Curves, saved: Sequence[int]
) -> Iterator[tuple[str, str]]:
    """Yield (subject, text) lines about the run."""
    plan = _plan(folder)
    config = _section(plan, "config")
    done = ""
    if summary.progress is not None:
        done = f", {100 * summary.progress:.0f} % of {_budget(_section(config, 'train'))}"
    left = f", {span(summary.eta_seconds)} left" if summary.eta_seconds is not None else ""
    yield "run", f"{folder.name}, {summary.state}{done}{left}"
    if summary.message:
        yield "message", summary.message
    if summary.step is not None:
        speed = f", {number(summary.tokens_per_second)} tokens/s" if summary.tokens_per_second is not None else ""
        yield "trained", f"{summary.step:,} steps, {number(summary.tokens)} tokens in {span(summary.seconds)}{speed}"
    if summary.train_loss is not None:
        yield "loss", f"{summary.train_loss:.4f} nats a token"
    if summary.eval_bpb is not None:
        best = min(curves.line(BPB, points=1).low, default=summary.eval_bpb)
        yield "held out", f"{summary.eval_bpb:.4f} bits per byte (best {best:.4f})"
    yield from _settings(plan, config)
    if saved:
        best_path = checkpoint_folders.best(folder)
        best_step = f", best {int(best_path.name.rpartition('-')[2]):,}" if best_path is not None else ""
        yield "checkpoints", f"{len(saved)}, newest at step {saved[-1]:,}{best_step}"
    if curves.resumes:
        steps = curves.resumes[-8:]
        more = f"{len(curves.resumes)} times, last at" if len(curves.resumes) > len(steps) else "at"
        yield "resumed", f"{more} step {', '.join(f'{step:,}' for step in steps)}"
    if summary.wandb_url:
        yield "page", summary.wandb_url


def _settings(plan: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from storyteller.tracking.compare_runs import format_setting

    def said(section: Mapping[str, Any], *fields: tuple[str, str]) -> str:
        return ", ".join(
            f"{words} {format_setting(section[name])}" for name, words in fields if section.get(name) is not None
        )

    model, train, data, host = (
        {**_section(config, name), **_section(plan, name)} for name in ("model", "train", "data", "host")
    )
    lines = {
        "model": said(
            model,
            ("parameters", "parameters"),
            ("n_layer", "layers"),
            ("n_embd", "width"),
            ("n_head", "heads"),
            ("context", "context"),
            ("vocab_size", "vocabulary"),
        ),
        "data": said(data, ("kind", "kind"), ("source", "source"), ("batching", "batching"), ("clean", "clean")),
        "training": said(
            {"preset": config.get("preset"), **train},
            ("preset", "preset"),
            ("optimizer", "optimizer"),
            ("lr", "lr"),
            ("batch_size", "batch"),
            ("accumulate", "accumulated"),
            ("seed", "seed"),
        ),
        "machine": said(host, ("device", "device"), ("precision", "precision"), ("threads", "threads")),
    }
    for name, words in lines.items():
        if words:
            yield name, words


def _budget(train: Mapping[str, Any]) -> str:
    from storyteller.tracking.compare_runs import format_setting

    for name in ("minutes", "steps", "epochs", "tokens"):
        if train.get(name) is not None:
            value = train[name]
            return f"{value:,} {name}" if isinstance(value, int) else f"{format_setting(value)} {name}"
    return "its budget"


def _section(plan: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = plan.get(name)
    return found if isinstance(found, dict) else {}


# --- drawing ----------------------------------------------------------------------------------------------------------


class ChartPrinter:
    """Draws charts on standard output, in braille and colour where the terminal supports them."""

    def __init__(self, ascii: bool) -> None:
        self.cells: Literal["braille", "ascii"] = "ascii" if ascii or not writes("\u28ff") else "braille"
        self.color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def series(self, name: str, line: Line, color: int, smoothing: float, band: bool = True) -> Series:
        from storyteller.charts import Series

        if not band or smoothing <= 0:
            return Series(safe_line(name, 80), line.x, line.smooth, color % 8)
        # The band behind a smoothed line spans the values that each of its points stands for.
        return Series(safe_line(name, 80), line.x, line.smooth, color % 8, low=line.low, high=line.high)

    def chart(
        self,
        series: Sequence[Series],
        width: int | None,
        rows: int,
        x: Axis,
        log_y: bool,
        marks: Sequence[Marks],
        y_name: str,
    ) -> None:
        from storyteller.charts import View, draw

        columns = width or shutil.get_terminal_size().columns
        picture = draw(
            series,
            columns,
            rows,
            View(log_y=log_y),
            cells=self.cells,
            marks=marks,
            x_name="" if x == "seconds" else x,
            y_name=y_name,
            x_unit="seconds" if x == "seconds" else "number",
            patterns=not self.color and len(series) > 1,
        )
        for row in picture.rows:
            print("".join(self._piece(text, style) for text, style in row).rstrip(), flush=False)

    def _piece(self, text: str, style: str) -> str:
        text = safe_line(text)
        code = _code(style) if self.color else ""
        return f"\x1b[{code}m{text}\x1b[0m" if code else text


def _code(style: str) -> str:
    """Return the SGR code of a chart style, or an empty string."""
    if style.startswith("line"):
        return str(_COLORS[int(style[4:])])
    if style.startswith("dim"):
        return f"2;{_COLORS[int(style[3:])]}"
    return {"axis": "2", "grid": "2", "mark": "1"}.get(style, "")


def _marks(curves: Curves, x: Axis, saved: Sequence[int], paint: ChartPrinter) -> list[Marks]:
    """Return marks of checkpoints and resumes on the x axis."""
    from storyteller.charts import Marks

    glyphs = ("^", "R") if paint.cells == "ascii" else ("\u25b4", "\u21bb")
    found = []
    for glyph, name, steps in zip(glyphs, ("checkpoint", "resumed"), (saved, curves.resumes), strict=True):
        places = [place for step in steps if (place := curves.place_of(step, x)) is not None]
        if places:
            found.append(Marks(places, glyph, name))
    return found

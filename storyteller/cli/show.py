"""`storyteller show`: a run as text with charts, or as JSON; also draws the charts of `compare`."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from storyteller.cli import options
from storyteller.cli.options import Axis, option
from storyteller.cli.story_output import terminal_columns
from storyteller.cli.text_tables import has_styles, note, number, out, out_json, span, writes
from storyteller.errors import RunError, UsageError
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_folder, run_index
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import SampleHistory

if TYPE_CHECKING:
    from storyteller.charts import Marks
    from storyteller.tracking.curves import Curves, Line

LOSS, BPB = "train/loss", "eval/bpb"
NAMES = {LOSS: "training loss, nats a token", BPB: "held out, bits per byte"}
_COLORS = (36, 33, 35, 32, 34, 31, 96, 37)
"""SGR colour codes (ECMA-48) of the lines of a chart, for terminals with 16 colours."""
_FIELDS = {
    "model": ("parameters", "n_layer", "n_embd", "n_head", "context", "vocab_size"),
    "data": ("kind", "source", "batching", "clean"),
    "train": ("preset", "optimizer", "lr", "batch_size", "accumulate", "seed"),
    "host": ("device", "precision", "threads"),
}
"""The settings that are shown, by the section of `run.json`."""
_LABELS = {
    "train": "training",
    "host": "machine",
    "n_layer": "layers",
    "n_embd": "width",
    "n_head": "heads",
    "vocab_size": "vocabulary",
    "batch_size": "batch",
    "accumulate": "accumulated",
}
"""Names of sections and fields where they differ from those of the file."""
POINTS = 2000
_SLOW_SECONDS = 1.0
_MOST_STORIES = 3


def show(
    run: options.Run = "latest",
    key: Annotated[
        list[str] | None,
        option("Metric to chart, e.g. train/lr; repeatable.  [default: train/loss and eval/bpb]", metavar="KEY"),
    ] = None,
    x: Annotated[Axis, option("Unit of the x axis.")] = "step",
    width: options.Width = None,
    rows: options.Height = 14,
    log_y: options.LogY = False,
    smoothing: options.Smoothing = 0.05,
    ascii: options.Ascii = False,
    as_json: options.AsJsonWithCurves = False,
    runs_dir: options.RunsDir = None,
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
    plan: Mapping[str, Any] = {}
    with contextlib.suppress(RunError):  # a run without a readable `run.json` is shown, too
        plan = folder.read_run()
    if as_json:
        out_json(
            {
                **summary.to_json(),
                "config": plan.get("config"),
                "x": x,
                "lines": {each: plain(line) for each, line in lines.items()},
                "resumes": curves.resumes,
                "checkpoints": saved,
                "stories": stories,
            }
        )
        return
    for name, words in _facts(folder, plan, summary, curves, saved):
        out(f"{name:<12}{words}")
    if not curves.keys:
        out()
        out(f"no metrics yet: storyteller logs {folder.name} -f shows what the run is doing")
    charts = ChartPrinter(ascii, width, rows, log_y)
    marks = _marks(curves, x, saved, charts)
    for each in keys:
        out()
        name = NAMES.get(each, safe_line(each))
        charts.draw({name: lines[each]}, x, name, marks, has_band=spans[each] > 0)
    for story in stories:
        out()
        out(f"a story at step {story['step']:,}:")
        for paragraph in f"{story['prompt']}{story['text']}".splitlines():
            out(f"  {paragraph}")


def read_curves(folders: Sequence[RunFolder]) -> dict[str, Curves]:
    """Reads the metrics of each run to the end of its log."""
    from storyteller.tracking import compare_runs

    timer = threading.Timer(_SLOW_SECONDS, note, ["reading the metrics; a log of a million lines takes some seconds"])
    if sys.stderr.isatty():
        timer.start()
    try:
        return {folder.name: compare_runs.read_curves(folder) for folder in folders}
    finally:
        timer.cancel()


def chosen_keys(wanted: list[str] | None, known: Sequence[str], whose: str, default: Sequence[str]) -> list[str]:
    """Returns the metrics to show. Raises UsageError for an unknown one, RunError where there are none yet."""
    for key in wanted or ():
        if not known:
            raise RunError(f"{whose} has no metrics yet", "wait for the first line")
        if key not in known:
            names = ", ".join(safe_line(name, 40) for name in sorted(known))
            raise UsageError(f"{whose} has no metric {safe_line(key, 60)}", f"it has {names}")
    return list(dict.fromkeys(wanted)) if wanted else [key for key in default if key in known]


def plain(line: Line) -> dict[str, list[float]]:
    return {name: list(values) for name, values in vars(line).items()}


def _last_stories(folder: RunFolder) -> list[dict[str, Any]]:
    """Returns the latest story of each prompt."""
    history = SampleHistory(folder)
    history.catch_up()
    newest = [history.at(prompt, steps[-1]) for prompt in history.prompts if (steps := history.steps(prompt))]
    stories = [story for story in newest if story is not None][:_MOST_STORIES]
    return [{"step": story.step, "prompt": story.prompt, "text": story.text, "seed": story.seed} for story in stories]


def _facts(
    folder: RunFolder, plan: Mapping[str, Any], summary: run_index.RunSummary, curves: Curves, saved: Sequence[int]
) -> Iterator[tuple[str, str]]:
    """Yields (subject, text) lines about the run."""
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
    """Yields (section, settings) lines; what the run found out, such as the device, replaces what was configured."""
    from storyteller.tracking.compare_runs import format_setting

    for section, fields in _FIELDS.items():
        values = {"preset": config.get("preset"), **_section(config, section), **_section(plan, section)}
        shown = [
            f"{_LABELS.get(name, name)} {format_setting(values[name])}"
            for name in fields
            if values.get(name) is not None
        ]
        if shown:
            yield _LABELS.get(section, section), ", ".join(shown)


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


class ChartPrinter:
    """Draws charts on standard output, in braille and colour where the terminal supports them."""

    def __init__(self, ascii: bool, width: int | None, rows: int, log_y: bool) -> None:
        """`width` is in columns; None means that of the terminal."""
        self.cells: Literal["braille", "ascii"] = "ascii" if ascii or not writes("\u28ff") else "braille"
        self._color = has_styles()
        self._width = width or terminal_columns()
        self._rows = rows
        self._log_y = log_y

    def draw(
        self, lines: Mapping[str, Line], x: Axis, y_name: str, marks: Sequence[Marks] = (), has_band: bool = False
    ) -> None:
        """Draws lines by name and, if `has_band`, the range of the values that each point averages behind them."""
        from storyteller.charts import Series, View, draw

        series = [
            Series(safe_line(name, 80), line.x, line.smooth, i % 8, *((line.low, line.high) if has_band else ()))
            for i, (name, line) in enumerate(lines.items())
        ]
        picture = draw(
            series,
            self._width,
            self._rows,
            View(log_y=self._log_y),
            cells=self.cells,
            marks=marks,
            x_name="" if x == "seconds" else x,
            y_name=y_name,
            x_unit="seconds" if x == "seconds" else "number",
            patterns=not self._color and len(series) > 1,
        )
        for row in picture.rows:
            pieces = ((safe_line(text), _code(style) if self._color else "") for text, style in row)
            print("".join(f"\x1b[{code}m{text}\x1b[0m" if code else text for text, code in pieces).rstrip())


def _code(style: str) -> str:
    """Returns the SGR code of a chart style, or an empty string."""
    if style.startswith("line"):
        return str(_COLORS[int(style[4:])])
    if style.startswith("dim"):
        return f"2;{_COLORS[int(style[3:])]}"
    return {"axis": "2", "grid": "2", "mark": "1"}.get(style, "")


def _marks(curves: Curves, x: Axis, saved: Sequence[int], charts: ChartPrinter) -> list[Marks]:
    """Returns marks of checkpoints and resumes on the x axis."""
    from storyteller.charts import Marks

    glyphs = ("^", "R") if charts.cells == "ascii" else ("\u25b4", "\u21bb")
    found = []
    for glyph, name, steps in zip(glyphs, ("checkpoint", "resumed"), (saved, curves.resumes), strict=True):
        places = [place for step in steps if (place := curves.place_of(step, x)) is not None]
        if places:
            found.append(Marks(places, glyph, name))
    return found

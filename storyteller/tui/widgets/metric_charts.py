"""The charts of a run: one at a time with tabs for the metrics, or all in a grid, with a common range and cursor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from textual import getters
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message
from textual.reactive import var

from storyteller.charts import Cells, Marks, Series, Unit
from storyteller.tracking.curves import Line, X
from storyteller.tui.base_app import BaseApp
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.tab_bar import TabBar


@dataclass(frozen=True)
class Metric:
    """What one chart shows: a metric of the log, or several that share the y axis."""

    name: str  # the label of its tab
    keys: tuple[str, ...]
    y_name: str
    nothing: str = "no data yet"  # shown while there are no points
    large: bool = False  # whether it gets more room in the grid


METRICS = (
    Metric("loss", ("train/loss",), "training loss", large=True),
    Metric("bits/byte", ("eval/bpb",), "held-out bits per byte", "no evaluation yet", large=True),
    Metric("rate", ("train/lr",), "learning rate"),
    Metric("norm", ("train/grad_norm",), "gradient norm"),
    Metric("speed", ("train/tokens_per_second",), "tokens/s"),
    Metric("mfu", ("train/mfu_pct",), "MFU, %", "not measured on this machine"),
    Metric("memory", ("memory/rss_gib", "memory/device_gib"), "memory, GiB"),
    Metric("waits", ("train/data_wait_pct",), "waiting for data, %"),
)
UNITS: dict[X, tuple[str, Unit]] = {
    "step": ("step", "number"),
    "tokens": ("tokens", "number"),
    "seconds": ("trained", "seconds"),
}
SMOOTHED = ("train/loss", "train/grad_norm", "train/tokens_per_second", "train/mfu_pct", "train/data_wait_pct")
"""The noisy metrics; only these are smoothed."""
SMOOTHINGS = (0.0, 0.02, 0.05, 0.1, 0.2)
"""The spans of a smoothed line to choose from, as shares of the visible range."""
CHECKPOINT, RESUMED, STORY = "\u25c6", "\u21bb", "\u25b2"
_LABELS = {"memory/rss_gib": "process", "memory/device_gib": "device"}
_SECONDS_BETWEEN_CHARTS = 0.012  # pause between drawing two charts, in which key presses are handled
_SMALL_CHART_SECONDS = 1.6  # how often the smaller charts are drawn while a run adds points


class MetricCharts(Vertical):
    """All charts share one visible range and one cursor: zooming, panning or pointing in one moves the others too."""

    DEFAULT_CSS = """
    MetricCharts { height: 1fr; width: 1fr; }
    MetricCharts > TabBar { margin: 0 1; }
    MetricCharts > Container { height: 1fr; layout: vertical; }
    MetricCharts ChartView { display: none; padding: 0 1; }
    MetricCharts ChartView.-chosen { display: block; }
    MetricCharts.-grid > TabBar { display: none; }
    MetricCharts.-grid > Container {
        layout: grid; grid-size: 6; grid-rows: 5fr 3fr 3fr; grid-gutter: 1 2; padding: 0 1;
    }
    MetricCharts.-grid ChartView { display: block; column-span: 2; padding: 0; }
    MetricCharts.-grid ChartView.-large { column-span: 3; }
    MetricCharts.-grid ChartView.-chosen > .chart--label { color: $foreground; }
    """

    app = getters.app(BaseApp)

    chosen: var[str] = var(METRICS[0].name, init=False)  # the name of the chosen metric
    grid: var[bool] = var(False, init=False, toggle_class="-grid")  # whether all charts are shown, or the chosen one
    x: var[X] = var[X]("step", init=False)  # the quantity of the x axis
    cursor_x: var[float | None] = var(None, init=False)

    @dataclass
    class ViewportChanged(Message):
        """The user moved the cursor, or chose another range of x or other metrics."""

        cursor_moved: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._charts = {
            each.name: ChartView(y_name=each.y_name, nothing=each.nothing, classes="-large" * each.large)
            for each in METRICS
        }
        self.range: tuple[float | None, float | None] = (None, None)
        """The visible range of x; an end that is None follows the data."""
        self._pending_small: dict[str, Callable[[ChartView], None]] = {}
        """New points for the smaller charts, by metric; drawn together every `_SMALL_CHART_SECONDS`."""
        self._queue: dict[str, list[Callable[[ChartView], None]]] = {}
        """Changes to charts that are not the chosen one, by metric; applied one chart after another."""

    def compose(self) -> ComposeResult:
        yield TabBar([(metric.name, metric.name) for metric in METRICS])
        with Container():
            yield from self._charts.values()

    def on_mount(self) -> None:
        self._arrange()

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def chart(self) -> ChartView:
        """The chosen chart, to which keys apply."""
        return self._charts[self.chosen]

    @property
    def visible_metrics(self) -> list[Metric]:
        """The metrics on the screen: all in the grid, else the chosen one."""
        return [metric for metric in METRICS if self.grid or metric.name == self.chosen]

    @property
    def keys(self) -> tuple[str, ...]:
        """The log keys of the visible metrics."""
        return tuple(key for metric in self.visible_metrics for key in metric.keys)

    @property
    def points(self) -> int:
        """How many points a line needs: two per column of the widest chart."""
        widest = max((self._charts[metric.name].size.width for metric in self.visible_metrics), default=0)
        return max(200, 2 * widest)

    @property
    def is_drawn(self) -> bool:
        """True if no chart waits to be redrawn."""
        return not self._queue and not self._pending_small

    def watch_chosen(self) -> None:
        self.chart.cursor_x = self.cursor_x
        self._arrange()
        self.post_message(self.ViewportChanged())

    def watch_grid(self) -> None:
        self._arrange()
        self.post_message(self.ViewportChanged())

    def _arrange(self) -> None:
        for name, chart in self._charts.items():
            chart.set_class(name == self.chosen, "-chosen")
            chart.range = self.range
        if self.is_mounted:
            self.query_one(TabBar).chosen = self.chosen

    def watch_x(self) -> None:
        self.range, self.cursor_x = (None, None), None
        for chart in self._charts.values():
            chart.reset()

    def set_style(self, *, log_y: bool, cells: Cells) -> None:
        """Set a logarithmic y axis and the characters that charts are drawn with."""
        x_name, x_unit = UNITS[self.x]
        for metric in METRICS:
            chart = self._charts[metric.name]
            chart.log_y, chart.cells = log_y, cells
            chart.name_axes(x_name, metric.y_name + (" (log)" if log_y else ""), x_unit)

    def _apply(self, name: str, change: Callable[[ChartView], None]) -> None:
        """Change a chart: the chosen one at once, the others later and one at a time.

        Drawing all charts takes longer than the time between two key presses, so keys are handled in between.
        """
        if name == self.chosen:
            self._queue.pop(name, None)
            change(self._charts[name])
            return
        if not self._queue:
            self.set_timer(_SECONDS_BETWEEN_CHARTS, self._apply_next)
        self._queue.setdefault(name, []).append(change)

    def _apply_next(self) -> None:
        if self._queue:
            name = next(iter(self._queue))
            for change in self._queue.pop(name):
                change(self._charts[name])
        if self._queue:
            self.set_timer(_SECONDS_BETWEEN_CHARTS, self._apply_next)

    def draw(
        self,
        lines: Mapping[str, Mapping[str, Line]],
        smoothed: bool,
        checkpoints: Sequence[float],
        resumes: Sequence[float],
        story: float | None,
        asked: bool = True,
    ) -> None:
        """Draw lines, given by log key and then by run.

        `asked` is true if the user asked for other lines than before, and false if the lines only got more points.
        """
        marks = _marks(checkpoints, resumes, story)
        for metric in self.visible_metrics:
            series = self._series(metric, lines, smoothed)
            if asked:
                self._pending_small.pop(metric.name, None)
                self._apply(metric.name, partial(_fill, series=series, marks=marks))
                continue
            if metric.large or metric.name == self.chosen:
                # At once, so that Textual paints all of them in one go: painting costs more than drawing.
                _fill(self._charts[metric.name], series, marks)
                continue
            # The small charts are drawn less often, because a run's new points change little in them.
            if not self._pending_small:
                self.set_timer(_SMALL_CHART_SECONDS, self._draw_small)
            self._pending_small[metric.name] = partial(_fill, series=series, marks=marks)

    def _draw_small(self) -> None:
        for name, change in self._pending_small.items():
            change(self._charts[name])
        self._pending_small = {}

    def set_marks(self, checkpoints: Sequence[float], resumes: Sequence[float], story: float | None) -> None:
        """Mark places on the x axis of every visible chart."""
        marks = _marks(checkpoints, resumes, story)
        for metric in self.visible_metrics:
            self._apply(metric.name, lambda chart: _fill(chart, chart.lines, marks))

    def _series(self, metric: Metric, lines: Mapping[str, Mapping[str, Line]], smoothed: bool) -> list[Series]:
        series = []
        overlaid = any(len(lines.get(key, {})) > 1 for key in metric.keys)
        for part, key in enumerate(metric.keys):
            for number, (run, line) in enumerate(lines.get(key, {}).items()):
                if overlaid and part:
                    continue  # with several runs in a chart, each has one line
                name = run if overlaid else "" if part == 0 and len(metric.keys) == 1 else _LABELS.get(key, key)
                y = line.smooth if smoothed and key in SMOOTHED else line.mean
                color = number if overlaid else part
                series.append(Series(name, line.x, y, color, low=line.low, high=line.high))
        return series

    # --- range and cursor ---------------------------------------------------------------------------------------------

    def watch_cursor_x(self) -> None:
        for name in self._charts:
            self._apply(name, lambda chart: setattr(chart, "cursor_x", self.cursor_x))

    def on_chart_view_range_changed(self, event: ChartView.RangeChanged) -> None:
        event.stop()
        self.range = event.begin, event.end
        for name, chart in self._charts.items():
            if chart is not event.chart:
                self._apply(name, lambda chart: setattr(chart, "range", self.range))
        self.post_message(self.ViewportChanged())

    def on_chart_view_cursor_moved(self, event: ChartView.CursorMoved) -> None:
        event.stop()
        self.cursor_x = event.x
        self.post_message(self.ViewportChanged(cursor_moved=True))

    def on_tab_bar_tab_clicked(self, event: TabBar.TabClicked) -> None:
        event.stop()
        self.chosen = event.tab


def metric_after(name: str, by: int) -> str:
    """The metric `by` places after another one, wrapping around."""
    names = [metric.name for metric in METRICS]
    return names[(names.index(name) + by) % len(names)]


def _marks(checkpoints: Sequence[float], resumes: Sequence[float], story: float | None) -> list[Marks]:
    marks = [Marks(checkpoints, CHECKPOINT, "checkpoint"), Marks(resumes, RESUMED, "resumed")]
    return marks if story is None else [*marks, Marks([story], STORY, "story")]


def _fill(chart: ChartView, series: Sequence[Series], marks: Sequence[Marks]) -> None:
    chart.lines, chart.marks = series, marks

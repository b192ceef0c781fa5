"""The charts of a run: one large with tabs to choose the metric, or several side by side, all looked at together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from textual import getters
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.message import Message

from storyteller.charts import Marks, Series, Unit
from storyteller.tracking.curves import Line, X
from storyteller.tui.app import StorytellerApp
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.tab_bar import TabBar

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Metric:
    """A chart's metric, or several that share its axis."""

    name: str
    """What it is called in tabs."""
    keys: tuple[str, ...]
    y_name: str
    nothing: str = "no figures yet"
    large: bool = False
    """Whether it has more room among others."""


METRICS = (
    Metric("loss", ("train/loss",), "training loss", large=True),
    Metric("bits/byte", ("eval/bpb",), "bits per byte, held out", "no evaluation yet", large=True),
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
"""The metrics that are noisy; the others are shown as they are."""
CHECKPOINT, RESUMED, STORY = "\u25c6", "\u21bb", "\u25b2"


_TURN_SECONDS = 0.012
"""Between two charts' pictures."""
_QUIET_SECONDS = 1.6
"""Between two pictures of what is looked at less, while a run grows."""


class MetricCharts(Vertical):
    """Zoom, pan and cursor are one for all charts; what a chart does by mouse, the others do too."""

    DEFAULT_CSS = """
    MetricCharts { height: 1fr; width: 1fr; }
    MetricCharts > TabBar { margin: 0 1; }
    MetricCharts > Container { height: 1fr; layout: vertical; }
    MetricCharts ChartView { display: none; padding: 0 1; }
    MetricCharts ChartView.-chosen { display: block; }
    MetricCharts.-grid > TabBar { display: none; }
    MetricCharts.-grid > Container {
        layout: grid;
        grid-size: 6;
        grid-rows: 5fr 3fr 3fr;
        grid-gutter: 1 2;
        padding: 0 1;
    }
    MetricCharts.-grid ChartView { display: block; column-span: 2; padding: 0; }
    MetricCharts.-grid ChartView.-large { column-span: 3; }
    MetricCharts.-grid ChartView.-chosen > .chart--label { color: $foreground; }
    """

    app = getters.app(StorytellerApp)

    class Looked(Message):
        """The user looks at another range of x, at another place in it, or at other metrics."""

        def __init__(self, *, cursor_moved: bool = False) -> None:
            super().__init__()
            self.cursor_moved = cursor_moved

    def __init__(self, run_name: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_name = run_name
        self._charts = {
            metric.name: ChartView(
                y_name=metric.y_name, nothing=metric.nothing, id=f"chart-{number}", classes="-large" * metric.large
            )
            for number, metric in enumerate(METRICS)
        }
        self._chosen = METRICS[0].name
        self._grid = False
        self._x: X = "step"
        self._range: tuple[float | None, float | None] = (None, None)
        self._cursor_x: float | None = None
        self._later: dict[str, Callable[[ChartView], None]] = {}
        self._due: dict[str, list[Callable[[ChartView], None]]] = {}

    def compose(self) -> ComposeResult:
        yield TabBar([(metric.name, metric.name) for metric in METRICS], chosen=self._chosen)
        with Container():
            yield from self._charts.values()

    def on_mount(self) -> None:
        self._arrange()

    # --- what is shown ------------------------------------------------------------------------------------------------

    @property
    def chart(self) -> ChartView:
        """The chosen chart, which keys move."""
        return self._charts[self._chosen]

    @property
    def chosen(self) -> str:
        """The name of its metric."""
        return self._chosen

    @property
    def shown(self) -> list[Metric]:
        """The metrics on the screen."""
        return [metric for metric in METRICS if self._grid or metric.name == self._chosen]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of their lines."""
        return tuple(key for metric in self.shown for key in metric.keys)

    @property
    def points(self) -> int:
        """Points that a line wants: two a column of the widest chart."""
        widest = max((self._charts[metric.name].size.width for metric in self.shown), default=0)
        return max(200, 2 * widest)

    @property
    def is_drawn(self) -> bool:
        """Whether every chart shows what it was given."""
        return not self._due and not self._later

    def choose(self, name: str) -> None:
        """Show a metric, or let keys move its chart."""
        if name != self._chosen and name in self._charts:
            self._chosen = name
            self.chart.cursor_x = self._cursor_x
            self._arrange()
            self.post_message(self.Looked())

    def beside(self, by: int) -> None:
        """Choose the metric that is `by` places further on, round and round."""
        names = [metric.name for metric in METRICS]
        self.choose(names[(names.index(self._chosen) + by) % len(names)])

    def lay_out(self, grid: bool) -> None:
        """Several charts side by side, or one."""
        if grid != self._grid:
            self._grid = grid
            self._arrange()
            self.post_message(self.Looked())

    def _arrange(self) -> None:
        self.set_class(self._grid, "-grid")
        for name, chart in self._charts.items():
            chart.set_class(name == self._chosen, "-chosen")
            if chart.range != self._range:
                chart.look(*self._range)
        if self.is_mounted:
            self.query_one(TabBar).chosen = self._chosen

    def over(self, x: X) -> None:
        """What x is, from the beginning to the end."""
        if x != self._x:
            self._x = x
            self._range, self._cursor_x = (None, None), None
            for chart in self._charts.values():
                chart.reset()

    def dress(self, *, log_y: bool, cells: str) -> None:
        """How the charts are drawn."""
        for metric in METRICS:
            chart = self._charts[metric.name]
            chart.log_y = log_y
            chart.cells = cells  # type: ignore[assignment]
            chart.name_axes(UNITS[self._x][0], metric.y_name + (" (log)" if log_y else ""), UNITS[self._x][1])

    def _in_turn(self, name: str, action: Callable[[ChartView], None]) -> None:
        """Do it to a chart: at once to the chosen one, to the others one after another, so that keys come between."""
        if name == self._chosen:
            self._due.pop(name, None)
            action(self._charts[name])
            return
        if not self._due:
            self.set_timer(_TURN_SECONDS, self._next_turn)
        self._due.setdefault(name, []).append(action)

    def _next_turn(self) -> None:
        if self._due:
            name = next(iter(self._due))
            for action in self._due.pop(name):
                action(self._charts[name])
        if self._due:
            self.set_timer(_TURN_SECONDS, self._next_turn)

    def draw(
        self,
        lines: Mapping[str, Mapping[str, Line]],
        smoothed: bool,
        checkpoints: Sequence[float],
        resumes: Sequence[float],
        story: float | None,
        asked: bool = True,
    ) -> None:
        """Draw what was read: by key, then by run; `asked` is for something else than before, not for what grew."""
        marks = _marks(checkpoints, resumes, story)
        for metric in self.shown:
            series = self._series(metric, lines, smoothed)
            if asked:
                self._later.pop(metric.name, None)
                self._in_turn(metric.name, partial(_fill, series=series, marks=marks))
                continue
            if metric.large or metric.name == self._chosen:
                _fill(self._charts[metric.name], series, marks)  # all in one painting, which costs more than drawing
                continue
            # What is looked at less is drawn less often.
            if not self._later:
                self.set_timer(_QUIET_SECONDS, self._draw_later)
            self._later[metric.name] = partial(_fill, series=series, marks=marks)

    def _draw_later(self) -> None:
        for name, action in self._later.items():
            action(self._charts[name])
        self._later = {}

    def mark(self, checkpoints: Sequence[float], resumes: Sequence[float], story: float | None) -> None:
        """Mark places on the x axis of every chart that is shown."""
        marks = _marks(checkpoints, resumes, story)
        for metric in self.shown:
            self._in_turn(metric.name, lambda chart: _fill(chart, chart.lines, marks))

    def _series(self, metric: Metric, lines: Mapping[str, Mapping[str, Line]], smoothed: bool) -> list[Series]:
        series = []
        overlaid = any(len(lines.get(key, {})) > 1 for key in metric.keys)
        for part, key in enumerate(metric.keys):
            for number, (run, line) in enumerate(lines.get(key, {}).items()):
                if overlaid and part:
                    continue  # one line a run
                name = run if overlaid else "" if part == 0 and len(metric.keys) == 1 else _LABELS.get(key, key)
                smooth = smoothed and key in SMOOTHED
                series.append(
                    Series(
                        name,
                        line.x,
                        line.smooth if smooth else line.mean,
                        color=number if overlaid else part,
                        low=line.low,
                        high=line.high,
                    )
                )
        return series

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def range(self) -> tuple[float | None, float | None]:
        """The range of x that is seen."""
        return self._range

    @property
    def cursor_x(self) -> float | None:
        return self._cursor_x

    def point_at(self, x: float | None) -> None:
        """Put the cursor of every chart there. Posts nothing."""
        self._cursor_x = x
        for name in self._charts:
            self._in_turn(name, self._take_cursor)

    def _take_cursor(self, chart: ChartView) -> None:
        chart.cursor_x = self._cursor_x

    def on_chart_view_view_changed(self, event: ChartView.ViewChanged) -> None:
        event.stop()
        self._range = event.begin, event.end
        for name, chart in self._charts.items():
            if chart is not event.chart:
                self._in_turn(name, lambda chart: chart.look(*self._range))
        self.post_message(self.Looked())

    def on_chart_view_cursor_moved(self, event: ChartView.CursorMoved) -> None:
        event.stop()
        self.point_at(event.x)
        self.post_message(self.Looked(cursor_moved=True))

    def on_tab_bar_picked(self, event: TabBar.Picked) -> None:
        event.stop()
        self.choose(event.tab)


def _marks(checkpoints: Sequence[float], resumes: Sequence[float], story: float | None) -> list[Marks]:
    marks = [Marks(checkpoints, CHECKPOINT, "checkpoint"), Marks(resumes, RESUMED, "resumed")]
    return marks if story is None else [*marks, Marks([story], STORY, "story")]


def _fill(chart: ChartView, series: Sequence[Series], marks: Sequence[Marks]) -> None:
    """Give a chart what is not as it was: each gift makes it draw."""
    if list(series) != chart.lines:
        chart.lines = series
    if list(marks) != chart.marks:
        chart.marks = marks


_LABELS = {"memory/rss_gib": "process", "memory/device_gib": "device"}


SMOOTHINGS = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Spans of a smoothed line, as shares of what is seen."""

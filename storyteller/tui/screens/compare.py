"""Several runs in one chart, what came of each, and where their settings differ; live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, get_args

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

from storyteller.charts import PALETTE, Series
from storyteller.tracking import run_index
from storyteller.tracking.compare_runs import RunComparison
from storyteller.tracking.curves import X
from storyteller.tui import safe_content
from storyteller.tui.app import StorytellerApp
from storyteller.tui.readers.compare_reader import Compared, CompareLines, CompareReader, Sight
from storyteller.tui.screens.pick_runs import PickRunsScreen
from storyteller.tui.widgets.compare_tables import CompareTables, Differences
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.metric_charts import METRICS, SMOOTHED, SMOOTHINGS, UNITS
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

_WIDE = 110
"""Columns from which the two tables stand side by side."""
_TALL = 30
"""Rows from which there is room for an empty one between chart and tables."""
_FIRST = ("bits/byte", "loss")
"""What is shown at first: the one figure that compares models of any kind, else the loss."""
_HELD_OUT = ("data.fingerprint", "data.held_out_stories")
"""Facts without which bits per byte are of other stories."""


class CompareScreen(Screen[None]):
    """The runs called `names`, the first eight of them; runs that vanish keep what was read of them."""

    DEFAULT_CSS = """
    CompareScreen { scrollbar-size-vertical: 1; }
    CompareScreen > TabBar { margin: 0 1; }
    CompareScreen > ChartView { padding: 0 1; height: 1fr; }
    CompareScreen > #tables { layout: vertical; padding: 0 1; }
    CompareScreen CompareTables { width: 1fr; }
    CompareScreen #differences { width: 1fr; height: 1fr; margin-top: 1; }
    CompareScreen #note { height: auto; color: $text-warning; display: none; }
    CompareScreen #note.-said { display: block; }
    CompareScreen VerticalScroll {
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
        scrollbar-color: $foreground 25%;
    }
    CompareScreen.-tall > #tables { margin-top: 1; }
    CompareScreen.-wide > #tables { layout: horizontal; }
    CompareScreen.-wide CompareTables { margin-right: 4; }
    CompareScreen.-wide #differences { margin-top: 0; }
    """
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "Run before", show=False),
        Binding("down", "choose(1)", "Run after", show=False),
        Binding("a", "pick", "Add, remove"),
        Binding("d", "drop", "Drop"),
        Binding("enter", "open", "Open"),
        Binding("t", "tell", "Tell"),
        Binding("left_square_bracket", "metric(-1)", "Metric", key_display="[ ]"),
        Binding("right_square_bracket", "metric(1)", "Metric after", show=False, key_display="]"),
        Binding("x", "axis", "Axis"),
        Binding("l", "log_y", "Log y"),
        Binding("m", "smoothing", "Smooth"),
        Binding("z", "chart_alone", "Larger"),
        Binding("left", "cursor(-1)", "Cursor left", show=False),
        Binding("right", "cursor(1)", "Cursor right", show=False),
        Binding("shift+left", "cursor(-10)", "Cursor far left", show=False),
        Binding("shift+right", "cursor(10)", "Cursor far right", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False, key_display="+"),
        Binding("minus", "zoom(-1)", "Zoom out", show=False, key_display="-"),
        Binding("comma", "pan(-1)", "Pan left", show=False, key_display=","),
        Binding("full_stop", "pan(1)", "Pan right", show=False, key_display="."),
        Binding("pageup", "scroll_settings(-1)", "Settings up", show=False),
        Binding("pagedown", "scroll_settings(1)", "Settings down", show=False),
        Binding("0", "fit", "See all", show=False),
    ]

    app = getters.app(StorytellerApp)

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names: tuple[str, ...] = ()
        self._colors: dict[str, int] = {}
        self._chosen: str | None = None
        self._metric = ""
        """The metric that was asked for; until then, the first of `_FIRST` that there is."""
        self._chart_alone = False
        self._lines: CompareLines | None = None
        self._comparison = RunComparison((), (), ())
        self._take(names)

    @property
    def names(self) -> tuple[str, ...]:
        """The runs that are compared, in their order."""
        return self._names

    @property
    def chosen(self) -> str | None:
        """The run whose line is lit; None where all are."""
        return self._chosen

    @property
    def metric(self) -> str:
        """The name of the metric that is drawn."""
        if self._metric:
            return self._metric
        known = self._lines.keys if self._lines is not None else frozenset[str]()
        return next((name for name in _FIRST if _key(name) in known), _FIRST[0])

    def compose(self) -> ComposeResult:
        self._reader = CompareReader(self, self.app.runs_root)
        yield ViewBar("compare")
        yield TabBar([(metric.name, metric.name) for metric in METRICS], chosen=self.metric)
        yield ChartView(nothing="reading \u2026")
        with Container(id="tables"):
            yield CompareTables()
            with VerticalScroll(id="differences", can_focus=False):
                yield Static(id="note", markup=False)
                yield Differences()
        yield KeyHints()

    def on_mount(self) -> None:
        self._dress()
        self._reader.start()

    def on_unmount(self) -> None:
        self._reader.stop()

    def on_screen_suspend(self) -> None:
        self._reader.sleep()

    def on_screen_resume(self) -> None:
        self._reader.wake()
        self._dress()

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= _WIDE, "-wide")
        self.set_class(event.size.height >= _TALL, "-tall")
        self._arrange()
        self.call_after_refresh(self._look)

    def _arrange(self) -> None:
        """Give the tables what they need, as long as the chart keeps about half of the screen."""
        size, tables, settings = self.app.size, self.query_one("#tables"), self.query_one("#differences")
        results = 1 + max(1, len(self._names))
        differing = 1 + max(1, len(self._comparison.differences)) + self.query_one("#note").display
        most = size.height * 11 // 20 - 3
        if size.width >= _WIDE:
            height = min(max(results, differing), max(most, min(results, most + 2)))
            settings.display = True
        else:
            height = min(results + 1 + differing, most)
            settings.display = height - results - 1 >= 3
            if not settings.display:
                height = min(results, most)
        tables.styles.height = max(0, height)
        tables.display = height > 1 and not self._chart_alone

    # --- what was read ------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Ask for the lines of what is looked at."""
        if not self.is_mounted:
            return
        chart, settings = self.query_one(ChartView), self.app.settings
        key = _key(self.metric)
        smoothing = settings.smoothing if key in SMOOTHED else 0.0
        points = max(200, 2 * chart.size.width)
        self._reader.want(Sight(self._names, key, settings.x_axis, *chart.range, points, smoothing))

    def on_compare_lines(self, seen: CompareLines) -> None:
        before = self.metric
        self._lines = seen
        if self.metric != before:
            self._show_metric()
        else:
            self._draw()

    def on_compared(self, seen: Compared) -> None:
        self._comparison = seen.comparison
        self._fill()

    def _draw(self) -> None:
        seen = self._lines
        if seen is None or seen.sight.key != _key(self.metric) or seen.sight.x != self.app.settings.x_axis:
            return
        chart = self.query_one(ChartView)
        chart.nothing = "no figures yet" if seen.is_whole else "reading \u2026"
        alone = len(seen.lines) == 1
        series = []
        for name in self._names:
            line = seen.lines.get(name)
            if line is None:
                continue
            lit = self._chosen in (None, name)
            # A band a line is a thicket: it is drawn for the one that is looked at.
            low, high = (line.low, line.high) if alone or name == self._chosen else (None, None)
            y = line.smooth if seen.sight.smoothing else line.mean
            series.append(Series(name, line.x, y, self._colors[name], low, high, dim=not lit))
        chart.lines = series

    def _fill(self) -> None:
        comparison = self._comparison
        if comparison.names != self._names:
            return  # of the runs before; the next is on its way
        for table in (self.query_one(CompareTables), self.query_one(Differences)):
            table.show(comparison, self._colors)
            table.choose(self._chosen)
        differing = {key for key, _ in comparison.differences}
        unlike = bool(differing & set(_HELD_OUT)) and any(result.last_bpb is not None for result in comparison.results)
        note = self.query_one("#note", Static)
        note.update(safe_content.line("held-out stories differ: bits per byte do not compare") if unlike else "")
        note.set_class(unlike, "-said")
        self._arrange()

    # --- which runs ---------------------------------------------------------------------------------------------------

    def _take(self, names: Sequence[str]) -> None:
        """Compare these; a run that stays keeps its colour."""
        self._names = tuple(dict.fromkeys(names))[:PALETTE]
        kept = {name: color for name, color in self._colors.items() if name in self._names}
        free = iter([color for color in range(PALETTE) if color not in kept.values()])
        self._colors = {name: kept[name] if name in kept else next(free) for name in self._names}
        if self._chosen not in self._names:
            self._chosen = None

    def _compare(self, names: Sequence[str]) -> None:
        self._take(names)
        known = dict(zip(self._comparison.names, self._comparison.results, strict=True))
        if all(name in known for name in self._names):
            # What is left out takes its columns along at once; the differences of those that stay come a moment later.
            places = [self._comparison.names.index(name) for name in self._names]
            differences = (
                (key, tuple(values[place] for place in places)) for key, values in self._comparison.differences
            )
            self._comparison = RunComparison(
                self._names, tuple(differences), tuple(known[name] for name in self._names)
            )
            self._fill()
        self._draw()
        self._look()

    def action_pick(self) -> None:
        there = [folder.name for folder in run_index.list_runs(self.app.runs_root)]
        gone = [name for name in self._names if name not in there]

        def picked(chosen: tuple[str, ...] | None) -> None:
            if chosen is not None:
                # Those that were compared keep their places.
                stay = [name for name in self._names if name in chosen]
                self._compare([*stay, *(name for name in chosen if name not in stay)])

        asks = f"Compare these, at most {PALETTE}: space marks, enter compares, escape leaves."
        self.app.push_screen(PickRunsScreen([*gone, *there], self._names, asks, PALETTE), picked)

    def action_drop(self) -> None:
        """Leave the chosen run out."""
        if self._chosen is None:
            self.app.say("choose a run with the arrows up and down; d then leaves it out")
        else:
            self._compare([name for name in self._names if name != self._chosen])

    def action_choose(self, by: int) -> None:
        """Light the next run; past the last one and before the first, all."""
        places: list[str | None] = [None, *self._names]
        self._choose(places[(places.index(self._chosen) + by) % len(places)])

    def _choose(self, name: str | None) -> None:
        self._chosen = name
        for table in (self.query_one(CompareTables), self.query_one(Differences)):
            table.choose(name)
        self._draw()

    def on_compare_tables_picked(self, event: CompareTables.Picked) -> None:
        if event.twice:
            self._choose(event.name)
            self.action_open()
        else:
            self._choose(None if event.name == self._chosen else event.name)

    def action_open(self) -> None:
        if self._chosen is None:
            self.app.say("choose a run with the arrows up and down; enter then opens it")
        else:
            self.app.open_run(self._chosen)

    def action_tell(self) -> None:
        if self._chosen is None:
            self.app.say("choose a run with the arrows up and down; t then tells from it")
        else:
            self.app.open_story(self._chosen)

    # --- what is drawn of them ----------------------------------------------------------------------------------------

    def _dress(self) -> None:
        """Axes, metric and glyphs as they are set."""
        chart, settings = self.query_one(ChartView), self.app.settings
        chart.cells, chart.log_y = settings.cells, settings.log_y
        x_name, x_unit = UNITS[settings.x_axis]
        if chart.x_name not in ("", x_name):
            chart.reset()
        y_name = next(metric.y_name for metric in METRICS if metric.name == self.metric)
        chart.name_axes(x_name, y_name + (" (log)" if settings.log_y else ""), x_unit)
        self.query_one(TabBar).chosen = self.metric
        self._draw()
        self._look()

    def _show_metric(self) -> None:
        self.query_one(ChartView).lines = []
        self._dress()

    def _choose_metric(self, name: str) -> None:
        if name != self.metric:
            self._metric = name
            self._show_metric()

    def action_metric(self, by: int) -> None:
        names = [metric.name for metric in METRICS]
        self._choose_metric(names[(names.index(self.metric) + by) % len(names)])

    def on_tab_bar_picked(self, event: TabBar.Picked) -> None:
        self._choose_metric(event.tab)

    def on_chart_view_view_changed(self) -> None:
        self._look()

    def action_axis(self) -> None:
        axes: tuple[X, ...] = get_args(X)
        settings = self.app.settings
        settings.x_axis = axes[(axes.index(settings.x_axis) + 1) % len(axes)]
        self._chose()

    def action_log_y(self) -> None:
        self.app.settings.log_y = not self.app.settings.log_y
        self._chose()

    def action_smoothing(self) -> None:
        settings = self.app.settings
        larger = [span for span in SMOOTHINGS if span > settings.smoothing + 1e-9]
        settings.smoothing = larger[0] if larger else SMOOTHINGS[0]
        self._chose()
        said = f"smoothed over {settings.smoothing:.0%} of what is seen" if settings.smoothing else "not smoothed"
        self.app.say(said)

    def _chose(self) -> None:
        self.app.save_settings()
        self._dress()

    def action_chart_alone(self) -> None:
        """The chart alone, or with the tables."""
        self._chart_alone = not self._chart_alone
        self._arrange()

    def action_zoom(self, way: int) -> None:
        chart = self.query_one(ChartView)
        chart.action_zoom_in() if way > 0 else chart.action_zoom_out()

    def action_pan(self, way: int) -> None:
        chart = self.query_one(ChartView)
        chart.action_pan_right() if way > 0 else chart.action_pan_left()

    def action_cursor(self, columns: int) -> None:
        self.query_one(ChartView).move_cursor(columns)

    def action_fit(self) -> None:
        self.query_one(ChartView).action_reset()

    def action_scroll_settings(self, way: int) -> None:
        scroll = self.query_one("#differences")
        scroll.scroll_relative(y=way * max(1, scroll.size.height - 1), animate=False)


def _key(name: str) -> str:
    """The metric of a tab."""
    return next(metric.keys[0] for metric in METRICS if metric.name == name)

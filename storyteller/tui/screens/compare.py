"""The compare screen: several runs in one chart, their results, and the settings in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.events import Resize
from textual.widgets import Static

from storyteller.charts import PALETTE, Series
from storyteller.tracking import run_index
from storyteller.tracking.compare_runs import RunComparison
from storyteller.tui import safe_content
from storyteller.tui.readers.chart_reader import LineRequest
from storyteller.tui.readers.compare_reader import CompareReader, LinesCompared, RunsCompared, with_columns
from storyteller.tui.screens.chart_screen import RANGE_KEYS, STYLE_KEYS, ChartScreen
from storyteller.tui.screens.dialogues import PickRunsScreen, ask
from storyteller.tui.widgets.compare_tables import ResultsTable, SettingsTable
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.metric_charts import METRICS, SMOOTHED, UNITS, metric_after
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

_WIDE = 110  # columns from which the two tables are side by side
_TALL = 30  # rows from which an empty row separates chart and tables
_METRICS = {metric.name: metric for metric in METRICS}
_FIRST = ("bits/byte", "loss")
"""The metric shown at first: the one that compares models with different tokenizers, else the loss."""
_HELD_OUT = ("data.fingerprint", "data.held_out_stories")
"""Runs that differ in one of these evaluate on different held-out stories."""


class CompareScreen(ChartScreen):
    """Compares up to eight runs. What was read of a run stays on the screen after its folder is deleted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "Run before", show=False),
        Binding("down", "choose(1)", "Run after", show=False),
        Binding("a", "pick", "Add, remove"),
        Binding("d", "drop", "Drop"),
        Binding("enter", "open", "Open"),
        Binding("t", "tell", "Tell"),
        Binding("left_square_bracket", "metric(-1)", "Metric", key_display="[ ]"),
        Binding("right_square_bracket", "metric(1)", "Metric after", show=False, key_display="]"),
        *STYLE_KEYS,
        Binding("z", "chart_alone", "Larger"),
        *RANGE_KEYS,
        Binding("pageup", "scroll_settings(-1)", "Settings up", show=False),
        Binding("pagedown", "scroll_settings(1)", "Settings down", show=False),
    ]

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()  # the compared runs, in order
        self.chosen: str | None = None  # the highlighted run
        self._colors: dict[str, int] = {}
        self._metric = ""  # the metric chosen by the user; empty: the first of `_FIRST` that the runs have
        self._chart_alone = False
        self._lines: LinesCompared | None = None
        self._comparison = RunComparison((), (), ())
        self._set_names(names)

    @property
    def metric(self) -> str:
        """The name of the metric drawn."""
        if self._metric:
            return self._metric
        known = self._lines.keys if self._lines is not None else ()
        return next((name for name in _FIRST if _METRICS[name].keys[0] in known), _FIRST[0])

    @property
    def _key(self) -> str:
        """The key of the metric in the log."""
        return _METRICS[self.metric].keys[0]

    def compose(self) -> ComposeResult:
        self._reader = CompareReader(self, self.app.runs_root)
        yield ViewBar("compare")
        yield TabBar([(name, name) for name in _METRICS], chosen=self.metric)
        yield ChartView(nothing="reading \u2026")
        with Container(id="tables"):
            yield ResultsTable()
            with VerticalScroll(id="differences", can_focus=False):
                yield Static(id="note", markup=False)
                yield SettingsTable()
        yield KeyHints()

    @property
    def chart(self) -> ChartView:
        return self.query_one(ChartView)

    def on_mount(self) -> None:
        self._apply_settings()
        self._reader.start()

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= _WIDE, "-wide")
        self.set_class(event.size.height >= _TALL, "-tall")
        self._arrange()
        self.call_after_refresh(self._request_lines)

    def _arrange(self) -> None:
        """Give the tables the rows they need, as long as the chart keeps about half of the screen."""
        size, tables, settings = self.app.size, self.query_one("#tables"), self.query_one("#differences")
        results = 1 + max(1, len(self.names))
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

    def _request_lines(self) -> None:
        if not self.is_mounted:
            return
        chart, settings, key = self.chart, self.app.settings, self._key
        smoothing = settings.smoothing if key in SMOOTHED else 0.0
        points = max(200, 2 * chart.size.width)
        self._reader.want(LineRequest(self.names, (key,), settings.x_axis, *chart.range, points, smoothing))

    on_chart_view_range_changed = _request_lines

    def on_lines_compared(self, message: LinesCompared) -> None:
        before = self.metric
        self._lines = message
        if self.metric != before:
            self._show_metric()
        else:
            self._draw()

    def on_runs_compared(self, message: RunsCompared) -> None:
        self._comparison = message.comparison
        self._fill()

    def _draw(self) -> None:
        message = self._lines
        if message is None or (message.request.keys, message.request.x) != ((self._key,), self.app.settings.x_axis):
            return  # lines of another chart; the requested ones are on their way
        self.chart.nothing = "no data yet" if message.is_whole else "reading \u2026"
        series = []
        for name in self.names:
            if (line := message.lines.get(name)) is None:
                continue
            # The bands of several lines would hide each other: only the highlighted line has one.
            has_band = len(message.lines) == 1 or name == self.chosen
            low, high = (line.low, line.high) if has_band else (None, None)
            y = line.smooth if message.request.smoothing else line.mean
            dim = self.chosen not in (None, name)
            series.append(Series(name, line.x, y, self._colors[name], low, high, dim=dim))
        self.chart.lines = series

    def _fill(self) -> None:
        comparison = self._comparison
        if comparison.names != self.names:
            return  # a comparison of other runs; the next one is on its way
        for table in (self.query_one(ResultsTable), self.query_one(SettingsTable)):
            table.comparison, table.line_colors, table.chosen = comparison, self._colors, self.chosen
        differing = {key for key, _ in comparison.differences}
        unlike = bool(differing & set(_HELD_OUT)) and any(result.last_bpb is not None for result in comparison.results)
        note = self.query_one("#note", Static)
        note.update(safe_content.line("held-out stories differ: bits per byte are not comparable") if unlike else "")
        note.set_class(unlike, "-said")
        self._arrange()

    # --- which runs ---------------------------------------------------------------------------------------------------

    def _set_names(self, names: Sequence[str]) -> None:
        """Keep the colours of runs that stay, and give the free ones to new runs."""
        self.names = tuple(dict.fromkeys(names))[:PALETTE]
        kept = {name: color for name, color in self._colors.items() if name in self.names}
        free = iter([color for color in range(PALETTE) if color not in kept.values()])
        self._colors = {name: kept[name] if name in kept else next(free) for name in self.names}
        if self.chosen not in self.names:
            self.chosen = None

    def _compare(self, names: Sequence[str]) -> None:
        self._set_names(names)
        known = dict(zip(self._comparison.names, self._comparison.results, strict=True))
        if known.keys() >= set(self.names):
            # The columns of a dropped run go at once; the differences of the others follow with the next comparison.
            self._comparison = with_columns(self._comparison, self.names, known)
            self._fill()
        self._draw()
        self._request_lines()

    def action_pick(self) -> None:
        existing = [folder.name for folder in run_index.list_runs(self.app.runs_root)]
        deleted = [name for name in self.names if name not in existing]

        def picked(chosen: tuple[str, ...]) -> None:
            kept = [name for name in self.names if name in chosen]  # in their order
            self._compare([*kept, *chosen])

        prompt = f"Compare up to {PALETTE} runs: space marks, enter compares, escape cancels."
        ask(self.app, PickRunsScreen([*deleted, *existing], self.names, prompt, PALETTE), picked)

    def _chosen_or_say(self, use: str) -> str | None:
        if self.chosen is None:
            self.app.say(f"choose a run with the up and down arrows; {use}")
        return self.chosen

    def action_drop(self) -> None:
        """Remove the chosen run from the comparison."""
        if chosen := self._chosen_or_say("d then removes it"):
            self._compare([name for name in self.names if name != chosen])

    def action_choose(self, by: int) -> None:
        """Highlight the next run; past the last one and before the first, none."""
        places: list[str | None] = [None, *self.names]
        self._choose(places[(places.index(self.chosen) + by) % len(places)])

    def _choose(self, name: str | None) -> None:
        self.chosen = name
        for table in (self.query_one(ResultsTable), self.query_one(SettingsTable)):
            table.chosen = name
        self._draw()

    def on_results_table_run_clicked(self, event: ResultsTable.RunClicked) -> None:
        if event.twice:
            self._choose(event.name)
            self.action_open()
        else:
            self._choose(None if event.name == self.chosen else event.name)

    def action_open(self) -> None:
        if chosen := self._chosen_or_say("enter then opens it"):
            self.app.open_run(chosen)

    def action_tell(self) -> None:
        if chosen := self._chosen_or_say("t then generates a story with it"):
            self.app.open_story(chosen)

    # --- the chart ----------------------------------------------------------------------------------------------------

    def _apply_settings(self) -> None:
        chart, settings = self.chart, self.app.settings
        chart.cells, chart.log_y = settings.cells, settings.log_y
        x_name, x_unit = UNITS[settings.x_axis]
        if chart.x_name not in ("", x_name):
            chart.reset()
        chart.name_axes(x_name, _METRICS[self.metric].y_name + (" (log)" if settings.log_y else ""), x_unit)
        self.query_one(TabBar).chosen = self.metric
        self._draw()
        self._request_lines()

    def _show_metric(self) -> None:
        self.chart.lines = []
        self._apply_settings()

    def _choose_metric(self, name: str) -> None:
        if name != self.metric:
            self._metric = name
            self._show_metric()

    def action_metric(self, by: int) -> None:
        self._choose_metric(metric_after(self.metric, by))

    def on_tab_bar_tab_clicked(self, event: TabBar.TabClicked) -> None:
        self._choose_metric(event.tab)

    def action_chart_alone(self) -> None:
        """Show or hide the tables."""
        self._chart_alone = not self._chart_alone
        self._arrange()

    def action_scroll_settings(self, pages: int) -> None:
        scroll = self.query_one("#differences")
        scroll.scroll_relative(y=pages * max(1, scroll.size.height - 1), animate=False)

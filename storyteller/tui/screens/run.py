"""The run screen: one run's charts, sampled stories, log, config and machine, and the keys that stop and resume it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Resize

from storyteller.charts import PALETTE
from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Event
from storyteller.tracking import run_index
from storyteller.tracking.curves import X
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import sampling_params_of
from storyteller.tui.checkpoint_stories import CheckpointStories
from storyteller.tui.readers.chart_reader import LineRequest
from storyteller.tui.readers.run_reader import (
    LinesUpdated,
    LogUpdated,
    PlanRead,
    RunReader,
    StepAxis,
    StoriesUpdated,
    SummaryUpdated,
)
from storyteller.tui.screens.chart_screen import RANGE_KEYS, STYLE_KEYS, ChartScreen
from storyteller.tui.screens.dialogues import PickRunsScreen, ask
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.key_values import KeyValues, config_sections, flatten, sections_of
from storyteller.tui.widgets.line_chart import ChartView
from storyteller.tui.widgets.log_view import LogView
from storyteller.tui.widgets.metric_charts import MetricCharts, metric_after
from storyteller.tui.widgets.run_header import RunHeader
from storyteller.tui.widgets.run_stories import RunStories
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

_X_WORDS: dict[X, str] = {"step": "steps", "tokens": "tokens", "seconds": "time trained"}
PANELS = (("story", "Story"), ("samples", "Samples"), ("log", "Log"), ("config", "Config"), ("machine", "Machine"))
_REPAINT_SECONDS = 0.06  # least time between two repaints of a story that is being generated
_WIDE, _TALL = 110, 34
"""Columns from which charts and panel are side by side, and rows from which several charts fit."""


class RunScreen(ChartScreen):
    """Shows the run `run_name`. What was read of it stays on the screen after its folder is deleted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "story(-1)", "Earlier", key_display="["),
        Binding("right_square_bracket", "story(1)", "Later", key_display="]"),
        Binding("t", "tell", "Tell"),
        *STYLE_KEYS,
        Binding("z", "focus_part", "Larger"),
        Binding("a", "overlay", "Overlay"),
        Binding("v", "panel('samples')", "Samples"),
        Binding("L", "panel('log')", "Log"),
        Binding("g", "panel('config')", "Config"),
        Binding("s", "stop", "Stop"),
        Binding("r", "resume", "Resume"),
        Binding("p", "prompt", "Next prompt"),
        Binding("P", "own_prompt", "Own prompt"),
        Binding("enter", "tell_missing", "Generate missing stories", show=False),
        Binding("i", "panel('machine')", "Machine", show=False),
        Binding("c", "compare", "Compare", show=False),
        Binding("up", "metric(-1)", "Metric before", show=False),
        Binding("down", "metric(1)", "Metric after", show=False),
        *RANGE_KEYS,
        Binding("slash", "search", "Search the config", show=False, key_display="/"),
    ]

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self._overlays: tuple[str, ...] = ()
        self._panel = "story"
        self._focused_part = ""
        self._axis = StepAxis()
        self._checkpoints: tuple[int, ...] = ()
        self._best: int | None = None
        self._lines: LinesUpdated | None = None
        self._is_repaint_due = False

    def compose(self) -> ComposeResult:
        self._reader: RunReader = RunReader(self, RunFolder(self.app.runs_root / self.run_name))
        self._regeneration = CheckpointStories(self.run_name, self._reader.history, self._begin_story)
        yield ViewBar("run")
        yield RunHeader(self.run_name)
        with Container():
            yield MetricCharts()
            with Vertical(id="panel"):
                yield TabBar(PANELS, chosen=self._panel)
                yield RunStories(self._reader.history, self._regeneration)
                yield LogView()
                yield KeyValues(note="\u2022 differs from the preset", id="config")
                yield KeyValues(id="machine")
        yield KeyHints()

    @property
    def chart(self) -> ChartView:
        return self.query_one(MetricCharts).chart

    def on_mount(self) -> None:
        if not self._has_widgets:
            return
        self._apply_settings()
        self._reader.want(self._line_request())
        self._reader.start()
        self.watch(self.app, "theme", self._apply_settings, init=False)

    def on_unmount(self) -> None:
        if (ticket := self._regeneration.cancel()) is not None:
            self.app.generation_client.cancel(ticket)

    def on_resize(self, event: Resize) -> None:
        if not self._has_widgets:
            return
        self.set_class(event.size.width >= _WIDE, "-wide")
        self._arrange()
        self.call_after_refresh(self._request_lines)

    @property
    def _has_widgets(self) -> bool:
        """True while the child widgets are mounted. They are missing before the first mount and after a replacement."""
        return bool(self.query(MetricCharts))

    # --- messages of the reader ---------------------------------------------------------------------------------------

    def on_summary_updated(self, message: SummaryUpdated) -> None:
        header = self.query_one(RunHeader)
        header.gone, header.summary = message.gone, message.summary

    def on_plan_read(self, message: PlanRead) -> None:
        config = message.plan.get("config")
        self.query_one("#config", KeyValues).show(config_sections(config), message.problem)
        machine = [(heading, list(flatten(value))) for heading, value in sections_of(message.plan)]
        self.query_one("#machine", KeyValues).show(machine, message.problem)
        self._regeneration.sampling = sampling_params_of(config)

    def on_lines_updated(self, message: LinesUpdated) -> None:
        last, request, share = self._lines, message.request, message.share_read
        is_other = last is None or last.request != request or last.share_read != share
        self._lines, self._axis = message, message.axis
        if last is None or list(last.bpb.x) != list(message.bpb.x):
            self._show_checkpoints()
        self.query_one(RunHeader).note = "" if share >= 1 else f"reading the log, {share:.0%} \u2026"
        if request.x == self.app.settings.x_axis:
            marks = (message.checkpoints, message.resumes, self._story_place())
            self.query_one(MetricCharts).draw(message.lines, request.smoothing > 0, *marks, is_other)

    def on_stories_updated(self, message: StoriesUpdated) -> None:
        self._checkpoints, self._best = message.checkpoint_steps, message.best_step
        self._show_checkpoints()

    def _show_checkpoints(self) -> None:
        bpb_at = self._lines.bpb_at if self._lines is not None else lambda _: None
        self.query_one(RunStories).set_checkpoints(self._checkpoints, self._best, bpb_at)

    def on_log_updated(self, message: LogUpdated) -> None:
        self.query_one(LogView).show(message.lines, replace=message.anew, cut=message.cut)

    # --- charts -------------------------------------------------------------------------------------------------------

    def _line_request(self) -> LineRequest:
        charts, settings = self.query_one(MetricCharts), self.app.settings
        runs = (self.run_name, *self._overlays)
        return LineRequest(runs, charts.keys, settings.x_axis, *charts.range, charts.points, settings.smoothing)

    def _request_lines(self) -> None:
        if self.is_mounted and self._has_widgets:
            self._reader.want(self._line_request())

    def _apply_settings(self) -> None:
        if not self._has_widgets:
            return
        settings, charts = self.app.settings, self.query_one(MetricCharts)
        charts.x = settings.x_axis
        charts.set_style(log_y=settings.log_y, cells=settings.cells)
        self._request_lines()

    def _story_place(self) -> float | None:
        """The place on the x axis at which the story shown was sampled."""
        step = self.query_one(RunStories).step
        return None if step is None or self._panel not in ("story", "samples") else self._axis.place_of(step)

    def _mark_story(self) -> None:
        if self._lines is not None and self._lines.request.x == self.app.settings.x_axis:
            self.query_one(MetricCharts).set_marks(self._lines.checkpoints, self._lines.resumes, self._story_place())

    def on_metric_charts_viewport_changed(self, event: MetricCharts.ViewportChanged) -> None:
        charts = self.query_one(MetricCharts)
        if not event.cursor_moved:
            self._request_lines()
        elif charts.cursor_x is not None:  # the story follows the cursor
            stories = self.query_one(RunStories)
            stories.show_step(stories.nearest_step(self._axis.step_at(charts.cursor_x)), quiet=True)
            self._mark_story()

    def on_run_stories_step_shown(self, event: RunStories.StepShown) -> None:
        if event.by_hand:  # the cursor follows the story, to show the loss at its step
            place = self._axis.place_of(event.step) if event.step is not None else None
            self.query_one(MetricCharts).cursor_x = place
        self._mark_story()

    def action_axis(self) -> None:
        super().action_axis()
        self.app.say(f"x axis: {_X_WORDS[self.app.settings.x_axis]}")

    def action_fit(self) -> None:
        super().action_fit()
        self.query_one(MetricCharts).cursor_x = None

    def action_metric(self, by: int) -> None:
        charts = self.query_one(MetricCharts)
        charts.chosen = metric_after(charts.chosen, by)

    def action_overlay(self) -> None:
        names = [folder.name for folder in run_index.list_runs(self.app.runs_root) if folder.name != self.run_name]

        def picked(chosen: tuple[str, ...]) -> None:
            self._overlays = chosen
            self._request_lines()

        prompt = "Draw other runs over this one: space marks, enter draws, escape cancels."
        ask(self.app, PickRunsScreen(names, self._overlays, prompt, PALETTE - 1), picked)

    # --- the panel ----------------------------------------------------------------------------------------------------

    @property
    def _is_roomy(self) -> bool:
        return self.app.size.width >= _WIDE and self.app.size.height >= _TALL

    def _arrange(self) -> None:
        """Show the parts of the screen for which there is room, or the one that was chosen."""
        self.set_class(self._focused_part == "charts", "-charts-only")
        self.set_class(self._focused_part == "panel", "-panel-only")
        self.query_one(MetricCharts).grid = self._is_roomy and self._focused_part != "chart"

    def action_focus_part(self) -> None:
        """Cycle through: all parts, one chart if several fit, the charts only, the panel only."""
        parts = ("", "chart", "charts", "panel") if self._is_roomy else ("", "charts", "panel")
        place = parts.index(self._focused_part) if self._focused_part in parts else 0
        self._focused_part = parts[(place + 1) % len(parts)]
        self._arrange()
        self.call_after_refresh(self._request_lines)

    def action_panel(self, panel: str) -> None:
        """Show a tab of the panel; the same key again returns to the story."""
        self._show_panel("story" if panel == self._panel else panel)

    def on_tab_bar_tab_clicked(self, event: TabBar.TabClicked) -> None:
        self._show_panel(event.tab)

    def _show_panel(self, panel: str) -> None:
        self._panel = panel
        if self._focused_part == "charts":
            self._focused_part = ""
            self._arrange()
        holder = self.query_one("#panel")
        for name, _ in PANELS:
            holder.set_class(name == panel, f"-{name}")
        holder.query_one(TabBar).chosen = panel
        self.query_one(RunStories).show_all_steps(panel == "samples")
        if panel == "log":
            self.query_one(LogView).focus()
        else:
            self.set_focus(None)
        self._mark_story()

    def action_search(self) -> None:
        if self._panel not in ("config", "machine"):
            self._show_panel("config")
        self.query_one(f"#{self._panel}", KeyValues).search()

    # --- stories ------------------------------------------------------------------------------------------------------

    def _show_stories(self) -> RunStories:
        """Show a tab with stories, if another one is shown."""
        if self._panel not in ("story", "samples"):
            self._show_panel("story")
        return self.query_one(RunStories)

    def action_story(self, by: int) -> None:
        self._show_stories().move_by(by)

    def action_prompt(self) -> None:
        self.query_one(RunStories).next_prompt()

    def action_own_prompt(self) -> None:
        self._show_stories().edit_prompt()

    def action_tell_missing(self) -> None:
        self.query_one(RunStories).request_missing()

    def on_run_stories_stories_requested(self, event: RunStories.StoriesRequested) -> None:
        if not event.steps:
            none = "no stories are missing" if self._checkpoints else "there is no checkpoint yet to generate with"
            self.app.say(none)
            return
        n_asked = self._regeneration.request(event.prompt, event.steps)
        if n_asked > 1:
            self.app.say(f"generating {n_asked} stories, one after another")
        self.query_one(RunStories).refresh_stories()

    def _begin_story(self, model: str, prompt: str, sample: SamplingParams) -> int:
        def on_event(event: Event) -> None:  # called on the client's thread
            self.call_later(self._handle_story_event, event)

        return self.app.generation_client.generate(model, prompt, sample, on_event)

    def _handle_story_event(self, event: Event) -> None:
        if self._regeneration.handle(event) and not self._is_repaint_due:
            self._is_repaint_due = True
            self.set_timer(_REPAINT_SECONDS, self._repaint_stories)

    def _repaint_stories(self) -> None:
        self._is_repaint_due = False
        self.query_one(RunStories).refresh_stories()

    def action_tell(self) -> None:
        """Open the story view with the checkpoint of the story shown, or the newest one."""
        stories = self.query_one(RunStories)
        at = f"@{stories.step}" if stories.at_checkpoint and not stories.follows else ""
        self.app.open_story(f"{self.run_name}{at}", stories.prompt if at else "")

    # --- actions on the run -------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        self.app.run_actions.stop(self.run_name)

    def action_resume(self) -> None:
        self.app.run_actions.resume(self.run_name)

    def action_compare(self) -> None:
        if self._overlays:
            self.app.open_compare([self.run_name, *self._overlays])
        else:
            self.app.say("press a to draw other runs over this one, then c to compare them")

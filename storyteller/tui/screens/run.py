"""One run: its charts, the stories it told on the way, its log and its settings; live, and steered from here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, get_args

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.events import Resize
from textual.screen import Screen

from storyteller.config.configs import SamplingParams
from storyteller.config.presets import usual
from storyteller.tracking import run_index
from storyteller.tracking.curves import X
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import recipe_of
from storyteller.tui.app import StorytellerApp
from storyteller.tui.checkpoint_stories import CheckpointStories
from storyteller.tui.readers.run_reader import (
    Axis,
    BoothSaid,
    HeadSeen,
    LinesSeen,
    LogSeen,
    PlanSeen,
    RunReader,
    StoriesSeen,
    Wanted,
)
from storyteller.tui.screens.pick_runs import PickRunsScreen
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.key_values import KeyValue, KeyValues, flatten, sections_of
from storyteller.tui.widgets.log_view import LogView
from storyteller.tui.widgets.metric_charts import SMOOTHINGS, MetricCharts
from storyteller.tui.widgets.run_header import RunHeader
from storyteller.tui.widgets.run_stories import RunStories
from storyteller.tui.widgets.tab_bar import TabBar
from storyteller.tui.widgets.view_bar import ViewBar

if TYPE_CHECKING:
    from storyteller.inference.background import Event

_X_WORDS: dict[X, str] = {"step": "steps", "tokens": "tokens", "seconds": "time trained"}
PANELS = (("story", "Story"), ("growth", "Growth"), ("log", "Log"), ("config", "Config"), ("machine", "Machine"))
_PIECES_SECONDS = 0.06
"""Between two paintings of a story that is being told."""
_WIDE, _TALL = 110, 34
"""Columns from which charts and panel stand side by side, and rows from which several charts fit."""


class RunScreen(Screen[None]):
    """The run called `run_name`; a run that vanishes is said to have, and what was read stays."""

    CSS = """
    RunScreen { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    RunScreen VerticalScroll, RunScreen LogView {
        scrollbar-size-vertical: 1;
        scrollbar-background: $background;
        scrollbar-background-hover: $background;
        scrollbar-background-active: $background;
        scrollbar-color: $foreground 25%;
    }
    RunScreen > Container { height: 1fr; layout: vertical; }
    RunScreen #panel { height: 1fr; padding: 0 1; }
    RunScreen #panel TabBar { margin-bottom: 0; }
    RunScreen MetricCharts { height: 3fr; }
    RunScreen #panel { height: 2fr; }
    RunScreen.-wide > Container { layout: horizontal; }
    RunScreen.-wide MetricCharts { width: 2fr; height: 1fr; }
    RunScreen.-wide #panel { width: 1fr; height: 1fr; min-width: 44; border-left: solid $foreground 12%; padding: 0 2; }
    RunScreen.-wide #panel > TabBar { margin-bottom: 1; }
    RunScreen.-charts-only #panel { display: none; }
    RunScreen.-panel-only MetricCharts { display: none; }
    RunScreen #panel > LogView, RunScreen #panel > KeyValues { display: none; }
    RunScreen #panel.-log > LogView, RunScreen #panel.-config > #config, RunScreen #panel.-machine > #machine {
        display: block;
    }
    RunScreen #panel.-log > RunStories, RunScreen #panel.-config > RunStories, RunScreen #panel.-machine > RunStories {
        display: none;
    }
    """
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "story(-1)", "Earlier", key_display="["),
        Binding("right_square_bracket", "story(1)", "Later", key_display="]"),
        Binding("t", "tell", "Tell"),
        Binding("x", "axis", "Axis"),
        Binding("l", "log_y", "Log y"),
        Binding("m", "smoothing", "Smooth"),
        Binding("z", "focus_part", "Larger"),
        Binding("a", "overlay", "Overlay"),
        Binding("v", "panel('growth')", "Growth"),
        Binding("L", "panel('log')", "Log"),
        Binding("g", "panel('config')", "Config"),
        Binding("s", "stop", "Stop"),
        Binding("r", "resume", "Resume"),
        Binding("p", "prompt", "Next prompt"),
        Binding("P", "own_prompt", "Own prompt"),
        Binding("enter", "tell_missing", "Tell what is missing", show=False),
        Binding("i", "panel('machine')", "Machine", show=False),
        Binding("c", "compare", "Compare", show=False),
        Binding("up", "metric(-1)", "Metric before", show=False),
        Binding("down", "metric(1)", "Metric after", show=False),
        Binding("left", "cursor(-1)", "Cursor left", show=False),
        Binding("right", "cursor(1)", "Cursor right", show=False),
        Binding("shift+left", "cursor(-10)", "Cursor far left", show=False),
        Binding("shift+right", "cursor(10)", "Cursor far right", show=False),
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False, key_display="+"),
        Binding("minus", "zoom(-1)", "Zoom out", show=False, key_display="-"),
        Binding("comma", "pan(-1)", "Pan left", show=False, key_display=","),
        Binding("full_stop", "pan(1)", "Pan right", show=False, key_display="."),
        Binding("0", "fit", "See all", show=False),
        Binding("slash", "search", "Search the config", show=False, key_display="/"),
    ]

    app = getters.app(StorytellerApp)

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name
        self._overlays: tuple[str, ...] = ()
        self._panel = "story"
        self._focused_part = ""
        self._axis = Axis()
        self._checkpoints: tuple[int, ...] = ()
        self._best: int | None = None
        self._lines: LinesSeen | None = None
        self._bpb: tuple[list[float], list[float]] = ([], [])
        self._state = ""
        self._pieces_due = False

    def compose(self) -> ComposeResult:
        self._folder = RunFolder(self.app.runs_root / self.run_name)
        self._reader = RunReader(self, self._folder)
        self._retelling = CheckpointStories(self.run_name, self._reader.growth, self._begin_story)
        yield ViewBar("run")
        yield RunHeader(self.run_name)
        with Container():
            yield MetricCharts(self.run_name)
            with Vertical(id="panel"):
                yield TabBar(PANELS, chosen=self._panel)
                yield RunStories(self._reader.growth, self._retelling)
                yield LogView()
                yield KeyValues(note="\u2022 not as the preset has it", id="config")
                yield KeyValues(id="machine")
        yield KeyHints()

    def on_mount(self) -> None:
        if not self._stands:
            return
        self._dress()
        self._reader.want(self._wanted())
        self._reader.start()
        self.watch(self.app, "theme", self._dress, init=False)

    def on_unmount(self) -> None:
        self._reader.stop()
        if self._retelling.telling is not None:
            self._retelling.cancel(self.app.booth)

    def on_screen_suspend(self) -> None:
        self._reader.sleep()

    def on_screen_resume(self) -> None:
        self._reader.wake()
        self._dress()

    def on_resize(self, event: Resize) -> None:
        if not self._stands:
            return
        wide = event.size.width >= _WIDE
        self.set_class(wide, "-wide")
        self._arrange()
        self.call_after_refresh(self._look)

    @property
    def _stands(self) -> bool:
        """Whether its parts are there: another run may take its place before they are, or after they are gone."""
        return bool(self.query(MetricCharts))

    @property
    def is_settled(self) -> bool:
        """Whether all that was asked for is drawn, and all of the log was read."""
        if not self.is_mounted or self._lines is None or self._state == "":
            return False
        return (
            self._lines.wanted == self._wanted()
            and self._lines.share_read >= 1
            and self.query_one(MetricCharts).is_drawn
        )

    # --- what the reader saw ------------------------------------------------------------------------------------------

    def on_head_seen(self, seen: HeadSeen) -> None:
        self._state = seen.summary.state
        self.query_one(RunHeader).show(seen.summary, seen.gone)

    def on_plan_seen(self, seen: PlanSeen) -> None:
        config = seen.plan.get("config")
        self.query_one("#config", KeyValues).show(_config_facts(config), seen.problem)
        machine = [(heading, list(flatten(value))) for heading, value in sections_of(seen.plan)]
        self.query_one("#machine", KeyValues).show(machine, seen.problem)
        self._retelling.by(recipe_of(config))

    def on_lines_seen(self, seen: LinesSeen) -> None:
        asked = self._lines is None or self._lines.wanted != seen.wanted or self._lines.share_read != seen.share_read
        self._lines, self._axis = seen, seen.axis
        if seen.bpb.keys() != set(self._bpb[0]):
            self._bpb = (list(seen.bpb), list(seen.bpb.values()))
            self.query_one(RunStories).take(self._checkpoints, self._best, self._bpb_at)
        note = "" if seen.share_read >= 1 else f"reading the log, {seen.share_read:.0%} \u2026"
        self.query_one(RunHeader).note(note)
        if seen.wanted.x == self.app.settings.x_axis:
            smoothed = seen.wanted.smoothing > 0
            place = self._story_place()
            self.query_one(MetricCharts).draw(seen.lines, smoothed, seen.checkpoints, seen.resumes, place, asked)

    def on_stories_seen(self, seen: StoriesSeen) -> None:
        self._checkpoints, self._best = seen.checkpoint_steps, seen.best_step
        self.query_one(RunStories).take(self._checkpoints, self._best, self._bpb_at)

    def on_log_seen(self, seen: LogSeen) -> None:
        self.query_one(LogView).show(seen.lines, anew=seen.anew, cut=seen.cut)

    def _bpb_at(self, step: int) -> float | None:
        """Held-out bits per byte at a step."""
        steps, values = self._bpb
        after = bisect_left(steps, step)
        near = [at for at in (after - 1, after) if 0 <= at < len(steps)]
        if not near:
            return None
        nearest = min(near, key=lambda at: abs(steps[at] - step))
        return values[nearest] if abs(steps[nearest] - step) <= max(0.5, step * 0.002) else None

    # --- charts -------------------------------------------------------------------------------------------------------

    def _wanted(self) -> Wanted:
        board, settings = self.query_one(MetricCharts), self.app.settings
        begin, end = board.range
        return Wanted(board.keys, settings.x_axis, begin, end, board.points, settings.smoothing, self._overlays)

    def _look(self) -> None:
        """Ask for the lines of what is looked at."""
        if self.is_mounted and self._stands:
            self._reader.want(self._wanted())

    def _dress(self) -> None:
        if not self._stands:
            return
        settings, board = self.app.settings, self.query_one(MetricCharts)
        board.over(settings.x_axis)
        board.dress(log_y=settings.log_y, cells=settings.cells)
        self._look()

    def _story_place(self) -> float | None:
        """Where on the x axis the story that is shown was told."""
        step = self.query_one(RunStories).step
        return None if step is None or self._panel not in ("story", "growth") else self._axis.place_of(step)

    def _mark_story(self) -> None:
        if self._lines is not None and self._lines.wanted.x == self.app.settings.x_axis:
            self.query_one(MetricCharts).mark(self._lines.checkpoints, self._lines.resumes, self._story_place())

    def on_metric_charts_looked(self, event: MetricCharts.Looked) -> None:
        board = self.query_one(MetricCharts)
        if not event.cursor_moved:
            self._look()
        elif board.cursor_x is not None:
            # The story goes where the cursor goes.
            self.query_one(RunStories).go(
                self.query_one(RunStories).nearest(self._axis.step_at(board.cursor_x)), quiet=True
            )
            self._mark_story()

    def on_run_stories_moved(self, event: RunStories.Moved) -> None:
        board = self.query_one(MetricCharts)
        if event.by_hand:
            # The cursor goes where the story goes: how low was the loss when it was told?
            board.point_at(self._axis.place_of(event.step) if event.step is not None else None)
        self._mark_story()

    def action_axis(self) -> None:
        axes: tuple[X, ...] = get_args(X)
        settings = self.app.settings
        settings.x_axis = axes[(axes.index(settings.x_axis) + 1) % len(axes)]
        self._chose()
        self.app.say(f"x is {_X_WORDS[settings.x_axis]}")

    def action_log_y(self) -> None:
        self.app.settings.log_y = not self.app.settings.log_y
        self._chose()

    def action_smoothing(self) -> None:
        settings = self.app.settings
        larger = [span for span in SMOOTHINGS if span > settings.smoothing + 1e-9]
        settings.smoothing = larger[0] if larger else SMOOTHINGS[0]
        self._chose()
        self.app.say(
            f"smoothed over {settings.smoothing:.0%} of what is seen" if settings.smoothing else "not smoothed"
        )

    def _chose(self) -> None:
        self.app.save_settings()
        self._dress()

    def action_zoom(self, way: int) -> None:
        chart = self.query_one(MetricCharts).chart
        chart.action_zoom_in() if way > 0 else chart.action_zoom_out()

    def action_pan(self, way: int) -> None:
        chart = self.query_one(MetricCharts).chart
        chart.action_pan_right() if way > 0 else chart.action_pan_left()

    def action_cursor(self, columns: int) -> None:
        self.query_one(MetricCharts).chart.move_cursor(columns)

    def action_fit(self) -> None:
        board = self.query_one(MetricCharts)
        board.chart.action_reset()
        board.point_at(None)

    def action_metric(self, by: int) -> None:
        self.query_one(MetricCharts).beside(by)

    def action_overlay(self) -> None:
        names = [folder.name for folder in run_index.list_runs(self.app.runs_root) if folder.name != self.run_name]

        def drawn(chosen: tuple[str, ...] | None) -> None:
            if chosen is not None:
                self._overlays = chosen
                self._look()

        self.app.push_screen(PickRunsScreen(names, self._overlays), drawn)

    # --- the panel ----------------------------------------------------------------------------------------------------

    def _arrange(self) -> None:
        """What is on the screen, by its size and by what was asked for."""
        size = self.app.size
        part = self._focused_part
        self.set_class(part == "charts", "-charts-only")
        self.set_class(part == "panel", "-panel-only")
        roomy = size.width >= _WIDE and size.height >= _TALL
        self.query_one(MetricCharts).lay_out(roomy and part != "chart")

    def action_focus_part(self) -> None:
        """All at once, the charts alone, the panel alone, and round again; of many charts, one of them too."""
        size = self.app.size
        roomy = size.width >= _WIDE and size.height >= _TALL
        parts = ("", "chart", "charts", "panel") if roomy else ("", "charts", "panel")
        place = parts.index(self._focused_part) if self._focused_part in parts else 0
        self._focused_part = parts[(place + 1) % len(parts)]
        self._arrange()
        self.call_after_refresh(self._look)

    def action_panel(self, panel: str) -> None:
        """Show a part of the panel; the same key again goes back to the story."""
        self._show_panel("story" if panel == self._panel else panel)

    def on_tab_bar_picked(self, event: TabBar.Picked) -> None:
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
        self.query_one(RunStories).all_below_each_other(panel == "growth")
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

    def action_story(self, by: int) -> None:
        if self._panel not in ("story", "growth"):
            self._show_panel("story")
        self.query_one(RunStories).move(by)

    def action_prompt(self) -> None:
        self.query_one(RunStories).next_prompt()

    def action_own_prompt(self) -> None:
        if self._panel not in ("story", "growth"):
            self._show_panel("story")
        self.query_one(RunStories).ask_prompt()

    def action_tell_missing(self) -> None:
        self.query_one(RunStories).tell_missing()

    def on_run_stories_asked(self, event: RunStories.Asked) -> None:
        if not event.steps:
            known = "no checkpoint yet to tell it from" if not self._checkpoints else "nothing is missing here"
            self.app.say(known)
            return
        n_asked = self._retelling.ask(event.prompt, event.steps)
        if n_asked > 1:
            self.app.say(f"{n_asked} stories are told, one after another")
        self.query_one(RunStories).refresh_stories()

    def _begin_story(self, model: str, prompt: str, sample: SamplingParams) -> int:
        return self.app.booth.tell(model, prompt, sample, self._heard)

    def _heard(self, event: Event) -> None:
        """On the booth's thread."""
        self.post_message(BoothSaid(event))

    def on_booth_said(self, message: BoothSaid) -> None:
        if self._retelling.hear(message.event) and not self._pieces_due:
            self._pieces_due = True
            self.set_timer(_PIECES_SECONDS, self._show_pieces)

    def _show_pieces(self) -> None:
        self._pieces_due = False
        self.query_one(RunStories).refresh_stories()

    def action_tell(self) -> None:
        """Open the story view with the checkpoint that is shown, or the newest."""
        stories = self.query_one(RunStories)
        at = f"@{stories.step}" if stories.at_checkpoint and not stories.follows else ""
        self.app.open_story(f"{self.run_name}{at}", stories.prompt if at else "")

    # --- steering -----------------------------------------------------------------------------------------------------

    def action_stop(self) -> None:
        self.app.deeds.stop(self.run_name)

    def action_resume(self) -> None:
        self.app.deeds.resume(self.run_name)

    def action_compare(self) -> None:
        if self._overlays:
            self.app.open_compare([self.run_name, *self._overlays])
        else:
            self.app.say("a draws other runs over this one; then c compares them")


def _config_facts(config: object) -> list[tuple[str, list[KeyValue]]]:
    """The settings by their part, those that differ from the preset's marked."""
    if not isinstance(config, Mapping):
        return []
    before = usual(str(config.get("preset")))
    sections: list[tuple[str, list[KeyValue]]] = []
    plain = [fact for key, value in config.items() if not isinstance(value, Mapping) for fact in flatten(value, key)]
    if plain:
        sections.append(("run", plain))
    for part, values in config.items():
        if isinstance(values, Mapping):
            facts = list(flatten(values))
            known = {fact.name: fact.value for fact in flatten(before.get(part, {}))}
            marked = [replace(fact, changed=known.get(fact.name, fact.value) != fact.value) for fact in facts]
            sections.append((str(part), marked))
    return sections

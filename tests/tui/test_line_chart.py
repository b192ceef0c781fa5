"""The chart widget: what it draws, and how the mouse and keys change its range and cursor; and the sparkline."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollLeft, MouseScrollRight, MouseScrollUp
from textual.geometry import Region
from textual.pilot import Pilot

from storyteller.charts import Cells, Marks, Series, View, draw
from storyteller.tui.themes import PALETTES, THEMES
from storyteller.tui.widgets.line_chart import ZOOM, ChartView
from storyteller.tui.widgets.sparkline import spark
from tests.support.playing import played

SIZE = (60, 14)


def ramp(last: int = 100, color: int = 0, name: str = "ramp") -> Series:
    """y = x at every whole x from 0."""
    return Series(name, list(range(last + 1)), [float(x) for x in range(last + 1)], color)


class Watched(ChartView):
    """A chart that records the rows it wants repainted."""

    def __init__(self, lines: Sequence[Series]) -> None:
        super().__init__(lines, nothing="no figures yet")
        self.name_axes("step", "loss", "number")
        self.painted: list[int | None] = []

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Watched:
        self.painted += [region.y for region in regions] or [None]
        super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
        return self


class ChartApp(App[None]):
    """An app with one chart and keys for its actions. Records the messages that the chart posts."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("plus", "do('zoom_step', 1)"),
        Binding("minus", "do('zoom_step', -1)"),
        Binding("comma", "do('pan_step', -1)"),
        Binding("full_stop", "do('pan_step', 1)"),
        Binding("left", "do('move_cursor', -1)"),
        Binding("right", "do('move_cursor', 1)"),
        Binding("0", "do('show_all')"),
        Binding("l", "toggle_log"),
    ]

    def __init__(self, lines: Sequence[Series], theme: str = "dark") -> None:
        super().__init__()
        self.chart = Watched(lines)
        self.posted: list[tuple[str, object]] = []
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme

    @property
    def palette_colors(self) -> tuple[str, ...]:
        return PALETTES[self.theme]  # type: ignore[index]

    def compose(self) -> ComposeResult:
        yield self.chart

    def action_do(self, what: str, *arguments: int) -> None:
        getattr(self.chart, what)(*arguments)

    def action_toggle_log(self) -> None:
        self.chart.log_y = not self.chart.log_y

    def on_chart_view_cursor_moved(self, event: ChartView.CursorMoved) -> None:
        assert event.chart is self.chart
        self.posted.append(("cursor", event.x))

    def on_chart_view_range_changed(self, event: ChartView.RangeChanged) -> None:
        assert event.chart is self.chart
        self.posted.append(("view", (event.begin, event.end)))

    def shown(self) -> list[str]:
        """The screen's rows."""
        return [strip.text for strip in self.screen._compositor.render_strips()]


def near(one: tuple[float | None, float | None], other: tuple[float | None, float | None]) -> bool:
    return all(a == b if a is None or b is None else math.isclose(a, b) for a, b in zip(one, other, strict=True))


async def wheel(pilot: Pilot[None], kind: type, column: int, times: int = 1) -> None:
    for _ in range(times):
        await pilot._post_mouse_events([kind], ChartView, (column, 5))


# --- what is shown ----------------------------------------------------------------------------------------------------


@played
async def test_the_widget_shows_the_drawing_of_its_lines() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.marks = [Marks([50], "◆")]
        app.chart.cursor_x = 25
        await pilot.pause()
        picture = draw([ramp()], *SIZE, View(cursor_x=25), marks=[Marks([50], "◆")], x_name="step", y_name="loss")
        assert app.shown() == ["".join(text for text, _ in row) for row in picture.rows]


@played
async def test_only_the_rows_that_changed_are_repainted() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.lines = [ramp()]
        await pilot.pause()
        app.chart.painted.clear()
        app.chart.lines = [ramp()]
        await pilot.pause()
        assert app.chart.painted == []
        app.chart.marks = [Marks([50], "◆")]
        await pilot.pause()
        assert app.chart.painted == [SIZE[1] - 2]  # the axis alone
        app.chart.painted.clear()
        changed = ramp()
        app.chart.lines = [Series("ramp", changed.x, [*changed.y[:-1], 99.9], 0)]
        await pilot.pause()
        assert app.chart.painted == [0]  # the legend alone: the last value is in the same dot


@played
async def test_many_changes_at_once_are_drawn_once() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause()
        drawn: list[int] = []
        before = app.chart._draw
        app.chart._draw = lambda: (drawn.append(1), before())  # type: ignore[func-returns-value, method-assign, assignment]
        for x in range(20):
            app.chart.cursor_x = x
            app.chart.lines = [ramp(100 + x)]
        await pilot.pause()
        assert len(drawn) == 1


@played
async def test_an_empty_chart_says_so_and_names_are_shown_literally() -> None:
    app = ChartApp([])
    async with app.run_test(size=SIZE, notifications=True, tooltips=True) as pilot:
        assert any("no figures yet" in row for row in app.shown())
        app.chart.lines = [ramp(name="[/end][@click=app.quit]x[/]\x1b[2J")]
        await pilot.pause()
        assert "[/end][@click=app.quit]x[/]␛[2J" in app.shown()[0]


@played
async def test_lines_have_the_colours_of_the_theme_and_change_with_it() -> None:
    app = ChartApp([ramp(color=1)])
    async with app.run_test(size=SIZE) as pilot:

        def colors() -> set[str]:
            row = app.screen._compositor.render_strips()[5]
            return {
                segment.style.color.name
                for segment in row
                if segment.style is not None
                and segment.style.color is not None
                and any("\u2800" < glyph <= "\u28ff" for glyph in segment.text)
            }

        assert colors() == {PALETTES["dark"][1]}
        app.theme = "light"
        await pilot.pause()
        await pilot.pause()
        assert colors() == {PALETTES["light"][1]}


@played
async def test_the_terminals_own_colours_are_not_blended() -> None:
    app = ChartApp([ramp(color=1), Series("faded", [0, 100], [50, 50], 2, dim=True)], theme="ansi-dark")
    async with app.run_test(size=SIZE):
        styles = {
            (segment.style.color.number, segment.style.color.triplet, bool(segment.style.dim))
            for strip in (app.chart.render_line(y) for y in range(SIZE[1]))
            for segment in strip
            if segment.style is not None and segment.style.color is not None
        }
    assert {(12, None, False), (2, None, True)} <= styles  # bright blue; green, faded
    assert {triplet for _, triplet, _ in styles} == {None}


@played
async def test_without_colour_lines_differ_by_their_dash_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    lines = [Series(f"run {color}", [0, 100], [color, color], color) for color in range(3)]
    app = ChartApp(lines)
    async with app.run_test(size=SIZE):
        picture = draw(lines, *SIZE, x_name="step", y_name="loss", patterns=True)
        assert app.shown() == ["".join(text for text, _ in row) for row in picture.rows]
        assert app.shown() != [
            "".join(text for text, _ in row) for row in draw(lines, *SIZE, x_name="step", y_name="loss").rows
        ]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (10, 3), (40, 10), (160, 45)])
@played
async def test_any_size_is_filled_and_a_resize_draws_again(size: tuple[int, int]) -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert [len(row) for row in app.shown()] == [size[0]] * size[1]
        picture = draw([ramp()], *size, x_name="step", y_name="loss")
        assert app.shown() == ["".join(text for text, _ in row) for row in picture.rows]


@pytest.mark.parametrize("cells", ["blocks", "ascii"])
@played
async def test_a_terminal_without_braille_gets_none(cells: Cells) -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.cells = cells
        await pilot.pause()
        shown = "".join(app.shown())
        assert not any("\u2800" <= glyph <= "\u28ff" for glyph in shown)
        assert cells != "ascii" or shown.isascii()
        assert any(glyph in shown for glyph in ("▞▗▘" if cells == "blocks" else "*"))


@played
async def test_a_run_that_logs_once_a_second_costs_less_than_a_twentieth_of_a_core() -> None:
    rows = [math.exp(-x / 400) + 0.01 * math.sin(x) for x in range(2000)]
    lines = [
        Series(f"run {color}", list(range(1900)), rows[:1900], color, rows[:1900], rows[:1900]) for color in range(4)
    ]
    app = ChartApp(lines)
    async with app.run_test(size=(160, 45)) as pilot:
        await pilot.pause()
        spent = []
        for more in range(10):
            begun = time.process_time()
            end = 1900 + more
            app.chart.lines = [
                Series(line.name, list(range(end)), rows[:end], line.color, rows[:end], rows[:end]) for line in lines
            ]
            app.chart._redraw()
            spent.append(time.process_time() - begun)
        assert min(spent) < 0.050


# --- zoom and pan -----------------------------------------------------------------------------------------------------


@played
async def test_the_wheel_zooms_about_the_place_under_the_pointer() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        column = 20
        at = app.chart.frame.x_at(column)
        await wheel(pilot, MouseScrollUp, column)
        assert near(app.chart.range, (at - at / ZOOM, at + (100 - at) / ZOOM))
        a_column = (app.chart.frame.x_end - app.chart.frame.x_begin) / (app.chart.frame.columns - 1)
        assert abs(app.chart.frame.x_at(column) - at) <= a_column  # labels of y became a digit shorter
        assert app.posted == [("view", app.chart.range)]
        await wheel(pilot, MouseScrollDown, column)
        assert near(app.chart.range, (None, None)) or near(app.chart.range, (0.0, 100.0))
        await wheel(pilot, MouseScrollDown, column)
        assert list(app.chart.range) == [None, None]
        assert (app.chart.frame.x_begin, app.chart.frame.x_end) == (0, 100)


@played
async def test_an_end_that_reaches_the_data_follows_them() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await wheel(pilot, MouseScrollUp, app.chart.frame.left + app.chart.frame.columns - 1)
        assert near(app.chart.range, (100 - 100 / ZOOM, None))
        app.chart.lines = [ramp(150)]
        await pilot.pause()
        assert app.chart.frame.x_end == 150
        app.chart.range = (20, 40)
        app.chart.lines = [ramp(200)]
        await pilot.pause()
        assert (app.chart.frame.x_begin, app.chart.frame.x_end) == (20, 40)


@played
async def test_a_zoomed_chart_given_only_its_range_keeps_the_extent_of_the_data() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.range = (40, 60)
        app.chart.lines = [Series("ramp", list(range(39, 62)), list(range(39, 62)), 0)]
        await pilot.pause()
        assert app.chart.extent == (0, 100)
        app.chart.zoom(1 / 100)
        assert list(app.chart.range) == [None, None]


@played
async def test_keys_zoom_about_the_middle_or_the_cursor_and_pan_by_a_fifth_within_the_data() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("plus")
        assert near(app.chart.range, (50 - 50 / ZOOM, 50 + 50 / ZOOM))
        begin, end = app.chart.frame.x_begin, app.chart.frame.x_end
        by = (end - begin) / 5
        await pilot.press("full_stop")
        assert near(app.chart.range, (begin + by, end + by))
        await pilot.press("full_stop", "full_stop")
        assert near(app.chart.range, (100 - (end - begin), None))
        await pilot.press(*["comma"] * 9)
        assert near(app.chart.range, (None, end - begin))
        await pilot.press("minus")
        assert list(app.chart.range) == [None, None]
        app.chart.cursor_x = 10
        await pilot.press("plus")
        assert near(app.chart.range, (10 - 10 / ZOOM, 10 + 90 / ZOOM))
        await pilot.press("0")
        assert list(app.chart.range) == [None, None]
        assert app.chart.cursor_x is None
        assert app.posted[-2:] == [("view", (None, None)), ("cursor", None)]


@played
async def test_zoom_ends_where_floats_cannot_be_distinguished_and_without_data_nothing_moves() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        for _ in range(200):
            app.chart.zoom_step(1)
        begin, end = app.chart.frame.x_begin, app.chart.frame.x_end
        assert 0 < end - begin < 1e-5
        app.chart.lines = []
        app.chart.reset()
        await pilot.pause()
        app.posted.clear()
        await pilot.press("plus", "minus", "comma", "full_stop", "left", "right", "0")
        await wheel(pilot, MouseScrollUp, 10)
        await pilot.click(ChartView, offset=(10, 5))
        assert (app.chart.range, app.chart.cursor_x, app.posted) == ((None, None), None, [])


@played
async def test_a_drag_pans_with_the_pointer_and_sets_no_cursor() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.range = (40, 60)
        await pilot.pause()
        columns = app.chart.frame.columns
        await pilot.mouse_down(ChartView, offset=(30, 5))
        await pilot.hover(ChartView, offset=(37, 5))
        by = 20 / (columns - 1) * 7
        assert near(app.chart.range, (40 - by, 60 - by))
        await pilot.hover(ChartView, offset=(25, 5))
        by = 20 / (columns - 1) * -5
        assert near(app.chart.range, (40 - by, 60 - by))
        await pilot.mouse_up(ChartView, offset=(25, 5))
        moved = app.chart.range
        await pilot.hover(ChartView, offset=(50, 5))
        assert app.chart.range == moved
        assert app.chart.cursor_x is None


@played
async def test_a_sideways_wheel_pans() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.range = (40, 60)
        await wheel(pilot, MouseScrollRight, 20)
        assert near(app.chart.range, (44, 64))
        await wheel(pilot, MouseScrollLeft, 20, times=2)
        assert near(app.chart.range, (36, 56))


@played
async def test_the_y_axis_can_be_made_logarithmic() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("l")
        assert app.chart.log_y
        assert (app.chart.frame.log_y, app.chart.frame.y_begin) == (True, 1.0)
        await pilot.press("l")
        assert not app.chart.frame.log_y


# --- the cursor -------------------------------------------------------------------------------------------------------


@played
async def test_a_click_sets_the_cursor_at_the_nearest_point_and_a_double_click_resets() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        x = app.chart.frame.x_at(33)
        await pilot.click(ChartView, offset=(33, 5))
        assert app.chart.cursor_x == round(x)
        assert app.posted == [("cursor", round(x))]
        assert f"{round(x):.2f}" in app.shown()[0]
        app.chart.range = (20, 80)
        await pilot.double_click(ChartView, offset=(33, 5))
        assert app.chart.cursor_x is None
        assert list(app.chart.range) == [None, None]


@played
async def test_the_cursor_goes_from_point_to_point_however_few_or_many_there_are() -> None:
    few = Series("few", [0, 50, 100], [1, 2, 3], 0)
    app = ChartApp([few])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("right", "right")
        assert app.chart.cursor_x == 50
        await pilot.press("right", "right", "right")
        assert app.chart.cursor_x == 100
        await pilot.press("left")
        assert app.chart.cursor_x == 50
        assert [x for kind, x in app.posted if kind == "cursor"] == [0, 50, 100, 50]
        app.chart.lines = [ramp(10_000)]
        app.chart.cursor_x = 5000
        step = 10_000 / (app.chart.frame.columns - 1)
        await pilot.press("right")
        assert app.chart.cursor_x == round(5000 + step)


@played
async def test_a_new_cursor_begins_at_an_end_of_the_visible_range() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("left")
        assert app.chart.cursor_x == 100
        app.chart.show_all()
        app.chart.range = (40, 60)
        await pilot.press("right")
        assert app.chart.cursor_x == 40


@played
async def test_a_cursor_that_leaves_the_range_moves_it() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.range = (40, 60)
        app.chart.cursor_x = 60
        await pilot.press("right")
        assert app.chart.cursor_x == 61
        assert near(app.chart.range, (51, 71))


@played
async def test_the_cursor_goes_along_the_lines_that_are_not_faded() -> None:
    app = ChartApp([Series("lit", [0, 90], [1, 2], 0), Series("faded", [0, 30, 60], [1, 2, 3], 1, dim=True)])
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("right", "right")
        assert app.chart.cursor_x == 90


@played
async def test_setting_the_range_posts_no_message() -> None:
    app = ChartApp([ramp()])
    async with app.run_test(size=SIZE) as pilot:
        app.chart.range = (10, 20)
        app.chart.cursor_x = 15
        await pilot.pause()
        assert (app.chart.frame.x_begin, app.chart.frame.x_end) == (10, 20)
        app.chart.range = (30, 20)  # no range at all
        assert list(app.chart.range) == [None, None]
        assert app.posted == []


# --- sparklines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "columns", "cells", "drawn"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], 8, "blocks", "▁▂▃▄▅▆▇█"),
        ([4, 3, 2, 1], 4, "ascii", "'-._"),
        ([0, 3], 1, "braille", "⡸"),
        ([3, 2, 1, 0], 2, "braille", "⠑⢄"),
        ([5, 5, 5, 5], 4, "blocks", "▄▄▄▄"),
        ([1, None, 2], 3, "blocks", "▁ █"),
        ([1, 10, 100], 3, "blocks", "▁▂█"),
        ([], 3, "blocks", "   "),
        ([math.nan, math.inf], 2, "braille", "  "),
        ([1, 2], 0, "braille", ""),
    ],
)
def test_a_sparkline_draws_exactly_this(values: list[float | None], columns: int, cells: Cells, drawn: str) -> None:
    assert spark(values, columns, cells) == drawn


def test_a_logarithmic_sparkline_shows_exponents() -> None:
    assert spark([1, 10, 100], 3, "blocks", log=True) == "▁▅█"
    assert spark([0, -1, 1, 100], 4, "blocks", log=True) == "  ▁█"


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.none() | st.floats() | st.integers(), max_size=40),
    columns=st.integers(0, 20),
    cells=st.sampled_from(["braille", "blocks", "ascii"]),
    log=st.booleans(),
)
def test_a_sparkline_of_anything_has_its_width(
    values: list[float | None], columns: int, cells: Cells, log: bool
) -> None:
    drawn = spark(values, columns, cells, log=log)
    assert len(drawn) == columns
    assert cells != "ascii" or drawn.isascii()

"""The Compare view: several runs in one chart, their results and their settings; live, hostile, and by every key."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import SelectionList

from storyteller.charts import Series, format_number
from storyteller.tracking import run_folder
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.compare import CompareScreen
from storyteller.tui.screens.dialogues import PickRunsScreen
from storyteller.tui.widgets.compare_tables import ResultsTable, SettingsTable
from storyteller.tui.widgets.line_chart import ZOOM, ChartView
from storyteller.tui.widgets.metric_charts import METRICS
from storyteller.tui.widgets.tab_bar import TabBar
from tests.support.playing import played

NAMES = ("quiet-blue-squirrel", "wide", "classic-recipe")


def make(root: Path, name: str, pace: float, steps: int = 200, config: dict[str, Any] | None = None) -> RunFolder:
    """A run that is over; its loss falls the slower the greater its `pace`."""
    folder = run_folder.create(root, name)
    settings = {"preset": "quick", "model": {"layers": 4, "width": int(256 * pace)}, "train": {"lr": 0.01 / pace}}
    folder.write_run(
        {
            "name": name,
            "created_at": "2025-11-22T10:00:00Z",
            "config": settings | (config or {}),
            "model": {"parameters": round(4_000_000 * pace)},
            "data": {"kind": "bundled", "fingerprint": "a", "held_out_stories": 100},
        }
    )
    with JsonLog(folder.metrics) as log:
        for step in range(1, steps + 1):
            log.append(line_of(step, pace))
    write_status(folder, Status("finished", 1, 1.0, step=steps, tokens=steps * 4096, exit_code=0))
    return folder


def line_of(step: int, pace: float) -> dict[str, Any]:
    line = {
        "step": step,
        "tokens": step * 4096,
        "seconds": step * pace,
        "train/loss": 1 + 6 * math.exp(-step / (30 * pace)) + 0.1 * math.sin(7.0 * step),
        "train/tokens_per_second": 4096 / pace,
    }
    return line | ({"eval/bpb": 0.2 * pace + 2 * math.exp(-step / (40 * pace))} if step % 20 == 0 else {})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    for name, pace in zip(NAMES, (1.0, 1.5, 2.0), strict=True):
        make(runs, name, pace, steps=150 if name == "classic-recipe" else 200)
    return runs


def app_of(root: Path, theme: str = "dark") -> StorytellerApp:
    app = StorytellerApp(root, settings_path=root.parent / "tui.json", now=lambda: 1763805600.0)
    app.theme = theme
    return app


async def until(what: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


async def opened(pilot: Pilot[None], names: Sequence[str] = NAMES) -> CompareScreen:
    """The view of these runs, once all is read."""
    app = pilot.app
    assert isinstance(app, StorytellerApp)
    app.open_compare(names)
    await until(lambda: isinstance(app.screen, CompareScreen) and app.screen.is_mounted)
    screen = app.screen
    assert isinstance(screen, CompareScreen)
    await settled(pilot, screen)
    return screen


async def settled(pilot: Pilot[None], screen: CompareScreen) -> None:
    def is_read() -> bool:
        lines, known = screen._lines, screen._comparison
        return (
            lines is not None
            and lines.is_whole
            and lines.request.runs == known.names == screen.names
            and lines.request.x == screen.app.settings.x_axis
            and lines.request.keys[0] == next(metric.keys[0] for metric in METRICS if metric.name == screen.metric)
        )

    await until(is_read)
    await pilot.pause()


def drawn(screen: CompareScreen) -> dict[str, Series]:
    return {series.name: series for series in screen.query_one(ChartView).lines}


def shown(app: StorytellerApp) -> list[str]:
    """The screen's rows."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def row_of(app: StorytellerApp, name: str) -> str:
    """A run's row among the results."""
    rows = shown(app)
    head = next(number for number, row in enumerate(rows) if row.split()[:1] == ["RUN"])
    return next((row for row in rows[head:] if name in row), "")


# --- what is shown ----------------------------------------------------------------------------------------------------


@played
async def test_marked_runs_are_in_one_chart_and_two_tables(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(160, 45), notifications=True, tooltips=True) as pilot:
        screen = await opened(pilot)
        assert {name: (series.color, series.dim) for name, series in drawn(screen).items()} == {
            "quiet-blue-squirrel": (0, False),
            "wide": (1, False),
            "classic-recipe": (2, False),
        }
        assert screen.metric == "bits/byte"
        assert list(drawn(screen)["wide"].x) == list(range(20, 201, 20))
        rows = shown(app)
        results = next(number for number, row in enumerate(rows) if "BITS/BYTE" in row)
        assert rows[results].split()[:6] == ["RUN", "STATE", "BITS/BYTE", "BEST", "LOSS", "STEPS"]
        for number, (name, pace, last) in enumerate(zip(NAMES, (1.0, 1.5, 2.0), (200, 200, 150), strict=True), 1):
            bpb = format_number(line_of(last - last % 20, pace)["eval/bpb"])
            loss = format_number(line_of(last, pace)["train/loss"])
            assert rows[results + number].split()[:8] == ["━━", name, "✓", "finished", bpb, bpb, loss, str(last)]
        settings = [row[80:].split() for row in rows[results : results + 3]]
        assert settings[1] == ["model.width", "256", "384", "512"]
        assert settings[2] == ["train.lr", "0.01", "0.00666667", "0.005"]
        table = screen.query_one(ResultsTable).render()
        lit = [table.plain[span.start : span.end].strip() for span in table.spans if "$text-success" in str(span.style)]
        best = format_number(line_of(200, 1.0)["eval/bpb"])
        assert lit == [best, best, "4,096"][: len(lit)]
        assert len(lit) >= 2


@pytest.mark.slow
@played
async def test_bits_per_byte_of_other_stories_are_said_not_to_compare(root: Path) -> None:
    plan = json.loads((root / "wide" / "run.json").read_text())
    plan["data"]["fingerprint"] = "b"
    (root / "wide" / "run.json").write_text(json.dumps(plan))
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        assert "held-out stories differ: bits per byte are not comparable" in "".join(shown(app))
        screen._compare(["quiet-blue-squirrel", "classic-recipe"])
        await settled(pilot, screen)
        await until(lambda: "not comparable" not in "".join(shown(app)))


# --- choosing ---------------------------------------------------------------------------------------------------------


@played
async def test_a_chosen_run_is_lit_and_the_others_are_faded(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await pilot.press("down", "down")
        assert screen.chosen == "wide"
        assert {name: series.dim for name, series in drawn(screen).items()} == {
            "quiet-blue-squirrel": True,
            "wide": False,
            "classic-recipe": True,
        }
        assert [name for name, series in drawn(screen).items() if series.low is not None] == ["wide"]
        assert "━━\u203awide" in row_of(app, "wide")
        await pilot.press("down", "down")
        assert screen.chosen is None
        assert not any(series.dim for series in drawn(screen).values())
        await pilot.press("up")
        assert screen.chosen == "classic-recipe"


@played
async def test_a_click_on_a_row_chooses_and_a_second_one_lets_go(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await pilot.click(ResultsTable, offset=(10, 3))
        assert screen.chosen == "classic-recipe"
        await pilot.click(ResultsTable, offset=(10, 3))
        assert screen.chosen is None
        await pilot.click(ResultsTable, offset=(10, 0))
        assert screen.chosen is None


@played
async def test_enter_opens_the_chosen_run_and_t_tells_from_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(root)
    asked: list[tuple[str, str | None]] = []
    monkeypatch.setattr(app, "open_run", lambda name: asked.append(("run", name)))
    monkeypatch.setattr(app, "open_story", lambda model: asked.append(("story", model)))
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("enter", "t", "d")
        assert asked == []
        await pilot.press("down", "enter", "t")
        await pilot.double_click(ResultsTable, offset=(10, 2))
        assert asked == [("run", "quiet-blue-squirrel"), ("story", "quiet-blue-squirrel"), ("run", "wide")]


@played
async def test_a_run_that_is_dropped_leaves_the_others_their_colours(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await pilot.press("down", "d")
        await settled(pilot, screen)
        assert screen.names == ("wide", "classic-recipe")
        assert {name: series.color for name, series in drawn(screen).items()} == {"wide": 1, "classic-recipe": 2}
        assert screen.chosen is None


@played
async def test_runs_are_added_and_removed_from_inside(root: Path) -> None:
    make(root, "another", 1.2)
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, NAMES[:2])
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, PickRunsScreen))
        await pilot.pause()
        choice = app.screen.query_one(SelectionList)
        assert sorted(choice.selected) == sorted(NAMES[:2])
        choice.toggle("another")
        choice.toggle("quiet-blue-squirrel")
        await pilot.press("enter")
        await settled(pilot, screen)
        assert screen.names == ("wide", "another")
        assert {name: series.color for name, series in drawn(screen).items()} == {"wide": 1, "another": 0}
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, PickRunsScreen))
        await pilot.press("escape")
        assert screen.names == ("wide", "another")


# --- the chart's keys -------------------------------------------------------------------------------------------------


@played
async def test_metrics_are_gone_through_by_keys_and_tabs(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await pilot.press("left_square_bracket")
        await settled(pilot, screen)
        assert screen.metric == screen.query_one(TabBar).chosen == "loss"
        assert list(drawn(screen)["classic-recipe"].x)[-1] == 150
        await pilot.press("left_square_bracket")
        assert screen.metric == METRICS[-1].name
        await pilot.press("right_square_bracket", "right_square_bracket", "right_square_bracket")
        assert screen.metric == METRICS[2].name == "rate"
        await until(lambda: "no data yet" in "".join(shown(app)))
        tabs = screen.query_one(TabBar)
        place = next(begin for name, begin, _ in tabs.places if name == "speed")
        await pilot.click(TabBar, offset=(place + 1, 0))
        await settled(pilot, screen)
        assert screen.metric == "speed"
        assert set(drawn(screen)["wide"].y) == {4096 / 1.5}


@played
async def test_axis_log_and_smoothing_are_the_apps_settings(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        chart = screen.query_one(ChartView)
        for x, last in (("tokens", 200 * 4096), ("seconds", 300), ("step", 200)):
            await pilot.press("x")
            await settled(pilot, screen)
            assert app.settings.x_axis == x
            assert drawn(screen)["wide"].x[-1] == last
        await pilot.press("l")
        assert (app.settings.log_y, chart.log_y) == (True, True)
        await pilot.press("left_square_bracket")
        await settled(pilot, screen)
        smooth = list(drawn(screen)["wide"].y)
        app.settings.smoothing = 0.2
        await pilot.press("m")
        assert app.settings.smoothing == 0.0
        await until(lambda: list(drawn(screen)["wide"].y) != smooth)
        assert math.isclose(drawn(screen)["wide"].y[-1], line_of(200, 1.5)["train/loss"])
        assert json.loads((root.parent / "tui.json").read_text())["log_y"] is True


@played
async def test_the_chart_is_zoomed_panned_and_read_by_keys(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        chart = screen.query_one(ChartView)
        await pilot.press("right")
        assert chart.cursor_x == 20
        legend = shown(app)[2]
        assert f"{line_of(20, 1.0)['eval/bpb']:.3f}" in legend
        await pilot.press("shift+right", "left", "0")
        assert chart.cursor_x is None
        await pilot.press("plus")
        middle, half = 110, 90 / ZOOM
        assert chart.range == pytest.approx((middle - half, middle + half))
        await until(lambda: screen._lines is not None and screen._lines.request.begin == chart.range[0])
        await pilot.press("full_stop")
        assert chart.range == pytest.approx((middle - half + half * 0.4, middle + half + half * 0.4))
        await pilot.press("comma")
        assert chart.range == pytest.approx((middle - half, middle + half))
        await pilot.press("minus")
        assert chart.range == (None, None)


@pytest.mark.slow
@played
async def test_the_chart_alone_has_all_the_room(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot)
        before = screen.query_one(ChartView).size.height
        await pilot.press("z")
        await pilot.pause()
        assert screen.query_one(ChartView).size.height == 24 - 3 > before
        await pilot.press("z")
        await pilot.pause()
        assert screen.query_one(ChartView).size.height == before


@pytest.mark.slow
@played
async def test_settings_that_do_not_fit_are_scrolled_to(root: Path) -> None:
    many = {"extra": {f"field_{number}": number for number in range(40)}}
    make(root, "many", 1.0, config=many)
    app = app_of(root)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, ("wide", "many"))
        assert "extra.field_39" not in "".join(shown(app))
        await pilot.press(*["pagedown"] * 9)
        await pilot.pause()
        assert "extra.field_39" in "".join(shown(app))
        await pilot.press(*["pageup"] * 9)
        assert screen.query_one("#differences").scroll_offset.y == 0


# --- live, gone, broken -----------------------------------------------------------------------------------------------


@played
async def test_a_new_line_of_a_log_is_drawn_and_counted(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        with JsonLog(RunFolder(root / "wide").metrics) as log:
            log.append(line_of(220, 1.5))
        await until(lambda: drawn(screen)["wide"].x[-1] == 220)
        await until(lambda: " 220 " in row_of(app, "wide") + " ")


@played
async def test_a_run_that_vanishes_stays_to_be_seen_and_is_said_to_be_deleted(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        shutil.rmtree(root / "wide")
        await until(lambda: "✗ deleted" in row_of(app, "wide"))
        assert drawn(screen)["wide"].x[-1] == 200
        assert format_number(line_of(200, 1.5)["eval/bpb"]) in row_of(app, "wide")
        await pilot.press("x")
        await settled(pilot, screen)
        assert drawn(screen)["wide"].x[-1] == 200 * 4096


@played
async def test_broken_missing_and_empty_runs_harm_nobody(root: Path) -> None:
    for name in ("broken", "empty"):
        (root / name).mkdir()
    (root / "broken" / "run.json").write_bytes(b"\xff{[")
    (root / "broken" / "status.json").write_text('{"state": ["running"], "step": "x"}')
    (root / "broken" / "metrics.jsonl").write_bytes(b'\x00\xff\n{"step": 1, "train/loss": 1e999}\n[]\n{"step": "a"}\n')
    app = app_of(root)
    async with app.run_test(size=(100, 30), notifications=True, tooltips=True) as pilot:
        screen = await opened(pilot, ["broken", "never-there", "empty", "wide"])
        assert list(drawn(screen)) == ["wide"]
        assert "✗ deleted" in row_of(app, "never-there")
        await pilot.press("down", "down", "right", "l", "x", "plus", "d")
        await settled(pilot, screen)
        assert screen.names == ("broken", "empty", "wide")


@played
async def test_what_stands_in_a_config_is_shown_literally(root: Path) -> None:
    hostile = "[/end][@click=app.quit]x[/]\x1b]52;c;aGk=\x07\u202e"
    make(root, "hostile", 1.0, config={"train": {"lr": hostile, hostile: hostile}})
    app = app_of(root)
    async with app.run_test(size=(160, 45), notifications=True, tooltips=True) as pilot:
        await opened(pilot, ("wide", "hostile"))
        words = "".join(shown(app))
        assert "[/end][@click=app.quit]" in words
        assert not any(ord(glyph) < 32 or 0x7F <= ord(glyph) < 0xA0 or glyph == "\u202e" for glyph in words)
        await pilot.click(SettingsTable, offset=(40, 2))
        assert app.is_running


@pytest.mark.slow
@played
async def test_there_is_room_for_eight_and_for_none(root: Path) -> None:
    names = [f"run-{number}" for number in range(10)]
    for name in names:
        make(root, name, 1.0, steps=20)
    app = app_of(root)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, [*names, names[0]])
        assert screen.names == tuple(names[:8])
        assert sorted(series.color for series in drawn(screen).values()) == list(range(8))
        screen._compare([])
        await until(lambda: "no runs: press a to choose some" in "".join(shown(app)))
        await pilot.press("down", "up", "right", "plus", "enter", "d")
        assert app.screen is screen


@pytest.mark.slow
@played
async def test_every_size_is_filled(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        for size in ((40, 10), (20, 5), (1, 1), (300, 90), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert [Text(row).cell_len for row in shown(app)] == [size[0]] * size[1]
            assert size[1] < 10 or screen.query_one(ChartView).frame.rows > 0


@played
async def test_the_reader_rests_while_nobody_looks_and_ends_with_the_view(root: Path) -> None:
    app = app_of(root)
    async with app.run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        await pilot.press("1")
        await pilot.pause()
        assert app.screen is not screen
        assert not screen._reader._awake.is_set()
        await pilot.press("4")
        await until(lambda: app.screen is screen and screen._reader._awake.is_set())
    reading = [thread for thread in threading.enumerate() if thread.name == "reader of several runs"]
    await until(lambda: not any(thread.is_alive() for thread in reading))


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (160, 45)], ids=["80x24", "160x45"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_view_looks_as_it_did(root: Path, snap_compare: Any, theme: str, size: tuple[int, int]) -> None:
    async def look(pilot: Pilot[None]) -> None:
        screen = await opened(pilot)
        await pilot.press("left_square_bracket", "down", "right", "shift+right", "shift+right")
        await settled(pilot, screen)
        await pilot.pause()

    assert snap_compare(app_of(root, theme), terminal_size=size, run_before=look)

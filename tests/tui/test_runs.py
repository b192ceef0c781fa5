"""The home screen: what it shows of the disk, what its keys do, and that nothing on the disk can hurt it."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input, Static

from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary
from storyteller.tracking.run_status import read_status, write_status
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.dialogues import Ask, Confirm
from storyteller.tui.screens.runs import RunsScreen
from storyteller.tui.settings import Settings
from storyteller.tui.widgets.run_columns import RunRow, fit, ordered, short_duration
from tests.support.tui_runs import NO_PID, a_few, app_of, make, seen, until

Drive = Callable[[Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def drive(app: StorytellerApp, how: Drive, size: tuple[int, int] = (100, 30)) -> None:
    async def run() -> None:
        async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
            await how(pilot)

    asyncio.run(run())


def text_of(screen: RunsScreen) -> list[str]:
    """The table as it stands on the screen, a line each, the cursor's row included."""
    return [screen.table.render_line(y).text.rstrip() for y in range(screen.table.size.height)]


def about(screen: RunsScreen) -> str:
    content = screen.query_one("#chosen", Static).content
    assert isinstance(content, Content)
    return content.plain


def top(pilot: Pilot[None]) -> object:
    """The screen that is shown."""
    return pilot.app.screen


def said(pilot: Pilot[None]) -> list[str]:
    return [str(notice.message) for notice in pilot.app._notifications]


def test_each_run_is_a_row_with_its_figures_and_the_newest_comes_first(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        lines = text_of(screen)
        assert lines[0].split() == [
            "RUN",
            "STATE",
            "PRESET",
            "PROGRESS",
            "STEPS",
            "BITS/BYTE",
            "LOSS",
            "TOKENS/S",
            "LEFT",
            "AGE",
            "▾",
        ]
        cells = [line.split() for line in lines[1:6]]
        assert [cell[:4] for cell in cells] == [
            ["●", "young-fox", "running", "quick"],
            ["✓", "wise-owl", "finished", "quick"],
            ["✗", "shy-hen", "failed", "quick"],
            ["■", "old-bear", "stopped", "quick"],
            ["†", "lost-duck", "died", "quick"],
        ]
        assert "20 %" in lines[1] and "0.9000" in lines[1] and "5,040" in lines[1] and "1m20s" in lines[1]
        assert lines[1].endswith("1m") and lines[5].endswith("5m")
        assert "100 %" in lines[2] and "0.2500" in lines[2]
        assert about(screen).startswith("young-fox  running")

    drive(app_of(root, tmp_path), how, (140, 30))


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (40, ["name", "bits"]),
        (60, ["name", "state", "progress", "bits"]),
        (80, ["name", "state", "progress", "bits", "loss", "left"]),
        (160, ["name", "state", "preset", "progress", "steps", "bits", "loss", "speed", "left", "age"]),
    ],
)
def test_columns_fold_away_by_what_they_are_worth(width: int, columns: list[str]) -> None:
    row = RunRow(summary("quiet-blue-squirrel-1122"))
    fitted = fit([row], width - 2)
    assert [column.name for column, _ in fitted][2:] == columns
    assert sum(cells + 2 * column.gap for column, cells in fitted) - 2 <= width - 2


@pytest.mark.parametrize("width", range(1, 200, 7))
def test_at_any_width_the_columns_fit_it(width: int) -> None:
    fitted = fit([RunRow(summary("x" * 64))], width)
    total = sum(cells + 2 * column.gap for column, cells in fitted) - 2
    assert total <= max(width, 16 + 4 + 13)


def summary(name: str, **known: Any) -> RunSummary:
    empty = RunSummary(name, "finished", None, None, None, None, None, None, None, None, None, None, None)
    return replace(empty, **known)


def test_rows_are_ordered_by_any_column_and_what_is_unknown_comes_last() -> None:
    rows = [RunRow(summary(name, eval_bpb=bits, step=step)) for name, bits, step in
            (("b", 0.5, 10), ("a", None, None), ("c", 0.25, 30))]  # fmt: skip
    assert [row.name for row in ordered(rows, "name", False)] == ["a", "b", "c"]
    assert [row.name for row in ordered(rows, "bits", False)] == ["c", "b", "a"]
    assert [row.name for row in ordered(rows, "bits", True)] == ["b", "c", "a"]
    assert [row.name for row in ordered(rows, "steps", False)] == ["c", "b", "a"]
    assert [row.name for row in ordered(rows, "no such column", False)] == ["b", "a", "c"]


def test_times_are_short() -> None:
    assert [short_duration(s) for s in (None, 0, 59.6, 113, 599, 754, 3700, 90_000)] == [
        "", "0s", "1m", "1m53s", "9m59s", "12m", "1h1m", "1d1h",
    ]  # fmt: skip


def test_a_run_is_followed_as_it_learns_dies_is_deleted_and_comes(root: Path, tmp_path: Path) -> None:
    fox = make(root, "young-fox", "running", living=True, steps=40, bits=0.9)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 1)
        with JsonLog(fox.metrics) as log:
            log.append({"step": 50, "tokens": 1, "seconds": 25, "train/loss": 1.5, "eval/bpb": 0.625})
        await until(pilot, lambda: "0.6250" in text_of(screen)[1])
        status = read_status(fox)
        assert status is not None
        write_status(fox, replace(status, pid=NO_PID, birth=""))
        await until(pilot, lambda: " died " in text_of(screen)[1], seconds=5)
        assert "its process died: press r to resume from the newest checkpoint" in about(screen)
        make(root, "wise-owl", created_at="2026-01-01T11:30:00Z")
        await seen(pilot, 2)
        assert screen.table.current is not None and screen.table.current.name == "young-fox"
        shutil.rmtree(fox.path)
        await seen(pilot, 1)
        assert screen.table.current is not None and screen.table.current.name == "wise-owl"
        shutil.rmtree(root)
        await seen(pilot, 0)
        assert screen.has_class("-no-runs")

    drive(app_of(root, tmp_path), how)


def test_only_a_row_that_changed_is_drawn_anew(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        drawn: list[int] = []
        monkeypatch.setattr(screen.table, "_draw_row", drawn.append)
        screen._show()
        assert drawn == []
        assert screen._seen is not None
        summaries = list(screen._seen.summaries)
        summaries[2] = replace(summaries[2], step=101)
        screen._seen.summaries = summaries
        screen._show()
        assert drawn == [2]

    drive(app_of(root, tmp_path), how, (140, 30))


def test_the_filter_has_the_keyboard_before_it_is_seen(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        screen.action_filter()
        assert pilot.app.focused is screen.query_one("#filter", Input)
        await pilot.press(*"sad")
        await until(pilot, lambda: screen.query_one("#filter", Input).value == "sad")

    drive(app_of(root, tmp_path), how)


def test_the_filter_narrows_by_name_and_state_and_escape_takes_it_back(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        await pilot.press("slash", *"died")
        assert [row.name for row in screen.table.rows] == ["lost-duck"]
        await pilot.press("enter")
        assert screen.focused is screen.table
        await pilot.press("escape")
        assert len(screen.table.rows) == 5
        await pilot.press("slash", *"quick o")
        assert sorted(row.name for row in screen.table.rows) == ["lost-duck", "old-bear", "wise-owl", "young-fox"]
        assert screen.query_one("#filter", Input).value == "quick o"
        await pilot.press("escape", "slash", *"[/end]")
        assert list(screen.table.rows) == []

    drive(app_of(root, tmp_path), how)


def test_o_and_a_click_on_a_head_sort_and_the_order_is_remembered(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        await pilot.press("o")
        assert app.settings.sort == "name"  # after the age, round again
        assert screen.table.rows[0].name == "lost-duck"
        await pilot.press("O")
        assert screen.table.rows[0].name == "young-fox"
        head = screen.table.render_line(0).text
        x = screen.table.content_region.x + head.index("BITS")
        await pilot.click(offset=(x, screen.table.content_region.y))
        assert screen.table.rows[0].name == "wise-owl"
        await pilot.click(offset=(x, screen.table.content_region.y))
        assert app.settings.sort_reversed
        assert screen.table.rows[0].name == "young-fox"

    drive(app, how, (140, 30))
    again = app_of(root, tmp_path)
    assert (again.settings.sort, again.settings.sort_reversed) == ("bits", True)


def test_the_cursor_moves_by_keys_and_mouse_and_shows_what_a_run_told(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        await pilot.press("down")
        await until(pilot, lambda: "story at step 200  Once an owl told of the moon." in about(screen))
        await pilot.press("j")
        assert "the disk is full: free some space" in about(screen)
        for key, index in (("k", 1), ("up", 0), ("up", 0), ("end", 4), ("home", 0), ("pagedown", 4), ("pageup", 0)):
            await pilot.press(key)
            assert screen.table.cursor == index, key
        region = screen.table.content_region
        await pilot.click(offset=(region.x + 8, region.y + 4))
        assert screen.table.cursor == 3

    drive(app_of(root, tmp_path), how)


def test_marks_choose_what_is_compared_and_escape_takes_them_back(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)
    compared: list[list[str]] = []

    async def how(pilot: Pilot[None]) -> None:
        app.open_compare = lambda names: compared.append(list(names))  # type: ignore[method-assign]
        screen = await seen(pilot, 5)
        await pilot.press("c")
        assert said(pilot) == ["mark two runs or more with space, then press c"]
        await pilot.press("space", "down", "space", "c")
        assert compared == [["young-fox", "shy-hen"]]
        assert about(screen).splitlines()[1].startswith("2 marked")
        assert text_of(screen)[1].startswith("▌ ●")
        await pilot.press("escape")
        assert screen.table.marked == set()

    drive(app, how)


def test_t_and_enter_hand_the_run_under_the_cursor_over(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_few(root)
    app = app_of(root, tmp_path)
    went: list[object] = []

    async def how(pilot: Pilot[None]) -> None:
        monkeypatch.setattr(app, "open_story", lambda model: went.append(("story", model)))
        monkeypatch.setattr(app, "open_run", lambda name: went.append(("run", name)))
        screen = await seen(pilot, 5)
        await pilot.press("down", "t", "enter")
        region = screen.table.content_region
        await pilot.click(offset=(region.x + 8, region.y + 3), times=2)
        assert went == [("story", "wise-owl"), ("run", "wise-owl"), ("run", "shy-hen")]

    drive(app, how)


def test_deleting_asks_and_keeps_what_is_not_meant(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        await pilot.press("down", "d")
        assert isinstance(pilot.app.screen, Confirm)
        await pilot.press("enter")  # "Keep" has the focus
        assert top(pilot) is screen and (root / "wise-owl").is_dir()
        await pilot.press("d", "y")
        await seen(pilot, 4)
        assert not (root / "wise-owl").exists()
        await until(pilot, lambda: "wise-owl was deleted" in said(pilot))
        await pilot.press("home", "d", "y")  # it trains
        await until(pilot, lambda: "young-fox is running: storyteller stop young-fox first" in said(pilot))
        assert (root / "young-fox").is_dir()

    drive(app_of(root, tmp_path), how)


@pytest.mark.slow
def test_the_marked_runs_are_deleted_together(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        await pilot.press("down", "space", "space", "d", "left", "enter")
        await seen(pilot, 3)
        assert screen.run_names == ["young-fox", "old-bear", "lost-duck"]
        assert screen.table.marked == set()

    drive(app_of(root, tmp_path), how)


def test_renaming_refuses_what_cannot_be_a_name_and_gives_one_that_can(root: Path, tmp_path: Path) -> None:
    make(root, "old-bear")

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 1)
        await pilot.press("e", "end", *"[/x]", "enter")
        assert isinstance(pilot.app.screen, Ask)
        why = pilot.app.screen.query_one("#why", Static).content
        assert isinstance(why, Content) and why.plain.startswith("invalid run name old-bear[/x]: expected 1 to 64")
        await pilot.press("escape", "e", "end", "2", "enter")
        await until(pilot, lambda: screen.run_names == ["old-bear2"])
        await until(pilot, lambda: "old-bear is now old-bear2" in said(pilot))
        assert RunFolder(root / "old-bear2").read_run()["name"] == "old-bear2"

    drive(app_of(root, tmp_path), how)


def test_stopping_says_what_it_does_and_a_second_time_offers_to_kill(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storyteller.tracking import run_process

    make(root, "young-fox", "running", living=True)
    asked: list[bool] = []
    go_on = threading.Event()

    def stop(_folder: RunFolder, now: bool = False) -> str:
        asked.append(now)
        if not now:
            go_on.wait()
        return "stopped"

    monkeypatch.setattr(run_process, "stop", stop)

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 1)
        await pilot.press("s")
        assert said(pilot) == ["young-fox finishes its step, saves and stops (s again: kill it now)"]
        await pilot.press("s", "n", "s", "y")
        await until(pilot, lambda: asked == [False, True])
        await until(pilot, lambda: any("young-fox was killed" in words for words in said(pilot)))
        go_on.set()
        await until(pilot, lambda: not pilot.app.run_actions._stopping)  # type: ignore[attr-defined]
        assert not any("was stopped" in words for words in said(pilot))
        await pilot.press("s")
        await until(pilot, lambda: any("young-fox was stopped; r resumes it" in words for words in said(pilot)))

    try:
        drive(app_of(root, tmp_path), how)
    finally:
        go_on.set()


def test_stopping_a_run_that_has_ended_says_so_in_one_line(root: Path, tmp_path: Path) -> None:
    make(root, "wise-owl")

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 1)
        await pilot.press("s")
        line = "wise-owl is not running (it has finished): nothing to stop"
        await until(pilot, lambda: line in said(pilot))

    drive(app_of(root, tmp_path), how)


def test_a_finished_run_is_resumed_with_more_minutes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storyteller.tui import run_actions

    make(root, "wise-owl", steps=200)  # 100 seconds of training
    make(root, "old-bear", "stopped", created_at="2026-01-01T10:00:00Z")
    asked: list[object] = []

    def resume(folder: RunFolder, given: object = None) -> str:
        asked.append((folder.name, given))
        return "it resumed"

    monkeypatch.setattr(run_actions, "resume_run", resume)

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 2)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
        await pilot.press("backspace", *"soon", "enter")
        assert isinstance(pilot.app.screen, Ask)
        await pilot.press(*(["backspace"] * 4), "8", "enter")
        await until(pilot, lambda: asked == [("wise-owl", {"minutes": 9.67})])
        await pilot.press("down", "r")
        await until(pilot, lambda: asked[1:] == [("old-bear", None)])

    drive(app_of(root, tmp_path), how)


def test_where_there_are_no_runs_the_screen_says_what_to_press(root: Path, tmp_path: Path) -> None:
    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 0)
        content = screen.query_one("#empty", Static).content
        assert isinstance(content, Content)
        assert "train your first model" in content.plain and "generate stories with the starter" in content.plain
        for key in ("s", "r", "d", "e", "t", "c", "space", "o", "slash", "enter", "up", "end"):
            await pilot.press(key)
        assert pilot.app.screen is screen and said(pilot) == []
        make(root, "young-fox")
        await seen(pilot, 1)
        assert not screen.has_class("-no-runs")

    drive(app_of(root, tmp_path), how)


HOSTILE = "[/end][@click=app.quit]\x1b]52;c;aGk=\x07\x9b31m\u202e"


@pytest.mark.parametrize("size", [(100, 30), (40, 10), (12, 4)])
def test_hostile_folders_are_shown_literally(root: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    make(root, "odd-fox", "failed", message=HOSTILE, story=HOSTILE)
    plan = RunFolder(root / "odd-fox").read_run()
    RunFolder(root / "odd-fox").write_run(plan | {"config": {"preset": HOSTILE}, "created_at": HOSTILE})
    for name, contents in (("broken", b"{"), ("list", b"[]"), ("binary", bytes(range(256)))):
        (root / name).mkdir()
        for file in ("run.json", "status.json", "metrics.jsonl", "samples.jsonl", "wandb.json"):
            (root / name / file).write_bytes(contents)
    (root / "[end]").mkdir()
    (root / "bare").mkdir()

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 4)
        for _ in range(4):
            await pilot.press("down")
            shown = "\n".join(text_of(screen)) + about(screen)
            assert not set("\x1b\x07\x9b\u202e") & set(shown)
            assert screen.table.current is not None
            if screen.table.current.name == "odd-fox":
                assert "[/end][@click=app.quit]\u241b]52;c;aGk=\u2407\u20399B\u203a31m\u2039202E\u203a" in about(screen)
        pilot.app.say(HOSTILE)  # type: ignore[attr-defined]
        await pilot.pause()
        assert said(pilot)[-1].startswith("[/end][@click=app.quit]\u241b]52")

    drive(app_of(root, tmp_path), how, size)


def test_a_folder_of_runs_that_cannot_be_read_is_said_to_be_and_looked_at_again(root: Path, tmp_path: Path) -> None:
    root.symlink_to(root)  # names a folder that nobody can read, not even who may read all

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 0)
        empty = screen.query_one("#empty", Static)
        assert f"the runs in {root} cannot be read (too many levels of symbolic links)" in str(empty.content).lower()
        await pilot.press("s", "r", "enter", "t")
        await pilot.press("1")
        root.unlink()
        make(root, "shy-fox")
        await seen(pilot, 1)
        assert "shy-fox" in "\n".join(text_of(screen))

    drive(app_of(root, tmp_path), how)


@pytest.mark.slow
def test_a_terminal_is_resized_live_down_to_nothing_much(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        for size in ((160, 45), (40, 10), (3, 2), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert "loss" in screen.table.columns and "speed" not in screen.table.columns

    drive(app_of(root, tmp_path), how)


@pytest.mark.slow
def test_a_screen_that_is_covered_rests_and_looks_again_at_once_when_seen(root: Path, tmp_path: Path) -> None:
    make(root, "wise-owl")
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 1)
        app.action_new_run()
        await pilot.pause(0.7)
        make(root, "young-fox")
        await pilot.pause(0.7)
        assert screen.run_names == ["wise-owl"]
        await pilot.press("escape")
        await seen(pilot, 2)

    drive(app, how)


@pytest.mark.slow
def test_the_settings_of_the_order_survive_a_column_that_is_not_known(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)
    app.settings = Settings(sort="[/end]")

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        assert screen.table.rows[0].name == "young-fox"

    drive(app, how)

"""The app around its screens: views, help, palette, themes, the form of a new run, and how it all looks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from rich.color import ColorType
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input, Static

from storyteller import tui
from storyteller.errors import RunError, UsageError
from storyteller.launch import run_plan, start
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import seen_state
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.help import HelpScreen, keys_of
from storyteller.tui.screens.new_run import NewRunScreen, field_of
from storyteller.tui.screens.runs import RunsScreen
from storyteller.tui.widgets.choice import Choice
from storyteller.tui.widgets.key_hints import KeyHints
from storyteller.tui.widgets.run_table import RunTable
from storyteller.tui.widgets.view_bar import ViewBar
from tests.support.ptys import at_terminal
from tests.support.tui_runs import a_few, app_of, make, seen, until
from tests.test_laws import HEAVY, modules_after

Drive = Callable[[Pilot[None]], Coroutine[Any, Any, None]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def drive(app: StorytellerApp, how: Drive, size: tuple[int, int] = (100, 30)) -> None:
    async def run() -> None:
        async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
            await how(pilot)

    asyncio.run(run())


def said(pilot: Pilot[None]) -> list[str]:
    return [str(notice.message) for notice in pilot.app._notifications]


def words_of(widget: Static | ViewBar | KeyHints) -> str:
    content = widget.content if isinstance(widget, Static) else widget.render()
    assert isinstance(content, Content)
    return content.plain


# --- starting ---------------------------------------------------------------------------------------------------------


def test_the_first_screen_needs_nothing_heavy() -> None:
    loaded = modules_after("import storyteller.tui.app, storyteller.tui.screens.runs")
    assert loaded & HEAVY == {"textual"}
    assert "typer" not in loaded


def test_without_a_terminal_the_app_says_what_prints_the_same_plainly() -> None:
    with pytest.raises(UsageError, match="the app needs a terminal: use storyteller ps, logs and show for plain text"):
        tui.run()


def test_a_run_that_is_not_there_is_an_error_before_anything_is_drawn(root: Path, tmp_path: Path) -> None:
    a_few(root)
    with pytest.raises(RunError, match="there is no run wise-hen: did you mean"):
        app_of(root, tmp_path, run="wise-hen")


HOSTILE = "[/end][@click=app.quit]\x1b]52;c;aGk=\x07\x9b31m\u202e\x1b[31mred"


def test_at_a_real_terminal_no_byte_of_a_run_steers_it_and_q_leaves(root: Path) -> None:
    make(root, "odd-fox", "failed", message=HOSTILE, story=HOSTILE)
    with at_terminal("tui", "--runs-dir", str(root), columns=100) as terminal:
        terminal.until("odd-fox")
        terminal.until("story at step")
        terminal.say("q")
        assert terminal.finish() == 0
    wire = terminal.seen.decode().replace("\x1b]22;default\x07", "")  # Textual's own: the mouse pointer's shape
    assert "[/end]" in wire and "\u241b]52;c;aGk=\u2407" in wire
    assert not re.search("\x1b\\]52|\x07|[\x80-\x9f\u202e]|\x1b\\[31mred", wire)
    assert wire.rstrip().endswith(("\x1b[?1049l", "\x1b[?25h", "\x1b[?1006l", "\x1b[?1004l")), wire[-80:]


# --- views ------------------------------------------------------------------------------------------------------------


def test_a_run_opens_is_kept_and_escape_goes_back(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        home = await seen(pilot, 5)
        await pilot.press("2")
        assert said(pilot) == ["no run has been opened yet: open one with enter"]
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.view == "run")
        opened = app.screen
        assert app.run_shown == "wise-owl"
        assert "2 wise-owl" in words_of(opened.query_one(ViewBar))
        await pilot.press("1")
        assert app.screen is home
        await pilot.press("2")
        assert app.screen is opened
        await pilot.press("escape")
        assert app.screen is home
        app.open_run("old-bear")
        await until(pilot, lambda: app.run_shown == "old-bear" and app.view == "run")
        assert app.screen is not opened and len(app.screen_stack) == 2
        await pilot.press("4")
        assert said(pilot)[-1] == "mark two runs or more with space, then press c to compare them"
        app.action_new_run()
        await pilot.pause()
        app.action_view("runs")
        await pilot.pause()
        assert app.screen_stack == [home]

    drive(app, how)


@pytest.mark.slow
def test_another_run_opens_also_where_a_form_lies_over_the_run_that_is_shown(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)

    async def steps(pilot: Pilot[None]) -> None:
        app.open_run("old-bear")
        await until(
            pilot, lambda: app.view == "run" and app.screen.is_mounted and bool(app.screen.query("MetricCharts"))
        )
        await pilot.pause(0.2)
        app.action_new_run()
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen) and app.screen.is_mounted)
        app.open_run("young-fox")
        await until(pilot, lambda: app.run_shown == "young-fox" and app.screen is app._views["run"])

    drive(app, steps)


@pytest.mark.slow
def test_a_run_named_at_the_start_is_open_at_once(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path, run="wise")

    async def how(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.view == "run")
        assert app.run_shown == "wise-owl"

    drive(app, how)


def test_the_row_of_views_goes_where_it_is_clicked(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_few(root)
    app = app_of(root, tmp_path)
    went: list[str] = []

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 5)
        top = app.screen.query_one(ViewBar)
        assert words_of(top) == "storyteller   1 Runs   2 Run   3 Story   4 Compare"
        monkeypatch.setattr(app, "action_view", went.append)
        for word in ("1 Runs", "2 Run", "3 Story", "4 Compare"):
            await pilot.click(ViewBar, offset=(1 + words_of(top).index(word), 0))
        assert went == ["runs", "run", "story", "compare"]
        await pilot.resize_terminal(30, 12)
        await pilot.pause()
        assert words_of(top) == "1 Runs   2   3   4"

    drive(app, how)


def test_quitting_leaves_training_alone(root: Path, tmp_path: Path) -> None:
    fox = make(root, "young-fox", "running", living=True)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 1)
        await pilot.press("q")
        await until(pilot, lambda: not app.is_running)

    drive(app, how)
    assert seen_state(fox) == "running"


# --- hints, help, palette ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_hints_keep_help_and_quit_and_as_many_as_fit_and_are_pressed_by_a_click(root: Path, tmp_path: Path) -> None:
    a_few(root)

    async def how(pilot: Pilot[None]) -> None:
        screen = await seen(pilot, 5)
        hints = screen.query_one(KeyHints)
        for width in (160, 80, 40, 20):
            await pilot.resize_terminal(width, 24)
            await pilot.pause()
            shown = words_of(hints)
            assert len(shown) == width - 2 and shown.endswith("? Help  q Quit")
        await pilot.resize_terminal(100, 24)
        await pilot.pause()
        await pilot.click(KeyHints, offset=(1 + words_of(hints).index("o Sort"), 0))
        assert pilot.app.settings.sort == "name"  # type: ignore[attr-defined]

    drive(app_of(root, tmp_path), how)


def test_help_lists_every_key_of_the_view_and_the_plain_command(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        home = await seen(pilot, 5)
        groups = dict(keys_of(home))
        assert [keys for keys, _ in groups["This view"]] == [
            "n",
            "s",
            "r",
            "t",
            "space",
            "c",
            "/",
            "o",
            "O",
            "e",
            "d",
            "esc",
        ]
        assert {"↑ k", "↓ j", "home g", "end G", "⏎"} <= {keys for keys, _ in groups["Here"]}
        assert {"1", "2", "3", "4", "? f1", "^q q", "^p", "tab"} <= {keys for keys, _ in groups["Everywhere"]}
        for close in ("escape", "question_mark", "q"):
            await pilot.press("question_mark")
            assert isinstance(app.screen, HelpScreen)
            page = words_of(app.screen.query_one(Static))
            assert "storyteller ps" in page and "Rename" in page
            await pilot.press(close)
            assert app.screen_stack == [home]

    drive(app, how)


def test_the_palette_knows_the_keys_the_runs_and_the_looks(root: Path, tmp_path: Path) -> None:
    a_few(root)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        home = await seen(pilot, 5)
        commands = {command.title: command for command in app.get_system_commands(home)}
        assert {"Sort", "Stop", "Open wise-owl", "Tell from old-bear", "Theme: light", "Charts: blocks"} <= set(
            commands
        )
        await pilot.press("ctrl+p", *"sort")
        await until(pilot, lambda: app.screen is not home)
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: app.settings.sort == "name")
        commands["Charts: blocks"].callback()
        commands["Theme: light"].callback()
        assert (app.settings.cells, app.settings.theme, app.theme) == ("blocks", "light", "light")

    drive(app, how)
    again = app_of(root, tmp_path)
    assert (again.theme, again.settings.cells) == ("light", "blocks")


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["dark", "light", "ansi-dark", "ansi-light"])
def test_each_theme_has_eight_colors_that_can_be_drawn(root: Path, tmp_path: Path, theme: str) -> None:
    from textual.color import Color

    app = app_of(root, tmp_path)
    assert sorted(app.available_themes) == ["ansi-dark", "ansi-light", "dark", "light"]
    app.theme = theme
    assert len({Color.parse(color) for color in app.palette_colors}) == 8


def test_with_no_color_nothing_has_a_color_and_the_theme_is_not_forgotten(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_few(root)
    monkeypatch.setenv("NO_COLOR", "1")
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 5)
        colors = set()
        for strip in app.screen._compositor.render_strips():
            for filtered in [strip.apply_filter(each, app.screen.styles.background) for each in app.get_line_filters()][
                -1:
            ]:
                colors |= {part.style.color for part in filtered if part.style} | {
                    part.style.bgcolor for part in filtered if part.style
                }
        assert {color.type for color in colors if color is not None} <= {ColorType.DEFAULT}
        cursor = app.screen.query_one(RunTable).render_line(1)
        assert all(part.style is not None and part.style.reverse for part in cursor if part.text.strip())

    drive(app, how)
    assert app.settings.theme == "dark"


def test_a_broken_settings_file_is_said_once_and_a_full_disk_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tui.json").write_text("{")
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        await seen(pilot, 0)
        path = tmp_path / "config" / "tui.json"
        assert said(pilot)[0] == f"using the default settings: cannot read {path} (not valid JSON)"
        (tmp_path / "config" / "tui.json").unlink()
        (tmp_path / "config").rmdir()
        (tmp_path / "config").write_text("")
        app.save_settings()
        await pilot.pause()
        assert said(pilot)[-1].startswith("settings cannot be saved:")

    drive(app, how)


# --- a new run --------------------------------------------------------------------------------------------------------


async def form(pilot: Pilot[None]) -> NewRunScreen:
    await seen(pilot)
    await pilot.press("n")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
    screen = pilot.app.screen
    assert isinstance(screen, NewRunScreen)
    await pilot.pause()
    return screen


def test_the_form_writes_the_command_and_says_at_the_field_what_is_off(root: Path, tmp_path: Path) -> None:
    async def how(pilot: Pilot[None]) -> None:
        screen = await form(pilot)
        command, trouble = screen.query_one("#command", Static), screen.query_one("#progress", Static)
        assert words_of(command) == "storyteller train"
        assert [screen.query_one(f"#{name}", Input).placeholder for name in ("amount", "batch-size", "lr")] == [
            "5", "16", "0.008",
        ]  # fmt: skip
        await pilot.press(*"fox", "tab", *"bundled")
        assert words_of(command) == "storyteller train --name fox --data bundled"
        for name, typed, problem, at_field in (
            ("name", "Fox", "invalid run name Fox", "expected 1 to 64 of a-z 0-9 . _ -"),
            ("layers", "0", "invalid value 0 for --layers", "expected 1 to 256 blocks"),
            ("width", "99", "--width 99 cannot be shared evenly by --heads 4", "take a width that is a multiple of 4"),
            ("lr", "fast", "invalid value fast for train.lr", "expected a number"),
            ("batch-size", "[/end]", "invalid value [/end] for train.batch_size", "expected a whole number"),
            ("amount", "-1", "invalid value -1.0 for --minutes", "expected a number above 0"),
        ):
            field = screen.query_one(f"#{name}", Input)
            before, field.value = field.value, typed
            await pilot.pause()
            assert words_of(trouble).startswith(problem)
            assert words_of(screen.query_one(f"#{name}-note", Static)).startswith(at_field)
            field.value = before
            await pilot.pause()
            assert words_of(trouble) == ""
        screen.query_one("#wandb", Choice).focus()
        await pilot.press("left")
        screen.query_one("#preset", Choice).value = "classic"
        await pilot.pause()
        assert screen.query_one("#budget", Choice).value == "epochs"
        assert words_of(command) == "storyteller train --preset classic --name fox --data bundled --wandb off"

    drive(app_of(root, tmp_path), how)


def test_every_error_of_the_options_finds_its_field() -> None:
    for problem, name in (
        ("--steps 5 and --minutes 3 are two budgets: give one", "amount"),
        ("invalid value x for train.minutes: expected a number", "amount"),
        ("--data /nowhere does not exist: check the path", "data"),
        ("a run named fox exists: choose another --name", "name"),
        ("latest is a reserved name: choose another --name", "name"),
        ("--wandb online: no API key found: run `wandb login`", "wandb"),
        ("invalid value -1 for --seed: expected 0 or a whole number above it", "seed"),
        ("the disk is full: free some space", None),
    ):
        assert field_of(problem) == name


def test_a_run_that_cannot_start_says_why_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    make(root, "fox")

    async def how(pilot: Pilot[None]) -> None:
        screen = await form(pilot)
        await pilot.press(*"fox", "enter")
        trouble = screen.query_one("#progress", Static)
        await until(pilot, lambda: words_of(trouble).startswith("a run named fox exists"))
        await pilot.press("2", "tab", *"/nowhere", "enter")
        await until(pilot, lambda: words_of(trouble) == "--data /nowhere does not exist: check the path")
        assert [path.name for path in root.iterdir()] == ["fox"]

    drive(app_of(root, tmp_path), how)


SPEAKS = """
import sys, time
from pathlib import Path
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
folder = RunFolder(Path(sys.argv[1]))
print("a tokenizer is trained [/end]", flush=True)
time.sleep(0.5)
if sys.argv[2] == "fails":
    write_status(folder, own_status("failed", message="there are no stories: give it some", exit_code=1))
    sys.exit(1)
write_status(folder, own_status("running", step=1))
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how_it_goes", ["trains", "fails"])
def test_starting_shows_what_the_process_says_and_ends_in_the_run_or_in_the_reason(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how_it_goes: str
) -> None:
    processes = []

    def begin(folder: RunFolder, *_: object) -> Any:
        words = [sys.executable, "-c", SPEAKS, str(folder.path), how_it_goes]
        processes.append(start.start(folder, command=words))
        return processes[-1]

    monkeypatch.setattr(run_plan, "start_run", begin)
    app = app_of(root, tmp_path)

    async def how(pilot: Pilot[None]) -> None:
        screen = await form(pilot)
        await pilot.press(*"little-fox", "ctrl+s")
        said_last = screen.query_one("#progress", Static)
        await until(pilot, lambda: "a tokenizer is trained [/end]" in words_of(said_last))
        if how_it_goes == "fails":
            await until(pilot, lambda: words_of(said_last) == "there are no stories: give it some")
            assert not (root / "little-fox").exists()
            return
        await until(pilot, lambda: app.view == "run")
        assert app.run_shown == "little-fox" and not isinstance(app.screen, NewRunScreen)
        plan = RunFolder(root / "little-fox").read_run()
        assert plan["command"] == "storyteller train --name little-fox"
        assert plan["config"]["train"]["minutes"] == 5

    try:
        drive(app, how)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


# --- pictures ---------------------------------------------------------------------------------------------------------

SMALL, LARGE = (80, 24), (160, 45)
PICTURES = [
    *(("runs", theme, size) for theme in ("dark", "light") for size in (SMALL, LARGE)),
    *((what, theme, size) for what in ("empty", "new_run") for theme, size in (("dark", SMALL), ("light", LARGE))),
    *(("help", theme, SMALL) for theme in ("dark", "light")),
]


@pytest.mark.parametrize(
    ("what", "theme", "size"),
    [
        # The light ones show what the dark ones do, in other colours.
        pytest.param(what, theme, size, id=f"{what}-{theme}-{size[0]}", marks=[pytest.mark.slow] * (theme == "light"))
        for what, theme, size in PICTURES
    ],
)
def test_it_looks_as_it_did(
    snap_compare: Any,
    root: Path,
    tmp_path: Path,
    what: str,
    theme: str,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storyteller.system.hardware.training_cores", lambda *_: 2)
    if what != "empty":
        a_few(root)
    app = app_of(root, tmp_path)
    app.theme = theme

    async def ready(pilot: Pilot[None]) -> None:
        await seen(pilot, 0 if what == "empty" else 5)
        if what == "runs":
            await pilot.press("down", "space", "up")
            home = pilot.app.screen
            assert isinstance(home, RunsScreen)
            await pilot.pause(0.1)
        elif what == "new_run":
            await pilot.press("n")
            await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen))
            for part in pilot.app.screen.query(Input):
                part.cursor_blink = False
            await pilot.press(*"fox", "tab", "tab", "tab", "x")
        elif what == "help":
            await pilot.press("question_mark")
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=ready)

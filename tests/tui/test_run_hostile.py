"""The Run view over folders that are broken, hostile, or go away: it stays, and shows what there is as it stands."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from storyteller.text import safe
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status
from storyteller.tui.screens.run import RunScreen
from storyteller.tui.widgets.metric_charts import MetricCharts
from storyteller.tui.widgets.run_header import RunHeader
from storyteller.tui.widgets.run_stories import RunStories
from tests.support.terminal import Terminal
from tests.support.watched import a_run, grow, in_a_loop, raw, text_of, the_app, until, watching

MARKUP = "[/end] [@click=app.quit]me[/] [bold red]"
CONTROLS = "\x1b]52;c;aGk=\x07 \x1b[2J \x9b31m \u202eolleh\u2066 \x7f \r\b"
ALL_KEYS = [*"vvLLg", "slash", "a", "enter", *"ixlmzz", "down", "p", "plus", "left", "0"]


def controls_in(text: str) -> set[str]:
    """Characters that a terminal could act on."""
    return {c for c in text if c != "\n" and (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in "\u202e\u2066\u200f")}


async def look(pilot: Pilot[None], name: str) -> RunScreen:
    """Open a run, of which there may be nothing to draw."""
    pilot.app.open_run(name)  # type: ignore[attr-defined]
    await until(pilot, lambda: isinstance(pilot.app.screen, RunScreen) and pilot.app.screen.is_mounted)
    await until(pilot, lambda: pilot.app.screen.query_one(RunHeader).summary is not None)
    assert isinstance(pilot.app.screen, RunScreen)
    return pilot.app.screen


@pytest.mark.slow
@pytest.mark.parametrize("size", [(40, 10), (160, 45)], ids=str)
@in_a_loop
async def test_markup_and_controls_are_shown_as_they_are_everywhere(tmp_path: Path, size: tuple[int, int]) -> None:
    root = tmp_path / "runs"
    folder = a_run(root, saved=())
    evil = MARKUP + CONTROLS
    raw(folder.samples, *({"step": 400, "prompt": evil + str(n), "text": evil * 3, "seed": 42} for n in range(2)))
    lines = (f"00:00:00 {evil}", evil, f"00:00:00 failed: {evil}")
    raw(folder.log, *(line.encode() for line in lines), b"\xff\xfe\x1b[31m")
    plan = json.loads(folder.run_json.read_text())
    plan["config"]["data"]["source"] = [evil, evil]
    plan[evil] = {evil: evil}
    folder.run_json.write_text(json.dumps(plan))
    write_status(folder, Status("failed", 1, 1.0, step=400, message=evil, exit_code=1))
    async with watching(root, size=size) as (pilot, screen):
        seen = ""
        for key in ("p", "p", "p", "p", *ALL_KEYS):
            await pilot.press(key)
            shown = text_of(pilot)
            assert not controls_in(shown), key
            seen += shown
        assert pilot.app.screen is screen
        assert "[/end] [@click=app.quit]me[/]" in seen
        if size[0] > 100:
            assert safe("\x1b]52;c;aGk=\x07") in seen


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"run.json": b"{"},
        {"run.json": b'{"schema": 1, "config": [1, {"model": 5}], "host": "\\u001b[31m"}'},
        {"run.json": b'{"schema": 99}', "status.json": b"[]", "metrics.jsonl": b"\x00" * 5000 + b"\n{}\n"},
        {
            "run.json": b'{"schema": 1, "config": {"preset": 3, "train": {"steps": "m"}, "model": {"n_layer": 1e400}}}',
            "metrics.jsonl": b'{"step": 1, "train/loss": 1e999}\n{"step": 2, "train/loss": "x"}\n{"step": 3, "train/l',
            "samples.jsonl": b'{"step": 1e9, "prompt": 1}\n\xff\n{"step": 2, "prompt": "a", "text": "b"}\n',
            "train.log": b"\r\r\r" * 1000,
            "checkpoints": b"no folder",
        },
    ],
    ids=["nothing", "torn", "of other kinds", "newer", "numbers"],
)
@in_a_loop
async def test_a_broken_folder_is_looked_at_without_a_crash(tmp_path: Path, broken: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path / "runs" / "odd")
    folder.path.mkdir(parents=True)
    for name, contents in broken.items():
        (folder.path / name).write_bytes(contents)
    app = the_app(folder.path.parent, tmp_path / "settings.json")
    async with app.run_test(size=(80, 24), notifications=True, tooltips=True) as pilot:
        screen = await look(pilot, "odd")
        await pilot.press(*ALL_KEYS, "left_square_bracket", "enter", "s")
        assert pilot.app.screen is screen
        assert not controls_in(text_of(pilot))


@in_a_loop
async def test_a_run_that_is_removed_while_open_is_said_to_be_and_stays_to_be_read(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs")
    async with watching(tmp_path / "runs") as (pilot, screen):
        before = list(screen.query_one(MetricCharts).chart.lines[0].y)
        shutil.rmtree(folder.path)
        await until(pilot, lambda: "its folder was deleted" in text_of(pilot), seconds=5)
        await pilot.press("left_square_bracket", "x", "x", "x", "v", "v", "L", "g", "down", "up", "s", "r", "enter")
        assert pilot.app.screen is screen
        assert screen.query_one(RunStories).step == 300
        assert list(screen.query_one(MetricCharts).chart.lines[0].y) == before
        assert "deleted" in screen.query_one(RunHeader).content.plain  # type: ignore[union-attr]


@in_a_loop
async def test_a_log_that_is_begun_anew_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    async with watching(tmp_path / "runs") as (pilot, screen):
        folder.metrics.unlink()
        grow(folder, 2, 4)
        await until(pilot, lambda: list(screen.query_one(MetricCharts).chart.lines[0].x) == [2, 4])


@pytest.mark.slow
def test_nothing_of_a_hostile_run_steers_the_terminal(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "runs", saved=())
    evil = "here \x1b]52;c;aGk=\x07 \x1b[31;7;99m \x9b99m \u202e there"
    raw(folder.samples, {"step": 400, "prompt": "Once upon a time", "text": evil, "seed": 42})
    raw(folder.log, f"00:00:00 {evil}".encode())
    write_status(folder, Status("failed", 1, 1.0, step=400, message=evil, exit_code=1))
    words = [sys.executable, "-m", "storyteller", "tui", "brave-fox", "--runs-dir", str(folder.path.parent)]
    with Terminal(words, columns=100, rows=30) as terminal:
        terminal.wait_for("training loss", 60)
        terminal.wait_for("here \u241b]52;c;aGk=\u2407")
        terminal.send("L")
        terminal.wait_for("00:00:00 here")
        terminal.send("q")
        assert terminal.ended(60) == 0
        wire = b"".join(chunk.data for chunk in terminal.chunks)
    for steering in (b"\x1b]52", b"\x1b[31;7;99m", "\x9b".encode(), "\u202e".encode()):
        assert steering not in wire

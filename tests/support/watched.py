"""Runs to look at: folders with a past made up by a formula, the same in every test, and an app that shows one."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

from textual.pilot import Pilot

from storyteller.config.configs import PROMPTS
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.run import RunScreen
from storyteller.tui.widgets.metric_charts import MetricCharts
from storyteller.tui.widgets.run_header import RunHeader
from tests.support import tiny_models
from tests.support.training import tiny_config

NOW = 1_767_225_600.0
STEPS = 400
TOLD = (0, 100, 200, 300, 400)
_WORDS = (
    "umbrella",
    "girl",
    "roll",
    "rag",
    "began",
    "once",
    "the",
    "fox",
    "ran",
    "home",
    "and",
    "was",
    "glad",
    "of",
    "it",
)


def line(step: int, slower: float = 1.0) -> dict[str, Any]:
    """What a run logs at a step."""
    wave = math.sin(step * 1.7) * 0.15 + math.sin(step * 0.37) * 0.1
    return {
        "step": step,
        "tokens": step * 512,
        "seconds": round(step * 0.25 * slower, 3),
        "time": "2026-01-01T00:00:00Z",
        "train/loss": 1.6 + 6 * math.exp(-step / (90 * slower)) + wave,
        "train/grad_norm": 1 + abs(wave),
        "train/lr": 0.008 * min(1.0, step / 20) * (1 - step / 500),
        "train/tokens_per_second": 2000 + 300 * wave,
        "train/mfu_pct": 1.2 + wave / 4,
        "train/data_wait_pct": 0.05 + 0.02 * wave,
        "memory/rss_gib": 0.5 + 0.02 * (step // 120),
    }


def evaluation(step: int, slower: float = 1.0) -> dict[str, Any]:
    stamp = {key: line(step, slower)[key] for key in ("step", "tokens", "seconds", "time")}
    return stamp | {"eval/bpb": 0.6 + 2.4 * math.exp(-step / (80 * slower))}


def story(prompt: str, step: int) -> str:
    """What it says at a step: the later, the more words in their order."""
    n_right = len(_WORDS) * step // STEPS
    mixed = _WORDS[n_right:][::-1]
    return " " + " ".join([*_WORDS[:n_right], *mixed]) + f" ({len(prompt)})."


def a_run(
    root: Path, name: str = "brave-fox", *, slower: float = 1.0, saved: tuple[int, ...] = (200, 400)
) -> RunFolder:
    """A finished run of 400 steps, with stories and real checkpoints that say one thing by heart."""
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True)
    config = tiny_config(train_steps=STEPS).to_json()
    folder.write_run(
        {
            "name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "command": f"storyteller train --data bundled --steps 400 --name {name}",
            "config": config,
            "seed": 42,
            "versions": {"storyteller": "0.1.0", "torch": "2.13.0"},
            "host": {"cores": 2, "memory_gib": 23.5, "device": "cpu", "precision": "fp32"},
        }
    )
    with JsonLog(folder.metrics) as log:
        for step in range(STEPS + 1):
            if step and step % 2 == 0:
                log.append(line(step, slower))
            if step in TOLD:
                log.append(evaluation(step, slower))
    with JsonLog(folder.samples) as log:
        for step in TOLD:
            for prompt in PROMPTS:
                log.append({"step": step, "prompt": prompt, "text": story(prompt, step), "seed": 42, "finished": True})
    folder.log.write_text(
        "".join(
            f"00:0{step // 100}:00 step {step}: {evaluation(step)['eval/bpb']:.4f} bits per byte\n" for step in TOLD
        )
    )
    for step in saved:
        save(folder, step, {"eval/bpb": evaluation(step, slower)["eval/bpb"]})
    write_status(folder, Status("finished", 1, 1.0, step=STEPS, tokens=STEPS * 512, exit_code=0))
    return folder


def save(folder: RunFolder, step: int, facts: dict[str, object] | None = None, says: str = "") -> Path:
    """A checkpoint that says one thing by heart."""
    staging = checkpoint_folders.stage(folder, step)
    shutil.rmtree(staging)
    said = says or f"Once upon a time at step {step} a fox spoke."
    return checkpoint_folders.seal(tiny_models.script_folder(staging, said), folder, step, facts or {})


def the_app(root: Path, settings: Path, **choices: object) -> StorytellerApp:
    app = StorytellerApp(root, None, now=lambda: NOW, settings_path=settings)
    for name, value in choices.items():
        setattr(app.settings, name, value)
    app.theme = app.settings.theme
    return app


P = ParamSpec("P")


def in_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test that awaits, as one that does not."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@contextlib.asynccontextmanager
async def watching(
    root: Path, name: str = "brave-fox", size: tuple[int, int] = (80, 24), **choices: object
) -> AsyncIterator[tuple[Pilot[None], RunScreen]]:
    """The app with a run open, drawn."""
    app = the_app(root, root.parent / "settings.json", **choices)
    async with app.run_test(size=size, notifications=True, tooltips=True) as pilot:
        yield pilot, await opened(pilot, name)


async def opened(pilot: Pilot[None], name: str) -> RunScreen:
    """Open a run in the app, and wait until all of it is on the screen."""
    app = pilot.app
    assert isinstance(app, StorytellerApp)
    app.open_run(name)
    await until(pilot, lambda: isinstance(app.screen, RunScreen) and is_settled(app.screen))
    assert isinstance(app.screen, RunScreen)
    return app.screen


def is_settled(screen: RunScreen) -> bool:
    """True once the whole log was read and everything requested is drawn."""
    lines = screen._lines
    if not screen.is_mounted or lines is None or screen.query_one(RunHeader).summary is None:
        return False
    charts = screen.query_one(MetricCharts)
    return lines.request == screen._line_request() and lines.share_read >= 1 and charts.is_drawn


async def until(pilot: Pilot[None], what: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `what` is true; an assertion fails where it never is."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.01)
    await pilot.pause()


async def drawn(pilot: Pilot[None], screen: RunScreen) -> MetricCharts:
    """The board, with what was asked for drawn."""
    await until(pilot, lambda: is_settled(screen))
    return screen.query_one(MetricCharts)


def text_of(pilot: Pilot[None]) -> str:
    """What the screen shows, rows ended by newlines, without its styles."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def grow(folder: RunFolder, *steps: int) -> None:
    """Log more steps."""
    with JsonLog(folder.metrics) as log:
        for step in steps:
            log.append(line(step))


def raw(path: Path, *records: object) -> None:
    """Append lines as they stand."""
    with path.open("ab") as file:
        for record in records:
            file.write((record if isinstance(record, bytes) else json.dumps(record).encode()) + b"\n")

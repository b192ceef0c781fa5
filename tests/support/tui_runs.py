"""Fixed run folders for the app's tests, and a way to wait for what its threads bring."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from storyteller.config.presets import resolve
from storyteller.tracking import run_folder
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import State, Status, own_status, write_status
from storyteller.tui.app import StorytellerApp
from storyteller.tui.screens.runs import RunsScreen

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC).timestamp()
NO_PID = 2**22 + 5
"""More than any process has."""


def make(
    root: Path,
    name: str,
    state: State = "finished",
    *,
    created_at: str = "2026-01-01T11:00:00Z",
    steps: int = 100,
    bits: float = 0.5,
    message: str = "",
    living: bool = False,
    story: str = "",
    **options: Any,
) -> RunFolder:
    """A run as a training process leaves it, or with `living` as this process would train it."""
    folder = run_folder.create(root, name)
    config = resolve("quick", {"train.steps": 200} | options)
    folder.write_run({"name": name, "created_at": created_at, "config": config.to_json()})
    owner = own_status(state) if living else Status(state, NO_PID, 1.0)
    write_status(folder, replace(owner, step=steps, tokens=steps * 64, message=message))
    with JsonLog(folder.metrics) as log:
        for step in range(0, steps + 1, 10):
            figures = {"train/loss": 1 + 4 / (1 + step / 20), "train/tokens_per_second": 5000 + step}
            spent = {"seconds": step / 2, "tokens": step * 64, "time/eta_seconds": (200 - step) / 2}
            log.append({"step": step, **figures, **spent} | ({"eval/bpb": bits} if step % 50 == 0 else {}))
    if story:
        with JsonLog(folder.samples) as log:
            log.append({"step": steps, "prompt": "Once", "text": story, "seed": 1})
    return folder


def a_few(root: Path) -> None:
    """Five runs of different states, each a minute older than the one before."""
    make(root, "young-fox", "running", living=True, created_at="2026-01-01T11:59:00Z", steps=40, bits=0.9)
    make(root, "wise-owl", created_at="2026-01-01T11:58:00Z", steps=200, bits=0.25, story=" an owl told of the moon.")
    make(root, "shy-hen", "failed", created_at="2026-01-01T11:57:00Z", message="the disk is full: free some space")
    make(root, "old-bear", "stopped", created_at="2026-01-01T11:56:00Z", bits=0.75)
    make(root, "lost-duck", "running", created_at="2026-01-01T11:55:00Z", steps=70, bits=0.8)


def app_of(root: Path, tmp_path: Path, **options: Any) -> StorytellerApp:
    """The app on these runs, with a still clock and settings of its own."""
    return StorytellerApp(root, now=lambda: NOW, settings_path=tmp_path / "config" / "tui.json", **options)


async def until(pilot: Pilot[None], what: Callable[[], object], seconds: float = 20) -> None:
    """Let the app work until `what` is true; an assertion fails where it never is."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await pilot.pause(0.02)


async def seen(pilot: Pilot[None], n_runs: int | None = None) -> RunsScreen:
    """The home screen, once it has seen the disk."""
    screen = pilot.app.screen_stack[0]
    assert isinstance(screen, RunsScreen)
    # The first look leaves the losses out.
    await until(pilot, lambda: screen._seen is not None and screen._seen.losses is not None)
    await until(pilot, lambda: n_runs is None or len(screen.run_names) == n_runs)
    await pilot.pause()
    return screen

"""Snapshots of the Run view, in two sizes and two themes, of a run that does not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support.watched import a_run, drawn, opened, the_app

Compare = Callable[..., bool]
CASES = [
    ((80, 24), "dark", []),
    ((80, 24), "light", ["left_square_bracket", "left_square_bracket"]),
    ((160, 45), "dark", ["left_square_bracket"]),
    ((160, 45), "light", ["g"]),
]


@pytest.mark.parametrize(
    ("size", "theme", "keys"), CASES, ids=["small-dark", "small-light", "large-dark", "large-light"]
)
def test_the_run_view(
    snap_compare: Compare, tmp_path: Path, size: tuple[int, int], theme: str, keys: list[str]
) -> None:
    a_run(tmp_path / "runs")

    async def show(pilot: Pilot[Any]) -> None:
        screen = await opened(pilot, "brave-fox")
        await pilot.press(*keys)
        await drawn(pilot, screen)
        await pilot.pause(0.2)

    app = the_app(tmp_path / "runs", tmp_path / "settings.json", theme=theme)
    assert snap_compare(app, terminal_size=size, run_before=show)

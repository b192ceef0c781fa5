"""Curves: bins against all lines, slices against one reading, zooms against the file, resumes, faults of the file."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.curves import Curves
from storyteller.runs.layout import RunFolder
from storyteller.runs.metrics import by_step, finite, read_records

LOSS, BPB = "train/loss", "eval/bpb"

_figures = st.one_of(
    st.floats(-1e308, 1e308), st.integers(-100, 100), st.sampled_from(["much", None, True, 10**400, [1]])
)
_records = st.builds(
    lambda step, more: {"step": step, "tokens": step * 100 if type(step) is int else None, **more},
    st.one_of(st.integers(0, 60), st.sampled_from([1.5, "7", None, True, 2**60])),
    st.fixed_dictionaries({}, optional={LOSS: _figures, BPB: _figures, "seconds": st.floats(0, 1e6)}),
)
_lines = st.one_of(
    _records.map(json.dumps),
    _records.map(lambda record: json.dumps(record).replace("{", "  {", 1)),
    st.sampled_from(['{"step": 3, "train/loss": 1e400}', '{"step": 4, "train/loss": NaN}', "{", "", "[1]", "\u00e9"]),
)


def folder_with(path: Path, lines: list[str]) -> RunFolder:
    folder = RunFolder(path)
    folder.metrics.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return folder


def expected(folder: RunFolder, key: str, axis: str = "step") -> list[tuple[float, float]]:
    """What the curve has to be, from all lines at once."""
    sound = [
        {name: value for name, value in record.items() if name == "step" or finite(value) is not None}
        for record in read_records(folder.metrics)[0]
        if type(record.get("step")) is int and record["step"] <= 2**53
    ]
    return [(float(r[axis]), float(r[key])) for r in by_step(sound) if key in r and axis in r]


def points(curves: Curves, key: str, **how: Any) -> list[tuple[float, float]]:
    line = curves.line(key, **how)
    assert line.low == line.mean == line.high
    return list(zip(line.x, line.mean, strict=True))


@settings(max_examples=150, deadline=None)
@given(st.lists(_lines, max_size=60))
def test_a_short_log_s_curve_is_its_lines_as_the_last_course_left_them(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = folder_with(Path(path), lines)
        curves = Curves(folder)
        assert curves.catch_up()
        for key in (LOSS, BPB):
            assert points(curves, key) == expected(folder, key)
            assert points(curves, key, x="tokens") == expected(folder, key, "tokens")
            assert points(curves, key, x="seconds") == [(x, y) for x, y in expected(folder, key, "seconds")]


@settings(max_examples=150, deadline=None)
@given(st.lists(_lines, max_size=120), st.sampled_from([2, 4, 8]))
def test_bins_hold_the_mean_the_lowest_and_the_highest_of_all_lines(lines: list[str], most_bins: int) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = folder_with(Path(path), lines)
        curves = Curves(folder, most_bins)
        curves.catch_up()
        for key in (LOSS, BPB):
            values = [value for _, value in expected(folder, key)]
            line = curves.line(key, points=1)
            if not values:
                assert line.x == []
                continue
            largest = max(map(abs, values))
            assert (line.low, line.high) == ([min(values)], [max(values)])
            assert math.isclose(
                line.mean[0], math.fsum(value / len(values) for value in values), rel_tol=1e-9, abs_tol=largest * 1e-9
            )
            assert points(curves, key) == expected(folder, key)  # so few lines are read again where a bin holds several

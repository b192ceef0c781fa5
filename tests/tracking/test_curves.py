"""Curves: bins against all lines, slices against one reading, zooms against the file, resumes, faults of the file."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import tempfile
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.system.json_values import finite
from storyteller.tracking.curves import AXES, Curves
from storyteller.tracking.metrics_log import by_step
from storyteller.tracking.run_folder import RunFolder
from tests.support.records import read_records

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
            mean = float(sum(map(Fraction, values)) / len(values))
            least = len(values) * math.ulp(0.0)  # a sum of the smallest numbers cannot be nearer
            assert math.isclose(line.mean[0], mean, rel_tol=1e-9, abs_tol=largest * 1e-9 + least)
            assert points(curves, key) == expected(folder, key)  # so few lines are read again where a bin holds several


# --- reading in pieces ------------------------------------------------------------------------------------------------


def everything(curves: Curves) -> dict[str, Any]:
    keys = sorted(curves.keys)
    lines = {(key, x, n): curves.line(key, x, points=n) for key in keys for x in AXES for n in (3, 1 << 30)}
    return {"lines": lines, "last": dict(curves.last), "resumes": curves.resumes}


@settings(max_examples=60, deadline=None)
@given(st.lists(_lines, max_size=60), st.sampled_from([2, 4, 8, 8192]), st.data())
def test_a_log_that_grows_in_pieces_is_read_as_one_that_was_there_at_once(
    lines: list[str], most_bins: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = folder_with(Path(path), lines)
        whole = folder.metrics.read_bytes()
        at_once = Curves(folder, most_bins)
        at_once.catch_up()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
        folder.metrics.write_bytes(b"")
        in_pieces = Curves(folder, most_bins)
        for begin, end in itertools.pairwise([0, *cuts, len(whole)]):
            with folder.metrics.open("ab") as file:
                file.write(whole[begin:end])
            assert in_pieces.catch_up()
        assert everything(in_pieces) == everything(at_once)


def test_a_reading_with_a_budget_comes_back_soon_and_goes_on_the_next_time(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(8000)])
    curves = Curves(folder)
    shares = []
    while not curves.catch_up(budget_seconds=0.0):
        shares.append(curves.share_read)
    assert len(shares) >= 4
    assert shares == sorted(set(shares))
    assert curves.share_read == 1.0
    assert points(curves, LOSS, points=8000) == expected(folder, LOSS)


def test_a_line_under_way_waits_for_its_end(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ['{"step": 1, "train/loss": 3.5}'])
    curves = Curves(folder)
    with folder.metrics.open("ab") as file:
        file.write(b'{"step": 2, "train/lo')
        file.flush()
        assert curves.catch_up()
        version = curves.version
        assert points(curves, LOSS) == [(1.0, 3.5)]
        assert curves.catch_up()
        assert curves.version == version
        file.write(b'ss": 2.5}\n')
        file.flush()
        assert curves.catch_up()
    assert curves.version > version
    assert points(curves, LOSS) == [(1.0, 3.5), (2.0, 2.5)]
    assert curves.last == {"step": 2, LOSS: 2.5}


def test_lines_of_one_step_are_one_point_and_a_later_value_wins(tmp_path: Path) -> None:
    lines = ['{"step": 1, "train/loss": 3.5}', '{"step": 1, "eval/bpb": 1.5}', '{"step": 1, "train/loss": 3.25}']
    curves = Curves(folder_with(tmp_path, lines))
    curves.catch_up()
    assert (points(curves, LOSS), points(curves, BPB)) == ([(1.0, 3.25)], [(1.0, 1.5)])


def test_one_thread_reads_while_another_looks(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(3000)])
    curves = Curves(folder, most_bins=64)
    over = threading.Event()
    seen: list[int] = []

    def look() -> None:
        while not over.is_set():
            line = curves.line(LOSS, begin=100, end=2500, smoothing=0.1)
            assert list(line.x) == sorted(line.x)
            assert len(line.x) == len(line.mean) == len(line.smooth)
            seen.append(len(line.x))
            _ = (curves.last, curves.keys, curves.resumes, curves.place_of(500, "tokens"))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        with folder.metrics.open("a", encoding="utf-8") as log:
            for step in [*range(3000, 4000), *range(2000, 3500)]:
                log.write(training(step) + "\n")
                if step % 250 == 0:
                    log.flush()
                    while not curves.catch_up(0.005):
                        pass
        curves.catch_up()
        over.set()
        looking.result()
    assert seen
    assert curves.resumes == [2000]
    assert points(curves, LOSS, points=4000) == expected(folder, LOSS)


# --- looking ----------------------------------------------------------------------------------------------------------


def training(step: int, **more: Any) -> str:
    loss = 2 + 4 / (1 + step / 100) + (step * 7919 % 101) / 300
    return json.dumps({"step": step, "tokens": step * 10, "seconds": step / 8, LOSS: loss, **more})


def test_a_zoom_shows_the_file_s_own_lines_and_one_more_on_either_side(tmp_path: Path) -> None:
    lines = [training(step, **({BPB: step / 7} if step % 50 == 0 else {})) for step in range(6000)]
    folder = folder_with(tmp_path, lines)
    curves = Curves(folder, most_bins=128)
    curves.catch_up()
    assert len(curves.line(LOSS, points=100).x) <= 101
    assert curves.line(LOSS, points=100).low != curves.line(LOSS, points=100).high
    for key in (LOSS, BPB):
        for x, unit in (("step", 1.0), ("tokens", 10.0), ("seconds", 0.125)):
            every = expected(folder, key, x)
            for begin, end in ((1000, 1400), (3, 4), (5990, 7000), (-5, 60), (2025.5, 2026.0), (5999, 5999)):
                inside = [i for i, (place, _) in enumerate(every) if begin * unit <= place <= end * unit]
                after = next((i for i, (place, _) in enumerate(every) if place > end * unit), len(every))
                first = (inside[0] if inside else after) - 1
                last = (inside[-1] if inside else after - 1) + 1
                zoom = points(curves, key, x=x, begin=begin * unit, end=end * unit)
                assert zoom == every[max(0, first) : last + 1]


def test_a_zoom_that_stays_open_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(5000)])
    curves = Curves(folder, most_bins=128)
    curves.catch_up()
    asked: list[int] = []
    pread = os.pread

    def counted(handle: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert len(curves.line(LOSS, begin=4000, end=9000).x) == 1001
    once = sum(asked)
    with folder.metrics.open("a", encoding="utf-8") as log:
        log.write("".join(training(step) + "\n" for step in range(5000, 5200)))
    curves.catch_up()
    asked.clear()
    assert points(curves, LOSS, begin=4000, end=9000) == expected(folder, LOSS)[3999:]
    assert sum(asked) < once / 2


def test_a_step_has_its_place_on_every_axis(tmp_path: Path) -> None:
    curves = Curves(folder_with(tmp_path, [training(step) for step in range(0, 3000, 10)]), most_bins=32)
    assert curves.place_of(7, "step") is None
    curves.catch_up()
    for step in (0, 5, 995, 1000, 2990):
        assert curves.place_of(step, "tokens") == pytest.approx(step * 10)
        assert curves.place_of(step, "seconds") == pytest.approx(step / 8)
    assert curves.place_of(1e6, "tokens") == 29900.0


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(2000)])
    curves = Curves(folder, most_bins=256)
    curves.catch_up()
    tracemalloc.start()
    try:
        with folder.metrics.open("a", encoding="utf-8") as log:
            log.writelines(training(step) + "\n" for step in range(2000, 12_000))
        while not curves.catch_up(0.05):
            pass
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 200_000
    assert 50 <= len(curves.line(LOSS, points=100).x) <= 100


# --- smoothing --------------------------------------------------------------------------------------------------------


def test_smoothing_begins_at_the_first_value_and_leaves_a_constant_alone(tmp_path: Path) -> None:
    curves = Curves(folder_with(tmp_path, [f'{{"step": {n}, "a": 7.5, "b": {n % 2}}}' for n in range(200)]))
    curves.catch_up()
    assert set(curves.line("a", smoothing=0.2).smooth) == {7.5}
    line = curves.line("b", smoothing=0.5)
    assert line.smooth[0] == line.mean[0] == 0.0
    assert all(0.45 < value < 0.55 for value in line.smooth[20:])
    assert curves.line("b").smooth == curves.line("b").mean


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-10, 10)), min_size=2, max_size=30), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_smoothing_is_the_mean_of_what_lies_behind_weighted_by_its_distance(
    steps: list[tuple[int, float]], smoothing: float
) -> None:
    xs = list(itertools.accumulate(gap for gap, _ in steps))
    values = [value for _, value in steps]
    with tempfile.TemporaryDirectory() as path:
        lines = [f'{{"step": {x}, "a": {value!r}}}' for x, value in zip(xs, values, strict=True)]
        curves = Curves(folder_with(Path(path), lines))
        curves.catch_up()
        smooth = curves.line("a", smoothing=smoothing).smooth
    half_span = smoothing * (xs[-1] - xs[0]) / 2
    for i in range(len(xs)):
        weights = [math.exp(-(xs[i] - x) / half_span) for x in xs[: i + 1]]
        mean = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        assert smooth[i] == pytest.approx(mean, rel=1e-6, abs=1e-6)


# --- a first look -----------------------------------------------------------------------------------------------------


def test_a_sketch_shows_the_whole_log_at_once_and_gives_way_to_what_is_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step, **({BPB: 1.5} if step % 97 == 0 else {})) for step in range(60_000)])
    curves = Curves(folder)
    assert curves.version == 0
    curves.sketch()
    assert curves.version > 0
    every = dict(expected(folder, LOSS))
    sketched = points(curves, LOSS, points=1 << 30)
    assert 2000 < len(sketched) < len(every)
    assert all(every[step] == value for step, value in sketched)
    assert (sketched[0][0], sketched[-1][0]) == (0.0, 59_999.0)
    assert max(b[0] - a[0] for a, b in itertools.pairwise(sketched)) < 60_000 / 400
    assert curves.last[LOSS] == every[59_999]
    assert (curves.last["step"], curves.last[BPB]) == (59_999, 1.5)
    assert not curves.catch_up(0.0)
    half_read = points(curves, LOSS, points=1 << 30)
    assert [step for step, _ in half_read] == sorted({step for step, _ in half_read})
    assert all(every[step] == value for step, value in half_read)
    assert curves.last["step"] == 59_999
    curves.catch_up()
    line = curves.line(LOSS, points=1)
    assert (line.low[0], line.high[0]) == (min(every.values()), max(every.values()))


def test_while_a_long_log_is_read_its_newest_lines_are_seen(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(20_000)])
    curves = Curves(folder)
    curves.sketch()
    for step in range(20_000, 20_005):
        with folder.metrics.open("a", encoding="utf-8") as log:
            log.write(training(step) + "\n")
        assert not curves.catch_up(0.0)
        assert curves.last["step"] == step
        assert curves.line(LOSS, points=1 << 30).x[-1] == step
    curves.catch_up()
    assert points(curves, LOSS, points=1 << 30, begin=19_990) == expected(folder, LOSS)[19_989:]


def test_a_sketch_knows_a_run_that_went_back(tmp_path: Path) -> None:
    steps = [*range(10_000), *range(2_000, 4_000)]
    folder = folder_with(tmp_path, [training(step, course=i // 10_000) for i, step in enumerate(steps)])
    curves = Curves(folder)
    curves.sketch()
    line = curves.line("course", points=1 << 30)
    assert line.x[-1] == 3999
    assert {course for step, course in zip(line.x, line.mean, strict=True) if step >= 2000} == {1.0}
    curves.catch_up(0.0)
    assert curves.line("course", points=1 << 30).x[-1] == 3999
    curves.catch_up()
    assert curves.resumes == [2000]
    assert points(curves, "course", points=1 << 30) == [(float(s), float(s >= 2000)) for s in range(4000)]


def test_a_sketch_of_nothing_shows_nothing(tmp_path: Path) -> None:
    for curves in (Curves(RunFolder(tmp_path / "gone")), Curves(folder_with(tmp_path, []))):
        curves.sketch()
        assert curves.catch_up()
        assert (curves.keys, curves.last, curves.resumes, curves.line(LOSS).x) == ((), {}, [], [])


# --- resumes ----------------------------------------------------------------------------------------------------------


def test_a_step_that_comes_again_is_where_the_run_was_resumed(tmp_path: Path) -> None:
    steps = [*range(0, 500, 10), *range(300, 700, 10), *range(200, 260, 10), *range(240, 300, 10)]
    folder = folder_with(tmp_path, [training(step, line=n) for n, step in enumerate(steps)])
    curves = Curves(folder, most_bins=8)
    curves.catch_up()
    assert curves.resumes == [200, 240]
    assert curves.last["line"] == len(steps) - 1
    assert points(curves, "line") == expected(folder, "line")


def test_the_newest_value_of_a_course_that_was_given_up_is_forgotten(tmp_path: Path) -> None:
    lines = [training(step, **({BPB: step / 100} if step % 40 == 0 else {})) for step in range(100)]
    folder = folder_with(tmp_path, [*lines, training(70)])
    for most_bins in (8, 8192):
        curves = Curves(folder, most_bins)
        curves.catch_up()
        assert curves.last[BPB] == 0.4
        assert (curves.last["step"], curves.last["tokens"]) == (70, 700)


def test_a_while_in_which_nobody_trained_is_a_resume_too(tmp_path: Path) -> None:
    def line(step: int, wall: int, **more: float) -> str:
        time = datetime.datetime.fromtimestamp(1_700_000_000 + wall, datetime.UTC).isoformat().replace("+00:00", "Z")
        return json.dumps({"step": step, "seconds": step * 1.0, "time": time, **more})

    # An evaluation of 20 s that counts as trained is no resume; a restart after step 30 that took 40 s is.
    lines = [line(10, 10, **{LOSS: 3.0}), line(15, 35, **{BPB: 1.5}), line(20, 20, **{LOSS: 3.0})]
    lines += [line(30, 31, **{LOSS: 3.0}), line(31, 72, **{LOSS: 3.0}), line(40, 80, **{LOSS: 3.0})]
    folder = folder_with(tmp_path, lines)
    curves = Curves(folder)
    curves.catch_up()
    assert curves.resumes == [31]
    for n in range(len(lines)):  # line by line, the same
        folder_with(tmp_path, lines[:n])
        growing = Curves(folder)
        growing.catch_up()
        folder_with(tmp_path, lines)
        growing.catch_up()
        assert growing.resumes == [31]


def test_hundreds_of_resumes_are_gone_through(tmp_path: Path) -> None:
    steps = [step for n in range(300) for step in (n, n + 1, n + 2)]
    folder = folder_with(tmp_path, [json.dumps({"step": step, "line": n}) for n, step in enumerate(steps)])
    curves = Curves(folder, most_bins=16)
    curves.catch_up()
    assert points(curves, "line") == expected(folder, "line")


# --- hostile files ----------------------------------------------------------------------------------------------------


def test_a_log_that_was_replaced_or_shrunk_is_begun_anew(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(50)])
    curves = Curves(folder)
    curves.catch_up()

    def now_shows(lines: list[str]) -> None:
        version = curves.version
        assert curves.catch_up()
        assert curves.version > version
        assert points(curves, LOSS) == [(float(r["step"]), r[LOSS]) for r in map(json.loads, lines)]

    shorter, longer = [[training(step + 1000) for step in range(n)] for n in (3, 90)]
    folder_with(tmp_path, shorter)
    now_shows(shorter)
    folder_with(tmp_path, longer)  # in the same file
    now_shows(longer)
    other = tmp_path / "other"
    other.write_text("".join(training(step) + "\n" for step in range(95)))
    other.replace(folder.metrics)
    now_shows([training(step) for step in range(95)])


@pytest.mark.parametrize("read", ["sketched", "read"])
def test_what_was_known_of_a_log_that_vanishes_stays_until_there_is_another(tmp_path: Path, read: str) -> None:
    folder = folder_with(tmp_path, [training(step) for step in range(50)])
    curves = Curves(folder)
    curves.sketch() if read == "sketched" else curves.catch_up()
    before = (curves.version, points(curves, LOSS), curves.last)
    folder.metrics.unlink()  # a run that is being deleted loses its files one by one
    assert curves.catch_up()
    assert (curves.version, points(curves, LOSS), curves.last) == before
    assert before[2]["step"] == 49
    folder_with(tmp_path, [training(step + 1000) for step in range(3)])
    assert curves.catch_up()
    assert [x for x, _ in points(curves, LOSS)] == [1000, 1001, 1002]


def test_what_is_no_log_has_no_curves_and_does_no_harm(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.metrics.mkdir()
    curves = Curves(folder)
    curves.sketch()
    assert curves.catch_up()
    folder.metrics.rmdir()
    os.mkfifo(folder.metrics)  # opening it would wait for a writer for ever
    curves.sketch()
    assert curves.catch_up()
    assert curves.keys == ()


def test_lines_too_long_to_be_read_are_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [training(1), '{"step": 2, "x": "' + "y" * 3_000_000 + '"}', training(3)])
    with folder.metrics.open("ab") as file:
        file.write(bytes(5_000_000))
    curves = Curves(folder)
    curves.catch_up()
    curves.sketch()
    assert curves.line(LOSS).x == [1.0, 3.0]
    version = curves.version
    curves.catch_up()
    curves.catch_up()
    assert curves.version == version + 1  # the sketch is gone; nothing was begun anew
    with folder.metrics.open("ab") as file:
        file.write(b"\n" + training(4).encode() + b"\n")
    curves.catch_up()
    assert curves.line(LOSS).x == [1.0, 3.0, 4.0]


def test_of_metrics_without_number_a_few_are_kept_and_the_usual_ones_are_among_them(tmp_path: Path) -> None:
    lines = [json.dumps({"step": n, f"key-{n}": n, "k" * 5000: 1, "text": "no number"}) for n in range(500)]
    curves = Curves(folder_with(tmp_path, [*lines, training(500)]))
    curves.catch_up()
    assert len(curves.keys) == 65
    assert LOSS in curves.keys
    assert not {"text", "k" * 5000, "time", "step"} & set(curves.keys)
    assert points(curves, "key-7") == [(7.0, 7.0)]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_bytes_of_any_kind_do_no_harm(first: bytes, then: bytes) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        folder.metrics.write_bytes(first)
        curves = Curves(folder, 4)
        curves.sketch()
        curves.catch_up()
        folder.metrics.write_bytes(then)
        curves.catch_up()
        for key in (*curves.keys, LOSS):
            for x in AXES:
                curves.line(key, x, smoothing=0.5)

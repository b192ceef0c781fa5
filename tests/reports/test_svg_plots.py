"""Plots as SVG: each point where it belongs, whatever the numbers are, in a size that does not grow with them."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.charts import Marks, Series
from storyteller.reports.svg_plots import Dot, dots, lines
from tests.reports.test_pages import Reader

floats = st.floats(allow_nan=True, allow_infinity=True)


def paths(plot: object) -> list[str]:
    return re.findall(r'<path d="([^"]*)"', str(plot))


def test_a_line_goes_through_its_points() -> None:
    plot = lines([Series("loss", [0, 50, 100], [4.0, 2.0, 0.0], 0)], title="Loss")
    assert paths(plot) == ["M0 0L1000 1000L2000 2000"]
    assert 'viewBox="0 0 2000 2000" preserveAspectRatio="none"' in str(plot)
    assert re.findall(r'cx="([^"]*)" cy="([^"]*)"', str(plot)) == [("0%", "0%"), ("50%", "50%"), ("100%", "100%")]


def test_the_axes_have_round_numbers_in_their_places() -> None:
    plot = str(lines([Series("loss", [0, 100], [4.0, 0.0], 0)], title="Loss"))
    assert re.findall(r'<text x="-8" y="([^"]*)"[^>]*>([^<]*)<', plot) == [
        ("100%", "0"),
        ("75%", "1"),
        ("50%", "2"),
        ("25%", "3"),
        ("0%", "4"),
    ]
    assert re.findall(r'<text x="([^"]*)" y="240"[^>]*>([^<]*)<', plot) == [
        ("0%", "0"), ("20%", "20"), ("40%", "40"), ("60%", "60"), ("80%", "80"), ("100%", "100"),
    ]  # fmt: skip


def test_a_logarithmic_axis_gives_each_decade_the_same_room_and_leaves_out_what_is_not_above_zero() -> None:
    plot = lines([Series("norm", [0, 1, 2, 3], [100.0, 0.0, 10.0, 1.0], 0)], title="Norm", log_y=True)
    assert paths(plot) == ["M0 0h0M1333 1000L2000 2000"]


def test_a_gap_in_the_numbers_is_a_gap_in_the_line() -> None:
    plot = lines([Series("a", [0, 1, 2, 3, 4], [1.0, 1.0, math.nan, math.inf, 0.0], 0)], title="A")
    assert paths(plot) == ["M0 0L500 0M2000 2000h0"]


def test_time_on_the_axis_is_said_as_time() -> None:
    plot = str(lines([Series("a", [0, 5400], [1.0, 2.0], 0)], title="A", x_unit="seconds"))
    assert [words for _, words in re.findall(r'<text x="([^"]*)" y="240"[^>]*>([^<]*)<', plot)][:3] == [
        "0s",
        "15m",
        "30m",
    ]


def test_lines_are_told_apart_by_more_than_colour_and_the_legend_has_their_last_values() -> None:
    series = [Series(name, [0, 1], [1.0, value], i) for i, (name, value) in enumerate([("fox", 0.25), ("owl", 0.5)])]
    plot = str(lines(series, title="Bits"))
    assert re.findall(r"<span>([^<]*) <b>([^<]*)</b></span>", plot) == [("fox", "0.2500"), ("owl", "0.5000")]
    assert len(re.findall(r'stroke-dasharray="7 4"', plot)) == 2  # the line and its key
    assert "legend" not in str(lines(series[:1], title="Bits"))
    assert "legend" not in str(lines(series, title="Bits", legend=False))


def test_a_line_behind_another_is_faint_and_has_no_name() -> None:
    raw, smooth = Series("loss", [0, 1], [1.0, 2.0], 0, dim=True), Series("loss", [0, 1], [1.2, 1.8], 0)
    plot = str(lines([raw, smooth], title="Loss"))
    assert re.findall(r'class="(line [^"]*)"', plot) == ["line s0 faint", "line s0"]


def test_a_band_lies_between_its_edges() -> None:
    series = Series("loss", [0, 2], [2.0, 2.0], 3, low=[0.0, 1.0], high=[4.0, 3.0])
    band, _ = paths(lines([series], title="Loss"))
    assert band == "M0 0L2000 500L2000 1500L0 2000Z"


def test_marks_stand_at_their_places_and_are_named() -> None:
    plot = str(lines([Series("a", [0, 100], [1.0, 2.0], 0)], title="A", marks=[Marks([25, 300], "^", "checkpoint")]))
    assert re.findall(r'<line x1="([^"]*)" x2="[^"]*" y1="0" y2="100%" class="mark"', plot) == ["25%"]
    assert "<span>checkpoint</span>" in plot


def test_a_plot_says_what_it_shows_to_those_who_cannot_see_it() -> None:
    plot = str(
        lines([Series("held out", [0, 50, 100], [3.0, 1.0, 1.5], 0)], title="Bits", note="a byte", x_name="step")
    )
    assert 'role="img"' in plot
    assert "<title>Bits, a byte</title>" in plot
    assert "<desc>held out: 3.000 at step 0, 1.500 at step 100, lowest 1.000 at step 50</desc>" in plot


def test_the_axis_may_reach_further_than_the_data() -> None:
    plot = lines([Series("a", [50, 100], [1.0, 0.0], 0)], title="A", x_begin=0, x_end=200)
    assert paths(plot) == ["M500 0L1000 2000"]


def test_a_plot_of_nothing_says_so() -> None:
    for series in ([], [Series("a", [], [], 0)], [Series("a", [1.0], [math.nan], 0)]):
        plot = str(lines(series, title="A"))
        assert "nothing to draw yet" in plot
        assert paths(plot) == []


def test_a_long_line_is_thinned_and_ends_where_it_ends() -> None:
    n = 50_000
    plot = lines([Series("a", list(range(n)), [math.sin(i / 500) for i in range(n)], 0)], title="A")
    [path] = paths(plot)
    places = [int(x) for x in re.findall(r"[ML](\d+)", path)]
    assert 1000 <= len(places) <= 1300
    assert (places[0], places[-1]) == (0, 2000)
    assert all(a <= b for a, b in pairwise(places))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(floats, floats), max_size=20), st.booleans())
def test_whatever_the_numbers_are_the_plot_is_sound(points: list[tuple[float, float]], log_y: bool) -> None:
    x, y = [x for x, _ in points], [y for _, y in points]
    series = [Series("a", x, y, 0, low=y, high=y), Series("b", x, y, 9, dim=True)]
    plot = str(lines(series, title="A", log_y=log_y))
    read = Reader(plot)
    assert {tag for tag, _ in read.tags} <= {"div", "p", "svg", "title", "desc", "line", "text", "path", "circle"}
    for path in paths(plot):
        assert re.fullmatch(r"([MLhZ](-?\d+( -?\d+)?)?)*", path)
    assert "nan" not in "".join(read.values)
    assert "inf" not in "".join(read.values)


def test_dots_stand_at_their_values_with_their_intervals() -> None:
    rows = [Dot("model", 50.0, 0.0, 100.0), Dot("real stories", 75.0, color=6)]
    plot = str(dots(rows, title="Spelling", note="%", form=lambda value: f"{value:.0f} %"))
    assert re.findall(r'x1="([^"]*)" x2="([^"]*)"[^>]*class="interval s0"', plot) == [("5.36%", "94.64%")]
    assert re.findall(r'<circle cx="([^"]*)"', plot) == ["50%", "72.32%"]
    assert ">50 % (0 % to 100 %)</text>" in plot
    assert "<desc>model: 50 % (0 % to 100 %); real stories: 75 %</desc>" in plot
    assert ">100 %</text>" in plot


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(floats, floats, floats), max_size=5))
def test_whatever_the_intervals_are_the_dots_are_sound(rows: list[tuple[float, float, float]]) -> None:
    plot = str(dots([Dot("a", *row) for row in rows], title="A"))
    assert "nan" not in "".join(Reader(plot).values)


@pytest.mark.parametrize("value", [0.0, -3.0, 1e300, -1e300, 5e-324])
def test_a_single_value_stands_on_its_axis(value: float) -> None:
    [across] = re.findall(r'<circle cx="([^%]*)%"', str(dots([Dot("a", value)], title="A")))
    assert 0 <= float(across) <= 100

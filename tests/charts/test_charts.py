"""Charts in character cells: every dot at its place, every size, any data."""

from __future__ import annotations

import math
import subprocess
import sys
import time
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.charts import (
    DOTS,
    STYLES,
    Cells,
    Marks,
    Picture,
    Series,
    View,
    draw,
    format_duration,
    format_number,
    format_x,
    last_value,
    swatch,
    ticks,
    value_at,
)

Dot = tuple[int, int]

BRAILLE_BITS = {(0, 0): 1, (0, 1): 2, (0, 2): 4, (0, 3): 64, (1, 0): 8, (1, 1): 16, (1, 2): 32, (1, 3): 128}
QUADRANTS = {"▘": "a", "▝": "b", "▖": "c", "▗": "d", "▀": "ab", "▄": "cd", "▌": "ac", "▐": "bd", "▞": "bc", "▚": "ad"}
QUADRANTS |= {"▛": "abc", "▜": "abd", "▙": "acd", "▟": "bcd", "█": "abcd"}
CORNERS = {"a": (0, 0), "b": (1, 0), "c": (0, 1), "d": (1, 1)}


def texts(picture: Picture) -> list[str]:
    return ["".join(text for text, _ in row) for row in picture.rows]


def styles(picture: Picture) -> list[list[str]]:
    """The style of each cell."""
    return [[style for text, style in row for _ in text] for row in picture.rows]


def dots(picture: Picture, kinds: Sequence[str] = ("line", "dim")) -> set[Dot]:
    """The lit dots of the plot, (column, row) from its top left."""
    frame, lit = picture.frame, set()
    words, looks = texts(picture), styles(picture)
    for row in range(frame.rows):
        for column in range(frame.columns):
            glyph = words[frame.top + row][frame.left + column]
            if not looks[frame.top + row][frame.left + column].startswith(tuple(kinds)):
                continue
            if "\u2800" <= glyph <= "\u28ff":
                inner = {at for at, bit in BRAILLE_BITS.items() if (ord(glyph) - 0x2800) & bit}
                lit |= {(2 * column + x, 4 * row + y) for x, y in inner}
            elif glyph in QUADRANTS:
                lit |= {(2 * column + CORNERS[at][0], 2 * row + CORNERS[at][1]) for at in QUADRANTS[glyph]}
            else:
                lit.add((column, row))
    return lit


def dot_of(x: float, y: float, picture: Picture, cells: Cells) -> Dot | None:
    """Where a point belongs: ends of the view lie in the middle of the outermost dots."""
    frame, (across, down) = picture.frame, DOTS[cells]
    wide, high = frame.columns * across, frame.rows * down
    column = math.floor((x / 2 - frame.x_begin / 2) / (frame.x_end / 2 - frame.x_begin / 2) * (wide - 1) + 0.5)
    row = math.floor((y / 2 - frame.y_end / 2) / (frame.y_begin / 2 - frame.y_end / 2) * (high - 1) + 0.5)
    return (column, row) if 0 <= column < wide and 0 <= row < high else None


def line(x: Sequence[float], y: Sequence[float], color: int = 0, name: str = "run") -> Series:
    return Series(name, x, y, color)


# --- any data, any size -----------------------------------------------------------------------------------------------

ANY = st.floats(allow_nan=True, allow_infinity=True)
CELLS = st.sampled_from(["braille", "blocks", "ascii"])
ENDS = st.none() | ANY


@st.composite
def any_series(draw_from: st.DrawFn) -> Series:
    x = draw_from(st.lists(ANY, max_size=12))
    y = draw_from(st.lists(ANY, min_size=len(x), max_size=len(x)))
    band = draw_from(st.booleans())
    low = draw_from(st.lists(ANY, min_size=len(x), max_size=len(x))) if band else None
    high = draw_from(st.lists(ANY, min_size=len(x), max_size=len(x))) if band else None
    return Series(
        draw_from(st.text(max_size=8)), x, y, draw_from(st.integers(0, 20)), low, high, draw_from(st.booleans())
    )


@settings(max_examples=150, deadline=None)
@given(
    series=st.lists(any_series(), max_size=4),
    columns=st.integers(0, 70),
    rows=st.integers(0, 30),
    view=st.builds(View, ENDS, ENDS, ENDS, ENDS, log_y=st.booleans(), cursor_x=ENDS),
    cells=CELLS,
    mark=st.lists(ANY, max_size=3),
    glyph=st.text(max_size=2),
    y_name=st.text(max_size=12),
    unit=st.sampled_from(["number", "seconds"]),
    patterns=st.booleans(),
)
def test_whatever_the_data_are_the_picture_has_the_cells_that_were_asked_for(
    series: list[Series],
    columns: int,
    rows: int,
    view: View,
    cells: Cells,
    mark: list[float],
    glyph: str,
    y_name: str,
    unit: str,
    patterns: bool,
) -> None:
    picture = draw(
        series,
        columns,
        rows,
        view,
        cells=cells,
        marks=[Marks(mark, glyph)],
        x_name="step",
        y_name=y_name,
        x_unit="seconds" if unit == "seconds" else "number",
        patterns=patterns,
        nothing="no figures yet",
    )
    assert [len(text) for text in texts(picture)] == [columns] * rows
    for text in texts(picture):
        assert all(unicodedata.east_asian_width(glyph) not in "WF" for glyph in text)
        assert all(unicodedata.category(glyph) not in ("Cc", "Cf", "Mn", "Me") for glyph in text)
        assert cells != "ascii" or text.isascii()
    assert {style for row in picture.rows for _, style in row} <= set(STYLES)


@settings(max_examples=80, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-50, 150), st.floats(-20, 120)), min_size=1, max_size=30),
    columns=st.integers(10, 60),
    rows=st.integers(3, 20),
    cells=CELLS,
)
def test_every_point_in_sight_lights_the_dot_at_its_place(
    points: list[tuple[float, float]], columns: int, rows: int, cells: Cells
) -> None:
    x, y = [x for x, _ in sorted(points)], [y for _, y in sorted(points)]
    picture = draw([line(x, y)], columns, rows, View(0, 100, 0, 100), cells=cells)
    expected = {dot for x, y in points if (dot := dot_of(x, y, picture, cells)) is not None}
    assert expected <= dots(picture)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(0.01, 100), min_size=2, max_size=12), min_size=2, max_size=4),
    order=st.randoms(use_true_random=False),
    log_y=st.booleans(),
    cells=st.sampled_from(["braille", "blocks"]),
)
def test_the_order_of_the_lines_moves_no_dot(
    values: list[list[float]], order: object, log_y: bool, cells: Cells
) -> None:
    series = [line(range(len(y)), y, color) for color, y in enumerate(values)]
    shuffled = list(series)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (draw(each, 40, 12, View(log_y=log_y), cells=cells) for each in (series, shuffled))
    assert dots(one) == dots(other)


@settings(max_examples=60, deadline=None)
@given(ends=st.tuples(*[st.integers(0, 59), st.integers(0, 39)] * 2))
def test_two_points_are_joined_by_dots_without_a_gap_and_without_a_doubled_one(ends: tuple[int, int, int, int]) -> None:
    (x0, y0), (x1, y1) = sorted([(ends[0], ends[1]), (ends[2], ends[3])])
    picture = draw([line([x0, x1], [y0, y1])], 30, 10 + 3, View(0, 59, 0, 39))
    picture = picture if (picture.frame.columns, picture.frame.rows) == (30, 10) else unframed([x0, x1], [y0, y1])
    lit = dots(picture)
    assert len(lit) == max(abs(x1 - x0), abs(y1 - y0)) + 1
    reached, waiting = set(), [(x0, 39 - y0)]
    while waiting:
        column, row = waiting.pop()
        if (column, row) in lit and (column, row) not in reached:
            reached.add((column, row))
            waiting += [(column + right, row + down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    assert reached == lit
    assert (x1, 39 - y1) in lit


def unframed(x: Sequence[float], y: Sequence[float]) -> Picture:
    """A plot of exactly 30 x 10 cells, that is 60 x 40 dots."""
    for columns in range(30, 40):
        for rows in range(10, 16):
            picture = draw([line(x, y)], columns, rows, View(0, 59, 0, 39))
            if (picture.frame.columns, picture.frame.rows) == (30, 10):
                return picture
    raise AssertionError("no size has a plot of 30 x 10 cells")


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_a_small_chart_in_ascii_is_exactly_this() -> None:
    picture = draw(
        [line([0, 10, 20, 30], [0, 2, 2, 4], name="a"), line([0, 30], [4, 0], 1, name="b")],
        40,
        10,
        View(0, 30, 0, 4),
        cells="ascii",
        marks=[Marks([10, 20], "◆", "checkpoint")],
        x_name="step",
        y_name="loss",
    )
    assert picture.plain().splitlines() == [
        "loss   ** a 4.000   ++ b 0",
        "4 ++++                                **",
        "      ++++++                      ****",
        "            ++++++            ****",
        "2            ******+*+*+******",
        "         ****           ++++++",
        "     ****                     ++++++",
        "0 ***                               ++++",
        "  +-----------^------------^-----------+",
        "  0           10           20       step",
    ]


def test_gaps_are_left_where_there_is_no_number() -> None:
    nan = math.nan
    picture = unframed([0, 10, 20, 30, 59], [5, 5, nan, 5, math.inf])
    assert dots(picture) == {(column, 34) for column in range(11)} | {(30, 34)}


def test_a_logarithmic_axis_places_by_the_exponent_and_leaves_out_what_is_not_above_zero() -> None:
    series = [line([0, 1, 2, 3, 4], [1, 10, 100, 0, -5])]
    picture = draw(series, 33, 12, View(0, 4, 1, 100, log_y=True), cells="ascii")
    frame = picture.frame
    labels = {
        row: words[: frame.left].strip() for row, words in enumerate(texts(picture)) if words[: frame.left].strip()
    }
    assert labels[frame.top] == "100"
    assert labels[frame.top + (frame.rows - 1) // 2] == "10"
    assert labels[frame.top + frame.rows - 1] == "1"
    lit = dots(picture)
    assert {(0, frame.rows - 1), (round((frame.columns - 1) / 4), (frame.rows - 1) // 2)} <= lit
    assert max(column for column, _ in lit) == round((frame.columns - 1) / 2)


def test_the_part_of_a_line_outside_the_view_is_cut_off_but_what_crosses_the_edge_is_drawn() -> None:
    whole = draw([line([0, 100], [0, 100])], 30, 12, View(40, 60, 0, 100))
    lit = dots(whole)
    frame = whole.frame
    assert min(column for column, _ in lit) == 0
    assert max(column for column, _ in lit) == 2 * frame.columns - 1
    rows = {row for _, row in lit}
    assert (min(rows), max(rows)) == (round(0.4 * (4 * frame.rows - 1)), round(0.6 * (4 * frame.rows - 1)))


def test_a_cell_has_the_colour_of_the_line_with_most_dots_in_it_and_the_dots_of_all() -> None:
    # The first line stands upright in the cell at the left (8 dots in two columns), the second passes along its bottom.
    upright = line([0, 0, 1, 1], [39, 36, 36, 39], 3)
    flat = line([0, 20], [36, 36], 5)
    for series in ([upright, flat], [flat, upright]):
        picture = unframed_series(series)
        frame = picture.frame
        assert texts(picture)[frame.top][frame.left] == "⣿"
        assert styles(picture)[frame.top][frame.left] == "line3"
        assert styles(picture)[frame.top][frame.left + 1] == "line5"


def test_two_lines_that_share_their_cells_take_turns_in_colour() -> None:
    picture = unframed_series([line([0, 59], [38, 38], 1), line([0, 59], [37, 37], 4)])
    frame = picture.frame
    assert dots(picture) == {(column, row) for column in range(60) for row in (1, 2)}
    assert styles(picture)[frame.top][frame.left :] == ["line1", "line4"] * 15


def unframed_series(series: Sequence[Series]) -> Picture:
    for columns in range(30, 40):
        for rows in range(10, 16):
            picture = draw(series, columns, rows, View(0, 59, 0, 39))
            if (picture.frame.columns, picture.frame.rows) == (30, 10):
                return picture
    raise AssertionError("no size has a plot of 30 x 10 cells")


def test_a_faded_line_gives_way_to_the_others_and_a_band_to_every_line() -> None:
    faded = Series("faded", [0, 59], [20, 20], 1, dim=True)
    banded = Series("banded", [0, 59], [20, 20], 2, low=[10, 10], high=[30, 30])
    picture = unframed_series([faded, banded])
    frame = picture.frame
    by_row = [set(row[frame.left :]) for row in styles(picture)[frame.top : frame.top + frame.rows]]
    assert by_row[(39 - 20) // 4] == {"line2"}
    assert [row for row, looks in enumerate(by_row) if looks == {"dim2"}] == [2, 3, 5, 6, 7]
    alone = unframed_series([faded])
    assert "dim1" in {style for row in styles(alone) for style in row}
    assert dots(picture, ["dim"]) == {
        (column, row) for column in range(60) for row in range(9, 30) if row // 4 != (39 - 20) // 4
    }


def test_a_band_is_filled_between_its_points() -> None:
    picture = unframed_series([Series("a", [0, 20], [math.nan, math.nan], 0, low=[0, 20], high=[20, 20])])
    lit = dots(picture, ["dim"])
    assert lit == {(x, 39 - y) for x in range(21) for y in range(x, 21)}


def test_lines_are_told_apart_by_their_rhythm_where_there_is_no_colour() -> None:
    series = [line([0, 59], [10 * color, 10 * color], color, f"run {color}") for color in range(3)]
    picture = draw(series, 80, 15, View(0, 59, 0, 39), patterns=True)
    by_row: dict[int, list[int]] = {}
    for column, row in sorted(dots(picture)):
        by_row.setdefault(row, []).append(column)
    solid, dashed, dotted = (by_row[row] for row in sorted(by_row, reverse=True))
    wide = 2 * picture.frame.columns
    assert solid == list(range(wide))
    assert dashed == [column for column in range(wide) if column % 10 < 6]
    assert dotted == [column for column in range(wide) if column % 6 < 2]
    assert len({swatch(color, patterns=True) for color in range(8)}) == 8
    assert len({swatch(color, "ascii") for color in range(8)}) == 8


def test_checkpoints_and_resumes_stand_on_the_axis_at_their_steps() -> None:
    picture = draw(
        [line([0, 100], [1, 0])],
        60,
        12,
        View(0, 100),
        marks=[Marks([0, 50, 100, 500, math.nan], "◆"), Marks([25], "↻")],
        x_name="step",
    )
    axis, frame = texts(picture)[-2], picture.frame
    assert [column for column, glyph in enumerate(axis) if glyph == "◆"] == [frame.column_of(x) for x in (0, 50, 100)]
    assert axis.index("↻") == frame.column_of(25)
    looks = styles(picture)[-2]
    assert {looks[column] for column, glyph in enumerate(axis) if glyph in "◆↻"} == {"mark"}


def test_the_cursor_is_a_line_in_its_column_and_the_legend_reads_the_values_there() -> None:
    series = [line([0, 10, 20], [5, 0.25, 1], 0, "one"), line([0, 8], [3, 2], 1, "two")]
    picture = draw(series, 60, 12, View(cursor_x=10), x_name="step", y_name="loss")
    assert texts(picture)[0].split() == ["loss", "━━", "one", "0.2500", "━━", "two", "—"]
    column = picture.frame.column_of(10)
    assert column is not None
    plot = styles(picture)[picture.frame.top : picture.frame.top + picture.frame.rows]
    assert {row[column] for row in plot} == {"cursor", "line0"}
    label = "".join(text for text, style in picture.rows[-1] if style == "cursor")
    assert label.strip() == "10"
    start = texts(picture)[-1].index(label)
    assert abs(start + len(label) / 2 - column) <= 1
    assert texts(draw(series, 60, 12, View(), y_name="loss"))[0].split()[-1] == "2.000"


def test_the_plot_keeps_what_room_there_is() -> None:
    series = [line([0, 5], [0, 1], name="a-rather-long-name-of-a-run")]
    for columns, rows, framing in ((10, 3, 1), (10, 5, 2), (40, 6, 2), (40, 7, 3), (8, 2, 0)):
        picture = draw(series, columns, rows, x_name="step", y_name="loss")
        assert picture.frame.rows == rows - framing
        assert dots(picture)
    assert draw(series, 10, 3, y_name="loss").frame.left == 0  # no room for labels of y


def test_names_are_shortened_before_a_line_loses_its_value() -> None:
    series = [line([0], [number + 1], number, f"quiet-blue-squirrel-{number}") for number in range(3)]
    assert texts(draw(series, 160, 20))[0].rstrip() == (
        "━━ quiet-blue-squirrel-0 1.000   ━━ quiet-blue-squirrel-1 2.000   ━━ quiet-blue-squirrel-2 3.000"
    )
    assert texts(draw(series, 60, 10))[0].rstrip() == "━━ quiet-bl… 1.000   ━━ quiet-bl… 2.000   ━━ quiet-bl… 3.000"
    assert texts(draw(series, 36, 10))[0].rstrip() == "━━ 1.000   ━━ 2.000   ━━ 3.000"


def test_names_from_outside_cannot_steer_the_terminal() -> None:
    hostile = line([0, 1], [0, 1], name="\x1b]52;c;aGk=\x07[/end]\u202e")
    words = "".join(texts(draw([hostile], 100, 10, x_name="\x1b[2J", y_name="a\nb")))
    assert not any(unicodedata.category(glyph) in ("Cc", "Cf") for glyph in words)
    assert "␛]52;c;aGk=␇[/end]" in words


def test_what_has_no_points_yet_says_so_and_loads_no_numpy() -> None:
    code = (
        "import sys\nfrom storyteller.charts import draw\n"
        "print(draw([], 40, 9, nothing='no figures yet', y_name='loss', x_name='step').plain())\n"
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = done.stdout.splitlines()
    assert [text for text in shown if "no figures yet" in text] == [shown[4]]
    assert shown[4].index("no") - 4 == (36 - len("no figures yet")) // 2
    assert shown[-1] == "False"


def test_one_point_and_values_that_are_all_the_same_stand_in_the_middle() -> None:
    one = draw([line([7], [3])], 40, 12)
    frame = one.frame
    assert dots(one) == {(frame.columns - 1 + 1, 2 * frame.rows)} or len(dots(one)) == 1
    assert frame.x_begin < 7 < frame.x_end
    assert frame.y_begin < 3 < frame.y_end
    flat = draw([line([0, 1, 2], [3, 3, 3])], 40, 12)
    assert len({row for _, row in dots(flat)}) == 1


def test_four_lines_of_2000_points_are_drawn_well_under_20_ms_of_processor_time() -> None:
    series = [
        line([float(x) for x in range(2000)], [color + math.sin(x * color) for x in range(2000)], color)
        for color in range(4)
    ]
    spent = []
    for _ in range(25):
        begun = time.process_time()
        draw(series, 160, 45, View(cursor_x=1000), x_name="step", y_name="loss")
        spent.append(time.process_time() - begun)
    assert min(spent) < 0.020


# --- figures and ticks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.25309, "0.2531"),
        (3.9171, "3.917"),
        (0.0, "0"),
        (62.0, "62.00"),
        (5994.6, "5,995"),
        (9999.9, "10k"),
        (12345.0, "12.35k"),
        (4_273_664, "4.274M"),
        (1.5e9, "1.5B"),
        (3e-4, "3.0e-4"),
        (-0.5, "-0.5000"),
        (1e300, "1.0e300"),
        (math.nan, "—"),
        (math.inf, "—"),
    ],
)
def test_a_figure_has_four_digits_that_count(value: float, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.5, "0.5s"), (45, "45s"), (60, "1m"), (301, "5m1s"), (3600, "1h"), (5400, "1h30m"), (90000, "1d1h")],
)
def test_a_duration_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
    assert format_duration(-seconds) == ("-" if seconds else "") + shown


@pytest.mark.parametrize(
    ("x", "unit", "shown"), [(1234, "number", "1,234"), (0.25, "number", "0.2500"), (2e7, "number", "20M")]
)
def test_the_cursor_reads_whole_numbers_exactly(x: float, unit: str, shown: str) -> None:
    assert format_x(x) == shown
    assert unit == "number"


@pytest.mark.parametrize(
    ("begin", "end", "most", "labels"),
    [
        (0, 4000, 5, "0 1k 2k 3k 4k"),
        (0, 369, 5, "0 100 200 300"),
        (0.97, 3.02, 5, "1.0 1.5 2.0 2.5 3.0"),
        (0, 1_511_424, 4, "0 500k 1M 1.5M"),
        (-3, 3, 4, "-2 0 2"),
        (0, 0.0006, 4, "0 2e-4 4e-4 6e-4"),
        (9950, 10050, 5, "9960 9980 10k 10.02k 10.04k"),
    ],
)
def test_ticks_are_round_numbers(begin: float, end: float, most: int, labels: str) -> None:
    assert " ".join(label for _, label in ticks(begin, end, most)) == labels


@pytest.mark.parametrize(
    ("end", "most", "labels"),
    [
        (300, 6, "0s 1m 2m 3m 4m 5m"),
        (7300, 5, "0s 30m 1h 1h30m 2h"),
        (40, 5, "0s 10s 20s 30s 40s"),
        (2.4e5, 3, "0s 1d 2d"),
    ],
)
def test_ticks_of_time_are_those_of_a_clock(end: float, most: int, labels: str) -> None:
    assert " ".join(label for _, label in ticks(0, end, most, unit="seconds")) == labels


@pytest.mark.parametrize(
    ("begin", "end", "most", "labels"),
    [
        (0.2, 11, 9, "0.2 0.5 1 2 5 10"),
        (1e-5, 1, 6, "1e-5 1e-4 0.001 0.01 0.1 1"),
        (1e-12, 1, 4, "1e-12 1e-8 1e-4 1"),
        (1.1, 1.9, 4, "1.2 1.4 1.6 1.8"),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_1_2_5_or_decades(begin: float, end: float, most: int, labels: str) -> None:
    assert " ".join(label for _, label in ticks(begin, end, most, log=True)) == labels


@settings(max_examples=150, deadline=None)
@given(begin=ANY, end=ANY, most=st.integers(0, 20), log=st.booleans(), unit=st.sampled_from(["number", "seconds"]))
def test_ticks_ascend_within_the_ends_and_are_told_apart(
    begin: float, end: float, most: int, log: bool, unit: str
) -> None:
    found = ticks(begin, end, most, unit="seconds" if unit == "seconds" else "number", log=log)
    values = [value for value, _ in found]
    assert values == sorted(set(values))
    assert all(begin <= value <= end or math.isclose(value, begin) or math.isclose(value, end) for value in values)
    assert len(found) <= 2 * most + 2


@settings(max_examples=60, deadline=None)
@given(end=st.floats(1e-3, 1e12), columns=st.integers(20, 160), cursor=st.none() | st.floats(0, 1))
def test_labels_of_the_x_axis_never_touch(end: float, columns: int, cursor: float | None) -> None:
    view = View(0, end, cursor_x=None if cursor is None else cursor * end)
    picture = draw([line([0, end], [0, 1])], columns, 10, view, x_name="step")
    known = {label for _, label in ticks(0, end, max(2, min(picture.frame.columns // 12, 10)))} | {"step"}
    if view.cursor_x is not None:
        known.add(format_x(view.cursor_x))
    assert set(texts(picture)[-1].split()) <= known


# --- values -----------------------------------------------------------------------------------------------------------


def test_the_value_at_a_place_is_that_of_the_nearest_point_and_none_beyond_the_ends() -> None:
    series = line([0, 10, 20], [1, 2, math.nan])
    assert value_at(series, 4.9) == 1
    assert value_at(series, 5.1) == 2
    assert value_at(series, 19) is None
    assert value_at(series, -1) is None
    assert value_at(series, -1, tolerance=1) == 1
    assert value_at(line([], []), 0) is None
    assert last_value(series) == 2
    assert last_value(line([0], [math.inf])) is None

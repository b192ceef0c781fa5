"""Line charts drawn in character cells: for the terminal app's chart and for `storyteller show`.

A cell holds several dots (braille 2 x 4, blocks 2 x 2, ascii 1), so that a chart of 160 x 45 cells is a picture of 300
x 170 dots. Lines are joined between their points; a band (or the raw points) lies dim behind each. What comes out is
text with the name of a style a piece; whoever shows it gives each style its colour.
"""

from __future__ import annotations

from collections.abc import Sequence

from storyteller.charts.braille import draw_plot, row_of
from storyteller.charts.legend import center, last_value, draw_legend, swatch, value_at, add_y_labels, draw_x_axis
from storyteller.charts.scales import Trace, x_range, y_range
from storyteller.charts.ticks import format_duration, format_number, format_x, ticks
from storyteller.charts.types import DOTS, PALETTE, STYLES, Cells, Frame, Marks, Picture, Run, Series, Unit, View

__all__ = [
    "DOTS",
    "PALETTE",
    "STYLES",
    "Cells",
    "Frame",
    "Marks",
    "Picture",
    "Run",
    "Series",
    "Unit",
    "View",
    "draw",
    "format_duration",
    "format_number",
    "last_value",
    "format_x",
    "swatch",
    "ticks",
    "value_at",
]


def draw(
    series: Sequence[Series],
    columns: int,
    rows: int,
    view: View | None = None,
    *,
    cells: Cells = "braille",
    marks: Sequence[Marks] = (),
    x_name: str = "",
    y_name: str = "",
    x_unit: Unit = "number",
    patterns: bool = False,
    nothing: str = "",
) -> Picture:
    """A picture of exactly `rows` x `columns` cells, whatever the data are; it never raises for them.

    From the top: the legend (with the last values, or those at the cursor), the plot with the y axis at its left, the x
    axis with the marks, its labels; where there is little room, the plot keeps it. `patterns` tells the lines apart
    where there is no colour: the second is dashed, the third dotted, and so on. `nothing` is said in the middle where
    there is no point to draw.
    """
    view = view or View()
    columns, rows = max(0, columns), max(0, rows)
    traces = [Trace.of(each, view.log_y) for each in series if len(each.x) and len(each.y)]
    x_begin, x_end = x_range(traces, view)
    y_begin, y_end = y_range(traces, view, x_begin, x_end)
    axis_rows = 2 if rows >= 7 else 1 if rows >= 5 else 0
    legend: list[list[Run]] = []
    if rows >= 3:
        legend = draw_legend(series, view.cursor_x, x_begin, x_end, columns, max(1, rows // 8), y_name, cells, patterns)
    plot_rows = rows - len(legend) - axis_rows
    y_ticks = ticks(y_begin, y_end, max(2, min(plot_rows // 3, 9)), log=view.log_y) if plot_rows > 1 else []
    gutter = max((len(label) for _, label in y_ticks), default=-1) + 1
    if columns - gutter < max(8, columns // 2):
        y_ticks, gutter = [], 0
    plot_columns = columns - gutter
    frame = Frame(gutter, len(legend), plot_columns, plot_rows, x_begin, x_end, y_begin, y_end, view.log_y)
    labels = [(row, label) for value, label in y_ticks if (row := row_of(value, frame, cells)) is not None]
    cursor = frame.column_of(view.cursor_x) if view.cursor_x is not None else None
    plot = draw_plot(traces, frame, {row for row, _ in labels}, cursor, cells, patterns)
    if nothing and plot and not any(trace.has_points for trace in traces):
        plot[len(plot) // 2] = center(nothing, plot_columns, cells)
    drawn = [*legend, *add_y_labels(plot, labels, gutter)]
    if axis_rows:
        drawn += draw_x_axis(frame, view.cursor_x, marks, x_name, x_unit, cells)[-axis_rows:]
    return Picture(drawn, frame)

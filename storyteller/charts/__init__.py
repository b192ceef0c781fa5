"""Draws line charts in character cells, for the app and for `storyteller show`.

A cell holds several dots (braille 2 x 4, blocks 2 x 2, ascii 1), so a plot of 150 x 42 cells has 300 x 168 dots. Points
are joined by lines; a band (or the raw points) is drawn dim behind them. The result is text in runs, each with the name
of a style; the caller maps styles to colours.
"""

from __future__ import annotations

from collections.abc import Sequence

from storyteller.charts.legend import add_y_labels, center, draw_legend, draw_x_axis, last_value, swatch, value_at
from storyteller.charts.scales import Trace, x_range, y_range
from storyteller.charts.ticks import format_duration, format_number, format_x, ticks
from storyteller.charts.types import DOTS, PALETTE, STYLES, Cells, Frame, Marks, Picture, Run, Series, Unit, View

__all__ = [
    "DOTS", "PALETTE", "STYLES", "Cells", "Frame", "Marks", "Picture", "Run", "Series", "Unit", "View",
    "draw", "format_duration", "format_number", "format_x", "last_value", "swatch", "ticks", "value_at",
]  # fmt: skip


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
    """Returns a picture of exactly `rows` x `columns` cells. No data makes it raise.

    From top to bottom: the legend with the last values (or those at the cursor), the plot with y labels at its left,
    the x axis with the marks, and the x labels. In small pictures, everything but the plot is left out. With
    `patterns`, lines differ by dashes instead of colours. `nothing` is the text shown if there are no points.
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
    labels = [(row, label) for value, label in y_ticks if (row := frame.row_of(value, cells)) is not None]
    cursor = frame.column_of(view.cursor_x) if view.cursor_x is not None else None
    grid = {row for row, _ in labels}
    empty = [frame.empty_row(row in grid, cursor, cells) for row in range(plot_rows)]
    if traces and plot_columns > 0 and plot_rows > 0:
        from storyteller.charts.braille import draw_plot  # imports numpy

        plot = draw_plot(empty, traces, frame, cells, patterns)
    else:
        plot = [row.runs() for row in empty]
    if nothing and plot and not any(trace.has_points for trace in traces):
        plot[len(plot) // 2] = center(nothing, plot_columns, cells)
    drawn = [*legend, *add_y_labels(plot, labels, gutter)]
    if axis_rows:
        drawn += draw_x_axis(frame, view.cursor_x, marks, x_name, x_unit, cells)[-axis_rows:]
    return Picture(drawn, frame)

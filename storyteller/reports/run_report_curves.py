"""Adds the curves of one run, or of several in the same plots, to a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from storyteller.charts import Marks, Series, Unit
from storyteller.reports.html import HtmlPage, Markup
from storyteller.reports.run_snapshot import BPB, LOSS, RunSnapshot
from storyteller.reports.svg_plots import grid, lines
from storyteller.tracking.curves import X

_POINTS = 900
_SMALL_POINTS = 400
_SMOOTHING = 0.05
_MAX_OTHERS = 24


@dataclass(frozen=True)
class PlotStyle:
    """How a metric is plotted."""

    title: str
    note: str = ""
    log_y: bool = False
    smooth: bool = True


KINDS = {
    "train/lr": PlotStyle("Learning rate", smooth=False),
    "train/grad_norm": PlotStyle("Gradient norm", log_y=True),
    "train/tokens_per_second": PlotStyle("Speed", "tokens per second"),
    "train/mfu_pct": PlotStyle("Model FLOPs utilization", "% of the measured peak"),
    "train/data_wait_pct": PlotStyle("Data loading", "% of the time spent waiting"),
    "train/padding_pct": PlotStyle("Padding", "% of the tokens"),
    "memory/rss_gib": PlotStyle("Memory", "GiB", smooth=False),
    "memory/device_gib": PlotStyle("Device memory", "GiB", smooth=False),
}
"""The small plots, in order."""
_NOT_SHOWN = frozenset((BPB, LOSS, "eval/loss", "eval/perplexity", "time/eta_seconds"))
"""Metrics without a small plot: those with a large one, and those that say the same in other units."""
_AXES: dict[X, tuple[str, Unit]] = {
    "step": ("step", "number"),
    "tokens": ("tokens trained on", "number"),
    "seconds": ("training time", "seconds"),
}


def add_curves(page: HtmlPage, snapshots: Sequence[RunSnapshot], by: X) -> None:
    """Adds large plots of bits per byte and loss, then collapsed ones over the other x axes, then small plots."""
    if not any(snapshot.curves.keys for snapshot in snapshots):
        return
    page.heading("Training curves", note=f"by {_AXES[by][0]}")
    _add_main(page, snapshots, by, 260)
    others = [axis for axis in _AXES if axis != by]
    with page.details(f"The same by {' and by '.join(_AXES[axis][0] for axis in others)}"):
        for axis in others:
            _add_main(page, snapshots, axis, 200)
    if small := [plot for key in _other_keys(snapshots) if (plot := _small(snapshots, key, by)) is not None]:
        page.add(grid(small))


def _add_main(page: HtmlPage, snapshots: Sequence[RunSnapshot], by: X, height_px: int) -> None:
    name, unit = _AXES[by]
    plot = partial(lines, x_name=name, x_unit=unit, x_begin=0, x_end=_end(snapshots, by), height_px=height_px)
    several = len(snapshots) > 1
    bits = [_points(snapshot, i, BPB, by, several) for i, snapshot in enumerate(snapshots)]
    if any(len(series.x) for series in bits):
        caption = "Lower is better. On the same stories, models of any tokenizer can be compared."
        page.figure(plot(bits, title="Held-out stories", note="bits per byte"), caption)
    raw = [_points(snapshot, i, LOSS, by, several) for i, snapshot in enumerate(snapshots)]
    if any(len(series.x) for series in raw):
        smooth = [_smoothed(snapshot, i, LOSS, by, several) for i, snapshot in enumerate(snapshots)]
        series = [*(replace(each, dim=True) for each in raw), *smooth]
        marks = () if several else _marks(snapshots[0], by)
        caption = f"Smoothed over {100 * _SMOOTHING:g} % of the axis; the logged values are faint."
        page.figure(plot(series, title="Training loss", note="nats per token", marks=marks), caption)


def _end(snapshots: Sequence[RunSnapshot], by: X) -> float | None:
    """The end of the x axis of all plots: the furthest point of any run."""
    reached = (snapshot.curves.last.get(by) for snapshot in snapshots)
    return max((float(place) for place in reached if isinstance(place, int | float) and place > 0), default=None)


def _other_keys(snapshots: Sequence[RunSnapshot]) -> list[str]:
    """The metrics with a small plot: the known ones first, then others that were logged."""
    found = dict.fromkeys(key for snapshot in snapshots for key in snapshot.curves.keys)
    known = [key for key in KINDS if key in found]
    return known + [key for key in found if key not in KINDS and key not in _NOT_SHOWN][:_MAX_OTHERS]


def _small(snapshots: Sequence[RunSnapshot], key: str, by: X) -> Markup | None:
    """A small plot of a metric; None if all its values are 0 or there are none."""
    kind = KINDS.get(key, PlotStyle(key, smooth=False))
    series: list[Series] = []
    several = len(snapshots) > 1
    for i, snapshot in enumerate(snapshots):
        raw = _points(snapshot, i, key, by, several, _SMALL_POINTS)
        if kind.smooth and len(raw.x) > _SMALL_POINTS / 8:
            if not several:
                series.append(replace(raw, dim=True))
            raw = _smoothed(snapshot, i, key, by, several, _SMALL_POINTS)
        series.append(raw)
    if not any(value for each in series for value in each.y):
        return None
    unit = _AXES[by][1]
    return lines(series, title=kind.title, note=kind.note, x_unit=unit, log_y=kind.log_y, height_px=130, legend=False)


def _points(snapshot: RunSnapshot, number: int, key: str, by: X, several: bool, points: int = _POINTS) -> Series:
    """The logged values. Points that stand for several have a band from the lowest to the highest."""
    line = snapshot.curves.line(key, by, points=points)
    has_band = not several and any(low != high for low, high in zip(line.low, line.high, strict=True))
    name = snapshot.name if several else _short(key)
    return Series(name, line.x, line.mean, number, line.low if has_band else None, line.high if has_band else None)


def _smoothed(snapshot: RunSnapshot, number: int, key: str, by: X, several: bool, points: int = _POINTS) -> Series:
    line = snapshot.curves.line(key, by, points=points, smoothing=_SMOOTHING)
    return Series(snapshot.name if several else _short(key), line.x, line.smooth, number)


def _short(key: str) -> str:
    return {LOSS: "loss", BPB: "held out"}.get(key, KINDS[key].title.lower() if key in KINDS else key)


def _marks(snapshot: RunSnapshot, by: X) -> list[Marks]:
    """Marks of checkpoints and resumes on the x axis."""
    found = []
    for glyph, name, steps in (("^", "checkpoint", snapshot.saved), ("R", "resumed", snapshot.curves.resumes)):
        places = [place for step in steps if (place := snapshot.curves.place_of(step, by)) is not None]
        if places:
            found.append(Marks(places, glyph, name))
    return found

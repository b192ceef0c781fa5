"""The curves of one run, or of several laid over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storyteller.charts import Marks, Series, Unit
from storyteller.reports.html import HtmlPage, Markup
from storyteller.reports.run_snapshot import BPB, LOSS, RunSnapshot
from storyteller.reports.svg_plots import grid, lines
from storyteller.tracking.curves import X

_POINTS = 900
_SMALL_POINTS = 400
_SMOOTHING = 0.05
_MOST_OTHERS = 24


@dataclass(frozen=True)
class Kind:
    """How a metric is drawn."""

    title: str
    note: str = ""
    log_y: bool = False
    smooth: bool = True


KINDS = {
    "train/lr": Kind("Learning rate", smooth=False),
    "train/grad_norm": Kind("Gradient norm", log_y=True),
    "train/tokens_per_second": Kind("Speed", "tokens a second"),
    "train/mfu_pct": Kind("Use of the processor", "% of its largest matrix product"),
    "train/data_wait_pct": Kind("Waiting for stories", "% of the time"),
    "train/padding_pct": Kind("Padding", "% of the tokens"),
    "memory/rss_gib": Kind("Memory", "GiB", smooth=False),
    "memory/device_gib": Kind("Memory of the device", "GiB", smooth=False),
}
"""The metrics beside loss and bits per byte, in the order in which they are shown."""
_NOT_SHOWN = frozenset((BPB, LOSS, "eval/loss", "eval/perplexity", "time/eta_seconds"))
"""Drawn by themselves; the same in other units; no matter once the run has ended."""
_AXES: dict[X, tuple[str, Unit]] = {
    "step": ("step", "number"),
    "tokens": ("tokens trained on", "number"),
    "seconds": ("time trained", "seconds"),
}


def put_curves(page: HtmlPage, portraits: Sequence[RunSnapshot], by: X) -> None:
    """The section of the curves: loss and bits per byte large, then over the other axes, then all else small."""
    if not any(portrait.curves.keys for portrait in portraits):
        return
    page.heading("How it learned" if len(portraits) == 1 else "How they learned", note=f"by {_AXES[by][0]}")
    _put_main(page, portraits, by, 260)
    others = [axis for axis in _AXES if axis != by]
    with page.details(f"The same by {' and by '.join(_AXES[axis][0] for axis in others)}"):
        for axis in others:
            _put_main(page, portraits, axis, 200)
    small = [plot for key in _other_keys(portraits) if (plot := _small(portraits, key, by)) is not None]
    if small:
        page.add(grid(small))


def _put_main(page: HtmlPage, portraits: Sequence[RunSnapshot], by: X, height_px: int) -> None:
    name, unit = _AXES[by]
    end = _end(portraits, by)
    bits = [_points(portrait, i, BPB, by, len(portraits) > 1) for i, portrait in enumerate(portraits)]
    if any(len(series.x) for series in bits):
        plot = lines(
            bits,
            title="Held-out stories",
            note="bits per byte",
            x_name=name,
            x_unit=unit,
            x_begin=0,
            x_end=end,
            height_px=height_px,
        )
        page.figure(plot, "Lower is better. Where the stories are the same, it compares models of any tokenizer.")
    raw = [_points(portrait, i, LOSS, by, len(portraits) > 1) for i, portrait in enumerate(portraits)]
    if any(len(series.x) for series in raw):
        smooth = [_smoothed(portrait, i, LOSS, by, len(portraits) > 1) for i, portrait in enumerate(portraits)]
        behind = [Series(each.name, each.x, each.y, each.color, each.low, each.high, dim=True) for each in raw]
        plot = lines(
            [*behind, *smooth],
            title="Training loss",
            note="nats a token",
            x_name=name,
            x_unit=unit,
            marks=_marks(portraits[0], by) if len(portraits) == 1 else (),
            height_px=height_px,
            x_begin=0,
            x_end=end,
        )
        page.figure(plot, f"Smoothed over {100 * _SMOOTHING:g} % of the axis; what was logged lies faint behind it.")


def _end(portraits: Sequence[RunSnapshot], by: X) -> float | None:
    """Where the axis of all plots ends: the furthest that a run has come."""
    reached = (portrait.curves.last.get(by) for portrait in portraits)
    return max((float(place) for place in reached if isinstance(place, int | float) and place > 0), default=None)


def _other_keys(portraits: Sequence[RunSnapshot]) -> list[str]:
    """The metrics that are shown small: those that are known first, then whatever else was logged."""
    found = dict.fromkeys(key for portrait in portraits for key in portrait.curves.keys)
    known = [key for key in KINDS if key in found]
    return known + [key for key in found if key not in KINDS and key not in _NOT_SHOWN][:_MOST_OTHERS]


def _small(portraits: Sequence[RunSnapshot], key: str, by: X) -> Markup | None:
    """A metric as a small plot; None where there is nothing in it to see."""
    kind = KINDS.get(key, Kind(key, smooth=False))
    series: list[Series] = []
    several = len(portraits) > 1
    for i, portrait in enumerate(portraits):
        raw = _points(portrait, i, key, by, several, _SMALL_POINTS)
        if kind.smooth and len(raw.x) > _SMALL_POINTS / 8:
            if not several:
                series.append(Series(raw.name, raw.x, raw.y, raw.color, raw.low, raw.high, dim=True))
            raw = _smoothed(portrait, i, key, by, several, _SMALL_POINTS)
        series.append(raw)
    if not any(value for each in series for value in each.y):
        return None
    unit = _AXES[by][1]
    return lines(series, title=kind.title, note=kind.note, x_unit=unit, log_y=kind.log_y, height_px=130, legend=False)


def _points(portrait: RunSnapshot, number: int, key: str, by: X, several: bool, points: int = _POINTS) -> Series:
    """What was logged; where a point stands for many values, with the lowest and highest of them."""
    line = portrait.curves.line(key, by, points=points)
    has_band = not several and any(low != high for low, high in zip(line.low, line.high, strict=True))
    name = portrait.name if several else _short(key)
    return Series(name, line.x, line.mean, number, line.low if has_band else None, line.high if has_band else None)


def _smoothed(portrait: RunSnapshot, number: int, key: str, by: X, several: bool, points: int = _POINTS) -> Series:
    line = portrait.curves.line(key, by, points=points, smoothing=_SMOOTHING)
    return Series(portrait.name if several else _short(key), line.x, line.smooth, number)


def _short(key: str) -> str:
    return {LOSS: "loss", BPB: "held out"}.get(key, KINDS[key].title.lower() if key in KINDS else key)


def _marks(portrait: RunSnapshot, by: X) -> list[Marks]:
    """Checkpoints and resumes on the axis."""
    found = []
    for glyph, name, steps in (("^", "checkpoint", portrait.saved), ("R", "resumed", portrait.curves.resumes)):
        places = [place for step in steps if (place := portrait.curves.place_of(step, by)) is not None]
        if places:
            found.append(Marks(places, glyph, name))
    return found

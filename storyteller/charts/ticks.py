"""Formats numbers and durations, and chooses the round numbers of an axis."""

from __future__ import annotations

import math

from storyteller.charts.types import Unit

_SUFFIXES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def format_number(value: float) -> str:
    """Formats a value with about four significant digits: `0.2531`, `3.917`, `5,995`, `12.35M`, `3.0e-4`."""
    if not math.isfinite(value):
        return "\u2014"
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 9999.5:
        for unit, suffix in _SUFFIXES:
            if size >= 0.99995 * unit:
                return f"{value / unit:.4g}{suffix}"
    if size >= 999.95:
        return f"{value:,.0f}"
    # Trailing zeros are kept, so that columns of numbers line up.
    decimals = 4 if size < 1 else 3 if size < 10 else 2 if size < 100 else 1
    return "0" if value == 0 else f"{value:.{decimals}f}"


def format_duration(seconds: float) -> str:
    """Formats a duration in at most two units: `45s`, `5m`, `1h30m`, `2d`."""
    if not math.isfinite(seconds):
        return "\u2014"
    sign, left = ("-" if seconds < 0 else ""), abs(seconds)
    if 0 < left < 10 and left != round(left):
        return f"{sign}{left:.3g}s"
    whole = round(left)
    if whole >= 100 * 86400:
        return f"{sign}{_short(whole / 86400)}d"
    for unit, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{sign}{whole // unit}{name}" + (f"{rest}{smaller_name}" if rest else "")
    return f"{sign}{whole}s"


def format_x(x: float, unit: Unit = "number") -> str:
    """Formats an x for the cursor; integers up to 10 million are exact: `12,345`, `1h5m`."""
    if unit == "seconds":
        return format_duration(x)
    if math.isfinite(x) and abs(x) < 1e7 and (x == round(x) or abs(x) >= 1000):
        return f"{round(x):,}"
    return format_number(x)


def ticks(begin: float, end: float, most: int, *, unit: Unit = "number", log: bool = False) -> list[tuple[float, str]]:
    """Returns about `most` round numbers from `begin` to `end` with their labels.

    Steps are 1, 2 or 5 times a power of 10, for `unit` "seconds" those of a clock. With `log`, ticks are 1, 2 and 5
    times powers of 10, or only powers if there are many decades.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and begin < end) or most < 1:
        return []
    if log and begin > 0:
        values = _log_ticks(begin, end, most)
        if len(values) >= 2:
            return [(value, _tick_label(value, value)) for value in values]
    step = _clock_step(begin, end, most) if unit == "seconds" else nice_step(begin, end, most)
    if not 0 < step < math.inf:
        return []
    first, last = math.floor(begin / step), math.ceil(end / step)
    if last - first > 100 or begin + step == begin or end - step == end:
        return []  # the range is too small for floating point
    values = [value for number in range(first, last + 1) if _is_within(value := number * step, begin, end)]
    return [(value, format_duration(value) if unit == "seconds" else _tick_label(value, step)) for value in values]


def nice_step(begin: float, end: float, most: int) -> float:
    raw = (end / most - begin / most) if most > 1 else end / 2 - begin / 2
    if not 0 < raw < math.inf:
        return 0.0
    power = math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        # Parsed from text, so that a step of 0.1 is the float 0.1; 10**-1 * 1 may differ in the last digit.
        step = float(f"{factor}e{power}")
        if step >= raw * (1 - 1e-9):
            return step
    return float(f"1e{power + 1}")


_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def _is_within(value: float, begin: float, end: float) -> bool:
    """True if a tick lies between the ends, or equals one of them up to rounding."""
    return begin <= value <= end or math.isclose(value, begin, rel_tol=1e-12) or math.isclose(value, end, rel_tol=1e-12)


def _clock_step(begin: float, end: float, most: int) -> float:
    raw = end / most - begin / most
    if raw < 1:
        return nice_step(begin, end, most)
    days = 86400 * max(1.0, nice_step(begin / 86400, end / 86400, most))
    return next((float(step) for step in _CLOCK if step >= raw * (1 - 1e-9)), days)


def _log_ticks(begin: float, end: float, most: int) -> list[float]:
    first, last = math.floor(math.log10(begin)), math.ceil(math.log10(end))
    for factors in ((1, 2, 5), (1,)):
        if (last - first) * len(factors) > 60:
            continue
        values = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
        values = [value for value in values if begin * (1 - 1e-12) <= value <= end * (1 + 1e-12)]
        if len(values) <= most:
            return values
    every = max(1, math.ceil((last - first + 1) / most))
    values = [float(f"1e{power}") for power in range(first, last + 1) if power % every == 0 and -308 < power <= 308]
    return [value for value in values if begin * (1 - 1e-12) <= value <= end * (1 + 1e-12)]


def _tick_label(value: float, step: float) -> str:
    """Formats a tick with as many digits as the step between ticks needs."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e15 or max(size, step) < 1e-3:
        digits = max(0, math.floor(math.log10(size)) - math.floor(math.log10(step) + 1e-9)) if step <= size else 0
        mantissa, _, exponent = f"{value:.{min(digits, 6)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size >= 1000 and max(size, step) >= 1000:
        for unit, suffix in _SUFFIXES:
            if size >= unit:
                if unit == 1e3 and size < 10_000 and step < 100:
                    break
                text = f"{value / unit:.{_decimals(step / unit)}f}"
                return (text.rstrip("0").rstrip(".") if "." in text else text) + suffix
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return min(8, max(0, -math.floor(math.log10(step) + 1e-9)))


def _short(value: float) -> str:
    """Three significant digits with a suffix: `1.5k`."""
    for unit, suffix in _SUFFIXES:
        if value >= unit:
            return f"{value / unit:.3g}{suffix}" if value < 1e15 else f"{value:.0e}"
    return f"{value:.0f}"

"""The style sheet of all pages: light or dark as the system is set, for phones, wide screens and paper.

Only system fonts are used. Colours are CSS variables, which plots use, too. Text has a contrast ratio of at least 4.5
and the lines of plots at least 3 (WCAG 2.2, 1.4.3 and 1.4.11), which a test measures.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

COLORS = 8  # size of the palette of plots: `--line-0` to `--line-7`

_THEME = {
    "paper": ("#fdfcf9", "#16171a"),
    "sheet": ("#f6f4ee", "#1e2024"),
    "ink": ("#24211d", "#e6e3dc"),
    "muted": ("#665f55", "#a49e93"),
    "rule": ("#dcd6ca", "#3a3c42"),
    "grid": ("#e6e1d6", "#2b2d32"),
    "link": ("#1d5a94", "#8ab8ec"),
    "new": ("#f8e7b0", "#52461c"),
    "alarm": ("#9a2b12", "#f0917a"),
    "line-0": ("#1f5fa8", "#7ab0f5"),
    "line-1": ("#c2410c", "#f59e6c"),
    "line-2": ("#0f766e", "#4fd1b8"),
    "line-3": ("#7e3fa8", "#c4a0f0"),
    "line-4": ("#8a6100", "#e3b94f"),
    "line-5": ("#be185d", "#f48fb8"),
    "line-6": ("#475569", "#a9b4c4"),
    "line-7": ("#3f7d20", "#98cf6f"),
}
"""The CSS variables, in light and in dark mode."""
LIGHT = {name: light for name, (light, _) in _THEME.items()}
DARK = {name: dark for name, (_, dark) in _THEME.items()}


@cache
def stylesheet() -> str:
    """The contents of a page's `<style>`: the colours, then `style.css`. Printed pages are always light."""
    light, dark = ("".join(f"--{name}:{color};" for name, color in colors.items()) for colors in (LIGHT, DARK))
    rules = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    palette = "".join(f"svg .s{i}{{stroke:var(--line-{i})}}svg .f{i}{{fill:var(--line-{i})}}" for i in range(COLORS))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}{palette}\n"
    )

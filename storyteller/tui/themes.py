"""The app's themes `dark` and `light`, and the line colours of all themes.

The themes `ansi-dark` and `ansi-light` are Textual's and use the 16 colours of the terminal.
"""

from __future__ import annotations

from textual.theme import Theme

from storyteller.tui.settings import ThemeName


def _variables(primary: str, text_muted: str) -> dict[str, str]:
    """`text_muted` is opaque: partly styled text has no background to blend a transparent colour with."""
    return {"footer-key-foreground": primary, "block-cursor-text-style": "none", "text-muted": text_muted}


DARK = Theme(
    name="dark",
    primary="#e8b15d",
    secondary="#7cb0e0",
    accent="#e8b15d",
    foreground="#d9d6cf",
    background="#14161c",
    surface="#191c24",
    panel="#222632",
    success="#93c47d",
    warning="#e0824f",
    error="#ea7b78",
    variables=_variables("#e8b15d", text_muted="#8c8a86"),
)
LIGHT = Theme(
    name="light",
    dark=False,
    primary="#9a5b0b",
    secondary="#1f5f99",
    accent="#9a5b0b",
    foreground="#2d2a26",
    background="#fbf8f1",
    surface="#f4efe4",
    panel="#e9e2d3",
    success="#2f7d32",
    warning="#b5480f",
    error="#b3261e",
    variables=_variables("#9a5b0b", text_muted="#77736b"),
)
THEMES = (DARK, LIGHT)


def _ansi(*names: str) -> tuple[str, ...]:
    return tuple(f"ansi_{name}" for name in names)


PALETTES: dict[ThemeName, tuple[str, ...]] = {
    "dark": ("#e8b15d", "#7cb0e0", "#93c47d", "#e58a9b", "#b59ae0", "#66c2b5", "#e0824f", "#a9adb8"),
    "light": ("#9a5b0b", "#1f5f99", "#2f7d32", "#b02a56", "#6b3fa0", "#0f766e", "#b5480f", "#5d6470"),
    "ansi-dark": _ansi("yellow", "bright_blue", "green", "magenta", "cyan", "red", "bright_green", "white"),
    "ansi-light": _ansi("blue", "red", "green", "magenta", "cyan", "yellow", "bright_black", "black"),
}
"""Eight line colours for each theme, distinguishable on its background."""

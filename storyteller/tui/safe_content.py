"""Text from outside, as widgets may show it: every character literal, no control, no markup."""

from __future__ import annotations

from textual.content import Content

from storyteller.text import safe, safe_line


def plain(text: str, style: str = "") -> Content:
    """`text` as it stands, over as many lines as it has; `style` is a style's name or definition, of our own."""
    return Content.styled(safe(text), style) if style else Content(safe(text))


def line(text: str, style: str = "", limit: int = 0) -> Content:
    """`text` on one line; with `limit`, cut to so many characters with an ellipsis."""
    shown = safe_line(text, limit)
    return Content.styled(shown, style) if style else Content(shown)

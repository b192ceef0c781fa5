"""Makes untrusted text safe for widgets: shown literally, without control characters or markup."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from storyteller.text import safe, safe_line


def plain(text: str, style: str = "") -> Content:
    """`text` over as many lines as it has, in a Textual style."""
    return Content.styled(safe(text), style) if style else Content(safe(text))


def line(text: str, style: str = "", limit: int = 0) -> Content:
    """`text` on one line; a `limit` above 0 cuts it to that many characters, with an ellipsis."""
    shown = safe_line(text, limit)
    return Content.styled(shown, style) if style else Content(shown)


def show(static: Static, content: Content, *, layout: bool = True) -> None:
    """Update `static` unless it shows `content` already; `layout` is whether its size may change."""
    if not isinstance(static.content, Content) or not content.is_same(static.content):
        static.update(content, layout=layout)

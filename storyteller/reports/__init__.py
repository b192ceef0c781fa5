"""Self-contained pages for a browser: documents (`html`), their look (`style`), plots (`plots`)."""

from storyteller.reports.html import Markup, Page, element, write

__all__ = ["Markup", "Page", "element", "write"]

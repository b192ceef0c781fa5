"""Self-contained pages for a browser: documents (`html`), their look (`style`), plots (`plots`)."""

from storyteller.reports.html import HtmlPage, Markup, element, write

__all__ = ["HtmlPage", "Markup", "element", "write"]

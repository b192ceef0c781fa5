"""Self-contained HTML pages: documents (`html`), the style sheet (`style`), plots (`svg_plots`), and the reports."""

from storyteller.reports.html import HtmlPage, Markup, element, write

__all__ = ["HtmlPage", "Markup", "element", "write"]

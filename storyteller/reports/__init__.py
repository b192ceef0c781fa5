"""Self-contained HTML pages: documents (`html`), the style sheet (`style`), plots (`svg_plots`), and the reports."""

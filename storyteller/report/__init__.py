"""What became of a run, or of several, as a page for a browser: curves, stories, settings, and how to do it again.

portraits = [read_portrait(folder) for folder in folders]
write(path, report_page(portraits))
"""

from storyteller.report.page import report_page
from storyteller.report.portrait import Portrait, earlier_runs, read_portrait

__all__ = ["Portrait", "earlier_runs", "read_portrait", "report_page"]

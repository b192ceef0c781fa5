"""`storyteller report`: an HTML report of one run, or of several compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from storyteller.cli.options import Axis, RunsDir, argument, option
from storyteller.cli.text_tables import note, out, out_json
from storyteller.errors import RunError
from storyteller.tracking import run_folder, run_index
from storyteller.tracking.run_folder import RunFolder


def report(
    runs: Annotated[list[str], argument("Names of runs, unique prefixes of names, or latest.", metavar="RUN")],
    out_file: Annotated[
        Path | None, option("The file to write; default: report-RUN.html.", "--out", metavar="FILE.html")
    ] = None,
    by: Annotated[Axis | None, option("The x axis of the curves; default: step, for several runs tokens.")] = None,
    as_json: Annotated[bool, option("Print the path of the page and what is missing as JSON.", "--json")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Write a self-contained HTML page about runs: curves, samples, settings, and the commands to reproduce them.

    Example: storyteller report first wide --out both.html
    """
    from storyteller.reports.html import check_writable, write
    from storyteller.reports.run_report import report_page
    from storyteller.reports.run_snapshot import earlier_runs, read_snapshot

    root = run_folder.runs_root(runs_dir)
    folders = list({(folder := _find_run(root, name)).name: folder for name in runs}.values())
    path = out_file or Path(f"report-{'-'.join(folder.name for folder in folders)[:100]}.html")
    check_writable(path)
    snapshots = []
    for folder in folders:
        if sys.stderr.isatty():
            note(f"reading {folder.name} ...")
        snapshots.append(read_snapshot(folder))
    earlier = earlier_runs(folders[0]) if len(folders) == 1 else []
    size = write(path, report_page(snapshots, by, earlier))
    if as_json:
        missing = {snapshot.name: list(snapshot.missing) for snapshot in snapshots}
        out_json({"page": str(path), "bytes": size, "runs": [folder.name for folder in folders], "missing": missing})
        return
    for snapshot in snapshots:
        for words in snapshot.missing:
            note(f"{snapshot.name}: {words}")
    out(f"{path}: {size / 1e3:,.0f} kB")


def _find_run(root: Path, name: str) -> RunFolder:
    """Finds a run, also by its full name one that has lost `run.json`."""
    try:
        return run_index.find_run(root, name)
    except RunError:
        folder = RunFolder(root / name)
        if not run_folder.NAME.fullmatch(name) or not (folder.metrics.is_file() or folder.samples.is_file()):
            raise
        run_folder.check_links(folder)
        return folder

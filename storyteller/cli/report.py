"""`storyteller report`: runs as a page for a browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from storyteller.cli.text_tables import note, out, out_json
from storyteller.cli.train import RunsDir
from storyteller.errors import RunError
from storyteller.tracking import run_folder, run_index
from storyteller.tracking.run_folder import RunFolder


def report(
    runs: Annotated[list[str], typer.Argument(help="Runs: their names, beginnings of them, or latest.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="The page; default: report-RUN.html.")
    ] = None,
    by: Annotated[
        Literal["step", "tokens", "seconds"] | None,
        typer.Option(help="What the curves' x axis counts first; default: step, of several runs tokens."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Where the page is, and what is missing, as JSON.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Runs as one page for a browser: curves, stories by step, settings, how to train them again. It loads nothing.

    Example: storyteller report first wide --out both.html
    """
    from storyteller.reports.html import check_writable, write
    from storyteller.reports.run_report import report_page
    from storyteller.reports.run_snapshot import earlier_runs, read_snapshot

    root = run_folder.runs_root(runs_dir)
    folders = list({(folder := _found(root, name)).name: folder for name in runs}.values())
    path = out_file or Path(f"report-{'-'.join(folder.name for folder in folders)[:100]}.html")
    check_writable(path)
    portraits = []
    for folder in folders:
        if sys.stderr.isatty():
            note(f"reading {folder.name} ...")
        portraits.append(read_snapshot(folder))
    earlier = earlier_runs(folders[0]) if len(folders) == 1 else []
    size = write(path, report_page(portraits, by, earlier))
    if as_json:
        missing = {portrait.name: list(portrait.missing) for portrait in portraits}
        out_json({"page": str(path), "bytes": size, "runs": [folder.name for folder in folders], "missing": missing})
        return
    for portrait in portraits:
        for words in portrait.missing:
            note(f"{portrait.name}: {words}")
    out(f"{path}: {size / 1e3:,.0f} kB")


def _found(root: Path, name: str) -> RunFolder:
    """The run; one whose `run.json` is gone is reported on, too, where its whole name is given."""
    try:
        return run_index.find_run(root, name)
    except RunError:
        folder = RunFolder(root / name)
        if not run_folder.NAME.fullmatch(name) or not (folder.metrics.is_file() or folder.samples.is_file()):
            raise
        run_folder.check_links(folder)
        return folder

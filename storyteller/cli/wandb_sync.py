"""`storyteller sync` and `dashboard`: upload a run to Weights & Biases, open its page."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

from storyteller.cli.options import Run, RunsDir, option
from storyteller.cli.text_tables import note, number, out, out_json
from storyteller.errors import RunError
from storyteller.launch import start
from storyteller.system import hardware
from storyteller.tracking import run_folder, run_index
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state
from storyteller.tracking.wandb_cursor import WandbCursor, is_complete, mirror_is_running, page_url, read_cursor


def sync(
    run: Run,
    as_json: Annotated[bool, option("Print JSON: what was sent, and the address of the page.", "--json")] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Send to Weights & Biases what it does not have of a run yet. Safe to repeat.

    Example: storyteller sync latest
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    before = _cursor(folder).rows
    if not hardware.has_wandb_key():
        raise RunError("no W&B API key found", "run `wandb login`, or set WANDB_API_KEY")
    if seen_state(folder) in LIVING:
        if not mirror_is_running(folder):
            start.start_mirror(folder, "online")
        status, line = 0, f"{folder.name} is training; its W&B mirror sends new rows continuously"
    elif is_complete(folder):
        status, line = 0, f"nothing to send: W&B is up to date with {folder.name}"
    else:
        note(f"sending {folder.name} to {hardware.wandb_url()}")
        status = _send(folder)
        sent, state = _cursor(folder).rows - before, "W&B is up to date" if status == 0 else "some rows are missing"
        line = f"sent {number(sent)} rows of {folder.name}: {state}"
        if not status and not _cursor(folder).rows:
            line = f"nothing to send: {folder.name} has no metrics yet"
    if status and not as_json:
        raise RunError(_cursor(folder).problem or line, f"storyteller sync {folder.name} tries again")
    if as_json:
        cursor, complete = _cursor(folder), is_complete(folder)
        answer = {"run": folder.name, "wandb_url": cursor.url, "rows": cursor.rows, "sent": cursor.rows - before}
        out_json({**answer, "complete": complete, "problem": cursor.problem or None})
    else:
        out(line)
        out(f"  storyteller dashboard {folder.name}")
    return status


def dashboard(
    run: Run,
    print_only: Annotated[bool, option("Print the address without opening it.", "--print")] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Open a run's Weights & Biases page and print its address. An offline run is shown in the terminal.

    Example: storyteller dashboard latest
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    url = page_url(folder)
    if url.startswith(("https://", "http://")):
        out(url)
        if not print_only and _has_display():
            webbrowser.open(url)
        return 0
    offline = sorted(folder.wandb_files.glob("offline-run-*")) if folder.wandb_files.is_dir() else []
    if not offline:
        raise RunError(f"{folder.name} has no W&B page", f"storyteller sync {folder.name} makes one")
    if not print_only and sys.stdin.isatty() and sys.stdout.isatty():
        return subprocess.run([sys.executable, "-P", "-m", "wandb", "leet", str(offline[-1])], check=False).returncode
    out(f"{folder.name} is offline: wandb leet {offline[-1]}")
    out(f"  storyteller sync {folder.name}")
    return 0


def _send(folder: RunFolder) -> int:
    """Runs the mirror until it has sent everything. Returns its exit status. Ctrl-C stops it; what was sent stays."""
    process = start.start_mirror(folder, "online", ["--since", "0", "--grace", "60"])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _cursor(folder: RunFolder) -> WandbCursor:
    return read_cursor(folder) or WandbCursor(id="", project="")


def _has_display() -> bool:
    """True if a browser window would be visible to the user: not over SSH, not without a display."""
    if not sys.stdout.isatty() or os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or Path("/mnt/wslg").exists())

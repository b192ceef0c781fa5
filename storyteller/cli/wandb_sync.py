"""`storyteller sync` and `dashboard`: a run's page on Weights & Biases."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from storyteller.cli.runs import Run
from storyteller.cli.text_tables import note, number, out, out_json
from storyteller.cli.train import RunsDir
from storyteller.errors import RunError
from storyteller.launch import start
from storyteller.system import hardware
from storyteller.tracking import run_folder, run_index
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state
from storyteller.tracking.wandb_cursor import is_at_work, is_complete, read_mirrored


def sync(
    run: Run,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON: what was sent, and where it is.")] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Send what Weights & Biases does not have of a run yet; again and again does no harm.

    Example: storyteller sync latest
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    before = _rows(folder)
    if not hardware.has_wandb_key():
        raise RunError("there is no W&B API key here", "run `wandb login`, or set WANDB_API_KEY")
    if seen_state(folder) in LIVING:
        if not is_at_work(folder):
            start.start_mirror(folder, "online")
        status, line = 0, f"{folder.name} is training; its mirror sends what there is as it goes"
    elif is_complete(folder):
        status, line = 0, f"nothing to send: W&B has all of {folder.name}"
    else:
        note(f"sending {folder.name} to {hardware.wandb_url()}")
        status = _send(folder)
        sent, state = _rows(folder) - before, "all of it is there" if status == 0 else "some of it is missing"
        line = f"sent {number(sent)} rows of {folder.name}: {state}"
        if not status and not _rows(folder):
            line = f"{folder.name} has nothing to send yet"
    if status and not as_json:
        raise RunError(_problem(folder) or line, f"storyteller sync {folder.name} tries again")
    if as_json:
        out_json(_answer(folder, before, complete=is_complete(folder)))
    else:
        out(line)
        out(f"  storyteller dashboard {folder.name}")
    return status


def dashboard(
    run: Run,
    print_only: Annotated[bool, typer.Option("--print", help="Only print the address.")] = False,
    runs_dir: RunsDir = None,
) -> int:
    """Print the address of a run's Weights & Biases page and open it; an offline run is shown in this terminal.

    Example: storyteller dashboard latest
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    mirrored = read_mirrored(folder)
    if mirrored is not None and mirrored.url and mirrored.url.startswith(("https://", "http://")):
        out(mirrored.url)
        if not print_only and _has_display():
            webbrowser.open(mirrored.url)
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
    """The mirror run to its end; its exit status. Ctrl-C ends it, and what it sent stays sent."""
    process = start.start_mirror(folder, "online", ["--since", "0", "--grace", "60"])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _rows(folder: RunFolder) -> int:
    mirrored = read_mirrored(folder)
    return mirrored.rows if mirrored is not None else 0


def _problem(folder: RunFolder) -> str:
    mirrored = read_mirrored(folder)
    return mirrored.problem if mirrored is not None else ""


def _answer(folder: RunFolder, before: int, complete: bool) -> dict[str, Any]:
    mirrored = read_mirrored(folder)
    return {
        "run": folder.name,
        "wandb_url": mirrored.url if mirrored is not None else None,
        "rows": _rows(folder),
        "sent": _rows(folder) - before,
        "complete": complete,
        "problem": (mirrored.problem or None) if mirrored is not None else None,
    }


def _has_display() -> bool:
    """Whether a browser's window would be seen by whoever typed the command."""
    if not sys.stdout.isatty() or os.environ.get("SSH_CONNECTION"):
        return False
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or Path("/mnt/wslg").exists())

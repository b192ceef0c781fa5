"""`storyteller ps`, `logs`, `stop`, `wait`, `delete` and `rename`."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from storyteller.cli.follow import log_across_restarts, print_outcome
from storyteller.cli.options import Run, RunsDir, argument, option
from storyteller.cli.text_tables import note, number, out, out_json, print_table, span
from storyteller.errors import UsageError
from storyteller.tracking import log_file, manage_runs, run_folder, run_index, run_process


def ps(
    as_json: Annotated[bool, option("Print JSON: a list of objects.", "--json")] = False, runs_dir: RunsDir = None
) -> None:
    """List runs, newest first: state, step, loss, speed and remaining time.

    Example: storyteller ps --json
    """
    root = run_folder.runs_root(runs_dir)
    run_index.check_readable(root)
    summaries = [run_index.summarise(folder) for folder in run_index.list_runs(root)]
    if as_json:
        out_json([summary.to_json() for summary in summaries])
        return
    if not summaries:
        note(f"no runs yet in {root}: storyteller train starts one")
        return
    head = ("RUN", "STATE", "STEP", "DONE", "LOSS", "BITS/BYTE", "TOKENS/S", "LEFT")
    rows = [
        (
            s.name,
            s.state,
            number(s.step),
            number(None if s.progress is None else 100 * s.progress, ".0f") + " %",
            number(s.train_loss, ".3f"),
            number(s.eval_bpb, ".3f"),
            number(s.tokens_per_second),
            span(s.eta_seconds),
        )
        for s in summaries
    ]
    print_table(head, rows)
    for s in summaries:
        if s.wandb_url:
            out(f"{s.name}: {s.wandb_url}")


def logs(
    run: Run,
    follow: Annotated[bool, option("Follow the log until the run has finished or failed.", "-f", "--follow")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Print the log of a run. With -f, follow it across resumes until it has finished or failed; Ctrl-C quits.

    Example: storyteller logs latest -f
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if not follow:
        for line in log_file.read_log(folder):
            out(line)
        return
    with contextlib.suppress(KeyboardInterrupt):
        for line in log_across_restarts(folder, note):
            out(line)


def stop(
    run: Run,
    now: Annotated[bool, option("Kill it: everything after its last checkpoint is lost.", "--now")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Stop a run: it finishes its step, saves a checkpoint and exits.

    Example: storyteller stop latest
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    state = run_process.stop(folder, now=now)
    out(f"{folder.name} {'was killed' if now else 'has ' + state if state == 'finished' else 'was ' + state}")
    if state != "finished":
        out(f"  storyteller resume {folder.name}")


def wait(
    run: Run,
    timeout: Annotated[float | None, option("Fail if the run has not ended after this many seconds.", min=0)] = None,
    runs_dir: RunsDir = None,
) -> int:
    """Wait until a run ends and exit with its status: 0 finished or stopped, 1 failed or died.

    Example: storyteller wait latest --timeout 600
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    run_process.wait_end(folder, timeout)
    return print_outcome(folder)


def delete(
    run: Run,
    yes: Annotated[bool, option("Do not ask. Requires the full name of the run.", "--yes")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete a run that is not training, with its log, stories and checkpoints.

    Example: storyteller delete little-fox
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if yes and folder.name != run:
        raise UsageError("--yes requires the full name of the run", f"storyteller delete {folder.name} --yes")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("no terminal to ask for confirmation", f"storyteller delete {folder.name} --yes")
        if not typer.confirm(f"Delete {folder.name} and its checkpoints permanently?"):
            out(f"{folder.name} was not deleted")
            return
    manage_runs.delete(folder)
    out(f"{folder.name} was deleted")


def rename(run: Run, name: Annotated[str, argument("New name.", metavar="NAME")], runs_dir: RunsDir = None) -> None:
    """Rename a run that is not training.

    Example: storyteller rename little-fox best-fox
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    renamed = manage_runs.rename(folder, name)
    out(f"{folder.name} was renamed to {renamed.name}")

"""`storyteller ps`, `logs`, `stop`, `wait`, `delete` and `rename`: the runs there are, and order among them."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from storyteller.cli.follow import how_it_ended, log_across_restarts
from storyteller.cli.text_tables import note, number, out, out_json, span, table
from storyteller.cli.train import RunsDir
from storyteller.errors import UsageError
from storyteller.tracking import log_file, manage_runs, run_folder, run_index, run_process

Run = Annotated[str, typer.Argument(help="The run: its name, the beginning of it, or latest.")]


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a list of objects.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """The runs: state, step, loss, speed, time left; the newest first.

    Example: storyteller ps --json
    """
    root = run_folder.runs_root(runs_dir)
    run_index.check_readable(root)
    summaries = [run_index.summarise(folder) for folder in run_index.list_runs(root)]
    if as_json:
        out_json([summary.to_json() for summary in summaries])
        return
    if not summaries:
        note(f"no runs yet in {root}: storyteller train makes one")
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
    for line in table(head, rows):
        out(line)
    for s in summaries:
        if s.wandb_url:
            out(f"{s.name}: {s.wandb_url}")


def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what is to come, until it has finished or failed.")
    ] = False,
    runs_dir: RunsDir = None,
) -> None:
    """The run's log. With -f a run that was stopped or has died is waited for until it is resumed; Ctrl-C ends that.

    Example: storyteller logs latest -f
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if not follow:
        for line in log_file.follow_log(folder, follow=False):
            out(line)
        return
    with contextlib.suppress(KeyboardInterrupt):
        for line in log_across_restarts(folder, note):
            out(line)


def stop(
    run: Run,
    now: Annotated[bool, typer.Option("--now", help="Kill it: what came after its last checkpoint is lost.")] = False,
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
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds; a run that lives longer is an error.")] = None,
    runs_dir: RunsDir = None,
) -> int:
    """Wait until a run has ended, and end with its exit status: 0 finished or stopped, 1 failed or died.

    Example: storyteller wait latest --timeout 600
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    run_process.wait_end(folder, timeout)
    return how_it_ended(folder)


def delete(
    run: Run,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; the run's whole name is wanted then.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Delete a run that is not training: its log, its stories and all its checkpoints.

    Example: storyteller delete little-fox
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if yes and folder.name != run:
        raise UsageError("--yes wants the run's whole name", f"storyteller delete {folder.name} --yes")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("there is no terminal to ask at", f"storyteller delete {folder.name} --yes")
        if not typer.confirm(f"Delete {folder.name} and its checkpoints for good?"):
            out(f"{folder.name} is kept")
            return
    manage_runs.delete(folder)
    out(f"{folder.name} was deleted")


def rename(
    run: Run,
    name: Annotated[str, typer.Argument(help="Its new name.")],
    runs_dir: RunsDir = None,
) -> None:
    """Give a run that is not training another name.

    Example: storyteller rename little-fox best-fox
    """
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    renamed = manage_runs.rename(folder, name)
    out(f"{folder.name} is {renamed.name} now")

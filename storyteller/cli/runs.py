"""`storyteller ps`, `logs`, `stop` and `wait`: what the runs are doing."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from storyteller import daemon
from storyteller.cli.follow import how_it_ended, log_across_restarts
from storyteller.cli.show import note, number, out, out_json, span, table
from storyteller.cli.train import RunsDir
from storyteller.runs import layout, store

Run = Annotated[str, typer.Argument(help="The run: its name, the beginning of it, or latest.")]


def ps(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a list of objects.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """The runs: state, step, loss, speed, time left; the newest first.

    Example: storyteller ps --json
    """
    root = layout.runs_root(runs_dir)
    summaries = [store.summarise(folder) for folder in store.list_runs(root)]
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
    folder = store.find_run(layout.runs_root(runs_dir), run)
    if not follow:
        for line in daemon.follow_log(folder, follow=False):
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
    folder = store.find_run(layout.runs_root(runs_dir), run)
    state = daemon.stop(folder, now=now)
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
    folder = store.find_run(layout.runs_root(runs_dir), run)
    daemon.wait_end(folder, timeout)
    return how_it_ended(folder)

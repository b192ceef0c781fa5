"""What `storyteller` alone prints at a terminal: what to type first, and the newest runs."""

from __future__ import annotations

from storyteller.cli.text_tables import number, out, print_table
from storyteller.errors import RunError
from storyteller.tracking.run_folder import runs_root
from storyteller.tracking.run_index import list_runs, summarise

_FIRST_COMMANDS = (
    ("storyteller train", "train a small model here, in five minutes"),
    ('storyteller tell "Once there was a little boy"', "a story from the newest model"),
    ("storyteller tui", "the terminal app: watch, prompt and compare runs"),
    ("storyteller guide", "the handbook"),
    ("storyteller --help", "all commands"),
)
_MOST_RUNS = 5


def welcome() -> None:
    """Prints the first commands and up to five runs."""
    out("storyteller trains tiny story models and lets them tell stories.")
    out()
    print_table((), [(f"  {command}", meaning) for command, meaning in _FIRST_COMMANDS])
    try:
        root = runs_root()
        runs = list_runs(root)
    except RunError:  # `ps` says what is wrong with the folder of runs
        return
    if not runs:
        return
    rows = []
    for run in runs[:_MOST_RUNS]:
        summary = summarise(run)
        bpb = f"{summary.eval_bpb:.3f} bits/byte" if summary.eval_bpb is not None else ""
        rows.append((f"  {run.name}", summary.state, f"step {number(summary.step)}", bpb))
    out()
    out(f"runs in {root}:")
    print_table((), rows)
    if len(runs) > _MOST_RUNS:
        out(f"  and {len(runs) - _MOST_RUNS:,} more: storyteller ps")

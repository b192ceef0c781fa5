"""Follows a run: prints its log as it grows and, at a terminal, a progress bar under it.

Reads the run folder only, so it shows the same for a run started here and for one that is attached to later.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

from storyteller.cli.text_tables import note, number, out, span, warn
from storyteller.text import safe_line
from storyteller.tracking.log_file import follow_log
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary, summarise
from storyteller.tracking.run_status import LIVING, read_status, seen_state


def follow(folder: RunFolder, log_offset: int = 0, over: threading.Event | None = None) -> bool:
    """Prints the run's log from a byte offset on until the run ends or `over` is set. Returns True then.

    At a terminal, Ctrl-C detaches: the run goes on, and how to come back is printed. Returns False then.
    """

    def ended() -> bool:
        return over.is_set() if over is not None else seen_state(folder) not in LIVING

    new_lines = follow_log(folder, ended, log_offset)
    try:
        if sys.stderr.isatty():
            _print_with_bar(folder, new_lines)
        else:
            for lines in new_lines:
                for line in lines:
                    out(line)
    except KeyboardInterrupt:
        note("")
        note(f"detached; {folder.name} goes on training")
        note(f"  storyteller train --attach {folder.name}   follows it again (or storyteller logs {folder.name} -f)")
        note(f"  storyteller stop {folder.name}             finishes its step, saves and stops it")
        return False
    return True


def log_across_restarts(folder: RunFolder, on_message: Callable[[str], None]) -> Iterator[str]:
    """Yields the lines of the run's log, safe to show, until the run has finished or failed or was deleted.

    A run that was stopped or has died may be resumed: waits for that, and passes a line about it to `on_message`.
    """
    state = seen_state(folder)
    is_announced = False

    def ended() -> bool:
        nonlocal state
        state = seen_state(folder)
        return state in ("finished", "failed") or not folder.path.is_dir()

    for lines in follow_log(folder, ended):
        yield from map(safe_line, lines)
        if state in LIVING:
            is_announced = False
        elif state in ("stopped", "died") and not is_announced:
            is_announced = True
            how = "has died" if state == "died" else "was stopped"
            on_message(f"{folder.name} {how}; waiting for storyteller resume {folder.name} (Ctrl-C quits)")


def print_outcome(folder: RunFolder) -> int:
    """Prints how the run ended and what to do next. Returns its exit status."""
    summary = summarise(folder)
    name = folder.name
    if summary.state == "finished":
        out(f"{name} has finished: {_reached(summary)}")
        out(f'  storyteller tell --model {name} "Once upon a time"')
        return 0
    if summary.state == "stopped":
        out(f"{name} was stopped: {_reached(summary)}")
        out(f"  storyteller resume {name}")
        return 0
    why = summary.message or f"its process is gone; storyteller logs {name} has what it printed last"
    warn(f"{name} {'has died' if summary.state == 'died' else 'has failed'}: {why}")
    status = read_status(folder)
    return (status.exit_code if status is not None else None) or 1


def _reached(summary: RunSummary) -> str:
    bpb = f", {summary.eval_bpb:.4f} bits per byte held out" if summary.eval_bpb is not None else ""
    return f"{number(summary.step)} steps, {number(summary.tokens)} tokens in {span(summary.seconds)}{bpb}"


def _print_with_bar(folder: RunFolder, new_lines: Iterator[list[str]]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None))
    figures = TextColumn("{task.fields[figures]}", markup=False)
    # Drawn only when something is new: rich's automatic ten frames a second take 10 ms of a core each second.
    with Progress(*columns, figures, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(folder.name, total=1.0, figures="")
        drawn = ""
        for lines in new_lines:
            for line in lines:
                bar.console.print(Text(safe_line(line)))
            summary = summarise(folder)
            words = _figures(summary)
            if words != drawn:
                bar.update(task, completed=summary.progress or 0.0, figures=words, refresh=True)
                drawn = words


def _figures(summary: RunSummary) -> str:
    """The text next to the bar."""
    words = [f"step {number(summary.step)}"]
    if summary.state in ("starting", "waiting", "stopping"):
        words = [summary.state, summary.message or ""]
    elif summary.message:
        words.append(summary.message)  # a full disk, for example
    if summary.train_loss is not None:
        words += [f"loss {summary.train_loss:.3f}", f"{number(summary.tokens_per_second)} tokens/s"]
    if summary.eval_bpb is not None:
        words.append(f"{summary.eval_bpb:.3f} bits/byte")
    if summary.eta_seconds is not None:
        words.append(f"{span(summary.eta_seconds)} left")
    return safe_line("  ".join(word for word in words if word))

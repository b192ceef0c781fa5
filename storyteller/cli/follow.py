"""Following a run from outside: its log as it grows and, at a terminal, a progress bar under it.

Reads the run folder alone, so it shows the same to whoever started the run and to whoever comes back to it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

from storyteller.cli.text_tables import note, number, out, span
from storyteller.system.files import open_regular
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import RunSummary, summarise
from storyteller.tracking.run_status import LIVING, read_status, seen_state

_POLL_SECONDS = 0.5
"""Each look takes a moment of a core, which the run that is looked at could use."""


def follow(folder: RunFolder, log_offset: int = 0, over: threading.Event | None = None) -> bool:
    """Print the run's log from a byte offset on until the run ends (or `over` is set); True then.

    At a terminal Ctrl-C leaves the run alone and says how to come back; False then.
    """
    try:
        if sys.stderr.isatty():
            _with_bar(folder, log_offset, over)
        else:
            _plainly(folder, log_offset, over)
    except KeyboardInterrupt:
        note("")
        note(f"detached; {folder.name} goes on training")
        note(f"  storyteller train --attach {folder.name}   follows it again (or storyteller logs {folder.name} -f)")
        note(f"  storyteller stop {folder.name}             finishes its step, saves and stops it")
        return False
    return True


def log_across_restarts(folder: RunFolder, say: Callable[[str], None]) -> Iterator[str]:
    """The run's log, from its start and as it grows, until it has finished or failed; safe to show.

    A run that was stopped or has died may be resumed: that is waited for, and `say` gets a line about it. Ends too
    where the run's folder is removed.
    """
    log, told = _Log(folder, 0), False
    while folder.path.is_dir():
        state = seen_state(folder)  # before the read, so that the last lines are not missed
        yield from log.lines()
        if state in ("finished", "failed"):
            break
        if state in LIVING:
            told = False
        elif not told:
            how = "has died" if state == "died" else "was stopped"
            say(f"{folder.name} {how}; this goes on after storyteller resume {folder.name} (Ctrl-C ends it)")
            told = True
        time.sleep(_POLL_SECONDS)
    yield from log.rest()


def how_it_ended(folder: RunFolder) -> int:
    """Say how the run ended and what to do next; its exit status."""
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
    why = summary.message or f"its process is gone; storyteller logs {name} has what it said last"
    note(f"storyteller: {name} {'has died' if summary.state == 'died' else 'has failed'}: {why}")
    status = read_status(folder)
    return (status.exit_code if status is not None else None) or 1


def _reached(summary: RunSummary) -> str:
    bpb = f", {summary.eval_bpb:.4f} bits per byte held out" if summary.eval_bpb is not None else ""
    return f"{number(summary.step)} steps, {number(summary.tokens)} tokens in {span(summary.seconds)}{bpb}"


class _Log:
    """The lines that came to the log since the last look."""

    def __init__(self, folder: RunFolder, offset: int) -> None:
        self._path = folder.log
        self._offset = offset
        self._piece = b""

    def lines(self) -> list[str]:
        try:
            with open_regular(self._path) as log:
                log.seek(self._offset)
                data = log.read()
        except OSError:
            return []
        self._offset += len(data)
        *whole, self._piece = (self._piece + data).split(b"\n")
        return [safe_line(line.decode("utf-8", "replace")) for line in whole]

    def rest(self) -> list[str]:
        """The last line, where it has no newline."""
        return [safe_line(self._piece.decode("utf-8", "replace"))] if self._piece else []


def _over(folder: RunFolder, over: threading.Event | None) -> bool:
    return over.is_set() if over is not None else seen_state(folder) not in LIVING


def _plainly(folder: RunFolder, offset: int, over: threading.Event | None) -> None:
    log = _Log(folder, offset)
    while True:
        ended = _over(folder, over)  # before the read, so that the last lines are not missed
        for line in log.lines():
            print(line, flush=True)
        if ended:
            return
        time.sleep(_POLL_SECONDS)


def _with_bar(folder: RunFolder, offset: int, over: threading.Event | None) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    console = Console(stderr=True, highlight=False)
    log = _Log(folder, offset)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None))
    figures = TextColumn("{task.fields[figures]}", markup=False)
    # Drawn where something is new: ten times a second, as rich would have it, takes 10 ms of a core each second.
    with Progress(*columns, figures, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(folder.name, total=1.0, figures="")
        drawn = ""
        while True:
            ended = _over(folder, over)
            for line in log.lines():
                bar.console.print(Text(line))
            summary = summarise(folder)
            words = _in_words(summary)
            if words != drawn:
                bar.update(task, completed=summary.progress or 0.0, figures=words, refresh=True)
                drawn = words
            if ended:
                return
            time.sleep(_POLL_SECONDS)


def _in_words(summary: RunSummary) -> str:
    """What stands beside the bar."""
    words = [f"step {number(summary.step)}"]
    if summary.state in ("starting", "waiting", "stopping"):
        words = [summary.state, summary.message or ""]
    elif summary.message:
        words.append(summary.message)  # a disk that is full, say
    if summary.train_loss is not None:
        words += [f"loss {summary.train_loss:.3f}", f"{number(summary.tokens_per_second)} tokens/s"]
    if summary.eval_bpb is not None:
        words.append(f"{summary.eval_bpb:.3f} bits/byte")
    if summary.eta_seconds is not None:
        words.append(f"{span(summary.eta_seconds)} left")
    return safe_line("  ".join(word for word in words if word))

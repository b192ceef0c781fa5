"""Lists runs, finds runs and checkpoints by name, and summarises a run."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storyteller.config.configs import STARTER
from storyteller.errors import CheckpointError, RunError
from storyteller.system.json_values import finite
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import last_records
from storyteller.tracking.run_folder import NAME, RunFolder, check_inside, check_links
from storyteller.tracking.run_status import LIVING, RunState, read_status, seen_state
from storyteller.tracking.wandb_cursor import read_cursor

_LOOK_BACK_BYTES = 64 << 20  # how far from its end a log is searched: hours of logging, tens of milliseconds to read
FIGURES = ("train/loss", "eval/bpb", "train/tokens_per_second", "time/eta_seconds")  # the metrics in a summary


@dataclass(frozen=True)
class RunSummary:
    """One line of `ps`. Values that are not known are None."""

    name: str
    state: RunState
    preset: str | None
    step: int | None
    tokens: int | None
    seconds: float | None  # training time, by a monotonic clock
    train_loss: float | None  # nats per token
    eval_bpb: float | None  # bits per byte of the held-out stories
    tokens_per_second: float | None
    eta_seconds: float | None  # remaining time; None for a run that is not training
    created_at: str | None  # UTC, ISO 8601
    message: str | None
    progress: float | None  # share of the budget, 0 to 1
    wandb_url: str | None = None  # address of the run's Weights & Biases page

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_runs(root: Path) -> list[RunFolder]:
    """Returns the runs in `root`, newest first. Ignores links and anything that is not a run."""
    return sorted(run_folders(root), key=lambda folder: (created_at(folder), folder.name), reverse=True)


def run_folders(root: Path) -> list[RunFolder]:
    """Returns the runs of `list_runs` in no order; none if the folder cannot be read."""
    found = []
    with contextlib.suppress(OSError):
        for folder in map(RunFolder, root.iterdir()):
            with contextlib.suppress(OSError):  # a folder that may not be searched is not a run
                if NAME.fullmatch(folder.name) and not folder.path.is_symlink() and folder.run_json.is_file():
                    found.append(folder)
    return found


def check_readable(root: Path) -> None:
    """Raises RunError if the folder of all runs exists but cannot be read: `run_folders` then returns none."""
    try:
        os.scandir(root).close()
        (root / "run.json").stat()  # the name does not matter: this needs the permission to search the folder
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise RunError(
            f"the runs in {safe_line(str(root), 200)} cannot be read ({error.strerror})",
            "check the permissions of that folder, or choose another with --runs-dir",
        ) from error


def any_trains(root: Path) -> bool:
    """True if a run in `root` is alive."""
    return any(seen_state(run) in LIVING for run in run_folders(root))


def find_run(root: Path, name: str) -> RunFolder:
    """Finds a run by its name, a unique prefix of it, or `latest`. Raises RunError, which names close matches."""
    check_readable(root)
    runs = list_runs(root)
    if name == "latest":
        if not runs:
            raise RunError(f"there are no runs yet in {safe_line(str(root), 200)}", "storyteller train starts one")
        return check_links(runs[0])
    shown = safe_line(name, 80) or "without a name"
    if not NAME.fullmatch(name):
        raise RunError(f"there is no run {shown}", "names consist of a-z 0-9 . _ -; storyteller ps lists the runs")
    exact = RunFolder(root / name)
    if exact.path.is_dir() or exact.path.is_symlink():
        check_inside(root, exact.path)
        if exact.run_json.is_file():
            return check_links(exact)
    if not runs:
        raise RunError(f"there is no run {shown}: no runs yet in {safe_line(str(root), 200)}", "storyteller train")
    matches = [run for run in runs if run.name.startswith(name)]
    if len(matches) == 1:
        return check_links(matches[0])
    if matches:
        raise RunError(f"{shown} matches {_few([run.name for run in matches])}", "give more of the name")
    names = [run.name for run in runs]
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"the runs are {_few(names)}"
    raise RunError(f"there is no run {shown}", remedy)


def find_checkpoint(
    root: Path, reference: str, on_skip: Callable[[CheckpointError], None] | None = None, *, for_inference: bool = False
) -> Path:
    """Finds the checkpoint folder of `RUN`, `RUN@STEP`, `RUN@best`, `RUN@latest` or `latest`.

    Without a step, or with `latest`, it is the newest checkpoint that verifies; `on_skip` is called for each newer one
    that does not. With `for_inference`, files that only training reads are not hashed. A step or `best` is not verified
    here. Raises RunError if there is no such run, step or checkpoint, CheckpointError if no checkpoint verifies.
    """
    name, at, which = reference.rpartition("@") if "@" in reference else (reference, "", "latest")
    folder = find_run(root, name)
    there = checkpoint_folders.steps(folder)
    if not there:
        raise RunError(
            f"{folder.name} has no checkpoint yet",
            f"wait for its first (storyteller logs {folder.name} -f), or use another run",
        )
    if which == "latest":
        path, skipped = checkpoint_folders.newest_good(folder, for_inference=for_inference)
        for error in skipped:
            if on_skip is not None:
                on_skip(error)
    elif which == "best":
        found = checkpoint_folders.best(folder)
        if found is None:
            raise RunError(f"no checkpoint of {folder.name} was evaluated", f"use {folder.name}@latest")
        path = found
    elif re.fullmatch(r"[0-9]{1,18}", which):
        path = folder.checkpoint(int(which))
        if int(which) not in there:
            raise RunError(f"{folder.name} has no step {int(which)}", f"it has {_few([str(step) for step in there])}")
    else:
        raise RunError(
            f"invalid checkpoint {folder.name}{at}{safe_line(which, 40)}",
            f"expected {folder.name}@STEP, {folder.name}@best or {folder.name}@latest",
        )
    check_inside(root, path)
    return path


def default_model(root: Path) -> str:
    """The model to use if none is named: the newest run that has a checkpoint, else the starter."""
    return next((run.name for run in list_runs(root) if readable_steps(run)), STARTER)


def newest_step(root: Path, reference: str) -> int | None:
    """The newest checkpoint's step of the run in `reference`; None if it names no run or there is no checkpoint."""
    name = reference.partition("@")[0]
    if "/" in name or name in ("", STARTER, ".", ".."):
        return None
    if name == "latest":
        return next((steps[-1] for run in list_runs(root) if (steps := readable_steps(run))), None)
    return max(readable_steps(RunFolder(root / name)), default=None)


def readable_steps(run: RunFolder) -> list[int]:
    """The steps of `checkpoint_folders.steps`; none if the folder cannot be read."""
    try:
        return checkpoint_folders.steps(run)
    except (OSError, ValueError):  # a name that no path can have
        return []


def summarise(folder: RunFolder, figures: Mapping[str, Any] | None = None) -> RunSummary:
    """Summarises the run. Missing or broken files make values None, never an error.

    `figures` are the newest values in the log, by metric, for callers that have read it; otherwise it is searched.
    """
    state = seen_state(folder)
    run = folder.read_run_or_empty()
    config = _mapping(run.get("config"))
    status = read_status(folder)
    cursor = read_cursor(folder)
    last = newest_figures(folder) if figures is None else figures
    living = state in LIVING
    # Step and tokens are in the heartbeat and in the log's last line; the one written later counts. Usually that is the
    # line, since several are logged between two heartbeats. But after a resume from an earlier step the heartbeat is
    # newer than the last line, which the resume supersedes.
    newest = last
    if status is not None:
        beat_is_newer = living and (_text(last.get("time")) or "") < status.heartbeat_at
        is_ahead = (_whole(status.step) or 0) >= (_whole(last.get("step")) or 0)
        if not last or (status.step and (beat_is_newer or is_ahead)):
            newest = {**last, "step": status.step, "tokens": status.tokens}
    eta_seconds = finite(last.get("time/eta_seconds")) if living else None
    return RunSummary(
        name=folder.name,
        state=state,
        preset=_text(config.get("preset")) or _text(run.get("preset")),
        step=_whole(newest.get("step")),
        tokens=_whole(newest.get("tokens")),
        seconds=finite(last.get("seconds")),
        train_loss=finite(last.get("train/loss")),
        eval_bpb=finite(last.get("eval/bpb")),
        tokens_per_second=finite(last.get("train/tokens_per_second")),
        eta_seconds=eta_seconds,
        created_at=_text(run.get("created_at")),
        message=(status.message or None) if status is not None else None,
        progress=1.0 if state == "finished" else _progress(_mapping(config.get("train")), newest, eta_seconds),
        wandb_url=(cursor.url or None) if cursor is not None else None,
    )


def newest_figures(folder: RunFolder) -> dict[str, Any]:
    """Searches the end of the log for the newest value of each of `FIGURES`, and the position of the last line."""
    found = last_records(folder.metrics, [None, *FIGURES], _LOOK_BACK_BYTES)
    return figures_in(found.get(None, {})) | {key: found[key][key] for key in FIGURES if key in found}


def figures_in(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a record that a summary needs: `FIGURES`, and its position (step, tokens, seconds and time)."""
    return {key: record[key] for key in ("step", "tokens", "seconds", "time", *FIGURES) if key in record}


def created_at(folder: RunFolder) -> float:
    """When the run was created, seconds since the epoch."""
    with contextlib.suppress(RunError, ValueError, OverflowError):
        created = datetime.datetime.fromisoformat(str(folder.read_run().get("created_at")))
        return (created if created.tzinfo is not None else created.replace(tzinfo=datetime.UTC)).timestamp()
    with contextlib.suppress(OSError):
        return folder.run_json.stat().st_mtime
    return 0.0


def _few(names: Sequence[str], most: int = 8) -> str:
    """Joins names to `a, b, c`, leaving out the middle ones of many."""
    if len(names) > most:
        names = [*names[: most // 2], f"\u2026 ({len(names) - most} more)", *names[-(most // 2) :]]
    return ", ".join(names)


def _progress(train: Mapping[str, Any], reached: Mapping[str, Any], eta_seconds: float | None) -> float | None:
    """Share of the run's budget that is used, be it steps, tokens or minutes."""
    seconds = finite(reached.get("seconds"))
    budgets = (
        (finite(reached.get("step")), finite(train.get("steps")), 1),
        (finite(reached.get("tokens")), finite(train.get("tokens")), 1),
        (seconds, finite(train.get("minutes")), 60),
    )
    for done, budget, unit in budgets:
        if done is not None and budget:
            return min(1.0, max(0.0, done / (budget * unit)))
    if seconds and eta_seconds is not None:  # epochs, whose length is only known during training
        return min(1.0, max(0.0, seconds / (seconds + max(0.0, eta_seconds))))
    return None


def _whole(value: object) -> int | None:
    """`value` if it is an integer of a sensible size, else None."""
    return value if isinstance(value, int) and finite(value) is not None else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

"""The layout of a run folder: names, paths, the schema version, and `run.json`."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storyteller.errors import RunError, UsageError
from storyteller.system.files import fsync_folder, read_regular, write_json
from storyteller.text import safe_line

SCHEMA = 1  # version of the run folder's layout. Newer versions are refused.

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED = ("latest", "starter")  # words that mean something else where a run is named


class _Entry:
    """A file or folder at a fixed place in the run folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, owner: type[RunFolder]) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the paths in it. Asking for a path does not touch the disk."""

    path: Path

    run_json = _Entry("run.json")  # the plan: config, data, model and host, written at the start
    status_json = _Entry("status.json")  # the state of the run and its last heartbeat
    metrics = _Entry("metrics.jsonl")  # a JSON object per line: the record that charts, reports and W&B are made from
    held_out = _Entry("held_out.jsonl")  # stories that are never trained on, and which are scored; chosen at the start
    samples = _Entry("samples.jsonl")  # stories generated during training, a JSON object per line
    log = _Entry("train.log")  # the output of the training process
    tokenizer = _Entry("tokenizer")
    checkpoints = _Entry("checkpoints")
    cards = _Entry("cards")  # the model cards of evaluated steps, a file each
    lock = _Entry("lock")  # held by the training process while it lives
    wandb_json = _Entry("wandb.json")  # the cursor of the W&B mirror, with the address of the run's page
    wandb_files = _Entry("wandb")  # the folder in which wandb keeps its files
    mirror_log = _Entry("mirror.log")  # the output of the W&B mirror
    mirror_lock = _Entry("mirror.lock")  # held by the W&B mirror while it lives: one mirror per run

    @property
    def name(self) -> str:
        return self.path.name

    def card(self, step: int) -> Path:
        return self.cards / f"{step_name(step)}.json"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / step_name(step)

    def read_run(self) -> dict[str, Any]:
        """Reads `run.json`. Raises RunError if it is missing, broken, or of a newer schema."""
        shown = safe_line(self.name, 80)
        try:
            run = json.loads(read_regular(self.run_json))
        except FileNotFoundError:
            raise RunError(f"{shown} is not a run: it has no run.json", "storyteller ps lists the runs") from None
        except OSError as error:
            raise RunError(
                f"the run.json of {shown} cannot be read ({error.strerror})", "check the folder's permissions"
            ) from error
        except (ValueError, RecursionError):
            run = None
        if not isinstance(run, dict):
            raise RunError(f"the run.json of {shown} is broken", "repair it by hand, or train again")
        schema = run.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise RunError(f"the run.json of {shown} has no schema", "repair it by hand, or train again")
        if schema > SCHEMA:
            raise RunError(
                f"{shown} was written by a newer storyteller (schema {schema}, this one reads {SCHEMA})",
                "update storyteller",
            )
        return run

    def read_run_or_empty(self) -> dict[str, Any]:
        """Reads `run.json` as `read_run` does, but returns {} instead of raising RunError."""
        try:
            return self.read_run()
        except RunError:
            return {}

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Replaces `run.json` atomically, adding the schema. Raises OSError as `write_json` does."""
        write_json(self.run_json, {"schema": SCHEMA, **run})


def step_name(step: int) -> str:
    """Name of a checkpoint folder: eight digits, more for larger steps."""
    return f"step-{step:08d}"


def runs_root(option: Path | str | None = None) -> Path:
    """Returns the absolute folder of all runs: the option, `STORYTELLER_RUNS`, or `runs` in the current folder.

    Raises RunError if that is not a folder.
    """
    chosen = option or os.environ.get("STORYTELLER_RUNS") or "runs"
    root = Path(chosen).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise RunError(f"{safe_line(str(root), 200)} is not a folder", "choose another --runs-dir")
    return root


def check_name(name: str) -> str:
    """Returns `name` if it is a valid name for a run. Raises UsageError otherwise."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"invalid run name {safe_line(name, 80) or repr(name)}",
            "expected 1 to 64 of a-z 0-9 . _ - starting with a letter or digit, such as --name little-fox",
        )
    if name in RESERVED:
        raise UsageError(f"{name} is a reserved name", "choose another --name")
    return name


def check_inside(root: Path, path: Path) -> None:
    """Raises RunError if `path`, with symbolic links resolved, is not inside `root`."""
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise RunError(
            f"{safe_line(str(path), 200)} is a link that leads out of the runs folder",
            "replace it with the real folder, or use --runs-dir for where it leads",
        )


def check_links(folder: RunFolder) -> RunFolder:
    """Returns `folder`. Raises RunError if it is, or directly contains, a link that leads out of the runs folder."""
    root = folder.path.parent
    check_inside(root, folder.path)
    with contextlib.suppress(FileNotFoundError), os.scandir(folder.path) as entries:
        for entry in entries:
            if entry.is_symlink():
                check_inside(root, Path(entry.path))
    return folder


def default_name(root: Path, today: datetime.date) -> str:
    """Returns three words and the date, such as `brave-little-fox-1122`, that are not taken in `root`."""
    # Not the global generator: the name must neither depend on the training's seed nor change its random stream.
    source = random.SystemRandom()
    for attempt in range(1000):
        words = (source.choice(kind.split()) for kind in (_MOODS, _LOOKS, _WHO))
        name = f"{'-'.join(words)}-{today:%m%d}"
        if attempt >= 100:  # there are thousands of runs of this day
            name = f"{name}-{secrets.token_hex(3)}"
        if not os.path.lexists(root / name):
            return name
    raise RunError("no free name found", "choose one with --name")


def create(root: Path, name: str) -> RunFolder:
    """Creates the run's folder, which reserves its name.

    Raises UsageError for an invalid name, RunError if it is taken or the folder cannot be created.
    """
    folder = RunFolder(root / check_name(name))
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.path.mkdir()
        fsync_folder(root)
    except FileExistsError:
        if not root.is_dir():
            raise RunError(f"{safe_line(str(root), 200)} is not a folder", "choose another --runs-dir") from None
        raise RunError(f"a run named {name} exists", f"choose another --name, or `storyteller resume {name}`") from None
    except (PermissionError, NotADirectoryError) as error:
        raise RunError(
            f"cannot create a run in {safe_line(str(root), 200)} ({error.strerror})",
            "choose another --runs-dir, or check its permissions",
        ) from error
    return folder


_MOODS = (
    "brave bright calm cheerful clever curious dreamy eager gentle glad happy jolly kind lively lucky merry modest "
    "noble patient playful polite proud quick quiet shy silly sleepy steady sunny sweet thoughtful warm wise witty"
)
_LOOKS = (
    "amber big blue brown cosy curly dappled dotted dusty fluffy fuzzy golden green grey hazel little long mossy "
    "orange pink purple red rosy round shiny short silver small snowy soft spotted striped tall tiny white yellow"
)
_WHO = (
    "acorn badger bear bee bunny cat crab cricket crow deer dove duck finch fish fox frog goat goose hare hedgehog hen "
    "kite kitten lamb lark mole moth mouse newt otter owl pebble pony puppy rabbit robin seal snail sparrow squirrel "
    "star swan toad turtle whale wren"
)

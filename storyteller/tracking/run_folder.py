"""Where everything of a run lies: names, paths, the schema, and writes that are whole or not there at all."""

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

SCHEMA = 1
"""Version of the run folder's layout; a newer one is refused, not guessed at."""

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RESERVED = ("latest", "starter")
"""Words that name a model wherever a run could stand."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and the paths in it; nothing is read or made by asking for them."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def run_json(self) -> Path:
        """What was asked for: written at the start."""
        return self.path / "run.json"

    @property
    def status_json(self) -> Path:
        """What the run is doing: replaced atomically."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """The record of truth, a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def held_out(self) -> Path:
        """The stories that are never trained on and those of them that are scored: chosen once, at the start."""
        return self.path / "held_out.jsonl"

    @property
    def samples(self) -> Path:
        """Stories told during training, a JSON object a line."""
        return self.path / "samples.jsonl"

    @property
    def log(self) -> Path:
        """What the training process printed."""
        return self.path / "train.log"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def cards(self) -> Path:
        """What was told and measured at some of the steps, a file each."""
        return self.path / "cards"

    def card(self, step: int) -> Path:
        return self.cards / f"{step_name(step)}.json"

    @property
    def lock(self) -> Path:
        """Held by the training process for as long as it lives."""
        return self.path / "lock"

    @property
    def wandb_json(self) -> Path:
        """The mirror's cursor and the run's address."""
        return self.path / "wandb.json"

    @property
    def wandb_files(self) -> Path:
        """The folder in which Weights & Biases' own client keeps its files."""
        return self.path / "wandb"

    @property
    def mirror_log(self) -> Path:
        """What the mirror printed."""
        return self.path / "mirror.log"

    @property
    def mirror_lock(self) -> Path:
        """Held by the mirror for as long as it lives: one mirror a run."""
        return self.path / "mirror.lock"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / step_name(step)

    def read_run(self) -> dict[str, Any]:
        """What `run.json` says. Raises RunError where it is missing, broken, or of a newer schema."""
        shown = safe_line(self.name, 80)
        try:
            run = json.loads(read_regular(self.run_json))
        except FileNotFoundError:
            raise RunError(f"{shown} has no run.json, so it is no run", "storyteller ps lists the runs") from None
        except OSError as error:
            raise RunError(
                f"the run.json of {shown} cannot be read ({error.strerror})", "check the folder's permissions"
            ) from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"the run.json of {shown} is broken", "put it right by hand, or train anew") from error
        if not isinstance(run, dict):
            raise RunError(f"the run.json of {shown} is broken", "put it right by hand, or train anew")
        schema = run.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise RunError(f"the run.json of {shown} names no schema", "put it right by hand, or train anew")
        if schema > SCHEMA:
            raise RunError(
                f"{shown} was written by a newer storyteller (schema {schema}, this one reads {SCHEMA})",
                "update storyteller",
            )
        return run

    def write_run(self, run: Mapping[str, Any]) -> None:
        """Replace `run.json`, atomically; the schema is added. Raises OSError as `write_json` does."""
        write_json(self.run_json, {"schema": SCHEMA, **run})


def step_name(step: int) -> str:
    """A checkpoint folder's name; eight digits, more for larger steps."""
    return f"step-{step:08d}"


def runs_root(option: Path | str | None = None) -> Path:
    """The folder of all runs, absolute: the option, else `STORYTELLER_RUNS`, else `runs` in the current folder.

    Raises RunError where that is no folder.
    """
    chosen = option or os.environ.get("STORYTELLER_RUNS") or "runs"
    root = Path(chosen).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise RunError(f"{safe_line(str(root), 200)} is no folder", "choose another --runs-dir")
    return root


def check_name(name: str) -> str:
    """`name`, where a run may be called so. Raises UsageError otherwise."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"a run cannot be named {safe_line(name, 80) or 'nothing'}",
            "take 1 to 64 of a-z 0-9 . _ - that begin with a letter or digit, such as --name little-fox",
        )
    if name in RESERVED:
        raise UsageError(f"{name} is a word of its own, not a run's name", "choose another --name")
    return name


def check_inside(root: Path, path: Path) -> None:
    """Refuse, as RunError, a path that leads out of `root` once every symbolic link is followed."""
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise RunError(
            f"{safe_line(str(path), 200)} is a link that leads out of the runs folder",
            "put the real folder there, or name its own place with --runs-dir",
        )


def check_links(folder: RunFolder) -> None:
    """Refuse, as RunError, a run folder that is itself a link out of the runs folder, or holds one."""
    root = folder.path.parent
    check_inside(root, folder.path)
    with contextlib.suppress(FileNotFoundError), os.scandir(folder.path) as entries:
        for entry in entries:
            if entry.is_symlink():
                check_inside(root, Path(entry.path))


def default_name(root: Path, today: datetime.date) -> str:
    """Three words and the date, such as `brave-little-fox-1122`, that no run in `root` has."""
    # A source of its own: a run's name must not depend on, or disturb, the seed of its training.
    source = random.SystemRandom()
    for attempt in range(1000):
        words = (source.choice(kind.split()) for kind in (_MOODS, _LOOKS, _WHO))
        name = f"{'-'.join(words)}-{today:%m%d}"
        if attempt >= 100:  # a folder with thousands of one day's runs
            name = f"{name}-{secrets.token_hex(3)}"
        if not os.path.lexists(root / name):
            return name
    raise RunError("no free name was found", "choose one with --name")


def create(root: Path, name: str) -> RunFolder:
    """Make the run's folder; whoever makes it has the name for itself.

    Raises UsageError for a name that cannot be one, RunError where it is taken or the folder cannot be made.
    """
    folder = RunFolder(root / check_name(name))
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.path.mkdir()
        fsync_folder(root)
    except FileExistsError:
        if not root.is_dir():
            raise RunError(f"{safe_line(str(root), 200)} is no folder", "choose another --runs-dir") from None
        raise RunError(f"a run named {name} exists", f"choose another --name or `storyteller resume {name}`") from None
    except (PermissionError, NotADirectoryError) as error:
        raise RunError(
            f"no run can be made in {safe_line(str(root), 200)} ({error.strerror})",
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

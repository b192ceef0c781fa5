"""The shelf: every story told is kept, with all that it takes to tell it again.

`stories.jsonl` in the user's data folder, one JSON object a line, appended by any number of processes at once. A line
is one write to a file opened for appending, which the system does not mix with another's; nobody ever shortens the
file, so a line torn by a kill or a full disk stays where it is and readers pass over it.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import DiskError, RunError, StorytellerError
from storyteller.system.files import open_regular
from storyteller.text import safe_line
from storyteller.tracking.metrics_log import lines_backwards

_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without what is easily taken for something else."""
_ID_LENGTH = 8
_MOST_LINE_BYTES = 32 << 20
"""A longer line is no story of ours."""


def _new_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class StoryRecord:
    """A story as it was told, and what told it."""

    model: str
    """What `--model` takes to open the same weights: `RUN@STEP`, an absolute folder, `owner/name`, `starter`."""
    prompt: str
    text: str
    """What was told after the prompt."""
    sample: SamplingParams
    """All the settings; the seed is the one that was used."""
    tokens: int
    """Tokens told."""
    seconds: float
    """From the prompt to the end; of the whole batch, for a story of one."""
    finished: bool = False
    """Whether the model ended it, rather than a limit, a stop string or its reader."""
    runs_dir: str = ""
    """Where the model's run lay; empty for a model that is no run."""
    numbers: str = "fp32"
    """What the model computed with: `fp32` or `int8`."""
    goes_on: bool = False
    """The prompt is a story so far: the model was given as much of its newest part as fits."""
    batch: str = ""
    """Stories of one batch have this in common; empty for one that was told alone."""
    row: int = 0
    """Its place in the batch, from 0."""
    rows: int = 1
    """Stories in the batch."""
    time: str = field(default_factory=_now)
    """UTC, ISO 8601."""
    id: str = field(default_factory=_new_id)

    @property
    def seed(self) -> int:
        return self.sample.seed or 0

    @property
    def whole(self) -> str:
        """The story from its first word on."""
        return self.prompt + self.text

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, the seed also at the top."""
        plain = dataclasses.asdict(self)
        return {"id": plain.pop("id"), "time": plain.pop("time"), **plain, "seed": self.seed}


def stories_path() -> Path:
    """Where the stories are kept."""
    return data_folder() / "stories.jsonl"


def data_folder() -> Path:
    """The user's data folder of this program; made when something is first kept in it."""
    import platformdirs

    return platformdirs.user_data_path("storyteller", appauthor=False)


def keep(told: StoryRecord) -> None:
    """Put a story on the shelf. Raises DiskError where it cannot be kept; what is there already is never touched."""
    path = stories_path()
    line = json.dumps(told.to_json()).encode("ascii") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if _ends_torn(handle):
                line = b"\n" + line
            written = os.write(handle, line)
            while written < len(line):  # only a disk that fills up takes less than all; the next write says why
                written += os.write(handle, line[written:])
        finally:
            os.close(handle)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        where = safe_line(str(path), 200)
        raise DiskError(f"the story is not kept: {reason} ({where})", "--no-keep does without") from error


def recent(limit: int, contains: str = "") -> list[StoryRecord]:
    """The newest `limit` stories, the newest first; of those alone that have `contains` in their text, model or id.

    The file is read from its end and no further than needed. Broken lines are passed over; no file, no stories. Raises
    DiskError where the file cannot be read.
    """
    wanted = contains.casefold()
    found = (told for told in _stories() if wanted in f"{told.whole}\n{told.model}\n{told.id}".casefold())
    return list(itertools.islice(found, max(limit, 0)))


def find(identity: str) -> StoryRecord:
    """The story with this id, or whose id alone begins so; `latest` is the newest. Raises RunError, DiskError."""
    name = identity.strip().lower()
    shown = safe_line(identity, 40) or "without an id"
    if name == "latest":
        newest = recent(1)
        if not newest:
            raise RunError("no story is kept yet", 'storyteller tell "Once there was a little boy"')
        return newest[0]
    begun: dict[str, StoryRecord] = {}
    if name and all(letter in _ID_LETTERS for letter in name):
        for told in _stories(holding=f'"id": "{name}'.encode("ascii")):
            if told.id == name:
                return told
            if told.id.startswith(name):
                begun[told.id] = told
    if len(begun) == 1:
        return next(iter(begun.values()))
    if begun:
        several = ", ".join(itertools.islice(begun, 4))
        raise RunError(f"{shown} could be {several}" + (" or others" if len(begun) > 4 else ""), "give more of the id")
    raise RunError(f"there is no story {shown}", "storyteller stories lists them")


def batch_of(told: StoryRecord) -> list[StoryRecord] | None:
    """The stories that were told in one batch with this one, in their order; None where one of them is gone."""
    if not told.batch:
        return [told]
    rows: dict[int, StoryRecord] = {}
    for mate in _stories(holding=json.dumps(told.batch).encode("ascii")):
        if mate.batch == told.batch:
            rows.setdefault(mate.row, mate)
        if len(rows) == told.rows:
            break
    return [rows[row] for row in range(told.rows)] if rows.keys() == set(range(told.rows)) else None


def _ends_torn(handle: int) -> bool:
    """Whether the last line has no newline. Beside another writer this may be wrong: then a line is left blank."""
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _stories(holding: bytes = b"") -> Iterator[StoryRecord]:
    """The stories, the newest first; `holding`: of lines with these bytes in them alone."""
    try:
        with open_regular(stories_path()) as file:
            for line in lines_backwards(file, most_line_bytes=_MOST_LINE_BYTES):
                if holding in line and (told := _read(line)) is not None:
                    yield told
    except FileNotFoundError:
        return
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        where = safe_line(str(stories_path()), 200)
        raise DiskError(f"the stories cannot be read: {reason} ({where})", "check the path") from error


_FIELDS = {each.name for each in dataclasses.fields(StoryRecord)} - {"sample"}
_SAMPLE_FIELDS = {each.name for each in dataclasses.fields(SamplingParams)}


def _read(line: bytes) -> StoryRecord | None:
    """The story that a line holds, or None. What a later version has added is left out."""
    try:
        plain = json.loads(line)
        settings = {name: value for name, value in plain["sample"].items() if name in _SAMPLE_FIELDS}
        sample = SamplingParams(**{**settings, "stop": tuple(settings.get("stop", ())), "seed": plain["seed"]})
        told = StoryRecord(**{name: value for name, value in plain.items() if name in _FIELDS}, sample=sample)
        return told if _is_sound(told) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, StorytellerError):
        return None


def _is_sound(told: StoryRecord) -> bool:
    """Whether every value has its type: the file may have been written by anything."""
    texts = (told.model, told.prompt, told.text, told.runs_dir, told.numbers, told.batch, told.time, told.id)
    wholes = (told.tokens, told.row, told.rows, told.sample.seed, told.sample.max_tokens, told.sample.top_k)
    return (
        all(isinstance(value, str) for value in texts)
        and all(isinstance(value, int) for value in wholes)
        and isinstance(told.seconds, int | float)
        and all(isinstance(stop, str) for stop in told.sample.stop)
        and set(told.id) <= set(_ID_LETTERS)
        and 1 <= told.rows <= 100_000
    )

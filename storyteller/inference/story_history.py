"""The history of generated stories, each with all that is needed to generate it again.

It is the file `stories.jsonl` in the user's data folder, with one JSON object a line. Any number of processes may
append to it at once: each line is one write to a file opened with O_APPEND, which the system does not interleave with
others. The file is never truncated, so a line that a kill or a full disk cut off stays there, and readers skip it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import DiskError, RunError, StorytellerError, reason_of
from storyteller.system.files import open_regular
from storyteller.system.json_values import read_dataclass
from storyteller.text import safe_line
from storyteller.tracking.metrics_log import lines_backwards
from storyteller.tracking.run_status import now_utc

_ID_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0 and 1, which are easily confused
_JSON_NAMES = {"compute_type": "numbers"}  # fields of `StoryRecord` whose JSON field has another name
_MAX_LINE_BYTES = 32 << 20


@dataclass(frozen=True)
class StoryRecord:
    """A generated story, and how it was generated."""

    model: str
    """The `--model` value that opens the same weights: `RUN@STEP`, an absolute folder, `owner/name`, `starter`."""
    prompt: str
    text: str  # without the prompt
    sample: SamplingParams  # its seed is set
    tokens: int  # number of generated tokens
    seconds: float  # generation time; for a story of a batch, that of the whole batch
    finished: bool = False
    """True if the model ended the story, rather than a limit, a stop string or the user."""
    runs_dir: str = ""  # the folder of the model's run; empty if the model is not a run
    compute_type: str = "fp32"  # `fp32` or `int8`; the field `numbers` of the JSON object
    goes_on: bool = False
    """True if the prompt is an unfinished story, of which the model was given the newest part."""
    batch: str = ""  # an identifier of the batch; empty for a story that was generated alone
    row: int = 0  # index in the batch
    rows: int = 1  # size of the batch
    time: str = field(default_factory=now_utc)  # UTC, ISO 8601
    id: str = field(default_factory=lambda: "".join(secrets.choice(_ID_LETTERS) for _ in range(8)))

    @property
    def seed(self) -> int:
        return self.sample.seed or 0

    @property
    def whole(self) -> str:
        """The prompt and the text."""
        return self.prompt + self.text

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the story; the seed is also at its top level."""
        plain = {_JSON_NAMES.get(name, name): value for name, value in dataclasses.asdict(self).items()}
        return {"id": plain.pop("id"), "time": plain.pop("time"), **plain, "seed": self.seed}


def stories_path() -> Path:
    """The file of the history."""
    return data_folder() / "stories.jsonl"


def data_folder() -> Path:
    """The user's data folder of this program; created when the first file is written to it."""
    import platformdirs

    return platformdirs.user_data_path("storyteller", appauthor=False)


def keep(story: StoryRecord) -> None:
    """Appends a story to the history. Raises DiskError if it cannot be written."""
    path = stories_path()
    line = json.dumps(story.to_json()).encode("ascii") + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "ab+", buffering=0) as file:
            size = os.fstat(handle).st_size
            # The last line may have been cut off. At worst, if another process is writing it, a blank line follows.
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = b"\n" + line
            written = file.write(line)
            while written < len(line):  # a write is partial only on a full disk; the next one raises the error
                written += file.write(line[written:])
    except OSError as error:
        raise DiskError(f"the story is not kept: {_reason(error)}", "--no-keep does without") from error


def recent(limit: int, contains: str = "") -> list[StoryRecord]:
    """Returns the newest `limit` stories with `contains` in their text, model or id, the newest first.

    Reads the file backwards and only as far as needed, and skips broken lines. Raises DiskError if it cannot be read.
    """
    wanted = contains.casefold()
    found = (story for story in _stories() if wanted in f"{story.whole}\n{story.model}\n{story.id}".casefold())
    return list(itertools.islice(found, max(limit, 0)))


def find(identity: str) -> StoryRecord:
    """Finds a story by its id, the unique beginning of its id, or `latest`. Raises RunError or DiskError."""
    name = identity.strip().lower()
    if name == "latest":
        if newest := recent(1):
            return newest[0]
        raise RunError("no story is kept yet", 'storyteller tell "Once there was a little boy"')
    matches: dict[str, StoryRecord] = {}
    if name and set(name) <= set(_ID_LETTERS):
        for story in _stories(containing=f'"id": "{name}'.encode("ascii")):
            if story.id == name:
                return story
            if story.id.startswith(name):
                matches[story.id] = story
    if len(matches) == 1:
        return next(iter(matches.values()))
    shown = safe_line(identity, 40) or "without an id"
    if matches:
        several = ", ".join(itertools.islice(matches, 4)) + (" or others" if len(matches) > 4 else "")
        raise RunError(f"{shown} could be {several}", "give more of the id")
    raise RunError(f"there is no story {shown}", "storyteller stories lists them")


def batch_of(story: StoryRecord) -> list[StoryRecord] | None:
    """Returns all stories of a story's batch in order, or None if one of them is missing."""
    if not story.batch:
        return [story]
    rows: dict[int, StoryRecord] = {}
    for other in _stories(containing=json.dumps(story.batch).encode("ascii")):
        if other.batch == story.batch:
            rows.setdefault(other.row, other)
        if len(rows) == story.rows:
            break
    return [rows[row] for row in range(story.rows)] if rows.keys() == set(range(story.rows)) else None


def _reason(error: OSError) -> str:
    return f"{reason_of(error)} ({safe_line(str(stories_path()), 200)})"


def _stories(containing: bytes = b"") -> Iterator[StoryRecord]:
    """Yields the stories whose lines contain these bytes, the newest first."""
    try:
        with open_regular(stories_path()) as file:
            for line in lines_backwards(file, most_line_bytes=_MAX_LINE_BYTES):
                if containing in line and (story := _read(line)) is not None:
                    yield story
    except FileNotFoundError:
        return
    except OSError as error:
        raise DiskError(f"the stories cannot be read: {_reason(error)}", "check the path") from error


def _read(line: bytes) -> StoryRecord | None:
    """Parses a line; returns None if it is not a story. Unknown fields, of later versions, are ignored."""
    try:
        plain = json.loads(line)
        renamed = {name: plain[key] for name, key in _JSON_NAMES.items() if key in plain}
        sample = {**plain["sample"], "seed": plain["seed"]}
        story = read_dataclass(StoryRecord, {**plain, **renamed, "sample": sample})
    except (ValueError, TypeError, KeyError, RecursionError, StorytellerError):
        return None
    is_sound = story.sample.seed is not None and set(story.id) <= set(_ID_LETTERS) and 1 <= story.rows <= 100_000
    return story if is_sound else None

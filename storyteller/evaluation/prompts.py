"""Prompts to tell from: the 44 that come with the package, and those of a file of the user's own.

The 44 go from plain openings to ones that only some words go on from: where a story must keep to what it said
(`consistency`), where something follows from what was said (`reasoning`), and where one must know something of the
world (`facts`). They stop in the middle, so that the model says the word that shows it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import BinaryIO

from storyteller.errors import UsageError
from storyteller.text import safe_line

MAX_PROMPT_CHARS = 1_000_000
"""Of one prompt."""


@dataclass(frozen=True)
class Prompt:
    """A prompt of the package, and what it asks for."""

    kind: str
    """`opening`, `consistency`, `reasoning` or `facts`."""
    text: str


@dataclass(frozen=True)
class PromptRequest:
    """A prompt, and the line on which it stands (0: no file's)."""

    prompt: str
    line: int = 0


def bundled_prompts() -> list[Prompt]:
    """The package's own prompts, the plainest first."""
    lines = resources.files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts, kind = [], ""
    for line in lines:
        if line.startswith("# "):
            kind = line[2:]
        elif line:
            prompts.append(Prompt(kind, line))
    return prompts


def load_prompts(path: Path | None = None) -> list[str]:
    """The prompts of a file (see `read_prompts`), or the package's own. Raises UsageError."""
    if path is None:
        return [prompt.text for prompt in bundled_prompts()]
    prompts = [asked.prompt for asked in read_prompts(str(path))[0]]
    if not prompts:
        raise UsageError(f"there is no prompt in {safe_line(str(path), 100)}", "write one a line")
    return prompts


def read_prompts(path: str) -> tuple[Iterator[PromptRequest], int | None]:
    """The prompts of a file, and how many there are (None where it is standard input, `-`, and not known).

    One prompt a line, blank lines left out; in a `.jsonl` file, `{"prompt": ...}` a line. Standard input is one or the
    other by its first line. A file is checked whole before the first is handed out. Raises UsageError.
    """
    if path == "-":
        return _prompts(sys.stdin.buffer, "standard input", None), None
    shown, as_json = safe_line(path, 100), path.endswith(".jsonl")
    try:
        if not Path(path).is_file():  # a pipe, which can be read once
            return _prompts(Path(path).open("rb"), shown, as_json), None
        with Path(path).open("rb") as file:
            total = sum(1 for _ in _prompts(file, shown, as_json))
        if not total:
            raise UsageError(f"there is no prompt in {shown}", "write one a line")
        return _prompts(Path(path).open("rb"), shown, as_json), total
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UsageError(f"{shown} cannot be read: {reason}", "name a file of prompts, one a line") from error


def _prompts(file: BinaryIO, name: str, as_json: bool | None) -> Iterator[PromptRequest]:
    number = 0
    while raw := file.readline(4 * MAX_PROMPT_CHARS + 1):
        number += 1
        line = raw.decode("utf-8-sig" if number == 1 else "utf-8", "replace").rstrip("\r\n")
        if len(line) > MAX_PROMPT_CHARS:
            raise UsageError(
                f"line {number:,} of {name} has more than {MAX_PROMPT_CHARS:,} characters", "give a shorter prompt"
            )
        if not line.strip():
            continue
        if as_json is None:
            as_json = _json_prompt(line) is not None
        prompt = _json_prompt(line) if as_json else line
        if prompt is None:
            raise UsageError(f'line {number:,} of {name} is no {{"prompt": "..."}}', "mend it, or leave it out")
        if prompt.strip():
            yield PromptRequest(prompt, number)


def _json_prompt(line: str) -> str | None:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return prompt if isinstance(prompt, str) else None

"""Prompts: the 44 bundled ones, and those of a user's file.

The bundled prompts range from plain openings to ones that only few words continue correctly, because the story must
agree with what was said (`consistency`), because something follows from it (`reasoning`), or because it takes knowledge
of the world (`facts`). They stop in mid-sentence, so that the next word is the answer.
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


@dataclass(frozen=True)
class Prompt:
    """A bundled prompt."""

    kind: str  # `opening`, `consistency`, `reasoning` or `facts`
    text: str


@dataclass(frozen=True)
class PromptRequest:
    """A prompt and its line in the file (0: not from a file)."""

    prompt: str
    line: int = 0


def bundled_prompts() -> list[Prompt]:
    """Returns the bundled prompts, plain openings first."""
    lines = resources.files(__package__).joinpath("prompts.txt").read_text(encoding="utf-8").splitlines()
    prompts, kind = [], ""
    for line in lines:
        if line.startswith("# "):
            kind = line[2:]
        elif line:
            prompts.append(Prompt(kind, line))
    return prompts


def load_prompts(path: Path | None = None) -> list[str]:
    """Returns the prompts of a file (see `read_prompts`), by default the bundled ones. Raises UsageError."""
    if path is None:
        return [prompt.text for prompt in bundled_prompts()]
    prompts = [request.prompt for request in read_prompts(str(path))[0]]
    if not prompts:
        raise UsageError(f"no prompts in {safe_line(str(path), 100)}", "write one per line")
    return prompts


def read_prompts(path: str) -> tuple[Iterator[PromptRequest], int | None]:
    """Returns an iterator over the prompts of a file and their number (None for standard input, `-`, and pipes).

    A file has one prompt per line, a `.jsonl` file `{"prompt": ...}`; blank lines are skipped. The format of standard
    input is detected on its first line. A regular file is checked as a whole first. Raises UsageError.
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
            raise UsageError(f"no prompts in {shown}", "write one per line")
        return _prompts(Path(path).open("rb"), shown, as_json), total
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise UsageError(f"{shown} cannot be read: {reason}", "name a file with one prompt per line") from error


def _prompts(file: BinaryIO, name: str, as_json: bool | None) -> Iterator[PromptRequest]:
    for number, raw in enumerate(iter(lambda: file.readline(4 * MAX_PROMPT_CHARS + 1), b""), 1):
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
            raise UsageError(f'line {number:,} of {name} is not {{"prompt": "..."}}', "correct or remove it")
        if prompt.strip():
            yield PromptRequest(prompt, number)


def _json_prompt(line: str) -> str | None:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return prompt if isinstance(prompt, str) else None

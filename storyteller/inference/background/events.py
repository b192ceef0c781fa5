"""The events of a story that a `GenerationClient` generates, which are also the messages of its child process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storyteller.system.json_values import read_dataclass


@dataclass(frozen=True)
class ModelOpened:
    """The model is loaded, and generation begins."""

    ticket: int
    label: str  # the model's name: `run@step`, `starter`, a folder, or `owner/name`
    seed: int
    cut: bool = False
    """True if the prompt is longer than the model's context, so that only its newest part was given."""


@dataclass(frozen=True)
class TextPiece:
    """Generated text, as the model wrote it: the receiver must make it safe before showing it."""

    ticket: int
    text: str
    tokens: int  # approximate number of tokens so far; `Ended` has the exact one


@dataclass(frozen=True)
class Note:
    """A message about something that takes long or was skipped."""

    ticket: int
    text: str


@dataclass(frozen=True)
class Ended:
    """The story is complete; `text` is all its pieces (the child process leaves it out)."""

    ticket: int
    text: str
    tokens: int
    seconds: float  # generation time, without loading the model
    seed: int
    finished: bool  # True if the model ended the story, rather than a limit, a stop string or a cancel
    stopped: bool  # True if it was cancelled


@dataclass(frozen=True)
class Failed:
    """The story could not be generated, or only in part. Both texts are single lines that are safe to show."""

    ticket: int
    problem: str
    remedy: str


Event = ModelOpened | TextPiece | Note | Ended | Failed


@dataclass(frozen=True)
class Released:
    """A message of the child process: the model of a story is free again. It comes after the last event."""

    ticket: int


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (ModelOpened, TextPiece, Note, Ended, Failed, Released)}


def parse(message: Any) -> Event | Released:
    """Returns the event in a message of the child. Raises KeyError, TypeError or ValueError if it is invalid."""
    event: Event | Released = read_dataclass(_KINDS[message["event"]], message)
    return event

"""What is heard of a story that is told in the booth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelOpened:
    """The model is there, and the story begins."""

    ticket: int
    label: str
    """What the model is called: `run@step`, `starter`, a folder, or `owner/name`."""
    seed: int
    cut: bool = False
    """Whether the prompt outgrew what the model sees, and its newest part alone was given."""


@dataclass(frozen=True)
class TextPiece:
    """Text, as the model wrote it: to be made safe by whoever shows it."""

    ticket: int
    text: str
    tokens: int
    """Told so far, about: the end counts them."""


@dataclass(frozen=True)
class Note:
    """Something takes long, or was left out."""

    ticket: int
    text: str


@dataclass(frozen=True)
class Ended:
    """The story is over; `text` is all the pieces."""

    ticket: int
    text: str
    tokens: int
    seconds: float
    """From the prompt to the end, without opening the model."""
    seed: int
    finished: bool
    """Whether the model ended it, rather than a limit, a stop string or a cancel."""
    stopped: bool
    """Whether it was cancelled."""


@dataclass(frozen=True)
class Failed:
    """There is no story, or not all of it; each a line that is safe to show."""

    ticket: int
    problem: str
    remedy: str


Event = ModelOpened | TextPiece | Note | Ended | Failed

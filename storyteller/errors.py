"""The exceptions that users can meet.

    StorytellerError            exit status 1
    |-- UsageError              exit status 2: wrong use of a command or of one of its options
    |-- CorpusError             the stories cannot be read, or there are none
    |   `-- HubError            the Hugging Face Hub does not answer or does not have it
    |-- TokenizerError          a tokenizer cannot be loaded or trained
    |-- RunError                a run cannot be found, made, started or stopped
    |   `-- RunBusyError        another process owns the run
    |-- CheckpointError         a checkpoint is missing, damaged or of another shape
    |-- ModelError              a model cannot be told from
    |-- JudgeError              a judge that was asked over the network refuses or does not answer
    |-- TrainingError           training cannot go on
    |   |-- NonFiniteError      the loss or a gradient is not a number
    |   |-- OutOfMemoryError    the batch does not fit
    |   `-- PeerLostError       another of the processes that train together has ended
    `-- DiskError               the disk is full or cannot be written

`str(error)` is one line: the problem and, where there is one, the remedy (what to do next).
"""

from __future__ import annotations

import errno

from storyteller.text import safe_line


class StorytellerError(Exception):
    """Something that the user can put right: what is wrong, and the remedy."""

    exit_status = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


class UsageError(StorytellerError):
    """Wrong use of a command: an unknown name, an option's value out of range, options that exclude each other."""

    exit_status = 2


def invalid_value(option: str, value: object, expected: str) -> UsageError:
    """The error for an option's value: `invalid value 0 for --layers: expected 1 to 256 blocks`."""
    return UsageError(f"invalid value {safe_line(str(value), 60) or repr('')} for {option}", f"expected {expected}")


class CorpusError(StorytellerError):
    """The stories cannot be read, or there are none."""


class HubError(CorpusError):
    """The Hugging Face Hub does not answer, or does not have what was asked for."""


class TokenizerError(StorytellerError):
    """A tokenizer cannot be loaded or trained."""


class RunError(StorytellerError):
    """A run cannot be found, made, started or stopped."""


class RunBusyError(RunError):
    """Another process owns the run."""


class CheckpointError(StorytellerError):
    """A checkpoint is missing, damaged or of another shape."""


class ModelError(StorytellerError):
    """A model cannot be told from."""


class JudgeError(StorytellerError):
    """A judge that was asked over the network refuses, or does not answer."""


class TrainingError(StorytellerError):
    """Training cannot go on."""


class NonFiniteError(TrainingError):
    """The loss or a gradient is not a number."""


class OutOfMemoryError(TrainingError):
    """The batch does not fit into memory."""


class PeerLostError(TrainingError):
    """Another of the processes that train together has ended."""


class DiskError(StorytellerError):
    """The disk is full or cannot be written."""


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_disk_full(error: BaseException) -> bool:
    """Whether `error`, or what caused it, says that no space is left.

    safetensors reports a full disk without an errno, in words alone.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError) and current.errno in _DISK_FULL:
            return True
        if "No space left on device" in str(current):
            return True
        current = current.__cause__ or current.__context__
    return False

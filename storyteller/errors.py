"""The exceptions that are shown to users.

    StorytellerError            exit status 1
    |-- UsageError              exit status 2: a usage error
    |-- CorpusError             the corpus cannot be read or has no stories
    |   `-- HubError            the Hugging Face Hub does not answer or does not have the data set
    |-- TokenizerError          a tokenizer cannot be loaded or trained
    |-- RunError                a run cannot be found, created, started or stopped
    |   `-- RunBusyError        another process owns the run
    |-- CheckpointError         a checkpoint is missing, damaged or of another architecture
    |-- ModelError              a model cannot generate stories
    |-- JudgeError              the LLM judge refuses or does not answer
    |-- TrainingError           training cannot continue
    |   |-- NonFiniteError      the loss or a gradient is not finite
    |   |-- OutOfMemoryError    the batch does not fit into memory
    |   `-- PeerLostError       another process of a distributed run has ended
    `-- DiskError               the disk is full or cannot be written

`str(error)` is one line: the problem and, if there is one, the remedy.
"""

from __future__ import annotations

import errno

from storyteller.text import safe_line


class StorytellerError(Exception):
    """Base class: the problem, and the remedy, which is what the user can do about it."""

    exit_status = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}: {self.remedy}" if self.remedy else self.problem


class UsageError(StorytellerError):
    """An unknown name, an invalid value of an option, or options that exclude each other."""

    exit_status = 2


def invalid_value(option: str, value: object, expected: str) -> UsageError:
    """Returns the error for a value of an option: `invalid value 0 for --layers: expected 1 to 256 blocks`."""
    return UsageError(f"invalid value {safe_line(str(value), 60) or repr('')} for {option}", f"expected {expected}")


def reason_of(error: OSError) -> str:
    """Returns what the system says about an error, such as `permission denied`."""
    return (error.strerror or type(error).__name__).lower()


class CorpusError(StorytellerError): ...


class HubError(CorpusError): ...


class TokenizerError(StorytellerError): ...


class RunError(StorytellerError): ...


class RunBusyError(RunError): ...


class CheckpointError(StorytellerError): ...


class ModelError(StorytellerError): ...


class JudgeError(StorytellerError): ...


class TrainingError(StorytellerError): ...


class NonFiniteError(TrainingError): ...


class OutOfMemoryError(TrainingError): ...


class PeerLostError(TrainingError): ...


class DiskError(StorytellerError): ...


def write_error(name: str, error: OSError, remedy: str) -> DiskError:
    """Returns the error for a file that cannot be written: `story.txt cannot be written: permission denied`."""
    if is_disk_full(error):
        return DiskError(f"{name} cannot be written: no space is left", "free some, try again")
    return DiskError(f"{name} cannot be written: {reason_of(error)}", remedy)


_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def is_disk_full(error: BaseException) -> bool:
    """True if `error` or one of its causes reports a full disk.

    safetensors does so without an errno, only in the message.
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

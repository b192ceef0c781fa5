"""What does not fit into memory: refused before it is tried where that can be told, named where it fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from storyteller import machine
from storyteller.config import Config
from storyteller.errors import OutOfMemoryError
from storyteller.lm.device import Machine
from storyteller.lm.model import Shape

SMALLER = "train anew with a lower --batch-size (and a higher --set accumulate, which learns the same) or --context"
_SMALLER_MODEL = "train with a lower --width, --layers or --vocab-size"
_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "bad_alloc",
)
"""How torch says, in a bare RuntimeError, that an allocation failed."""
_ASKED = re.compile(r"tried to allocate (\d+) bytes|(?:Tried to|Unable to) allocate ([\d.]+ [KMGTPE]?i?B)")


def ran_out(error: BaseException) -> bool:
    """Whether the error says that an allocation failed, on any kind of device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def explained(error: BaseException, what: str, remedy: str = SMALLER) -> OutOfMemoryError:
    """`error` as its user can use it: `what` did not fit, and how much was asked for where the error says so."""
    asked = _ASKED.search(str(error))
    much = ""
    if asked is not None:
        much = f" ({_in_words(int(asked[1])) if asked[1] else asked[2]} asked for at once)"
    return OutOfMemoryError(f"{what} does not fit into memory{much}", remedy)


@contextmanager
def naming(what: str, remedy: str = SMALLER) -> Iterator[None]:
    """Raises OutOfMemoryError, which names `what`, where an allocation fails inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        raise explained(error, what, remedy) from error


def smaller_batch(rows: int, batches: int) -> str:
    """What to change where a batch of so many rows, of so many in a step, does not fit."""
    if rows == 1:
        return "train anew with a lower --context, --width or --vocab-size"
    return (
        f"train anew with --batch-size {rows // 2} --set accumulate={2 * batches}, which learns the same, "
        "or with a lower --context"
    )


def check_fits(shape: Shape, config: Config, chosen: Machine) -> None:
    """Raise OutOfMemoryError where model or batch cannot fit into this machine's whole memory, by what each must take.

    The kernel grants memory that it does not have and kills whoever then uses it: better not to ask.
    """
    there = _memory_bytes(chosen)
    n = shape.n_parameters()
    # Weights, their gradient and one moment at the very least, four bytes each.
    if 12 * n > there:
        needs = f"a model of {n:,} parameters takes {_in_words(12 * n)} at least, and there are {_in_words(there)}"
        raise OutOfMemoryError(needs, _SMALLER_MODEL)
    rows, tokens = config.train.batch_size, shape.context
    # What each block keeps for its backward pass, in 16 bits: two norms, queries, keys, values, and the MLP's middle
    # before and after its activation. A padded batch is as wide as its longest story, which nobody knows yet.
    kept = 2 * 13 * shape.n_embd * shape.n_layer * rows * tokens
    if config.data.batching != "pad" and kept > there:
        raise OutOfMemoryError(
            f"a batch of {rows:,} x {tokens:,} tokens takes {_in_words(kept)} at least, and there are "
            f"{_in_words(there)}",
            smaller_batch(rows, config.train.accumulate),
        )


def _memory_bytes(chosen: Machine) -> int:
    if chosen.device.type == "cuda":
        return int(torch.cuda.get_device_properties(chosen.device).total_memory)
    return int(machine.memory_gib() * 2**30)


def _in_words(n_bytes: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:,.1f} {unit}"
    return f"{n_bytes} bytes"

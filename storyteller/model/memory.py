"""What does not fit into memory: refused before it is tried where that can be told, named where it fails."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from storyteller.config.configs import Config
from storyteller.errors import OutOfMemoryError
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import Shape
from storyteller.system import hardware

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that an allocation failed, on any kind of device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def out_of_memory_error(error: BaseException, what: str, remedy: str = SMALLER) -> OutOfMemoryError:
    """`error` as its user can use it: `what` did not fit, and how much was asked for where the error says so."""
    asked = _ASKED.search(str(error))
    much = ""
    if asked is not None:
        much = f" ({_in_words(int(asked[1])) if asked[1] else asked[2]} asked for at once)"
    return OutOfMemoryError(f"{what} does not fit into memory{much}", remedy)


@contextmanager
def explain_out_of_memory(what: str, remedy: str = SMALLER) -> Iterator[None]:
    """Raises OutOfMemoryError, which names `what`, where an allocation fails inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(error, what, remedy) from error


def smaller_batch(rows: int, batches: int) -> str:
    """What to change where a batch of so many rows, of so many in a step, does not fit."""
    if rows == 1:
        return "train anew with a lower --context, --width or --vocab-size"
    return (
        f"train anew with --batch-size {rows // 2} --set accumulate={2 * batches}, which learns the same, "
        "or with a lower --context"
    )


def check_fits(shape: Shape, config: Config, chosen: ComputeDevice) -> None:
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
    if chosen.device.type == "cuda":  # where a step is taken in as many passes as it needs
        rows = 1
    # A padded batch is as wide as its longest story, which nobody knows yet.
    kept = rows * _kept_bytes(shape)
    if config.data.batching != "pad" and kept > there:
        raise OutOfMemoryError(
            f"a batch of {rows:,} x {tokens:,} tokens takes {_in_words(kept)} at least, and there are "
            f"{_in_words(there)}",
            smaller_batch(rows, config.train.accumulate),
        )


def rows_at_once(shape: Shape, config: Config, chosen: ComputeDevice, processes: int = 1) -> int:
    """Rows of a step that go through the model together in each of so many processes.

    On a CPU as many as `batch_size` says. On CUDA what of the whole step fits into the memory that is free, in passes
    of about the same size: the gradient is the same however a step is dealt out to passes, and fewer are quicker.
    """
    train = config.train
    if chosen.device.type != "cuda":
        return train.batch_size
    total = math.ceil(train.batch_size * train.accumulate / processes)
    free = _CUDA_SHARE * _free_bytes(chosen) - _STATE_BYTES * shape.n_parameters() - _CHUNK_BYTES
    fit = max(1, int(free // (_CUDA_SLACK * _kept_bytes(shape))))
    return math.ceil(total / math.ceil(total / fit))


_CUDA_SHARE = 0.8
"""Of the free memory: the rest is for what the allocator cannot use, and for evaluations."""
_STATE_BYTES = 24
"""For each parameter: weight, gradient, two moments, its copy in 16 bits, and what the optimiser needs on the way."""
_CHUNK_BYTES = 3 * 2**30
"""For the output layer's chunk of logits, and what the libraries keep for themselves."""
_CUDA_SLACK = 3
"""Times what must be kept at least: the residual stream and the norms are in fp32, gradients come on top."""


def _kept_bytes(shape: Shape) -> int:
    """What a row keeps for its backward pass at least, in 16 bits: for each block two norms, queries, keys, values, and
    the MLP's middle before and after its activation."""
    return 2 * 13 * shape.n_embd * shape.n_layer * shape.context


def _free_bytes(chosen: ComputeDevice) -> int:
    """Of a GPU's memory, what nobody has taken, and what torch holds without using it."""
    free, _ = torch.cuda.mem_get_info(chosen.device)
    idle = torch.cuda.memory_reserved(chosen.device) - torch.cuda.memory_allocated(chosen.device)
    return int(free + idle)


def _memory_bytes(chosen: ComputeDevice) -> int:
    if chosen.device.type == "cuda":
        return int(torch.cuda.get_device_properties(chosen.device).total_memory)
    return int(hardware.memory_gib() * 2**30)


def _in_words(n_bytes: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:,.1f} {unit}"
    return f"{n_bytes} bytes"

"""Out of memory: refused beforehand if it is certain, explained where an allocation fails."""

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

SMALLER_BATCH = (
    "train anew with a lower --batch-size (and a higher --set accumulate, which learns the same) or --context"
)
_SMALLER_MODEL = "train with a lower --width, --layers or --vocab-size"
_TORCH_MESSAGES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "bad_alloc",
)
"""Texts of the plain RuntimeErrors with which torch reports failed allocations."""
_REQUESTED = re.compile(r"tried to allocate (\d+) bytes|(?:Tried to|Unable to) allocate ([\d.]+ [KMGTPE]?i?B)")


def is_out_of_memory(error: BaseException) -> bool:
    """True if the error reports a failed allocation, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TORCH_MESSAGES)


def out_of_memory_error(error: BaseException, what: str, remedy: str = SMALLER_BATCH) -> OutOfMemoryError:
    """The error for the user: `what` did not fit, and how much was requested, if `error` says so."""
    requested = _REQUESTED.search(str(error))
    size = ""
    if requested is not None:
        size = f" ({_format_bytes(int(requested[1])) if requested[1] else requested[2]} asked for at once)"
    return OutOfMemoryError(f"{what} does not fit into memory{size}", remedy)


@contextmanager
def explain_out_of_memory(what: str, remedy: str = SMALLER_BATCH) -> Iterator[None]:
    """Raise OutOfMemoryError, which names `what`, if an allocation fails inside the block."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(error, what, remedy) from error


def smaller_batch(rows: int, batches: int) -> str:
    """The remedy if a batch of `rows` does not fit; `batches` is their number in a step."""
    if rows == 1:
        return "train anew with a lower --context, --width or --vocab-size"
    return (
        f"train anew with --batch-size {rows // 2} --set accumulate={2 * batches}, which learns the same, "
        "or with a lower --context"
    )


def check_fits(shape: Shape, config: Config, chosen: ComputeDevice) -> None:
    """Raise OutOfMemoryError if a lower bound of what model or batch take exceeds the whole memory of the machine.

    Linux overcommits: the allocation would succeed, and the kernel would kill the process once it uses the memory.
    """
    total = _memory_bytes(chosen)
    n = shape.n_parameters()
    # Weights, gradients and one moment at the very least, four bytes each.
    if 12 * n > total:
        needs = (
            f"a model of {n:,} parameters takes {_format_bytes(12 * n)} at least, and there are {_format_bytes(total)}"
        )
        raise OutOfMemoryError(needs, _SMALLER_MODEL)
    rows, tokens = config.train.batch_size, shape.context
    if chosen.device.type == "cuda":  # there a step is split into as many passes as it needs
        rows = 1
    # A padded batch is only as wide as its longest story, which is not known yet.
    saved = rows * _saved_bytes_per_row(shape)
    if config.data.batching != "pad" and saved > total:
        raise OutOfMemoryError(
            f"a batch of {rows:,} x {tokens:,} tokens takes {_format_bytes(saved)} at least, and there are "
            f"{_format_bytes(total)}",
            smaller_batch(rows, config.train.accumulate),
        )


def rows_at_once(shape: Shape, config: Config, chosen: ComputeDevice, processes: int = 1) -> int:
    """Rows of a step that go through the model together, in each of `processes`.

    On a CPU it is `batch_size`. On CUDA it is as much of the whole step as fits into the free memory, in passes of
    about equal size: the gradient does not depend on how a step is split, and fewer passes are faster.
    """
    train = config.train
    if chosen.device.type != "cuda":
        return train.batch_size
    total = math.ceil(train.batch_size * train.accumulate / processes)
    free = _CUDA_SHARE * _free_bytes(chosen) - _STATE_BYTES * shape.n_parameters() - _CHUNK_BYTES
    fit = max(1, int(free // (_CUDA_SLACK * _saved_bytes_per_row(shape))))
    return math.ceil(total / math.ceil(total / fit))


_CUDA_SHARE = 0.8
"""Share of the free memory to plan with: the rest is for fragmentation and for evaluations."""
_STATE_BYTES = 24
"""Per parameter: weight, gradient and two moments in fp32, a 16-bit copy, and temporaries of the optimizer."""
_CHUNK_BYTES = 3 * 2**30
"""For a chunk of logits of the output layer, and the workspaces of CUDA libraries."""
_CUDA_SLACK = 3
"""Factor on the lower bound of saved activations: the residual stream and the norms are fp32, and gradients come on
top."""


def _saved_bytes_per_row(shape: Shape) -> int:
    """A lower bound of the activations that a row saves for the backward pass.

    In 16 bits for each block and token: two norms (2 C), queries, keys and values (3 C), and the MLP's 4 C before and
    after its activation (8 C).
    """
    return 2 * 13 * shape.n_embd * shape.n_layer * shape.context


def _free_bytes(chosen: ComputeDevice) -> int:
    """Free memory of the GPU, with what torch has reserved but does not use."""
    free, _ = torch.cuda.mem_get_info(chosen.device)
    idle = torch.cuda.memory_reserved(chosen.device) - torch.cuda.memory_allocated(chosen.device)
    return int(free + idle)


def _memory_bytes(chosen: ComputeDevice) -> int:
    if chosen.device.type == "cuda":
        return int(torch.cuda.get_device_properties(chosen.device).total_memory)
    return int(hardware.memory_gib() * 2**30)


def _format_bytes(n_bytes: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n_bytes >= 2**power:
            return f"{n_bytes / 2**power:,.1f} {unit}"
    return f"{n_bytes} bytes"

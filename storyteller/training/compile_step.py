"""`torch.compile` for a training step: one block, which all blocks share, and the loss of a chunk of logits.

Those two are what a GPU spends its time in between matrix products. The rest (embeddings, norms at the end, optimisers)
stays as it is, so that what is compiled is small and an evaluation, whose batches are of many shapes, compiles nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from storyteller.config.configs import Config
from storyteller.model import device, memory
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.text import safe_line

_WORTH_MINUTES = 3.0
"""A shorter budget is over before the compiler has paid for itself: it took half a minute on two cores, and is a
guess for a GPU."""


def is_wanted(config: Config, machine: ComputeDevice) -> bool:
    """Whether a run compiles: as its `compile` says, or, with `auto`, on CUDA unless its budget is a short one.

    On a CPU it never paid: 73 s to compile two blocks' worth, and a quarter slower after (tests/benchmarks/RESULTS.md).
    """
    wish, minutes = config.train.compile, config.train.minutes
    if wish != "auto":
        return wish == "on"
    return machine.device.type == "cuda" and (minutes is None or minutes >= _WORTH_MINUTES)


def speed_up(model: GPT, config: Config, machine: ComputeDevice, rows: int) -> str:
    """Compile the training step of `model` and try it on a batch of `rows`; what there is to say of it, in one line.

    Where no compiler is to be had, or it fails, the model stays as it was. Neither weights nor torch's generators are
    touched. Raises OutOfMemoryError where the batch does not fit.
    """
    states = device.seed_state()
    model.compiled_block = torch.compile(_through, dynamic=True if config.data.batching == "pad" else None)
    model.compiled_chunk = torch.compile(loss_of_chunk)
    trains = model.training
    try:
        model.train()
        _try(model, machine, rows)
    except Exception as error:
        model.compiled_block = model.compiled_chunk = None
        if memory.ran_out(error):
            raise memory.explained(error, f"a batch of {rows:,} rows") from error
        return f"torch.compile does not work here ({_why(error)}): training goes on without it"
    finally:
        model.train(trains)
        device.set_seed_state(states)
    return "the step is compiled"


def _through(block: nn.Module, x: Tensor) -> Tensor:
    """The block's own way, traced with the block as an argument, so that all blocks share what is made of it."""
    out: Tensor = block.forward(x)
    return out


def _try(model: GPT, machine: ComputeDevice, rows: int) -> None:
    """A step forward and back, with nothing done to the weights."""
    ids = torch.zeros(rows, model.shape.context, dtype=torch.long, device=machine.device)
    with machine.autocast():
        loss = model.loss_sum(ids, ids)
    torch.autograd.grad(loss, list(model.parameters()))
    float(loss.detach())  # a GPU's errors come when it is waited for


def _why(error: Exception) -> str:
    """The error's first line that says something, without the compiler's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return safe_line(lines[0] if lines else type(error).__name__, 120)


def loss_of_chunk(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """What `model.loss_of_chunk` computes, written so that a compiler makes two passes over the logits of it."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counts = wanted != -100
    at = wanted.clamp(min=0)[:, None]
    log_sum = torch.logsumexp(wide, -1, keepdim=True)
    nats = ((log_sum - wide.gather(1, at))[:, 0] * counts).sum()
    is_wanted = torch.arange(logits.shape[1], device=logits.device)[None] == at
    gradient = ((wide - log_sum).exp() - is_wanted.to(wide.dtype)) * counts[:, None]
    return nats, gradient.to(logits.dtype)

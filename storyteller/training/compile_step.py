"""`torch.compile` for a training step: one block, whose code all blocks share, and the loss of a chunk of logits.

Those two are what a GPU spends its time on between matrix products. The rest (embeddings, final norm, optimizers) stays
eager, which keeps compilation short. Evaluations stay eager too: their batches have many shapes, and each shape
would be compiled.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from storyteller.config.configs import Config
from storyteller.data.batches import IGNORED
from storyteller.model import device, memory
from storyteller.model.cross_entropy import cross_entropy_sum
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT, Block
from storyteller.text import safe_line
from storyteller.training.gradients import StepFunctions

_MIN_MINUTES = 3.0
"""Shortest budget in which compiling pays for itself: it took half a minute on two cores; a guess for a GPU."""


def is_wanted(config: Config, machine: ComputeDevice) -> bool:
    """Whether a run compiles: as its `compile` says; `auto` means on CUDA, unless the budget is short.

    On a CPU it never paid: compiling two blocks took 73 s, and the step was a quarter slower afterwards.
    """
    setting, minutes = config.train.compile, config.train.minutes
    if setting != "auto":
        return setting == "on"
    return machine.device.type == "cuda" and (minutes is None or minutes >= _MIN_MINUTES)


def compile_step(model: GPT, config: Config, machine: ComputeDevice, rows: int) -> tuple[StepFunctions | None, str]:
    """Compile the training step of `model` and try it on a batch of `rows`; returns it with a line for the log.

    None if there is no compiler or it fails. Neither weights nor torch's random generators change. Raises
    OutOfMemoryError if the batch does not fit.
    """
    states = device.rng_state()
    compiled = StepFunctions(
        torch.compile(_run_block, dynamic=True if config.data.batching == "pad" else None),
        partial(cross_entropy_sum, chunk_fn=torch.compile(chunk_loss)),
    )
    was_training = model.training
    try:
        model.train()
        _try(model, compiled, machine, rows)
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise memory.out_of_memory_error(error, f"a batch of {rows:,} rows") from error
        return None, f"torch.compile does not work here ({_first_line(error)}): training goes on without it"
    finally:
        model.train(was_training)
        device.set_rng_state(states)
    return compiled, "the step is compiled"


def _run_block(block: Block, x: Tensor) -> Tensor:
    """Computes a block that is an argument, not a closure, so that all blocks share the compiled code."""
    return block.forward(x)


def _try(model: GPT, compiled: StepFunctions, machine: ComputeDevice, rows: int) -> None:
    """Take a forward and a backward pass, which is when the compiler runs; the weights stay as they are."""
    ids = torch.zeros(rows, model.shape.context, dtype=torch.long, device=machine.device)
    with machine.autocast():
        loss = model.loss_sum(ids, ids, compiled.block_fn, compiled.loss_fn)
    torch.autograd.grad(loss, list(model.parameters()))
    float(loss.detach())  # a GPU reports its errors when it is waited for


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return safe_line(lines[0] if lines else type(error).__name__, 120)


def chunk_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What `cross_entropy.chunk_loss` computes, written so that the compiler fuses it into two passes over the logits.

    Logits (N, V) and targets (N) to summed nats and their gradient (N, V).
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    counts = targets != IGNORED
    at = targets.clamp(min=0)[:, None]
    log_sum = torch.logsumexp(wide, -1, keepdim=True)
    nats = ((log_sum - wide.gather(1, at))[:, 0] * counts).sum()
    one_hot = torch.arange(logits.shape[1], device=logits.device)[None] == at
    gradient = ((wide - log_sum).exp() - one_hot.to(wide.dtype)) * counts[:, None]
    return nats, gradient.to(logits.dtype)

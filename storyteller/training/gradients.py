"""The gradient of one training step: summed over its batches and over the CPU threads that share their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from storyteller.data.batches import IGNORED, StepBatches
from storyteller.model import compat, cpu_block, memory
from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads
from storyteller.model.cross_entropy import cross_entropy_sum
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT, Block, BlockFn

if TYPE_CHECKING:
    from storyteller.data.batches import Ids


@dataclass(frozen=True)
class StepFunctions:
    """Replacements for parts of the forward pass of a training step (`compile_step` makes them)."""

    block_fn: BlockFn
    loss_fn: Callable[..., Tensor]
    """With the signature of `cross_entropy_sum`."""


def accumulate(
    model: GPT,
    step: StepBatches,
    machine: ComputeDevice,
    scaler: torch.amp.GradScaler,
    cpu_threads: CpuThreads = SINGLE_THREAD,
    compiled: StepFunctions | None = None,
) -> Tensor:
    """Compute the gradients of a step over all its batches; returns its loss in nats a token, a scalar on the device.

    Every token of the step weighs the same, however its rows are split into batches and threads: summed nats are
    divided by the whole step's number of targets before the gradients are added. With several processes, loss and
    gradients are this process's share of the sum.
    """
    device = machine.device
    groups, block_fn = _parameter_groups(model, machine, cpu_threads, compiled)
    loss_fn = compiled.loss_fn if compiled else cross_entropy_sum
    leaves = [leaf for group in groups for leaf in group.leaves]

    def share_of(thread: int) -> tuple[Tensor, list[Tensor]]:
        """The summed loss and the gradients of a thread's rows; no gradients if it has no rows."""
        total = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        gradients: list[Tensor] = []
        for batch in step.batches:
            # Rows are sorted by length: taking every n-th one gives each thread about as many tokens.
            inputs, targets = batch.inputs[thread :: cpu_threads.size], batch.targets[thread :: cpu_threads.size]
            if not len(inputs):
                continue
            # Found in numpy: the number of places on a GPU would only be known after waiting for it.
            places = np.flatnonzero(targets != IGNORED)
            rows, tokens = batch.inputs.shape
            remedy = memory.smaller_batch(rows, len(step.batches) * step.processes)
            with memory.explain_out_of_memory(f"a batch of {rows:,} x {tokens:,} tokens", remedy):
                with machine.autocast():
                    target_places = to_device(places, device) if len(places) < targets.size else None
                    loss = model.loss_sum(
                        to_device(inputs, device),
                        to_device(targets, device),
                        block_fn,
                        partial(loss_fn, target_places=target_places),
                    )
                    loss = loss / step.n_targets
                _add(gradients, torch.autograd.grad(scaler.scale(loss), leaves))
            total += loss.detach()
        return total, gradients

    losses, gradients_by_thread = zip(*cpu_threads.map(share_of, range(cpu_threads.size)), strict=True)
    # Each thread's gradients are in the order of the groups' leaves: cut them up, then finish the groups in parallel.
    given = [iter(gradients) for gradients in gradients_by_thread if gradients]
    if given:
        by_group = [[list(islice(gradients, len(group.leaves))) for gradients in given] for group in groups]
        cpu_threads.map(lambda pair: pair[0].set_gradients(pair[1]), list(zip(groups, by_group, strict=True)))
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class _ParameterGroup:
    """Some of the parameters, and the leaves whose gradients are accumulated for them: the parameters themselves or,
    on the CPU path, the weights that a block derives from them once a step."""

    parameters: list[nn.Parameter]
    block_weights: cpu_block.BlockWeights | None = None

    @property
    def leaves(self) -> Sequence[Tensor]:
        return self.block_weights.wide if self.block_weights else self.parameters

    def set_gradients(self, by_thread: Sequence[list[Tensor]]) -> None:
        """Set `.grad` of the parameters from the gradients of `leaves` that each thread computed.

        They are added in the order of the threads, not of their finishing, so that the sums are reproducible.
        """
        total: list[Tensor] = []
        for gradients in by_thread:
            _add(total, gradients)
        weights = self.block_weights
        of_parameters = weights.parameter_gradients(total, self.parameters) if weights else total
        for parameter, gradient in zip(self.parameters, of_parameters, strict=True):
            parameter.grad = gradient.contiguous()  # torch's fused optimizers assume contiguous gradients


def _parameter_groups(
    model: GPT, machine: ComputeDevice, cpu_threads: CpuThreads, compiled: StepFunctions | None
) -> tuple[list[_ParameterGroup], BlockFn]:
    """All parameters in groups, one for each block on the CPU path, and how the step computes a block."""
    with machine.autocast():
        on_cpu_path = not compiled and cpu_block.is_usable(machine.device, model.shape.dropout)
    if not on_cpu_path:
        return [_ParameterGroup(list(model.parameters()))], compiled.block_fn if compiled else Block.__call__
    blocks = [block for block in model.h if isinstance(block, Block)]
    weights = dict(zip(blocks, cpu_threads.map(cpu_block.BlockWeights.of, blocks), strict=True))
    groups = [_ParameterGroup(list(block.parameters()), weights[block]) for block in blocks]
    in_blocks = {parameter for group in groups for parameter in group.parameters}
    others = _ParameterGroup([parameter for parameter in model.parameters() if parameter not in in_blocks])
    return [others, *groups], lambda block, x: cpu_block.forward(block, x, weights[block])


def _add(to: list[Tensor], gradients: Sequence[Tensor]) -> None:
    """Add `gradients` to the sums in `to`, which is empty at first."""
    if to and gradients:
        compat.add_all_(to, gradients)
    else:
        to += gradients


def to_device(ids: Ids, device: torch.device) -> Tensor:
    """Token ids on the device; copied to a GPU from pinned memory, which lets the copy overlap with computing."""
    tensor = torch.from_numpy(ids)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

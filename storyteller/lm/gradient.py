"""The gradient of one step, added up over its batches, and over the lanes that each takes its rows in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from storyteller.data.batches import StepBatches
from storyteller.lm import memory
from storyteller.lm.device import Machine
from storyteller.lm.lanes import ONE, Lanes
from storyteller.lm.model import GPT

if TYPE_CHECKING:
    from storyteller.data.batches import Ids


def accumulate(
    model: GPT, step: StepBatches, machine: Machine, scaler: torch.amp.GradScaler, among: Lanes = ONE
) -> Tensor:
    """Add up the gradient of all of a step's batches; returns the step's nats a token, a scalar where the model is.

    Each token of the step weighs the same, however its rows are dealt out to batches and lanes: sums of nats are
    divided by the whole step's count of targets before their gradients add up. Of a step dealt out to several
    processes, this is one's share of the loss and of the gradient.
    """
    device, parameters = machine.device, list(model.parameters())

    def share(lane: int) -> tuple[Tensor, list[Tensor]]:
        """The loss and the gradients of a lane's rows; no gradients where it has none."""
        total = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        gradients: list[Tensor] = []
        for batch in step.batches:
            inputs, targets = (
                to_device(np.array_split(ids, among.size)[lane], device) for ids in (batch.inputs, batch.targets)
            )
            if not len(inputs):
                continue
            rows, tokens = batch.inputs.shape
            remedy = memory.smaller_batch(rows, len(step.batches) * step.processes)
            with memory.naming(f"a batch of {rows:,} x {tokens:,} tokens", remedy):
                with machine.autocast():
                    loss = model.loss_sum(inputs, targets) / step.n_targets
                _add(gradients, torch.autograd.grad(scaler.scale(loss), parameters))
            total += loss.detach()
        return total, gradients

    # In the lanes' order, so that the sums are the same every time.
    losses, of_lanes = zip(*among.map(share, range(among.size)), strict=True)
    gradients: list[Tensor] = []
    for each in of_lanes:
        _add(gradients, each)
    for parameter, gradient in zip(parameters, gradients, strict=False):  # without any where there was no row
        parameter.grad = gradient.contiguous()  # the fused optimisers take memory in order for granted
    return torch.stack(losses).sum()


def _add(to: list[Tensor], gradients: Sequence[Tensor]) -> None:
    if to and gradients:
        torch._foreach_add_(to, gradients)  # type: ignore[arg-type]
    else:
        to += gradients


def to_device(ids: Ids, device: torch.device) -> Tensor:
    """Token ids where the model is; to a GPU from pinned memory, beside what it computes."""
    there = torch.from_numpy(ids)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)

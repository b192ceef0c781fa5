"""The gradient of one step, added up over its batches, and over the lanes that each takes its rows in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from storyteller.data.batches import IGNORED, StepBatches
from storyteller.model import cpu_block, memory
from storyteller.model.cpu_threads import ONE, CpuThreads
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT

if TYPE_CHECKING:
    from storyteller.data.batches import Ids


def accumulate(
    model: GPT, step: StepBatches, machine: ComputeDevice, scaler: torch.amp.GradScaler, among: CpuThreads = ONE
) -> Tensor:
    """Add up the gradient of all of a step's batches; returns the step's nats a token, a scalar where the model is.

    Each token of the step weighs the same, however its rows are dealt out to batches and lanes: sums of nats are
    divided by the whole step's count of targets before their gradients add up. Of a step dealt out to several
    processes, this is one's share of the loss and of the gradient.
    """
    device = machine.device
    parts = _parts(model, machine, among)
    leaves = [leaf for part in parts for leaf in part.leaves]
    linears = [part.linears for part in parts if part.linears]

    def share(lane: int) -> tuple[Tensor, list[Tensor]]:
        """The loss and the gradients of a lane's rows; no gradients where it has none."""
        total = torch.zeros((), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        gradients: list[Tensor] = []
        for batch in step.batches:
            # Every so many rows: they come by their length, and each lane is to have as many tokens.
            inputs, targets = batch.inputs[lane :: among.size], batch.targets[lane :: among.size]
            if not len(inputs):
                continue
            counted = np.flatnonzero(targets != IGNORED)
            rows, tokens = batch.inputs.shape
            remedy = memory.smaller_batch(rows, len(step.batches) * step.processes)
            with memory.naming(f"a batch of {rows:,} x {tokens:,} tokens", remedy):
                with machine.autocast():
                    loss = model.loss_sum(
                        to_device(inputs, device),
                        to_device(targets, device),
                        linears or None,
                        to_device(counted, device) if len(counted) < targets.size else None,
                    )
                    loss = loss / step.n_targets
                _add(gradients, torch.autograd.grad(scaler.scale(loss), leaves))
            total += loss.detach()
        return total, gradients

    losses, of_lanes = zip(*among.map(share, range(among.size)), strict=True)
    given = [iter(gradients) for gradients in of_lanes if gradients]
    if given:
        dealt = [[list(islice(of_lane, len(part.leaves))) for of_lane in given] for part in parts]
        among.map(lambda pair: pair[0].take(pair[1]), list(zip(parts, dealt, strict=True)))
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class _Part:
    """Some of the parameters, and what the loss is differentiated by in their place: themselves, or what a block taken
    by hand makes of them once a step."""

    parameters: list[nn.Parameter]
    linears: cpu_block.BlockWeights | None = None

    @property
    def leaves(self) -> Sequence[Tensor]:
        """What the loss is differentiated by."""
        return self.linears.wide if self.linears else self.parameters

    def take(self, of_lanes: Sequence[list[Tensor]]) -> None:
        """Lay down the sum of each lane's gradients of `leaves` as the gradients of the parameters.

        In the lanes' order, so that the sums are the same every time.
        """
        total: list[Tensor] = []
        for gradients in of_lanes:
            _add(total, gradients)
        followed = self.linears.followed(total, self.parameters) if self.linears else total
        for parameter, gradient in zip(self.parameters, followed, strict=True):
            parameter.grad = gradient.contiguous()  # the fused optimisers take memory in order for granted


def _parts(model: GPT, machine: ComputeDevice, among: CpuThreads) -> list[_Part]:
    """All the parameters of the model: where blocks are taken by hand, each one's by itself."""
    blocks = model.blocks()
    with machine.autocast():
        by_themselves = not model.compiled_block and all(block.is_by_hand(machine.device) for block in blocks)
    if not by_themselves:
        return [_Part(list(model.parameters()))]
    parts = among.map(lambda block: _Part(list(block.parameters()), cpu_block.linears(block)), blocks)
    of_blocks = {parameter for part in parts for parameter in part.parameters}
    return [_Part([parameter for parameter in model.parameters() if parameter not in of_blocks]), *parts]


def _add(to: list[Tensor], gradients: Sequence[Tensor]) -> None:
    if to and gradients:
        torch._foreach_add_(to, gradients)  # type: ignore[arg-type]
    else:
        to += gradients


def to_device(ids: Ids, device: torch.device) -> Tensor:
    """Token ids where the model is; to a GPU from pinned memory, beside what it computes."""
    there = torch.from_numpy(ids)
    return there.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else there.to(device)

"""Muon, matrices of one shape side by side.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". `torch.optim.Muon` takes one matrix after
another, in bf16 even where the processor has no instructions for it; this takes the same step with batched products, at
the precision that the processor is quick in.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads
from storyteller.training.eager_optimizers import Eager

_STEPS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Coefficients of the quintic iteration, from the publication: the steepest at 0 that still settles around 1."""
_LEAST_NORM = 1e-7


class Muon(Eager, torch.optim.Muon):
    """Momentum, then the nearest orthogonal matrix to it as the update; its state is that of `torch.optim.Muon`."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        momentum: float,
        dtype: torch.dtype,
        cpu_threads: CpuThreads = SINGLE_THREAD,
    ) -> None:
        """`dtype`: of the products that orthogonalise; the matrices are dealt out `cpu_threads` the lanes."""
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=True)
        self._dtype, self._cpu_threads = dtype, cpu_threads

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step; `closure` is there for the base class and must be None."""
        if closure is not None:
            raise NotImplementedError("no closure")
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            moved.sort(key=lambda parameter: tuple(sorted(parameter.shape)))
            for parameter in moved:
                self._mean(parameter)  # here, so that the states stand in the same order every time
            shares = [moved[lane :: self._cpu_threads.size] for lane in range(self._cpu_threads.size)]
            self._cpu_threads.map(partial(self._move, group), shares)

    @torch.no_grad()
    def _move(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """The step of some of the matrices."""
        alike: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            update = self._momentum(parameter, group["momentum"])
            wide = update if update.shape[0] <= update.shape[1] else update.T
            alike[wide.shape].append((parameter, wide))
        for pairs in alike.values():
            updates = orthogonal(torch.stack([wide.to(self._dtype) for _, wide in pairs]))
            for (parameter, _), update in zip(pairs, updates, strict=True):
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                # Laid out and typed as the parameter is: to add another layout or type takes three times as long.
                like = (update if rows <= columns else update.T.contiguous()).to(parameter.dtype)
                parameter.add_(like, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))

    def _mean(self, parameter: Tensor) -> Tensor:
        """The running mean of the gradient."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean: Tensor = state["momentum_buffer"]
        return mean

    def _momentum(self, parameter: Tensor, share: float) -> Tensor:
        """Nesterov's look ahead along the running mean of the gradient."""
        grad = parameter.grad
        assert grad is not None  # noqa: S101  the caller looked
        mean = self._mean(parameter)
        mean.lerp_(grad, 1 - share)
        return grad.lerp(mean, share)


def orthogonal(x: Tensor) -> Tensor:
    """Each of `x` (N, R, C), R at most C, with its singular values brought near 1 by Newton-Schulz iterations."""
    x = x / x.flatten(1).norm(dim=1).clamp(min=_LEAST_NORM)[:, None, None].to(x.dtype)
    for _ in range(_STEPS):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x

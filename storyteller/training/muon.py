"""Muon, with all matrices of one shape in one batched product.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". `torch.optim.Muon` updates one matrix
after another, in bf16 even where the processor has no instructions for it. This takes the same step with batched
products, in the precision that the processor is fast in.
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
"""Coefficients of the quintic iteration, from the publication: the steepest at 0 that still converges to about 1."""
_MIN_NORM = 1e-7


class Muon(Eager, torch.optim.Muon):
    """Momentum, orthogonalised; its state is that of `torch.optim.Muon`."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        weight_decay: float,
        momentum: float,
        dtype: torch.dtype,
        cpu_threads: CpuThreads = SINGLE_THREAD,
    ) -> None:
        """`dtype` is that of the orthogonalising products. The matrices are divided among `cpu_threads`."""
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=True)
        self._dtype, self._cpu_threads = dtype, cpu_threads

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take one step. `closure` belongs to the base class's signature and must be None."""
        if closure is not None:
            raise NotImplementedError("no closure")
        for group in self.param_groups:
            updated = [parameter for parameter in group["params"] if parameter.grad is not None]
            # Sorted by shape, every n-th matrix gives each thread a similar mix of shapes.
            updated.sort(key=lambda parameter: tuple(sorted(parameter.shape)))
            for parameter in updated:
                self._momentum_buffer(parameter)  # created here, in a fixed order, not by racing threads
            shares = [updated[thread :: self._cpu_threads.size] for thread in range(self._cpu_threads.size)]
            self._cpu_threads.map(partial(self._update, group), shares)

    @torch.no_grad()
    def _update(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take the step for some of the matrices."""
        by_shape: defaultdict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            momentum = self._nesterov(parameter, group["momentum"])
            # Tall matrices are transposed: the iteration's Gram matrix is then the smaller of the two possible, and
            # a matrix and the transpose of its shape share a batch.
            wide = momentum if momentum.shape[0] <= momentum.shape[1] else momentum.T
            by_shape[wide.shape].append((parameter, wide))
        for pairs in by_shape.values():
            updates = orthogonalise(torch.stack([wide.to(self._dtype) for _, wide in pairs]))
            for (parameter, _), update in zip(pairs, updates, strict=True):
                rows, columns = parameter.shape
                parameter.mul_(1 - group["lr"] * group["weight_decay"])  # decoupled decay, as in AdamW
                # In the parameter's layout and type: adding another takes three times as long.
                same = (update if rows <= columns else update.T.contiguous()).to(parameter.dtype)
                # An orthogonal matrix keeps the norm of its input, so with more rows than columns each output entry
                # changes less; this factor makes up for it (`adjust_lr_fn="original"` of torch).
                parameter.add_(same, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))

    def _momentum_buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _nesterov(self, parameter: Tensor, momentum: float) -> Tensor:
        """Update the running mean of the gradient; returns the mean with this gradient counted once more."""
        grad = parameter.grad
        assert grad is not None  # noqa: S101  `step` leaves out parameters without a gradient
        mean = self._momentum_buffer(parameter)
        mean.lerp_(grad, 1 - momentum)
        return grad.lerp(mean, momentum)


def orthogonalise(x: Tensor) -> Tensor:
    """Bring the singular values of each matrix of `x` (N, R, C), R at most C, near 1 by Newton-Schulz iterations.

    x <- a x + (b G + c G^2) x with G = x x^T maps each singular value s to a s + b s^3 + c s^5 and leaves the singular
    vectors alone. The Frobenius norm bounds the largest singular value, so dividing by it starts within [0, 1].
    """
    x = x / x.flatten(1).norm(dim=1).clamp(min=_MIN_NORM)[:, None, None].to(x.dtype)
    for _ in range(_STEPS):
        gram = torch.bmm(x, x.transpose(1, 2))  # (N, R, R)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x

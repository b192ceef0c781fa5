"""Cross entropy of the output layer, computed in chunks so that all the logits never stand in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from storyteller.data.batches import IGNORED

ChunkFn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Logits (N, V), which it may overwrite, and targets (N) to summed nats and their gradient (N, V): `chunk_loss`."""

_CHUNK_LOGITS = 1 << 21
"""Logits of a chunk on a CPU: 4 MiB in bf16, which fit into the cache of the core that computes them."""
_MIN_CHUNK_ROWS = 512
"""Each chunk costs one pass over the weight's gradient (V, C), so a large vocabulary must not make chunks tiny."""
_CHUNK_LOGITS_CUDA = 1 << 27
"""256 MiB in bf16, and up to 1.5 GiB with the intermediate tensors of the eager computation."""


def cross_entropy_sum(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    target_places: Tensor | None = None,
    chunk_fn: ChunkFn | None = None,
) -> Tensor:
    """Cross entropy in nats of `hidden @ weight.T` and `targets`, summed over the targets that are not -100.

    `hidden` (N, C), `weight` (V, C), `targets` (N). `target_places` holds the indices of the targets that count; where
    it is given, the output layer computes nothing for padding. `chunk_fn` replaces `chunk_loss`.
    """
    if target_places is not None:
        hidden, targets = hidden.index_select(0, target_places), targets.index_select(0, target_places)
    if not torch.is_grad_enabled():
        # A custom autograd function is told that its inputs need gradients even here, and would compute them.
        hidden, weight = hidden.detach(), weight.detach()
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, chunk_fn or chunk_loss)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Cross entropy that computes its gradient (softmax minus one-hot) in the forward pass.

    The loss is the end of the graph, so its gradient is known up to a factor while a chunk's logits are still in the
    cache. On a CPU this saves a third of the output layer's time, and with a vocabulary of 50,257 most of the memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk_fn: ChunkFn) -> Tensor:
        kind = hidden.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        x, w = hidden.to(low), weight.to(low)
        wants_gradient = any(ctx.needs_input_grad[:2])
        d_hidden = torch.empty_like(hidden) if wants_gradient else None
        # (C, V): the product below is faster in this orientation, so the gradient is collected transposed.
        d_weight = torch.zeros_like(weight.T, memory_format=torch.contiguous_format) if wants_gradient else None
        total = torch.zeros((), dtype=torch.promote_types(low, torch.float32), device=hidden.device)
        n_logits = _CHUNK_LOGITS_CUDA if kind == "cuda" else _CHUNK_LOGITS
        n_rows = min(max(n_logits // len(weight), _MIN_CHUNK_ROWS), len(x))
        buffer = torch.empty(n_rows, len(weight), dtype=low, device=hidden.device)  # reused by every chunk
        for begin in range(0, len(x), n_rows):
            rows = slice(begin, begin + n_rows)
            logits = torch.mm(x[rows], w.T, out=buffer[: len(x[rows])])
            if d_hidden is None or d_weight is None:
                total += _nats_and_probabilities(logits, targets[rows])[0]
                continue
            nats, d_logits = chunk_fn(logits, targets[rows])
            total += nats
            d_hidden[rows] = d_logits @ w
            # A contiguous copy of the small factor makes the product a fifth faster.
            d_weight += x[rows].T.contiguous() @ d_logits
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_hidden, d_weight = ctx.saved_tensors
        # Back in the weight's own layout: the embedding's gradient is added to it, which takes six times as long
        # where one of the two is transposed.
        d_weight = d_weight.mul_(grad.to(d_weight.dtype)).T.contiguous()
        return d_hidden * grad.to(d_hidden.dtype), d_weight, None, None


def chunk_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed nats of `logits` (N, V) for `targets` (N), and their gradient (N, V). Overwrites the logits."""
    nats, gradient = _nats_and_probabilities(logits, targets)
    # Softmax minus one-hot, by index: on a CPU `scatter_add_` takes as long as three matrix products of this size.
    gradient[torch.arange(len(gradient), device=gradient.device), targets.clamp(min=0)] -= 1
    counts = targets != IGNORED
    # On a GPU reading `counts.all()` would wait for the device, so the product is always computed there.
    if gradient.device.type != "cpu" or not bool(counts.all()):
        gradient.mul_(counts[:, None])
    return nats, gradient.to(logits.dtype)


def _nats_and_probabilities(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed nats, and the probabilities (N, V), which on a CPU overwrite the logits.

    On a CPU in bf16 the softmax reads and writes bf16 and computes in fp32, which takes half the time. The reported
    loss is rounded by it, by up to 0.002 nats a token in either direction.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    at = targets.clamp(min=0)[:, None]
    on_cpu = logits.device.type == "cpu"
    if on_cpu and logits.dtype == torch.bfloat16:
        p = torch.softmax(logits, -1, out=logits)
        logp = p.gather(1, at).to(wide).clamp_(min=torch.finfo(wide).tiny).log_()
    else:
        in_place = on_cpu and logits.dtype == wide
        all_logp = torch.log_softmax(logits, -1, out=logits) if in_place else logits.to(wide).log_softmax(-1)
        logp = all_logp.gather(1, at)
        p = all_logp.exp_()
    return -(logp[:, 0] * (targets != IGNORED)).sum(), p

"""Causal attention for training on a CPU in bf16: torch's own way forward, a quicker way back.

Torch's flash attention takes seven times as long backward as forward on a CPU. Taking the scores again, some rows at
a time and in whole matrix products, halves the time of both together; nothing but queries, keys and values is kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 128
"""Queries taken at a time: what causality rules out is computed for half a block of them alone."""


def causal(qkv: Tensor, n_head: int, dropout: float = 0.0) -> Tensor:
    """Softmax(q k^T / sqrt(d)) v over the tokens up to each: `qkv` (B, T, 3 C) to (B, T, C), heads side by side.

    `dropout` is the share of attention weights dropped. Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and qkv.requires_grad and not dropout:
        out: Tensor = _Causal.apply(qkv, n_head)  # type: ignore[no-untyped-call]
        return out
    return _flash(qkv, n_head, dropout)


def _flash(qkv: Tensor, n_head: int, dropout: float = 0.0) -> Tensor:
    B, T, C3 = qkv.shape
    q, k, v = qkv.view(B, T, 3, n_head, C3 // 3 // n_head).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, C/H)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return y.transpose(1, 2).reshape(B, T, C3 // 3)


class _Causal(torch.autograd.Function):
    """The gradient by hand: with p = softmax(s), dv = p^T dy, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, n_head: int) -> Tensor:
        """What `causal` says."""
        ctx.save_for_backward(qkv)
        ctx.n_head = n_head
        return _flash(qkv, n_head)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient of `qkv`, in its type."""
        (qkv,) = ctx.saved_tensors
        B, T, C3 = qkv.shape
        D = C3 // 3 // ctx.n_head
        scale = 1 / math.sqrt(D)
        q, k, v = qkv.view(B, T, 3, -1, D).permute(2, 0, 3, 1, 4).reshape(3, -1, T, D)  # 3 x (B H, T, D)
        q = q * scale
        dy = grad.to(qkv.dtype).view(B, T, -1, D).transpose(1, 2).reshape(-1, T, D)
        d = torch.empty(3, *q.shape, dtype=qkv.dtype)
        future = torch.full((_ROWS, _ROWS), -math.inf, dtype=qkv.dtype).triu_(1)
        # From the last rows back: those see every key, so they lay down what the others add to.
        for end in range(T, 0, -_ROWS):
            begin = max(end - _ROWS, 0)
            rows, seen = slice(begin, end), slice(0, end)
            scores = torch.bmm(q[:, rows], k[:, seen].transpose(1, 2))
            scores[:, :, begin:] += future[: end - begin, : end - begin]
            p = torch.softmax(scores, -1)
            dp = torch.bmm(dy[:, rows], v[:, seen].transpose(1, 2))
            d_scores = torch._softmax_backward_data(dp, p, -1, p.dtype)
            d[0][:, rows] = torch.bmm(d_scores, k[:, seen])
            dk, dv = torch.bmm(d_scores.transpose(1, 2), q[:, rows]), torch.bmm(p.transpose(1, 2), dy[:, rows])
            if end == T:
                d[1], d[2] = dk, dv
            else:
                d[1][:, seen] += dk
                d[2][:, seen] += dv
        d[0] *= scale
        return d.view(3, B, -1, T, D).permute(1, 3, 0, 2, 4).reshape(B, T, C3), None

"""Causal attention: torch's own, and one taken forward and back by hand for training on a CPU in bf16.

Torch's flash attention takes seven times as long backward as forward on a CPU. Whole matrix products over some rows at
a time take half the time of both together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 128
"""Queries taken at a time: what causality rules out is computed for half a block of them alone."""
_KEPT_CONTEXT = 512
"""Up to so many tokens the weights of attention are kept for the way back; past that their square is too much memory,
and they are taken again."""


def causal(qkv: Tensor, n_head: int, dropout: float = 0.0) -> Tensor:
    """Softmax(q k^T / sqrt(d)) v over the tokens up to each: `qkv` (B, T, 3 C) to (B, T, C), heads side by side.

    `dropout` is the share of attention weights dropped. Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """
    B, T, C3 = qkv.shape
    q, k, v = qkv.view(B, T, 3, n_head, C3 // 3 // n_head).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, C/H)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return y.transpose(1, 2).reshape(B, T, C3 // 3)


@dataclass
class Kept:
    """What `forward` keeps for `backward`: queries (scaled), keys and values (B H, T, D), and the weights by rows."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: list[Tensor]
    n_head: int


def forward(qkv: Tensor, n_head: int) -> tuple[Tensor, Kept]:
    """What `causal` gives of `qkv` (B, T, 3 C), and what the way back needs."""
    B, T, C3 = qkv.shape
    D = C3 // 3 // n_head
    q, k, v = qkv.view(B, T, 3, n_head, D).permute(2, 0, 3, 1, 4).reshape(3, -1, T, D)
    kept = Kept(q * (1 / math.sqrt(D)), k, v, [], n_head)
    y = torch.empty(B, T, n_head, D, dtype=q.dtype)
    for begin in range(0, T, _ROWS):
        weights = _weights(kept, begin)
        some = torch.bmm(weights, v[:, : begin + _ROWS])
        y[:, begin : begin + _ROWS] = some.view(B, n_head, -1, D).transpose(1, 2)
        if T <= _KEPT_CONTEXT:
            kept.weights.append(weights)
    return y.view(B, T, -1), kept


def backward(grad: Tensor, kept: Kept) -> Tensor:
    """The gradient (B, T, 3 C) of `qkv`, from that of what `forward` gave (B, T, C).

    With p = softmax(s): dv = p^T dy, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q.
    """
    B, T, C = grad.shape
    q, k, v = kept.q, kept.k, kept.v
    D = C // kept.n_head
    dy = grad.view(B, T, -1, D).transpose(1, 2).reshape(-1, T, D)
    d = torch.empty(3, *q.shape, dtype=q.dtype)
    # From the last rows back: those see every key, so they lay down what the others add to.
    for begin in reversed(range(0, T, _ROWS)):
        rows, seen = slice(begin, begin + _ROWS), slice(0, begin + _ROWS)
        p = kept.weights[begin // _ROWS] if kept.weights else _weights(kept, begin)
        dp = torch.bmm(dy[:, rows], v[:, seen].transpose(1, 2))
        d_scores = torch._softmax_backward_data(dp, p, -1, p.dtype)
        d[0][:, rows] = torch.bmm(d_scores, k[:, seen])
        dk, dv = torch.bmm(d_scores.transpose(1, 2), q[:, rows]), torch.bmm(p.transpose(1, 2), dy[:, rows])
        if begin + _ROWS >= T:
            d[1], d[2] = dk, dv
        else:
            d[1][:, seen] += dk
            d[2][:, seen] += dv
    d[0] *= 1 / math.sqrt(D)
    return d.view(3, B, -1, T, D).permute(1, 3, 0, 2, 4).reshape(B, T, 3 * C)


def _weights(kept: Kept, begin: int) -> Tensor:
    """The weights (B H, rows, keys) of the rows from `begin` on, over the keys up to the last of them."""
    q, k = kept.q[:, begin : begin + _ROWS], kept.k[:, : begin + _ROWS]
    scores = torch.bmm(q, k.transpose(1, 2))
    scores[:, :, begin:] += _later(q.shape[1], q.dtype)
    return torch.softmax(scores, -1, out=scores)


@cache
def _later(n: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (n, n) of n tokens among themselves: none sees a later one."""
    return torch.full((n, n), -math.inf, dtype=dtype).triu_(1)

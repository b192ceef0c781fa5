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
_PAST = 512
"""Tokens in steps of which there is a mask: of each one a smaller one is cut."""


def causal(qkv: Tensor, n_head: int, dropout: float = 0.0) -> Tensor:
    """Softmax(q k^T / sqrt(d)) v over the tokens up to each: `qkv` (B, T, 3 C) to (B, T, C), heads side by side.

    `dropout` is the share of attention weights dropped. Vaswani et al. 2017, "Attention Is All You Need", section 3.2.
    """
    B, T, C3 = qkv.shape
    q, k, v = qkv.view(B, T, 3, n_head, C3 // 3 // n_head).permute(2, 0, 3, 1, 4)  # 3 x (B, H, T, C/H)
    y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    return y.transpose(1, 2).reshape(B, T, C3 // 3)


@dataclass
class SavedForBackward:
    """What `forward` keeps for `backward`: queries, keys and values (B H, T, D), and the weights by rows."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: list[Tensor]
    n_head: int


def forward(qkv: Tensor, n_head: int) -> tuple[Tensor, SavedForBackward]:
    """What `causal` gives of `qkv` (B, T, 3 C), whose queries are divided by sqrt(d) already, and what the way back
    needs."""
    B, T, C3 = qkv.shape
    D = C3 // 3 // n_head
    q, k, v = qkv.view(B, T, 3, n_head, D).permute(2, 0, 3, 1, 4).reshape(3, -1, T, D)
    kept = SavedForBackward(q, k, v, [], n_head)
    y = torch.empty(B, T, n_head, D, dtype=q.dtype)
    begin = 0
    for of_q, of_y in zip(torch.split(q, _ROWS, 1), torch.split(y, _ROWS, 1), strict=True):
        weights = _weights(of_q, k, begin)
        begin += _ROWS
        of_y.copy_(torch.bmm(weights, v[:, :begin]).view(B, n_head, -1, D).transpose(1, 2))
        if T <= _KEPT_CONTEXT:
            kept.weights.append(weights)
    return y.view(B, T, -1), kept


def backward(grad: Tensor, kept: SavedForBackward) -> Tensor:
    """The gradient (B, T, 3 C) of `qkv`, from that of what `forward` gave (B, T, C).

    With p = softmax(q k^T): dv = p^T dy, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q.
    """
    B, T, C = grad.shape
    q, k, v = kept.q, kept.k, kept.v
    D = C // kept.n_head
    dy = grad.view(B, T, -1, D).transpose(1, 2).reshape(-1, T, D)
    d = torch.empty(3, *q.shape, dtype=q.dtype)
    dq, dk, dv = d
    rows = list(zip(torch.split(q, _ROWS, 1), torch.split(dq, _ROWS, 1), torch.split(dy, _ROWS, 1), strict=True))
    # From the last rows back: those see every key, so they lay down what the others add to.
    for i in reversed(range(len(rows))):
        of_q, of_dq, of_dy = rows[i]
        seen = slice(0, (i + 1) * _ROWS)
        p = kept.weights[i] if kept.weights else _weights(of_q, k, i * _ROWS)
        dp = torch.bmm(of_dy, v[:, seen].mT)
        d_scores = torch._softmax_backward_data(dp, p, -1, p.dtype)
        torch.bmm(d_scores, k[:, seen], out=of_dq)
        for of_d, of_scores, by in ((dk, d_scores, of_q), (dv, p, of_dy)):
            if i == len(rows) - 1:
                torch.bmm(of_scores.mT, by, out=of_d)
            else:
                of_d[:, seen].baddbmm_(of_scores.mT, by)
    return d.view(3, B, -1, T, D).permute(1, 3, 0, 2, 4).reshape(B, T, 3 * C)


def _weights(of_q: Tensor, k: Tensor, begin: int) -> Tensor:
    """The weights (B H, rows, keys) of the queries from `begin` on, over the keys up to the last of them."""
    n = of_q.shape[1]
    past = -(-begin // _PAST) * _PAST
    later = _later(past, k.dtype)[:n, past - begin : past + n]
    scores = torch.baddbmm(later, of_q, k[:, : begin + n].mT)
    return torch.softmax(scores, -1, out=scores)


@cache
def _later(past: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (_ROWS, past + _ROWS) of tokens over `past` others and themselves: none sees a later
    one."""
    return torch.full((_ROWS, past + _ROWS), -math.inf, dtype=dtype).triu_(past + 1)

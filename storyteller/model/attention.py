"""Causal attention with a backward pass of its own, for training on a CPU in bf16.

On a CPU the backward pass of torch's flash attention takes seven times as long as its forward pass. Plain matrix
products over a block of queries at a time take half the time of both together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from storyteller.model import compat

_QUERY_ROWS = 128
"""Queries of a block. Keys that causality masks are computed only in the block's own square, so that on average half a
block of scores is wasted for each query."""
_MAX_SAVED_CONTEXT = 512
"""Longest context whose attention weights are kept for the backward pass. Beyond it their memory, quadratic in the
context, is too much, and they are computed again."""
_MASK_STEP = 512
"""Causal masks are made for key counts that are multiples of this; smaller ones are slices of them."""


@dataclass
class SavedForBackward:
    """What `forward` keeps for `backward`: queries, keys and values (B H, T, D), and attention weights by block."""

    q: Tensor
    k: Tensor
    v: Tensor
    weights: list[Tensor]
    n_head: int


def forward(qkv: Tensor, n_head: int) -> tuple[Tensor, SavedForBackward]:
    """Causal attention over `qkv` (B, T, 3 C), whose queries are divided by sqrt(d) already; returns (B, T, C)."""
    B, T, C3 = qkv.shape
    D = C3 // 3 // n_head
    q, k, v = qkv.view(B, T, 3, n_head, D).permute(2, 0, 3, 1, 4).reshape(3, -1, T, D)  # each (B H, T, D)
    saved = SavedForBackward(q, k, v, [], n_head)
    y = torch.empty(B, T, n_head, D, dtype=q.dtype)
    begin = 0
    for q_rows, y_rows in zip(torch.split(q, _QUERY_ROWS, 1), torch.split(y, _QUERY_ROWS, 1), strict=True):
        weights = _attention_weights(q_rows, k, begin)  # (B H, rows, keys)
        begin += _QUERY_ROWS
        y_rows.copy_(torch.bmm(weights, v[:, :begin]).view(B, n_head, -1, D).transpose(1, 2))
        if T <= _MAX_SAVED_CONTEXT:
            saved.weights.append(weights)
    return y.view(B, T, -1), saved


def backward(grad: Tensor, saved: SavedForBackward) -> Tensor:
    """The gradient (B, T, 3 C) of `qkv`, from that of `forward`'s output (B, T, C).

    With p = softmax(q k^T): dv = p^T dy, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q.
    """
    B, T, C = grad.shape
    q, k, v = saved.q, saved.k, saved.v
    D = C // saved.n_head
    dy = grad.view(B, T, -1, D).transpose(1, 2).reshape(-1, T, D)  # (B H, T, D)
    d = torch.empty(3, *q.shape, dtype=q.dtype)
    dq, dk, dv = d
    blocks = list(
        zip(
            torch.split(q, _QUERY_ROWS, 1),
            torch.split(dq, _QUERY_ROWS, 1),
            torch.split(dy, _QUERY_ROWS, 1),
            strict=True,
        )
    )
    # The last block attends to every key, so it goes first and writes dk and dv; the others add to them.
    for i in reversed(range(len(blocks))):
        q_rows, dq_rows, dy_rows = blocks[i]
        seen = slice(0, (i + 1) * _QUERY_ROWS)
        p = saved.weights[i] if saved.weights else _attention_weights(q_rows, k, i * _QUERY_ROWS)
        dp = torch.bmm(dy_rows, v[:, seen].mT)
        d_scores = compat.softmax_backward(dp, p)
        torch.bmm(d_scores, k[:, seen], out=dq_rows)
        for d_keys, factor, rows in ((dk, d_scores, q_rows), (dv, p, dy_rows)):
            if i == len(blocks) - 1:
                torch.bmm(factor.mT, rows, out=d_keys)
            else:
                d_keys[:, seen].baddbmm_(factor.mT, rows)
    return d.view(3, B, -1, T, D).permute(1, 3, 0, 2, 4).reshape(B, T, 3 * C)


def _attention_weights(q_rows: Tensor, k: Tensor, begin: int) -> Tensor:
    """Softmax (B H, rows, keys) of the queries from position `begin` on, over the keys up to the last of them."""
    n = q_rows.shape[1]
    past = -(-begin // _MASK_STEP) * _MASK_STEP  # `begin`, rounded up to a size for which there is a mask
    mask = _causal_mask(past, k.dtype)[:n, past - begin : past + n]
    scores = torch.baddbmm(mask, q_rows, k[:, : begin + n].mT)
    return torch.softmax(scores, -1, out=scores)


@cache
def _causal_mask(past: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (rows, past + rows) of a block after `past` tokens: -inf at later positions."""
    return torch.full((_QUERY_ROWS, past + _QUERY_ROWS), -math.inf, dtype=dtype).triu_(past + 1)

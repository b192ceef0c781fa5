"""A transformer block with a backward pass of its own, for training and evaluation on a CPU in bf16.

It computes what `gpt2.Block` does. Between matrix products a CPU waits for memory, so activations and the residual
stream are bf16 throughout, nothing is cast on the way, and each gradient is computed by the fastest form of its
product. A step takes a fifth less time than with torch's autograd and autocast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.model import attention, compat


class BlockParts(Protocol):
    """What is used of `gpt2.Block`."""

    ln_1: nn.LayerNorm
    ln_2: nn.LayerNorm
    attn: Any
    """With `n_head` and the linear layers `c_attn` and `c_proj`."""
    mlp: Any
    """With `approximate` and the linear layers `c_fc` and `c_proj`."""

    def __call__(self, x: Tensor) -> Tensor: ...


def is_usable(device: torch.device, dropout: float) -> bool:
    """True on a CPU without dropout, inside autocast to bf16, unless the compiler is tracing."""
    return (
        device.type == "cpu"
        and not dropout
        and not torch.compiler.is_compiling()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def fastest_block_fn(device: torch.device, dropout: float = 0.0) -> Callable[[BlockParts, Tensor], Tensor]:
    """How to compute a block in the current autocast context: by `forward` where it is usable, else by itself."""
    return forward if is_usable(device, dropout) else lambda block, x: block(x)


@dataclass(frozen=True)
class BlockWeights:
    """Weights and biases of a block's four linear layers (qkv, attention output, MLP up, MLP down) for its products.

    Derived from the parameters once a step, however many batches and threads the step has. `wide` are the leaves that
    the loss is differentiated by, so that gradients of all batches are summed before `parameter_gradients` takes the
    derivation's backward pass, once.
    """

    wide: tuple[Tensor, ...]
    """In fp32, detached from `derived`."""
    low: tuple[Tensor, ...]
    """The same values in bf16."""
    derived: tuple[Tensor, ...]
    """The same values, attached to the parameters by autograd."""

    @classmethod
    def of(cls, block: BlockParts) -> BlockWeights:
        """The weights of `block`, ready to be differentiated by."""
        derived = _derive(block)
        wide = tuple(each.detach().requires_grad_() for each in derived)
        return cls(wide, _to_bf16(wide), derived)

    def parameter_gradients(self, gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gradients of `parameters`, the block's, from those of `wide`."""
        return torch.autograd.grad(self.derived, parameters, gradients)


def forward(block: BlockParts, x: Tensor, weights: BlockWeights | None = None) -> Tensor:
    """The output of `block` for `x` (B, T, C), in bf16.

    Without `weights` they are derived here, and gradients go to the block's parameters.
    """
    with torch.autocast("cpu", enabled=False):
        wide = weights.wide if weights else _derive(block)
        low = weights.low if weights else _to_bf16(wide)
        settings = (block.attn.n_head, block.mlp.approximate, block.ln_1.eps)
        out: Tensor = _BlockFunction.apply(x.to(torch.bfloat16), *settings, low, *wide)  # type: ignore[no-untyped-call]
    return out


def _derive(block: BlockParts) -> tuple[Tensor, ...]:
    """Weight and bias of each linear layer in fp32, with the LayerNorms and the attention scale folded in.

    W (g n + b) + c = (W g) n + (W b + c): the norm's weight and bias become a matter of matrices instead of
    activations, and their gradients, small differences of large sums, are computed in fp32.
    """
    attn, mlp = block.attn, block.mlp
    scale = _query_scale(block.ln_1.weight.shape[0], attn.n_head)
    weight, bias = _fold(block.ln_1, attn.c_attn)
    qkv = weight * scale[:, None], bias * scale
    out, down = attn.c_proj, mlp.c_proj
    return (*qkv, out.weight, out.bias, *_fold(block.ln_2, mlp.c_fc), down.weight, down.bias)


def _fold(norm: nn.LayerNorm, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    return linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias


@cache
def _query_scale(width: int, n_head: int) -> Tensor:
    """Factors (3 C) of queries, keys and values: 1/sqrt(d) for queries, 1 for the rest."""
    with torch.inference_mode(False):  # cached, so it must serve training even if an evaluation asks first
        scale = torch.ones(3 * width)
        scale[:width] = 1 / math.sqrt(width // n_head)
    return scale


def _to_bf16(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(each.detach().to(torch.bfloat16) for each in tensors)


class _BlockFunction(torch.autograd.Function):
    """`x + attention(norm(x))`, then the same with the MLP; the norms' weights and biases are folded (`_derive`)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, n_head: int, approximate: str, eps: float, low: Sequence[Tensor], *_wide: Tensor
    ) -> Tensor:
        """`x` (B, T, C) and the output are bf16. The products use `low`; gradients are returned for `_wide`."""
        w_qkv, b_qkv, w_out, b_out, w_up, b_up, w_down, b_down = low
        normed_1, stats_1 = compat.layer_norm(x, eps)
        y, saved = attention.forward(F.linear(normed_1, w_qkv, b_qkv), n_head)
        middle = F.linear(y, w_out, b_out).add_(x)  # the residual stream between the two halves
        normed_2, stats_2 = compat.layer_norm(middle, eps)
        up = F.linear(normed_2, w_up, b_up)  # (B, T, 4 C)
        active = F.gelu(up, approximate=approximate)
        ctx.approximate = approximate
        ctx.attention = (x, stats_1, normed_1, w_qkv, saved, y, w_out)
        ctx.mlp = (middle, stats_2, normed_2, w_up, up, active, w_down)
        return F.linear(active, w_down, b_down).add_(middle)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, in bf16, and of the eight weights and biases, in fp32."""
        middle, stats_2, normed_2, w_up, up, active, w_down = ctx.mlp
        x, stats_1, normed_1, w_qkv, saved, y, w_out = ctx.attention
        ctx.mlp = ctx.attention = None  # so that each tensor is freed after its last use below
        grad = grad.contiguous()
        # MLP: down projection, GELU, up projection, norm; then the residual connection adds `grad`.
        d_down = _linear_backward(grad, active)
        d_up_out = compat.gelu_backward(grad @ w_down, up, ctx.approximate)
        d_up = _linear_backward(d_up_out, normed_2)
        d_middle = compat.layer_norm_backward(d_up_out @ w_up, middle, stats_2).add_(grad)
        # Attention: output projection, attention, qkv projection, norm; then the residual connection.
        d_out = _linear_backward(d_middle, y)
        d_qkv_out = attention.backward(d_middle @ w_out, saved)
        d_qkv = _linear_backward(d_qkv_out, normed_1)
        d_x = compat.layer_norm_backward(d_qkv_out @ w_qkv, x, stats_1).add_(d_middle)
        return d_x, None, None, None, None, *d_qkv, *d_out, *d_up, *d_down


def _linear_backward(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The fp32 gradients of weight and bias, from that of the output (B, T, out) and the input (B, T, in)."""
    grad, x = grad.flatten(0, 1), x.flatten(0, 1)
    weight = torch.empty(grad.shape[1], x.shape[1])
    # `grad.T @ x` written as the transpose of its transpose, which is a third faster in oneDNN. `copy_` into fp32
    # transposes and casts in one pass.
    weight.copy_((x.T @ grad).T)
    return weight, grad.sum(0).float()

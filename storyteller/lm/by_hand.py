"""A block of the model forward and back by hand, for training and evaluation on a CPU that multiplies in bf16.

It computes what `model.Block` does. Between two matrix products a CPU waits for its memory, so everything here is in
bf16, the residual stream too, nothing is cast on the way, and each gradient is taken in the product that is quickest.
A step takes a fifth less time than torch's autograd with autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from storyteller.lm import attention

if TYPE_CHECKING:
    from storyteller.lm.model import Block


def pays(x: Tensor) -> bool:
    """Whether a block is to be taken by hand: on a CPU, with matrix products in bf16, where no compiler takes it."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def block(module: Block, x: Tensor) -> Tensor:
    """What `module` gives of `x` (B, T, C), without dropout, in bf16."""
    parts = (module.ln_1, module.attn.c_attn, module.attn.c_proj, module.ln_2, module.mlp.c_fc, module.mlp.c_proj)
    parameters = [parameter for part in parts for parameter in (part.weight, part.bias)]
    with torch.autocast("cpu", enabled=False):
        facts = (module.attn.n_head, module.mlp.approximate, module.ln_1.eps)
        out: Tensor = _Block.apply(x.to(torch.bfloat16), *facts, *parameters)  # type: ignore[no-untyped-call]
    return out


class _Block(torch.autograd.Function):
    """`x + attention(norm(x))`, then the same with the MLP. Its twelve parameters come in the order of `block`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, n_head: int, approximate: str, eps: float, *parameters: Tensor) -> Tensor:
        """`x` (B, T, C) and the block's output, both in bf16."""
        low, width = x.dtype, (x.shape[-1],)
        norm_1, qkv, out, norm_2, up, down = (parameters[i : i + 2] for i in range(0, 12, 2))
        qkv_low, up_low = _folded(norm_1, qkv, low), _folded(norm_2, up, low)
        out_low, down_low = ([part.to(low) for part in linear] for linear in (out, down))
        normed_1, *stats_1 = torch.native_layer_norm(x, width, None, None, eps)
        y, kept = attention.forward(F.linear(normed_1, *qkv_low), n_head)
        middle = F.linear(y, *out_low).add_(x)
        normed_2, *stats_2 = torch.native_layer_norm(middle, width, None, None, eps)
        wide = F.linear(normed_2, *up_low)
        active = F.gelu(wide, approximate=approximate)
        ctx.approximate = approximate
        ctx.attention = (x, stats_1, normed_1, norm_1, qkv, qkv_low[0], kept, y, out_low[0])
        ctx.mlp = (middle, stats_2, normed_2, norm_2, up, up_low[0], wide, active, down_low[0])
        return F.linear(active, *down_low).add_(middle)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, in bf16, and of the parameters, in fp32."""
        middle, stats_2, normed_2, norm_2, up, up_low, wide, active, down_low = ctx.mlp
        x, stats_1, normed_1, norm_1, qkv, qkv_low, kept, y, out_low = ctx.attention
        ctx.mlp = ctx.attention = None  # what was kept goes as soon as it has served
        grad = grad.contiguous()
        d_down = _of_linear(grad, active)
        d_wide = torch.ops.aten.gelu_backward(grad @ down_low, wide, approximate=ctx.approximate)
        d_norm_2, d_up = _unfolded(norm_2, up, *_of_linear(d_wide, normed_2))
        d_middle = _of_norm(d_wide @ up_low, middle, stats_2).add_(grad)
        d_out = _of_linear(d_middle, y)
        d_qkv_out = attention.backward(d_middle @ out_low, kept)
        d_norm_1, d_qkv = _unfolded(norm_1, qkv, *_of_linear(d_qkv_out, normed_1))
        d_x = _of_norm(d_qkv_out @ qkv_low, x, stats_1).add_(d_middle)
        return d_x, None, None, None, *d_norm_1, *d_qkv, *d_out, *d_norm_2, *d_up, *d_down


Pair = Sequence[Tensor]
"""Weight and bias."""


def _folded(norm: Pair, linear: Pair, low: torch.dtype) -> Pair:
    """A linear layer that takes the norm's weight and bias into its own: W (g n + b) + c = (W g) n + (W b + c).

    What belongs to the norm is then a matter of matrices instead of activations, and its gradient, a small difference
    of large sums, is taken in fp32.
    """
    (gain, shift), (weight, bias) = norm, linear
    return (weight * gain).to(low), (bias + weight @ shift).to(low)


def _unfolded(norm: Pair, linear: Pair, d_weight: Tensor, d_bias: Tensor) -> tuple[Pair, Pair]:
    """The gradients of the norm and of the linear layer, from those of the layer that `_folded` made of them."""
    (gain, shift), (weight, _) = norm, linear
    of_norm = (d_weight * weight).sum(0), d_bias @ weight
    return of_norm, (torch.addr(d_weight * gain, d_bias, shift), d_bias)


def _of_linear(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias, in fp32, from that of the output (B, T, out) and the input (B, T, in)."""
    grad, x = grad.flatten(0, 1), x.flatten(0, 1)
    weight = torch.empty(grad.shape[1], x.shape[1])
    # The transpose of the product that one would write: a third quicker in oneDNN.
    weight.copy_((x.T @ grad).T)
    return weight, grad.sum(0).float()


def _of_norm(grad: Tensor, x: Tensor, stats: Sequence[Tensor]) -> Tensor:
    """The gradient of the input of a LayerNorm without weight and bias; `stats` are its means and deviations."""
    d_x: Tensor = torch.ops.aten.native_layer_norm_backward(
        grad, x, (x.shape[-1],), *stats, None, None, (True, False, False)
    )[0]
    return d_x

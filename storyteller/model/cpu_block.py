"""A block of the model forward and back by hand, for training and evaluation on a CPU that multiplies in bf16.

It computes what `model.Block` does. Between two matrix products a CPU waits for its memory, so everything here is in
bf16, the residual stream too, nothing is cast on the way, and each gradient is taken in the product that is quickest.
A step takes a fifth less time than torch's autograd with autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.model import attention

if TYPE_CHECKING:
    from storyteller.model.gpt2 import Block


def pays(kind: str) -> bool:
    """Whether a block is to be taken by hand on a device of this kind, as things stand: on a CPU, with matrix products
    in bf16, where no compiler takes it."""
    return (
        kind == "cpu"
        and not torch.compiler.is_compiling()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


@dataclass(frozen=True)
class BlockWeights:
    """The four linear layers of a block as its products take them: weight and bias of queries, keys and values, of
    attention's output, and of the MLP's two.

    Once for a step, however many rows and lanes it has. Gradients are of `wide`; `followed` takes them on from there.
    """

    wide: tuple[Tensor, ...]
    """In fp32."""
    low: tuple[Tensor, ...]
    """The same in bf16."""
    made: tuple[Tensor, ...]
    """What `wide` is cut off from, so that its gradients can be added up before they are followed to the parameters."""

    def followed(self, gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """The gradients of `parameters`, the block's, from those of `wide`."""
        return torch.autograd.grad(self.made, parameters, gradients)


def linears(module: Block) -> BlockWeights:
    """The layers of `module`, whose `wide` is to be differentiated by."""
    made = _made(module)
    wide = tuple(each.detach().requires_grad_() for each in made)
    return BlockWeights(wide, _low(wide), made)


def block(module: Block, x: Tensor, given: BlockWeights | None = None) -> Tensor:
    """What `module` gives of `x` (B, T, C), without dropout, in bf16; its layers, where they are not `given`, are made
    here, and gradients go to its parameters."""
    with torch.autocast("cpu", enabled=False):
        wide = given.wide if given else _made(module)
        low = given.low if given else _low(wide)
        facts = (module.attn.n_head, module.mlp.approximate, module.ln_1.eps)
        out: Tensor = _Block.apply(x.to(torch.bfloat16), *facts, low, *wide)  # type: ignore[no-untyped-call]
    return out


def _made(module: Block) -> tuple[Tensor, ...]:
    """Weight and bias of each layer in fp32: those behind a norm have its own taken in, and give queries that are
    divided by sqrt(d).

    W (g n + b) + c = (W g) n + (W b + c): what belongs to the norm is then a matter of matrices instead of
    activations, and its gradient, a small difference of large sums, is taken in fp32.
    """
    attn, mlp = module.attn, module.mlp
    scale = _scale(module.ln_1.weight.shape[0], attn.n_head)
    weight, bias = _folded(module.ln_1, attn.c_attn)
    qkv = weight * scale[:, None], bias * scale
    return (
        *qkv,
        attn.c_proj.weight,
        attn.c_proj.bias,
        *_folded(module.ln_2, mlp.c_fc),
        mlp.c_proj.weight,
        mlp.c_proj.bias,
    )


def _folded(norm: nn.LayerNorm, behind: nn.Linear) -> tuple[Tensor, Tensor]:
    return behind.weight * norm.weight, behind.bias + behind.weight @ norm.bias


@cache
def _scale(width: int, n_head: int) -> Tensor:
    """What queries, keys and values (3 width) are multiplied by."""
    with torch.inference_mode(False):  # what is kept serves training too, whoever asked first
        scale = torch.ones(3 * width)
        scale[:width] = 1 / math.sqrt(width // n_head)
    return scale


def _low(wide: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(each.detach().to(torch.bfloat16) for each in wide)


class _Block(torch.autograd.Function):
    """`x + attention(norm(x))`, then the same with the MLP, the norms without weight and bias (see `_made`)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, n_head: int, approximate: str, eps: float, low: Sequence[Tensor], *_wide: Tensor
    ) -> Tensor:
        """`x` (B, T, C) and the block's output, both in bf16; `low` and what gradients are of as in `BlockWeights`."""
        width = (x.shape[-1],)
        w_qkv, b_qkv, w_out, b_out, w_up, b_up, w_down, b_down = low
        normed_1, *stats_1 = torch.native_layer_norm(x, width, None, None, eps)
        y, kept = attention.forward(F.linear(normed_1, w_qkv, b_qkv), n_head)
        middle = F.linear(y, w_out, b_out).add_(x)
        normed_2, *stats_2 = torch.native_layer_norm(middle, width, None, None, eps)
        up = F.linear(normed_2, w_up, b_up)
        active = F.gelu(up, approximate=approximate)
        ctx.approximate = approximate
        ctx.attention = (x, stats_1, normed_1, w_qkv, kept, y, w_out)
        ctx.mlp = (middle, stats_2, normed_2, w_up, up, active, w_down)
        return F.linear(active, w_down, b_down).add_(middle)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, in bf16, and of `wide`, in fp32."""
        middle, stats_2, normed_2, w_up, up, active, w_down = ctx.mlp
        x, stats_1, normed_1, w_qkv, kept, y, w_out = ctx.attention
        ctx.mlp = ctx.attention = None  # what was kept goes as soon as it has served
        grad = grad.contiguous()
        d_down = _of_linear(grad, active)
        d_wide = torch.ops.aten.gelu_backward(grad @ w_down, up, approximate=ctx.approximate)
        d_up = _of_linear(d_wide, normed_2)
        d_middle = _of_norm(d_wide @ w_up, middle, stats_2).add_(grad)
        d_out = _of_linear(d_middle, y)
        d_qkv_out = attention.backward(d_middle @ w_out, kept)
        d_qkv = _of_linear(d_qkv_out, normed_1)
        d_x = _of_norm(d_qkv_out @ w_qkv, x, stats_1).add_(d_middle)
        return d_x, None, None, None, None, *d_qkv, *d_out, *d_up, *d_down


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

"""Parts of torch that its documentation does not cover; `tests/model/test_compat.py` fails when one of them changes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def add_all_(to: list[Tensor], tensors: Sequence[Tensor]) -> None:
    """Add each of `tensors` to the tensor at the same index of `to`, in place, in one call."""
    torch._foreach_add_(to, tensors)  # type: ignore[arg-type]


def softmax_backward(grad: Tensor, probabilities: Tensor) -> Tensor:
    """The gradient of the logits of a softmax over the last dimension, from that of its `probabilities`."""
    return torch._softmax_backward_data(grad, probabilities, -1, probabilities.dtype)


def gelu_backward(grad: Tensor, x: Tensor, approximate: str) -> Tensor:
    """The gradient of `x` in `gelu(x)`, from that of the output."""
    d_x: Tensor = torch.ops.aten.gelu_backward(grad, x, approximate=approximate)
    return d_x


def layer_norm(x: Tensor, eps: float) -> tuple[Tensor, Sequence[Tensor]]:
    """LayerNorm over the last dimension without weight and bias; also the statistics that its backward pass needs."""
    y, *statistics = torch.native_layer_norm(x, (x.shape[-1],), None, None, eps)
    return y, statistics


def layer_norm_backward(grad: Tensor, x: Tensor, statistics: Sequence[Tensor]) -> Tensor:
    """The gradient of `x` in `layer_norm(x)`, from that of the output."""
    d_x: Tensor = torch.ops.aten.native_layer_norm_backward(
        grad, x, (x.shape[-1],), *statistics, None, None, (True, False, False)
    )[0]
    return d_x


CPU_BF16_CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def cpu_multiplies_bf16() -> bool:
    """True if this CPU has instructions for matrix products in bf16 (AVX512-BF16 or AMX)."""
    return any(getattr(torch.cpu, check, lambda: False)() for check in CPU_BF16_CHECKS)

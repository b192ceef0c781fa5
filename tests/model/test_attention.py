"""Causal attention on a CPU: output and gradient equal torch's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from storyteller.model import attention


def truth(qkv: Tensor, dy: Tensor, n_head: int) -> tuple[Tensor, Tensor]:
    """Torch's own output and gradient, in the type of `qkv`."""
    qkv = qkv.detach().requires_grad_()
    B, T, C = dy.shape
    q, k, v = qkv.view(B, T, 3, n_head, C // n_head).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
    torch.autograd.backward(y, dy)
    assert qkv.grad is not None
    return y.detach(), qkv.grad


def computed(qkv: Tensor, dy: Tensor, n_head: int) -> tuple[Tensor, Tensor]:
    """The same by `attention`, which takes queries that are divided by sqrt(d) already."""
    width = dy.shape[-1]
    divide = torch.ones(3 * width, dtype=qkv.dtype)
    divide[:width] /= math.sqrt(width // n_head)
    y, saved = attention.forward(qkv * divide, n_head)
    return y, attention.backward(dy, saved) * divide


@pytest.mark.parametrize("saved_context", [0, 512])
@pytest.mark.parametrize("n_tokens", [1, 5, 127, 128, 129, 300])
def test_output_and_gradient_equal_torchs(n_tokens: int, saved_context: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_MAX_SAVED_CONTEXT", saved_context)
    draw = torch.Generator().manual_seed(n_tokens)
    qkv = torch.randn(2, n_tokens, 3 * 64, generator=draw, dtype=torch.float64)
    dy = torch.randn(2, n_tokens, 64, generator=draw, dtype=torch.float64)
    for ours, theirs in zip(computed(qkv, dy, 4), truth(qkv, dy, 4), strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-12)


def test_in_bf16_its_error_is_about_that_of_torchs_own() -> None:
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(2, 200, 3 * 64, generator=draw).bfloat16()
    dy = torch.randn(2, 200, 64, generator=draw).bfloat16()
    true = truth(qkv.double(), dy.double(), 4)

    def off(found: tuple[Tensor, Tensor]) -> list[float]:
        return [
            float((ours.double() - wanted).norm() / wanted.norm()) for ours, wanted in zip(found, true, strict=True)
        ]

    for ours, theirs in zip(off(computed(qkv, dy, 4)), off(truth(qkv, dy, 4)), strict=True):
        assert ours < max(2 * theirs, 0.01)


def test_a_token_does_not_see_later_ones() -> None:
    qkv = torch.randn(1, 200, 3 * 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    dy = torch.zeros(1, 200, 32).bfloat16()
    dy[:, 150] = 1
    _, grad = computed(qkv, dy, 2)
    assert bool((grad[:, 151:] == 0).all())
    assert bool((grad[:, :151].abs().sum(-1) > 0).all())

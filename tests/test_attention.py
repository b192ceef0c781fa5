"""Causal attention: what is taken by hand equals what torch takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from storyteller.lm import attention


def gradient(qkv: Tensor, dy: Tensor, n_head: int) -> tuple[Tensor, Tensor]:
    qkv = qkv.detach().requires_grad_()
    y = attention.causal(qkv, n_head)
    torch.autograd.backward(y, dy)
    assert qkv.grad is not None
    return y.detach(), qkv.grad


@pytest.mark.parametrize("n_tokens", [1, 5, 127, 128, 129, 300])
def test_in_bf16_output_and_gradient_are_as_near_the_truth_as_torchs_own(n_tokens: int) -> None:
    draw = torch.Generator().manual_seed(n_tokens)
    qkv = torch.randn(2, n_tokens, 3 * 64, generator=draw).bfloat16()
    dy = torch.randn(2, n_tokens, 64, generator=draw).bfloat16()
    y, ours = gradient(qkv, dy, 4)
    true_y, true = gradient(qkv.double(), dy.double(), 4)
    plain = qkv.detach().requires_grad_()
    torch.autograd.backward(attention._flash(plain, 4), dy)
    assert plain.grad is not None

    def off(grad: Tensor) -> float:
        return float((grad.double() - true).norm() / true.norm())

    assert off(ours) < max(2 * off(plain.grad), 0.01)
    assert float((y.double() - true_y).norm() / true_y.norm()) < 0.01


def test_a_token_hears_nothing_of_those_after_it() -> None:
    qkv = torch.randn(1, 200, 3 * 32, generator=torch.Generator().manual_seed(0)).bfloat16()
    dy = torch.zeros(1, 200, 32).bfloat16()
    dy[:, 150] = 1
    _, grad = gradient(qkv, dy, 2)
    assert bool((grad[:, 151:] == 0).all())
    assert bool((grad[:, :151].abs().sum(-1) > 0).all())


def test_no_gradient_no_dropout_and_other_types_take_torchs_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention._Causal, "apply", lambda *_: pytest.fail("by hand"))
    low = torch.randn(1, 4, 12).bfloat16()
    assert attention.causal(low, 2).shape == (1, 4, 4)
    assert attention.causal(low.clone().requires_grad_(), 2, dropout=0.1).shape == (1, 4, 4)
    assert attention.causal(low.float().requires_grad_(), 2).shape == (1, 4, 4)

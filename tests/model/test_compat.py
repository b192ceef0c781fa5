"""The undocumented parts of torch that `compat` uses are still there and still compute what they did."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from storyteller.model import compat


def leaf() -> Tensor:
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


GRAD = torch.randn(3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gradient(y: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(y, x, GRAD)[0]


def test_lists_of_tensors_are_added_in_place() -> None:
    sums = [torch.ones(2), torch.ones(3)]
    first = sums[0]
    compat.add_all_(sums, [torch.full((2,), 2.0), torch.zeros(3)])
    assert first.tolist() == [3.0, 3.0] and sums[1].tolist() == [1.0, 1.0, 1.0]


def test_the_softmax_gradient_is_that_of_autograd() -> None:
    x = leaf()
    y = x.softmax(-1)
    torch.testing.assert_close(compat.softmax_backward(GRAD, y.detach()), gradient(y, x))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_the_gelu_gradient_is_that_of_autograd(approximate: str) -> None:
    x = leaf()
    expected = gradient(F.gelu(x, approximate=approximate), x)
    torch.testing.assert_close(compat.gelu_backward(GRAD, x.detach(), approximate), expected)


def test_the_layer_norm_and_its_gradient_are_those_of_autograd() -> None:
    x = leaf()
    expected = F.layer_norm(x, (5,), eps=1e-5)
    y, statistics = compat.layer_norm(x.detach(), 1e-5)
    torch.testing.assert_close(y, expected.detach())
    torch.testing.assert_close(compat.layer_norm_backward(GRAD, x.detach(), statistics), gradient(expected, x))


def test_torch_still_says_whether_the_cpu_multiplies_bf16() -> None:
    assert all(hasattr(torch.cpu, check) for check in compat.CPU_BF16_CHECKS)
    assert isinstance(compat.cpu_multiplies_bf16(), bool)

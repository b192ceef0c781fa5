"""Optimizers that do not import torch's compiler.

`torch.optim` decorates methods of its optimizers with `torch._disable_dynamo`, which imports `torch._dynamo` at the
first call: two seconds of a run's start, although no optimizer step here is compiled. `functools.wraps` keeps the
undecorated method as `__wrapped__`. `tests/training/test_eager_optimizers.py` fails when torch changes this.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def _undecorated(method: Any) -> Any:
    return getattr(method, "__wrapped__", method)


class Eager(Optimizer):
    """Mixin to be named before an optimizer of torch."""

    add_param_group = _undecorated(Optimizer.add_param_group)
    zero_grad = _undecorated(Optimizer.zero_grad)


class AdamW(Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`, with the same steps."""

    step = torch.no_grad()(_undecorated(torch.optim.AdamW.step))

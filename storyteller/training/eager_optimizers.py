"""Optimisers that do not load torch's compiler.

`torch.optim` marks some methods of its optimisers for `torch.compile`, and what marks them imports `torch._dynamo` when
one is first called: two seconds of a run's start, for a compiler that no optimiser step here is handed to. Under each
mark lies the method itself, as `functools.wraps` keeps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


def _unmarked(method: Any) -> Any:
    """The method under its mark; itself in a torch that does not mark it."""
    return getattr(method, "__wrapped__", method)


class Eager(Optimizer):
    """A base to name before an optimiser of torch's."""

    add_param_group = _unmarked(Optimizer.add_param_group)
    zero_grad = _unmarked(Optimizer.zero_grad)


class AdamW(Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`, step for step."""

    step = torch.no_grad()(_unmarked(torch.optim.AdamW.step))

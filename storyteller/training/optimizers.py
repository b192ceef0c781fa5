"""Parameter groups, optimisers and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from storyteller.config.configs import TrainConfig
from storyteller.errors import CheckpointError
from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads
from storyteller.model.device import has_bf16
from storyteller.text import safe_line
from storyteller.training.eager_optimizers import AdamW
from storyteller.training.muon import Muon


class Optimizers:
    """One optimiser or two, driven as one, their state kept under the parameters' names.

    AdamW (Loshchilov & Hutter 2019) decays matrices only: embeddings and the weights of linear layers, not biases or
    norms. With `muon` (Jordan et al. 2024) the hidden matrices go to Muon and the rest stays with AdamW.
    """

    def __init__(self, model: nn.Module, train: TrainConfig, cpu_threads: CpuThreads = SINGLE_THREAD) -> None:
        named = list(model.named_parameters())
        hidden = [(n, p) for n, p in named if p.ndim == 2 and n.startswith("h.")] if train.optimizer == "muon" else []
        taken = {name for name, _ in hidden}
        rest = [(n, p) for n, p in named if n not in taken]
        decayed = [p for _, p in rest if p.ndim >= 2]
        plain = [p for _, p in rest if p.ndim < 2]
        fused = all(p.device.type in ("cpu", "cuda") for _, p in rest)
        self._names: dict[Tensor, str] = {p: n for n, p in named}
        self._peaks: list[tuple[dict[str, Any], float]] = []
        adamw = AdamW(
            [{"params": decayed, "weight_decay": train.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=train.lr,
            betas=(train.beta1, train.beta2),
            fused=fused,
        )
        self.all: list[torch.optim.Optimizer] = [adamw]
        if hidden:
            self.all.append(
                Muon(
                    [p for _, p in hidden],
                    lr=train.muon_lr,
                    weight_decay=train.weight_decay,
                    momentum=0.95,
                    dtype=torch.bfloat16 if has_bf16(hidden[0][1].device.type) else torch.float32,
                    cpu_threads=cpu_threads,
                )
            )
        for optimizer, peak in zip(self.all, (train.lr, train.muon_lr), strict=False):
            self._peaks += [(group, peak) for group in optimizer.param_groups]

    def set_scale(self, scale: float) -> None:
        """Every learning rate to `scale` times its peak."""
        for group, peak in self._peaks:
            group["lr"] = peak * scale

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Every tensor of state, as `parameter/key`."""
        return {
            f"{self._names[parameter]}/{key}": torch.as_tensor(value)
            for optimizer in self.all
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def check_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError unless tensors of these names and shapes are a whole state: all of it, or nothing."""
        if not shapes:
            return
        another = "resume from another checkpoint (--from STEP)"
        known = {name: tuple(parameter.shape) for parameter, name in self._names.items()}
        for full, shape in shapes.items():
            name, _, key = full.rpartition("/")
            if name not in known:
                raise CheckpointError(
                    f"the optimiser's state has {safe_line(full, 80)}, which the model lacks", another
                )
            if shape and shape != known[name]:
                raise CheckpointError(
                    f"the optimiser's {safe_line(key, 40)} of {name} has another shape than the weights", another
                )
        for optimizer in self.all:
            keys = (
                ("momentum_buffer",) if isinstance(optimizer, torch.optim.Muon) else ("step", "exp_avg", "exp_avg_sq")
            )
            wanted = [
                (self._names[p], key) for group in optimizer.param_groups for p in group["params"] for key in keys
            ]
            for name, key in wanted:
                if f"{name}/{key}" not in shapes:
                    raise CheckpointError(f"the optimiser's state lacks {key} of {name}", another)

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """What `state` gave. Raises CheckpointError where a tensor has another shape or no parameter of its name."""
        by_parameter: dict[str, dict[str, Tensor]] = {}
        for full, tensor in saved.items():
            name, _, key = full.rpartition("/")
            by_parameter.setdefault(name, {})[key] = tensor
        for optimizer in self.all:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    values = by_parameter.pop(self._names[parameter], {})
                    for key, value in values.items():
                        if not bool(torch.isfinite(value).all()):
                            raise CheckpointError(
                                f"the optimiser's {key} of {self._names[parameter]} has values that are no numbers",
                                "resume from another checkpoint (--from STEP)",
                            )
                        if value.ndim and value.shape != parameter.shape:
                            raise CheckpointError(
                                f"the optimiser's {key} of {self._names[parameter]} has another shape than the weights",
                                "resume from another checkpoint (--from STEP)",
                            )
                        # Step counters stay where the optimiser made them; the rest lives beside its parameter.
                        values[key] = (
                            value.clone()
                            if value.ndim == 0 and not _fused(optimizer)
                            else value.to(parameter.device, copy=True)
                        )
                    optimizer.state[parameter] = values
        if by_parameter:
            raise CheckpointError(
                f"the optimiser's state has {next(iter(by_parameter))}, which the model lacks",
                "resume from another checkpoint (--from STEP)",
            )


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def lr_scale(progress: float, train: TrainConfig) -> float:
    """Share of the peak learning rate at `progress` (0 to 1) through the budget: a linear rise, then the decay."""
    progress = min(max(progress, 0.0), 1.0)
    warmup, final = train.warmup_pct / 100, train.final_lr_pct / 100
    if progress < warmup:
        return progress / warmup
    if train.decay == "constant" or warmup >= 1:
        return 1.0
    fallen = (progress - warmup) / (1 - warmup)
    shape = 1 - fallen if train.decay == "linear" else 0.5 * (1 + math.cos(math.pi * fallen))
    return final + (1 - final) * shape


def clip(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Scale the whole gradient down to `max_norm` where it is longer; returns its length before, a scalar tensor."""
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

"""Parameter groups, optimizers and the learning rate schedule."""

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
    """One or two optimizers driven as one, whose state is saved under the parameters' names.

    AdamW (Loshchilov & Hutter 2019) decays matrices only: embeddings and the weights of linear layers, not biases or
    norms. With `muon` (Jordan et al. 2024) the matrices of the blocks go to Muon and the rest to AdamW.
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
        """Set every learning rate to `scale` times its peak."""
        for group, peak in self._peaks:
            group["lr"] = peak * scale

    def zero_grad(self) -> None:
        """Delete the gradients."""
        for optimizer in self.all:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All tensors of the state, as `parameter/key`."""
        return {
            f"{self._names[parameter]}/{key}": torch.as_tensor(value)
            for optimizer in self.all
            for parameter, values in optimizer.state.items()
            for key, value in values.items()
        }

    def check_state(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError unless tensors of these names and shapes are a complete state, or none at all."""
        if not shapes:
            return
        known = {name: tuple(parameter.shape) for parameter, name in self._names.items()}
        for full, shape in shapes.items():
            name, _, key = full.rpartition("/")
            if name not in known:
                raise _invalid_state(f"the optimizer's state has {safe_line(full, 80)}, which the model lacks")
            if shape and shape != known[name]:
                raise _invalid_state(
                    f"the optimizer's {safe_line(key, 40)} of {name} has another shape than the weights"
                )
        for optimizer in self.all:
            is_muon = isinstance(optimizer, torch.optim.Muon)
            keys = ("momentum_buffer",) if is_muon else ("step", "exp_avg", "exp_avg_sq")
            for name in (self._names[parameter] for group in optimizer.param_groups for parameter in group["params"]):
                if lacking := next((key for key in keys if f"{name}/{key}" not in shapes), None):
                    raise _invalid_state(f"the optimizer's state lacks {lacking} of {name}")

    def load_state(self, saved: dict[str, Tensor]) -> None:
        """Restore what `state` returned. Raises CheckpointError if a tensor does not fit its parameter or has NaNs."""
        by_parameter: dict[str, dict[str, Tensor]] = {}
        for full, tensor in saved.items():
            name, _, key = full.rpartition("/")
            by_parameter.setdefault(name, {})[key] = tensor
        for optimizer in self.all:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                name = self._names[parameter]
                values = by_parameter.pop(name, {})
                for key, value in values.items():
                    if not bool(torch.isfinite(value).all()):
                        raise _invalid_state(f"the optimizer's {key} of {name} has values that are not finite")
                    if value.ndim and value.shape != parameter.shape:
                        raise _invalid_state(f"the optimizer's {key} of {name} has another shape than the weights")
                    # As in torch: step counters live on the CPU unless the optimizer is fused, the rest beside the
                    # parameter.
                    stays = value.ndim == 0 and not optimizer.defaults.get("fused")
                    values[key] = value.clone() if stays else value.to(parameter.device, copy=True)
                optimizer.state[parameter] = values
        if by_parameter:
            raise _invalid_state(f"the optimizer's state has {next(iter(by_parameter))}, which the model lacks")


def _invalid_state(problem: str) -> CheckpointError:
    return CheckpointError(problem, "resume from another checkpoint (--from STEP)")


def lr_scale(progress: float, train: TrainConfig) -> float:
    """Share of the peak learning rate at `progress` (0 to 1) through the budget: linear warm-up, then decay."""
    progress = min(max(progress, 0.0), 1.0)
    warmup, final = train.warmup_pct / 100, train.final_lr_pct / 100
    if progress < warmup:
        return progress / warmup
    if train.decay == "constant" or warmup >= 1:
        return 1.0
    decayed = (progress - warmup) / (1 - warmup)
    shape = 1 - decayed if train.decay == "linear" else 0.5 * (1 + math.cos(math.pi * decayed))
    return final + (1 - final) * shape


def clip(parameters: Sequence[Tensor], max_norm: float) -> Tensor:
    """Clip the gradient's norm over all parameters to `max_norm`; returns the norm before, a scalar tensor."""
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm)

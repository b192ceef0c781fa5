"""A test of a few seconds that training works on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from storyteller.config.configs import ModelConfig, TrainConfig
from storyteller.model import cpu_block, device
from storyteller.model.gpt2 import Shape, seeded
from storyteller.training.optimizers import Optimizers, clip

_VOCABULARY, _ROWS, _LENGTH = 64, 8, 32


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it passed, and what was measured."""

    name: str
    ok: bool
    seen: str


def run(train: TrainConfig | None = None, steps: int = 150) -> list[Check]:
    """Train a tiny model; check its initial loss, that it can overfit a batch, and that it predicts the next token."""
    train = train or TrainConfig(lr=3e-3, weight_decay=0.0, seed=0)
    machine = device.choose(train)
    shape = Shape.of(ModelConfig(n_layer=2, n_embd=64, n_head=4, context=_LENGTH), _VOCABULARY)
    rng = torch.get_rng_state()
    model = seeded(shape, seed=train.seed).to(machine.device)
    rows = _chains().to(machine.device)
    torch.set_rng_state(rng)
    inputs, targets = rows[:, :-1], rows[:, 1:]
    optimizers = Optimizers(model, train)
    losses = []
    for step in range(steps):
        with machine.autocast():
            loss = model.loss_sum(inputs, targets, cpu_block.fastest_block_fn(machine.device)) / targets.numel()
        torch.autograd.backward(loss)
        losses.append(float(loss.detach()))
        clip(list(model.parameters()), train.clip_norm)
        optimizers.set_scale(min(1.0, (step + 1) / 10))
        for optimizer in optimizers.all:
            optimizer.step()
        optimizers.zero_grad()
    begin, end, wanted = losses[0], losses[-1], math.log(_VOCABULARY)
    with torch.no_grad():
        guesses = model(inputs).argmax(-1)
    next_one = float((guesses == targets).float().mean())
    one_later = float((guesses[:, :-1] == targets[:, 1:]).float().mean())
    return [
        Check("loss at step 0 is near ln(vocabulary)", abs(begin - wanted) < 0.3, f"{begin:.3f}, ln {wanted:.3f}"),
        Check("one batch is learned by heart", end < 0.1, f"loss {begin:.3f} to {end:.3f} in {steps} steps"),
        Check(
            "the next token is learned, not the one after it",
            next_one > 0.95 and one_later < 0.2,
            f"{100 * next_one:.0f} % right as the next token, {100 * one_later:.0f} % as the one after",
        ),
    ]


def _chains() -> torch.Tensor:
    """Rows (8, 33) in which each token determines the next, and no token is equal to the one after the next."""
    starts = torch.arange(_ROWS)[:, None] * 7
    return (starts + 5 * torch.arange(_LENGTH + 1)[None, :]) % _VOCABULARY

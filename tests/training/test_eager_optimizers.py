"""Optimizers that do not load torch's compiler, and step as torch's own do."""

from __future__ import annotations

import subprocess
import sys

import torch

from storyteller.training.eager_optimizers import AdamW

_TWO_STEPS = """
import sys
import torch
from storyteller.config.configs import TrainConfig
from storyteller.training import optimizers as optim
model = torch.nn.ModuleDict({"h": torch.nn.ModuleList([torch.nn.Linear(4, 4)]), "out": torch.nn.Linear(4, 4)})
optimizers = optim.Optimizers(model, TrainConfig(optimizer="muon"))
for _ in range(2):
    model["out"](model["h"][0](torch.ones(1, 4))).sum().backward()
    optim.clip(list(model.parameters()), 1.0)
    for optimizer in optimizers.all:
        optimizer.step()
    optimizers.zero_grad()
print(len(optimizers.all), "torch._dynamo" in sys.modules)
"""


def test_the_first_steps_of_both_optimizers_load_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", _TWO_STEPS], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"


def test_its_steps_are_torchs_bit_for_bit() -> None:
    weights = []
    for kind in (AdamW, torch.optim.AdamW):
        parameter = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4))
        optimizer = kind([parameter], lr=0.1, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        for step in range(1, 4):
            optimizer.zero_grad()
            torch.autograd.backward((parameter**2 * step).sum())
            optimizer.step()
        weights.append(parameter.detach().clone())
    assert torch.equal(*weights)

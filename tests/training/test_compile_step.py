"""`torch.compile`: where a run takes it, that it learns what the plain step does, and that nothing hangs on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import storyteller
from storyteller.config.presets import resolve
from storyteller.model.device import ComputeDevice
from storyteller.training import compile_step

PACKAGE_PARENT = str(Path(storyteller.__file__).parents[1])

TRAINED = """
import sys, torch
from storyteller.model import cpu_block
from storyteller.model.cross_entropy import cross_entropy_sum
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import Shape, seeded
from storyteller.training import optimizers as optim
from storyteller.training.compile_step import compile_step
from storyteller.config.presets import resolve
# AdamW alone: Muon's products in bf16 turn a last digit into a third one within some steps.
options = {"train.compile": "on", "train.optimizer": "adamw", "train.lr": 3e-3}
options |= {"model.n_embd": 64, "model.n_head": 2, "model.n_layer": 2, "model.context": 64}
config, machine = resolve("quick", options), ComputeDevice(torch.device("cpu"), sys.argv[1], 2)
torch.set_num_threads(2)
def losses(is_compiled):
    compiled = None
    model = seeded(Shape.of(config.model, 300), 0)
    before = torch.get_rng_state()
    if is_compiled:
        compiled, line = compile_step(model, config, machine, 4)
        print(line)
    assert torch.equal(before, torch.get_rng_state())
    model.train()
    optimizers, found = optim.Optimizers(model, config.train), []
    for step in range(20):
        start = torch.randint(300, (4, 1), generator=torch.Generator().manual_seed(step))
        ids = (start + torch.arange(65)) % 300
        inputs, targets = ids[:, :-1], ids[:, 1:].clone()
        targets[0, -5:] = -100
        with machine.autocast():
            block_fn = compiled.block_fn if compiled else cpu_block.fastest_block_fn(inputs.device)
            loss_fn = compiled.loss_fn if compiled else cross_entropy_sum
            loss = model.loss_sum(inputs, targets, block_fn, loss_fn) / 251
        torch.autograd.backward(loss)
        optim.clip(list(model.parameters()), 1.0)
        for optimizer in optimizers.all:
            optimizer.step()
        optimizers.zero_grad()
        found.append(float(loss.detach()))
    return found
for is_compiled in (True, False):
    print(*losses(is_compiled))
"""


def trained(precision: str, **environment: str) -> list[str]:
    """What the program above prints: a line about the compiler, then the losses with it and without."""
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, precision],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": PACKAGE_PARENT, **environment},
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.02)])
def test_twenty_steps_that_are_compiled_lose_what_the_plain_ones_do(
    precision: str, tolerance: float, tmp_path: Path
) -> None:
    said, *lines = trained(precision, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said == "the step is compiled"
    quick, plain = ([float(loss) for loss in line.split()] for line in lines)
    assert plain[-1] < plain[0] - 1  # it learns, so that equal losses say something
    assert max(abs(a - b) / b for a, b in zip(quick, plain, strict=True)) < tolerance


@pytest.mark.slow
def test_without_a_compiler_one_line_says_so_and_the_steps_are_the_plain_ones(tmp_path: Path) -> None:
    said, quick, plain = trained("fp32", CXX=str(tmp_path / "no-compiler"), TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert said.startswith("torch.compile does not work here (")
    assert said.endswith("): training goes on without it")
    assert quick == plain


@pytest.mark.parametrize(
    ("kind", "options", "wanted"),
    [
        ("cuda", {}, True),
        ("cuda", {"train.minutes": 2.0}, False),
        ("cuda", {"train.steps": 10}, True),
        ("cuda", {"train.compile": "off"}, False),
        ("cuda", {"train.minutes": 1.0, "train.compile": "on"}, True),
        ("cpu", {}, False),
        ("cpu", {"train.compile": "on"}, True),
        ("mps", {}, False),
    ],
)
def test_a_run_compiles_where_that_pays(kind: str, options: dict[str, Any], wanted: bool) -> None:
    assert compile_step.is_wanted(resolve("quick", options), ComputeDevice(torch.device(kind), "fp32", 2)) is wanted


def test_the_compilers_way_to_the_loss_of_a_chunk_is_the_models_own() -> None:
    from storyteller.model import cross_entropy

    logits = 3 * torch.randn(7, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = torch.tensor([3, -100, 49, 0, 7, -100, 7])
    nats, gradient = compile_step.chunk_loss(logits.clone(), wanted)
    expected, of_model = cross_entropy.chunk_loss(logits.clone(), wanted)
    assert float(nats) == pytest.approx(float(expected), abs=1e-12)
    assert torch.allclose(gradient, of_model, rtol=0, atol=1e-12)
    assert float(nats) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum")))
    assert not gradient[1].any() and gradient[0].any()

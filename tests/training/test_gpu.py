"""What only a GPU shows: equal losses, no waiting inside a step, a step dealt out by the memory that is free."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from storyteller.config.presets import resolve
from storyteller.data.batches import Batch, StepBatches
from storyteller.model import device, memory
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT, Shape, seeded
from storyteller.training import compile_step, gradients
from storyteller.training.optimizers import Optimizers, clip
from tests.support.training import losses, trained_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONFIG = resolve("quick", {"train.device": "cuda", "model.n_embd": 128, "model.n_head": 2, "model.context": 128})
SHAPE = Shape.of(CONFIG.model, 1000)


def cuda() -> ComputeDevice:
    return ComputeDevice(torch.device("cuda"), device.best_precision("cuda"), 1)


def step_of(seed: int, rows: int = 8) -> StepBatches:
    start = np.random.default_rng(seed).integers(0, 1000, (rows, 1))
    ids = (start + np.arange(129)) % 1000
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy())
    return StepBatches((batch,), batch.n_targets, 0.0, {})


def take(
    model: GPT,
    optimizers: Optimizers,
    step: StepBatches,
    machine: ComputeDevice,
    compiled: gradients.StepFunctions | None = None,
) -> torch.Tensor:
    scaler = torch.amp.GradScaler(machine.device.type, enabled=False)
    loss = gradients.accumulate(model, step, machine, scaler, compiled=compiled)
    clip(list(model.parameters()), 1.0)
    for optimizer in optimizers.all:
        optimizer.step()
    optimizers.zero_grad()
    return loss


@pytest.mark.parametrize("is_compiled", [False, True])
def test_twenty_steps_on_the_gpu_lose_what_plain_fp32_does(is_compiled: bool) -> None:
    told: list[list[float]] = []
    for machine in (ComputeDevice(torch.device("cpu"), "fp32", 2), cuda()):
        model, compiled = seeded(SHAPE, 0).to(machine.device), None
        if machine.device.type == "cuda" and is_compiled:
            compiled, line = compile_step.compile_step(model, CONFIG, machine, 8)
            assert line == "the step is compiled"
        model.train()
        optimizers = Optimizers(model, CONFIG.train)
        told.append([float(take(model, optimizers, step_of(n), machine, compiled)) for n in range(20)])
    plain, quick = told
    assert plain[-1] < plain[0] - 1
    assert max(abs(a - b) / a for a, b in zip(plain, quick, strict=True)) < 0.02


def test_a_step_waits_for_the_gpu_nowhere() -> None:
    machine = cuda()
    model = seeded(SHAPE, 0).to(machine.device).train()
    optimizers = Optimizers(model, CONFIG.train)
    take(model, optimizers, step_of(0), machine)
    torch.cuda.set_sync_debug_mode("error")
    try:
        take(model, optimizers, step_of(1), machine)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_on_the_gpu_ends_and_goes_on(tmp_path: Path) -> None:
    options = {"train_device": "cuda", "train_precision": "auto", "train_compile": "on", "train_steps": 8}
    folder = trained_run(tmp_path, "quick", **options)
    assert sorted(losses(folder)) == list(range(1, 9))
    assert "the step is compiled" in folder.log.read_text(encoding="utf-8")
    assert folder.read_run()["host"]["device"] == "cuda"


def test_a_whole_step_goes_through_the_gpu_at_once_where_it_fits() -> None:
    config = resolve("classic", {"train.device": "cuda"})
    assert memory.rows_at_once(Shape.of(config.model, 50257), config, cuda()) == 32

"""The fast paths of training compute what the plain one does."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from storyteller.config.configs import TrainConfig
from storyteller.data.batches import Batch, StepBatches
from storyteller.model import cpu_block
from storyteller.model.cpu_threads import CpuThreads
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT, Block, Shape, seeded
from storyteller.training.gradients import accumulate
from storyteller.training.optimizers import Optimizers, clip

SHAPE = Shape(n_layer=2, n_embd=64, n_head=2, context=160, vocab_size=300, activation="gelu")
TRAIN = TrainConfig(steps=20, optimizer="muon", lr=8e-3, muon_lr=0.03)


def batch(seed: int = 0, rows: int = 4) -> tuple[Tensor, Tensor]:
    """Rows with something to learn: each counts on from a start of its own."""
    start = torch.randint(300, (rows, 1), generator=torch.Generator().manual_seed(seed))
    ids = (start + torch.arange(SHAPE.context + 1)) % 300
    return ids[:, :-1], ids[:, 1:]


def gradients(model: GPT, autocast: bool, on_cpu_path: bool = False) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    ids, targets = batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        block_fn = cpu_block.fastest_block_fn(ids.device) if on_cpu_path else Block.__call__
        loss = model.loss_sum(ids, targets, block_fn) / targets.numel()
    torch.autograd.backward(loss)
    return float(loss.detach()), {n: p.grad.double() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_loss_and_gradient_of_the_cpu_block_are_as_near_the_truth_as_autocasts(activation: str) -> None:
    model = seeded(dataclasses.replace(SHAPE, activation=activation), 0)
    for name, parameter in model.named_parameters():  # nothing at its beginning of 0 or 1
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    truth, true = gradients(model.double(), autocast=False)
    model.float()
    quick, ours = gradients(model, autocast=True, on_cpu_path=True)
    plain, theirs = gradients(model, autocast=True)
    assert ours.keys() == true.keys() == dict(model.named_parameters()).keys()
    assert abs(quick - truth) < max(2 * abs(plain - truth), 2e-3)
    for name, wanted in true.items():
        off, off_theirs = (float((grads[name] - wanted).norm() / wanted.norm()) for grads in (ours, theirs))
        assert off < max(2 * off_theirs, 0.03), name


def losses(precision: str, n: int = 20) -> list[float]:
    model = seeded(SHAPE, 0)
    optimizers = Optimizers(model, TRAIN)
    found = []
    for step in range(n):
        ids, targets = batch(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss_sum(ids, targets, cpu_block.fastest_block_fn(ids.device)) / targets.numel()
        torch.autograd.backward(loss)
        clip(list(model.parameters()), 1.0)
        for optimizer in optimizers.all:
            optimizer.step()
        optimizers.zero_grad()
        found.append(float(loss.detach()))
    return found


def test_twenty_steps_of_the_quick_path_lose_what_plain_fp32_does() -> None:
    plain, quick = losses("fp32"), losses("bf16")
    assert plain[-1] < plain[0] - 1  # it learns, so that equal losses say something
    assert max(abs(a - b) / a for a, b in zip(plain, quick, strict=True)) < 0.02


def test_the_cpu_block_is_used_in_bf16_without_dropout_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[object] = []
    real = cpu_block.forward

    def counted(block: cpu_block.BlockParts, x: Tensor) -> Tensor:
        taken.append(block)
        return real(block, x)

    monkeypatch.setattr(cpu_block, "forward", counted)
    ids, _ = batch()

    def blocks(model: GPT, dtype: torch.dtype, autocast: bool = True) -> int:
        taken.clear()
        with torch.autocast("cpu", dtype, enabled=autocast):
            dropout = model.shape.dropout if model.training else 0.0
            model.hidden(ids, cpu_block.fastest_block_fn(ids.device, dropout))
        return len(taken)

    model = seeded(SHAPE, 0)
    dropping = seeded(dataclasses.replace(SHAPE, dropout=0.1), 0)
    assert blocks(model, torch.bfloat16) == 2
    assert blocks(model, torch.float16) == 0
    assert blocks(model, torch.bfloat16, autocast=False) == 0
    assert blocks(dropping, torch.bfloat16) == 0
    assert blocks(dropping.eval(), torch.bfloat16) == 2
    with torch.no_grad():
        assert blocks(model, torch.bfloat16) == 2


@pytest.mark.parametrize("n_threads", [1, 3])
def test_layers_made_once_a_step_give_the_gradients_of_layers_made_for_each_batch(n_threads: int) -> None:
    model, workers = seeded(SHAPE, 0), CpuThreads(n_threads)
    halves = [batch(seed) for seed in (0, 1)]
    step = StepBatches(
        tuple(Batch(ids.numpy(), targets.numpy()) for ids, targets in halves),
        sum(t.numel() for _, t in halves),
        0.0,
        {},
    )
    loss = torch.zeros(())
    for ids, targets in halves:
        with torch.autocast("cpu", torch.bfloat16):
            block_fn = cpu_block.fastest_block_fn(ids.device)
            loss = loss + model.loss_sum(ids, targets, block_fn) / step.n_targets
    wanted = torch.autograd.grad(loss, list(model.parameters()))
    told = accumulate(
        model, step, ComputeDevice(torch.device("cpu"), "bf16", 2), torch.amp.GradScaler(enabled=False), workers
    )
    assert float(told) == pytest.approx(float(loss.detach()), rel=1e-4)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert parameter.grad is not None
        # Each thread has other rows, so other sums are rounded to bf16, like every gradient of a matrix here.
        assert float((parameter.grad - gradient).norm() / gradient.norm()) < (1e-6 if n_threads == 1 else 0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_without_gradients_is_that_of_training_at_a_third_of_the_output_layers_products(precision: str) -> None:
    model = seeded(SHAPE, 0)
    ids, targets = batch()

    def loss_and_flops() -> tuple[float, int]:
        count = FlopCounterMode(display=False)
        with count, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss_sum(ids, targets, cpu_block.fastest_block_fn(ids.device))
        return float(loss.detach()), count.get_total_flops()

    trained, forward_and_output_back = loss_and_flops()
    with torch.no_grad():
        evaluated, forward = loss_and_flops()
    assert evaluated == trained
    product = 2 * ids.numel() * SHAPE.n_embd * SHAPE.vocab_size
    assert forward_and_output_back - forward == 2 * product


@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
def test_a_loss_past_what_the_softmax_can_hold_is_still_a_number(low: torch.dtype) -> None:
    model = seeded(SHAPE, 0)
    with torch.no_grad():
        model.wte.weight *= 1e4
    ids, targets = batch()
    with torch.autocast("cpu", low, enabled=low != torch.float32):
        loss = model.loss_sum(ids, targets, cpu_block.fastest_block_fn(ids.device))
    torch.autograd.backward(loss)
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory by rules of its own")
@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_memory_that_a_step_frees_is_not_asked_of_the_kernel_again(where: str) -> None:
    program = """
import resource, sys, threading
from storyteller.system import malloc
if sys.argv[1] == "keep":
    malloc.keep_freed_blocks()
import torch
faults = []
def steps():
    if sys.argv[1:] == ["keep", "in a thread"]:
        malloc.keep_thread_heap(4)
    for step in range(16):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        # A heap of a thread's own is mapped 64 MiB at a time: no larger block comes from it.
        tensors = [torch.ones((16 if sys.argv[2] == "here" else 12) << 20) for _ in range(2)]
        del tensors
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
if sys.argv[2] == "here":
    steps()
else:
    thread = threading.Thread(target=steps)
    thread.start()
    thread.join()
print(*faults[6:])
"""

    def page_faults(how: str) -> list[int]:
        """Of each of ten steps, the fewest first."""
        done = subprocess.run([sys.executable, "-c", program, how, where], capture_output=True, text=True, check=True)
        return sorted(map(int, done.stdout.split()))

    # Blocks past 32 MiB, which glibc never keeps by itself (mallopt(3)); at least one fault for each 2 MiB of them.
    assert page_faults("plain")[0] >= 2 * (32 if where == "here" else 24)
    # Once in a while a small block comes to lie between two large ones, and a step asks for its memory anew.
    assert sum(page_faults("keep")[:6]) < 100

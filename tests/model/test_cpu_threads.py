"""A step divided among threads is the same step, to the last bit every time."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from storyteller.config.configs import TrainConfig
from storyteller.data.batches import StepBatches, collate
from storyteller.model import cpu_threads
from storyteller.model.cpu_threads import CpuThreads
from storyteller.model.device import ComputeDevice, has_bf16
from storyteller.model.gpt2 import GPT, Shape, seeded
from storyteller.training import gradients
from storyteller.training.optimizers import Optimizers

SHAPE = Shape(2, 32, 2, 40, 64)
SCALER = torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


def step_of(n_rows: int, n_batches: int = 1) -> StepBatches:
    generator = torch.Generator().manual_seed(n_rows)
    rows = [torch.randint(0, 64, (12 + n % 7,), generator=generator).tolist() for n in range(n_rows * n_batches)]
    batches = tuple(collate(rows[n::n_batches], 0) for n in range(n_batches))
    return StepBatches(batches, sum(batch.n_targets for batch in batches), 0.0, {})


def gradients_of(
    step: StepBatches, workers: CpuThreads, precision: str = "fp32", double: bool = False
) -> list[torch.Tensor]:
    """The loss, and each parameter's gradient."""
    model: GPT = seeded(SHAPE, 3)
    if double:
        model.double()
    loss = gradients.accumulate(model, step, ComputeDevice(torch.device("cpu"), precision, 2), SCALER, workers)
    found = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and grad.is_contiguous() for grad in found)
    return [loss, *(grad for grad in found if grad is not None)]


@pytest.mark.parametrize(("n_rows", "n_batches"), [(8, 1), (7, 1), (3, 2), (1, 1)])
@pytest.mark.parametrize("n_threads", [2, 3, 4])
def test_threads_give_the_loss_and_the_gradient_of_one(n_rows: int, n_batches: int, n_threads: int) -> None:
    step = step_of(n_rows, n_batches)
    one, several = (
        gradients_of(step, workers, double=True) for workers in (cpu_threads.SINGLE_THREAD, CpuThreads(n_threads))
    )
    for a, b in zip(one, several, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_in_threads_is_the_same_to_the_last_bit_every_time(precision: str) -> None:
    step, workers = step_of(9), CpuThreads(3)
    first = gradients_of(step, workers, precision)
    for _ in range(5):
        assert all(map(torch.equal, first, gradients_of(step, workers, precision)))


def test_a_step_without_a_row_leaves_no_gradient() -> None:
    model = seeded(SHAPE, 3)
    loss = gradients.accumulate(
        model, StepBatches((), 5, 0.0, {}, 2, 40), ComputeDevice(torch.device("cpu"), "fp32", 2), SCALER, CpuThreads(2)
    )
    assert float(loss) == 0
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(("threads", "each"), [(2, 1), (3, 1), (4, 1), (8, 2)])
def test_each_worker_has_its_part_of_the_threads_and_its_caller_no_more(threads: int, each: int) -> None:
    torch.set_num_threads(threads)
    workers = CpuThreads(threads)
    meet = threading.Barrier(workers.size, timeout=20)
    assert (
        workers.map(lambda _: (meet.wait(), torch.get_num_threads())[1], range(workers.size)) == [each] * workers.size
    )
    assert torch.get_num_threads() == each


def test_workers_work_side_by_side_and_answer_in_order() -> None:
    meet = threading.Barrier(2, timeout=20)

    def work(number: int) -> int:
        if number < 2:
            meet.wait()  # would break, were one worker done before the other began
        time.sleep(0.01 * (5 - number))
        return number * number

    assert CpuThreads(2).map(work, range(5)) == [0, 1, 4, 9, 16]


def test_what_a_worker_raises_is_raised_once_the_others_are_done() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            raise MemoryError("too much")
        time.sleep(0.2)
        done.append(number)

    with pytest.raises(MemoryError, match="too much"):
        CpuThreads(2).map(work, range(3))
    assert sorted(done) == [1, 2]


@pytest.mark.parametrize(
    ("machine", "dropout", "size"),
    [
        (ComputeDevice(torch.device("cpu"), "bf16", 2), 0.0, 2),
        (ComputeDevice(torch.device("cpu"), "fp32", 2), 0.0, 2),
        (ComputeDevice(torch.device("cpu"), "bf16", 16), 0.0, 4),
        (ComputeDevice(torch.device("cpu"), "bf16", 1), 0.0, 1),
        (ComputeDevice(torch.device("cpu"), "bf16", 2), 0.1, 1),  # they would draw from one generator, in any order
        (ComputeDevice(torch.device("cpu"), "fp16", 2), 0.0, 1),
        (ComputeDevice(torch.device("cuda"), "bf16", 16), 0.0, 1),
    ],
)
def test_threads_are_used_where_they_compute_what_one_does(machine: ComputeDevice, dropout: float, size: int) -> None:
    assert cpu_threads.choose_cpu_threads(machine, dropout).size == size


def test_muon_in_threads_moves_the_matrices_as_muon_does() -> None:
    moved: list[list[torch.Tensor]] = []
    for workers in (cpu_threads.SINGLE_THREAD, CpuThreads(3)):
        model = seeded(SHAPE, 3)
        optimizers = Optimizers(model, TrainConfig(optimizer="muon", muon_lr=0.03), workers)
        for _ in range(3):
            gradients.accumulate(model, step_of(4), ComputeDevice(torch.device("cpu"), "fp32", 2), SCALER)
            for optimizer in optimizers.all:
                optimizer.step()
            optimizers.zero_grad()
        moved.append([*model.parameters(), *optimizers.state().values()])
        names = [name for name in optimizers.state() if name.endswith("momentum_buffer")]
        assert len(names) == 4 * SHAPE.n_layer
    begun = list(seeded(SHAPE, 3).parameters())
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(begun, moved[0], strict=False) if a.ndim == 2)
    for a, b in zip(*moved, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=2e-3 if has_bf16("cpu") else 1e-6)

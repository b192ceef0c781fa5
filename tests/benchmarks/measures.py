"""What a benchmark measures in a process of its own: `python tests/benchmarks/measures.py NAME JSON` prints JSON.

Here torch is loaded, which whoever waits for the process does not want in its own memory.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storyteller.config.presets import resolve
from storyteller.system.malloc import keep_freed_blocks
from tests.benchmarks.processes import SCORED_BY_THE_PEER, Report, read

if TYPE_CHECKING:
    import torch

    from storyteller.config.configs import TrainConfig
    from storyteller.data.batches import StepBatches
    from storyteller.model.device import ComputeDevice
    from storyteller.model.gpt2 import Shape

ROWS, TOKENS = 8, 512
"""The batch at which memory is measured."""


def measure_tokenizer(train: str, vocab_size: int, n_bytes: int, folder: str) -> int:
    """Train a tokenizer as a run would, into `folder`; how many entries it has."""
    from storyteller.data.tokenizer import train_bpe

    tokenizer = train_bpe(read(Path(train)), vocab_size, n_bytes, lambda _: None)
    tokenizer.save(Path(folder), 512)
    return tokenizer.vocab_size


def measure_step(
    preset: str, settings: list[str], train: str, tokenizer: str, steps: int, sizes: list[int], burst_seconds: float
) -> Report:
    """A preset's optimizer steps on real batches, each timed, and a burst of matrix products after each.

    The batches are ready before they are timed: whether training waits for data is another question.
    """
    from storyteller.data.batches import Batches
    from storyteller.data.sources import open_corpus
    from storyteller.data.story_stream import StoryStream as Cleaned
    from storyteller.data.tokenizer import load
    from storyteller.model import device
    from storyteller.model.gpt2 import Shape

    config = resolve(preset, {"data.source": (train,)}, settings)
    here, known = device.choose(config.train), load(Path(tokenizer))
    # Without GPT-2's own tokenizer another one's ids are trained on, under as many entries: the work is the same.
    step = _Step(Shape.of(config.model, max(known.vocab_size, config.data.vocab_size)), config.train, here)
    stories = Cleaned(open_corpus(config.data), config.data, seed=config.train.seed)
    batches = iter(
        Batches(
            stories,
            known,
            batching=config.data.batching,
            context=config.model.context,
            batch_size=config.train.batch_size,
            accumulate=config.train.accumulate,
        )
    )
    times = 4 if here.device.type == "cuda" else 1  # which is not filled by what fills some cores
    product = _Products(here, [times * n for n in sizes], burst_seconds)
    rates, flops = [], []
    for number in range(-2, steps):  # two that warm up
        batch = next(batches)
        seconds = step(batch)
        product.burst()
        if number >= 0:
            rates.append(batch.n_targets / seconds)
            flops.append(step.flops(batch) / seconds)
    return {
        "tokens_per_second": rates,
        "flops": flops,
        "products": product.found,
        "logged_peak_flops": device.peak_flops(here),
        "parameters": step.model.n_parameters(),
        "tokens_a_step": batch.n_targets,
        **here.describe(),
    }


class _Step:
    """One optimizer step, as the training loop takes it."""

    def __init__(self, shape: Shape, train: TrainConfig, here: ComputeDevice) -> None:
        import torch

        from storyteller.model import cpu_threads
        from storyteller.model.gpt2 import seeded
        from storyteller.training.optimizers import Optimizers

        self._cpu_threads = cpu_threads.choose_cpu_threads(here, shape.dropout)
        self.model = seeded(shape, train.seed).to(here.device)
        self.optimizers, self._here, self._train = Optimizers(self.model, train, self._cpu_threads), here, train
        self.optimizers.set_scale(0.1)  # there is no warm-up here, and what has run away is no usual work
        self._parameters = list(self.model.parameters())
        self._scaler = torch.amp.GradScaler(here.device.type, enabled=here.precision == "fp16")
        self.model.train()

    def __call__(self, batch: StepBatches) -> float:
        """Take the step; seconds."""
        from storyteller.training import optimizers
        from storyteller.training.gradients import accumulate

        _await(self._here)
        begin = time.perf_counter()
        summed = accumulate(self.model, batch, self._here, self._scaler, self._cpu_threads)
        for optimizer in self.optimizers.all:
            self._scaler.unscale_(optimizer)
        norm, loss = float(optimizers.clip(self._parameters, self._train.clip_norm)), float(summed)
        for optimizer in self.optimizers.all:
            self._scaler.step(optimizer)
        if self._scaler.is_enabled():
            self._scaler.update()
        self.optimizers.zero_grad()
        _await(self._here)
        seconds = time.perf_counter() - begin
        if loss != loss or (norm != norm and not self._scaler.is_enabled()):
            raise SystemExit("the loss is not a number: these are not the steps of a training")
        return seconds

    def flops(self, batch: StepBatches) -> float:
        """Floating-point operations of the step by the model's own count, the optimizer's left out."""
        return self.model.flops(batch.n_positions, batch.n_targets, batch.width)


class _Products:
    """Square matrix products at the run's precision, plain and with the second matrix transposed as in a layer."""

    def __init__(self, here: ComputeDevice, sizes: Sequence[int], burst_seconds: float) -> None:
        import torch

        n, generator = max(sizes), torch.Generator().manual_seed(0)
        self._here, self._burst_seconds = here, burst_seconds
        self._a, self._b = (torch.rand(n, n, generator=generator).to(here.device, here.dtype) for _ in range(2))
        self._kinds = itertools.cycle(itertools.product(sizes, ("", ", transposed")))
        self.found: dict[str, list[float]] = {}
        """Operations a second: the median of each burst, by kind."""

    def burst(self) -> None:
        """Products of the next kind for a moment, by all threads; then they come to rest."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(self._here.threads)
        self._measure()
        torch.set_num_threads(before)
        time.sleep(0.02)  # for some milliseconds a team goes on turning

    def _measure(self) -> None:
        n, transposed = next(self._kinds)
        a, b = self._a[:n, :n].contiguous(), self._b[:n, :n].contiguous()
        spent: list[float] = []
        while len(spent) < 3 or sum(spent) < self._burst_seconds:
            spent.append(self._seconds(a, b.T if transposed else b))
        self.found.setdefault(f"{n}{transposed}", []).append(2.0 * n**3 / statistics.median(spent))

    def _seconds(self, a: torch.Tensor, b: torch.Tensor) -> float:
        _await(self._here)
        begin = time.perf_counter()
        a @ b
        _await(self._here)
        return time.perf_counter() - begin


def _await(here: ComputeDevice) -> None:
    """Let the device come to the end of what it was asked."""
    import torch

    if here.device.type != "cpu":
        torch.accelerator.synchronize()


def measure_memory(settings: list[str]) -> list[float]:
    """Seconds of three steps of `classic` on 8 rows of 512 random tokens; whoever waits for this has its peak."""
    import numpy as np

    from storyteller.data.batches import Batch, StepBatches
    from storyteller.model import device
    from storyteller.model.gpt2 import Shape

    config = resolve("classic", {"model.context": TOKENS}, settings)
    vocabulary = config.data.vocab_size
    step = _Step(Shape.of(config.model, vocabulary), config.train, device.choose(config.train))
    ids = np.random.default_rng(0).integers(0, vocabulary, (ROWS, TOKENS + 1))
    batch = Batch(ids[:, :-1].copy(), ids[:, 1:].copy())
    return [step(StepBatches((batch,), batch.n_targets, 0.0, {})) for _ in range(3)]


def measure_score(checkpoint: str, valid: str, most: int | None) -> dict[str, float]:
    """Bits per byte in fp32 of a checkpoint on the stories as the file has them: the first 100, and all of them."""
    from storyteller.data.tokenizer import load
    from storyteller.model import device
    from storyteller.model.loss_eval import score
    from storyteller.model.weights import load_model

    here = device.choose(resolve("quick", {}).train)
    model, known = load_model(Path(checkpoint)).to(here.device).eval(), load(Path(checkpoint))
    texts = list(itertools.islice(read(Path(valid)), most))
    nats, n_bytes = [0.0, 0.0], [0, 0]
    for part, some in enumerate((texts[:SCORED_BY_THE_PEER], texts[SCORED_BY_THE_PEER:])):
        if some:
            found = score(
                model.loss_sum,
                some,
                known.encode(some),
                beginning_id=known.end_id,
                context=model.shape.context,
                device=here.device,
            )
            nats[part], n_bytes[part] = found.nats, found.n_bytes
    return {
        "first_100": nats[0] / math.log(2) / n_bytes[0],
        "all": sum(nats) / math.log(2) / sum(n_bytes),
        "stories": len(texts),
    }


MEASURES: dict[str, Callable[..., Any]] = {
    "tokenizer": measure_tokenizer,
    "step": measure_step,
    "memory": measure_memory,
    "score": measure_score,
}


if __name__ == "__main__":
    keep_freed_blocks()  # as a run's process does
    print(json.dumps(MEASURES[sys.argv[1]](**json.loads(sys.argv[2]))))

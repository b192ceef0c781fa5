"""The figures of training steps between two lines of the metrics log."""

from __future__ import annotations

from dataclasses import dataclass

from storyteller.data.batches import StepBatches
from storyteller.model.gpt2 import GPT


@dataclass
class StepMetrics:
    """Sums over the steps since the last line of metrics."""

    nats: float = 0.0
    tokens: int = 0
    positions: int = 0
    """Tokens and padding."""
    grad_norm: float = 0.0
    """Of the last step."""
    pairs: float = 0.0
    """Sum over the positions of their rows' lengths, for the cost of attention."""
    busy_seconds: float = 1e-9
    waited_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return self.busy_seconds + self.waited_seconds

    def add(self, taken: tuple[float, float] | None, step: StepBatches, seconds: float) -> None:
        """Add a step's loss and gradient norm; None for a skipped step, whose time counts alone."""
        self.busy_seconds += seconds
        if taken is None:
            return
        loss, self.grad_norm = taken
        self.nats += loss * step.n_targets
        self.tokens += step.n_targets
        self.positions += step.n_positions
        self.pairs += step.n_positions * step.width

    def training(self) -> dict[str, float]:
        """Loss, gradient norm, speed and padding; empty if every step was skipped."""
        if not self.tokens:
            return {}
        return {
            "train/loss": self.nats / self.tokens,
            "train/grad_norm": self.grad_norm,
            "train/tokens_per_second": round(self.tokens / self.seconds, 1),
            "train/padding_pct": round(100 * (1 - self.tokens / self.positions), 3),
        }

    def mfu_pct(self, model: GPT, peak_flops: float, processes: int) -> float:
        """Model FLOPs utilisation: percentage of `peak_flops`, what the fastest matrix product reaches in a process."""
        width = self.pairs / self.positions if self.positions else 0.0
        flops = model.flops(self.positions, self.tokens, width) / self.seconds
        return round(100 * flops / peak_flops / processes, 2)

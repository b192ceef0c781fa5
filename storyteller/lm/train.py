"""The training loop: evaluate, save, step, log, until the budget is spent or someone asks to stop.

It writes the run's log and its checkpoints, and waits for nobody who reads them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from storyteller.config import Config, Period
from storyteller.data.batches import StepBatches
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import NonFiniteError
from storyteller.lm import checkpoint, evaluate, optim
from storyteller.lm.checkpoint import Progress
from storyteller.lm.device import Machine
from storyteller.lm.model import GPT
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder
from storyteller.runs.metrics import JsonLog
from storyteller.runs.status import now_utc

Outcome = Literal["finished", "stopped"]
_WAITED_LONG_SECONDS = 5.0


class Source(Protocol):
    """Where steps' batches come from: `data.batches.Prefetched`."""

    def next(self, timeout_seconds: float) -> StepBatches | None: ...

    def close(self) -> None: ...


class Observer(Protocol):
    """Who watches the loop. Nothing here may wait: the loop goes on at once."""

    def stop_asked(self) -> bool:
        """Whether to finish the step, save and end."""

    def at(self, progress: Progress, waiting: bool) -> None:
        """The run is alive and has come so far; `waiting`: no stories come."""

    def evaluated(self, progress: Progress, weights: dict[str, Tensor]) -> None:
        """A story may be told from `weights`, copies under transformers' names."""

    def note(self, line: str) -> None:
        """A line for the run's log."""


@dataclass
class Trainer:
    """One run's parts, and the loop over them."""

    folder: RunFolder
    config: Config
    machine: Machine
    model: GPT
    optimizers: optim.Optimizers
    tokenizer: Tokenizer
    source: Source
    held_out: Sequence[str]
    observer: Observer
    progress: Progress
    peak_flops: float = 0.0
    """Of the largest matrix product here; 0: not measured, no MFU."""
    _recent: _Recent = field(default_factory=lambda: _Recent())
    _last_line: dict[str, Any] = field(default_factory=dict)
    _bpb: tuple[int, float] | None = None
    _saved_step: int | None = None

    def __post_init__(self) -> None:
        self._parameters = list(self.model.parameters())
        self._scaler = torch.amp.GradScaler(self.machine.device.type, enabled=self.machine.precision == "fp16")
        if self.progress.scaler:
            self._scaler.load_state_dict(self.progress.scaler)
        self._encoded = self.tokenizer.encode(self.held_out)
        self._eval_every = Period.parse(self.config.train.eval_every)
        self._save_every = Period.parse(self.config.train.checkpoint_every)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Train until the budget is spent (`finished`) or until someone asks to stop (`stopped`); saved either way.

        Raises NonFiniteError before a step that would poison the weights, OSError where the disk is full, and
        whatever the source of stories raises.
        """
        progress = self.progress
        self._clock = time.perf_counter() - progress.seconds
        with JsonLog(self.folder.metrics) as log:
            if progress.step == 0:
                self._evaluate(log)
            while (share := self.share_done()) < 1:
                if self.observer.stop_asked():
                    self._save()
                    return "stopped"
                batches = self._next_batches()
                if batches is None:
                    continue
                if batches.passes > (self.config.train.epochs or math.inf):
                    break
                begin = time.perf_counter()
                loss, norm = self._step(batches, optim.lr_scale(share, self.config.train))
                now = time.perf_counter()
                progress.step += 1
                progress.tokens += batches.n_targets
                progress.passes, progress.position = batches.passes, batches.position
                progress.seconds = now - self._clock
                self._recent.add(loss, norm, batches, now - begin)
                self.observer.at(progress, waiting=False)
                if progress.step % self.config.train.log_every == 0:
                    self._last_line = self._line(share)
                    log.append(self._last_line)
                save = self._due("save", self._save_every)
                if self._due("eval", self._eval_every) or save:
                    self._evaluate(log)
                if save:
                    self._save()
                progress.seconds = time.perf_counter() - self._clock
            self._evaluate(log)
            self._save()
        return "finished"

    def _step(self, step: StepBatches, scale: float) -> tuple[float, float]:
        """One optimiser step; returns nats a token and the gradient's norm."""
        self.model.train()
        self.optimizers.set_scale(scale)
        loss = accumulate(self.model, step, self.machine, self._scaler)
        for optimizer in self.optimizers.all:
            self._scaler.unscale_(optimizer)
        norm = float(optim.clip(self._parameters, self.config.train.clip_norm))
        self._check_finite(loss, norm)
        for optimizer in self.optimizers.all:
            self._scaler.step(optimizer)
        self._scaler.update()
        self.optimizers.zero_grad()
        return loss, norm

    def _check_finite(self, loss: float, norm: float) -> None:
        # With fp16 an overflowing gradient is the scaler's everyday business: it skips the step and scales down.
        if math.isfinite(loss) and (math.isfinite(norm) or self._scaler.is_enabled()):
            return
        what = "loss" if not math.isfinite(loss) else "gradient"
        raise NonFiniteError(
            f"the {what} of step {self.progress.step + 1} is not a number, so the step was not taken",
            "resume with a lower --lr, or train with --precision fp32",
        )

    # --- what happens every so often ----------------------------------------------------------------------------------

    def _evaluate(self, log: JsonLog) -> None:
        """Score the held-out stories, log it, and let a story be told; at most once a step."""
        if self._bpb is not None and self._bpb[0] == self.progress.step:
            return
        self.model.eval()
        with self.machine.autocast():
            score = evaluate.score(
                self.model,
                self.held_out,
                self._encoded,
                beginning_id=self.tokenizer.end_id,
                context=self.model.shape.context,
                device=self.machine.device,
            )
        bpb = score.bits_per_byte
        if not math.isfinite(bpb):
            raise NonFiniteError(
                f"the held-out loss at step {self.progress.step} is not a number", "resume with a lower --lr"
            )
        self._bpb = (self.progress.step, bpb)
        self.progress.best_bpb = min(bpb, self.progress.best_bpb or math.inf)
        log.append(self._stamp() | {"eval/loss": score.loss, "eval/perplexity": score.perplexity, "eval/bpb": bpb})
        self.observer.note(self._in_words(bpb))
        self.observer.evaluated(self.progress, checkpoint.to_hf(self.model))

    def _in_words(self, bpb: float) -> str:
        """One line for the log at each evaluation."""
        words = [f"step {self.progress.step:,}: {bpb:.4f} bits per byte held out"]
        if self._last_line:
            words += [
                f"loss {self._last_line['train/loss']:.3f}",
                f"{self._last_line['train/tokens_per_second']:,.0f} tokens/s",
                f"{self._last_line['train/padding_pct']:.1f} % padding",
            ]
        return ", ".join(words)

    def _save(self) -> None:
        """Save a checkpoint of this step, once, and drop those past keeping."""
        progress = self.progress
        if progress.step == 0 or self._saved_step == progress.step:
            return
        progress.scaler = self._scaler.state_dict()
        facts: dict[str, object] = {"tokens": progress.tokens, "seconds": progress.seconds}
        if self._bpb is not None and self._bpb[0] == progress.step:
            facts["eval/bpb"] = self._bpb[1]
        checkpoint.save(self.folder, self.model, self.optimizers, self.tokenizer, progress, facts)
        self._saved_step = progress.step
        checkpoints.prune(self.folder, self.config.train.keep)

    def _next_batches(self) -> StepBatches | None:
        """The next step's batches; None where someone asks to stop before they come."""
        begin = time.perf_counter()
        while (batches := self.source.next(timeout_seconds=0.2)) is None:
            if self.observer.stop_asked():
                return None
            self.observer.at(self.progress, waiting=time.perf_counter() - begin > _WAITED_LONG_SECONDS)
        waited = time.perf_counter() - begin
        if waited > _WAITED_LONG_SECONDS:
            self._clock += waited  # an outage spends no budget
        self._recent.waited_seconds += waited
        return batches

    def _due(self, what: str, period: Period) -> bool:
        """Whether `what` is due now; notes that it was."""
        progress = self.progress
        if period.steps:
            return progress.step % period.steps == 0
        every, now = (period.seconds, progress.seconds) if period.seconds else (period.epochs, progress.passes)
        if not every or int(now / every) <= int(progress.happened.get(what, 0) / every):
            return False
        progress.happened[what] = now
        return True

    # --- figures ------------------------------------------------------------------------------------------------------

    def share_done(self) -> float:
        """Share of the budget that is spent, 0 to 1; the end of a budget in epochs is seen by its batches."""
        budget, progress = self.config.train, self.progress
        if budget.minutes is not None:
            return min(progress.seconds / (60 * budget.minutes), 1.0)
        if budget.tokens is not None:
            return min(progress.tokens / budget.tokens, 1.0)
        if budget.epochs is not None:
            return min(progress.passes / budget.epochs, 1.0 - 1e-9)
        return min(progress.step / (budget.steps or 1), 1.0)

    def _stamp(self) -> dict[str, object]:
        progress = self.progress
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 3),
            "time": now_utc(),
        }

    def _line(self, share: float) -> dict[str, Any]:
        """The metrics of the steps since the last line."""
        import psutil

        recent, self._recent = self._recent, _Recent()
        both = recent.busy_seconds + recent.waited_seconds
        line: dict[str, Any] = self._stamp() | {
            "train/loss": recent.nats / recent.tokens,
            "train/grad_norm": recent.norm,
            "train/lr": self.config.train.lr * optim.lr_scale(share, self.config.train),
            "train/tokens_per_second": round(recent.tokens / both, 1),
            "train/padding_pct": round(recent.padding_pct, 3),
            "train/data_wait_pct": round(100 * recent.waited_seconds / both, 3),
            "memory/rss_gib": round(psutil.Process().memory_info().rss / 2**30, 4),
        }
        if self.peak_flops:
            flops = self.model.flops_per_token(recent.width) * recent.positions / both
            line["train/mfu_pct"] = round(100 * flops / self.peak_flops, 2)
        if self.machine.device.type == "cuda":
            line["memory/device_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 4)
        if share > 0:
            line["time/eta_seconds"] = round(self.progress.seconds * (1 - share) / share, 1)
        return line


def accumulate(model: GPT, step: StepBatches, machine: Machine, scaler: torch.amp.GradScaler) -> float:
    """Add up the gradient of all of a step's batches; returns the step's nats a token.

    Each token of the step weighs the same, however its rows are dealt out to batches: sums of nats are divided by the
    whole step's count of targets before their gradients add up.
    """
    total = 0.0
    for batch in step.batches:
        inputs, targets = (torch.from_numpy(ids).to(machine.device) for ids in (batch.inputs, batch.targets))
        with machine.autocast():
            loss = model.loss_sum(inputs, targets) / step.n_targets
        torch.autograd.backward(scaler.scale(loss))
        total += float(loss.detach())
    return total


@dataclass
class _Recent:
    """Sums since the last line of metrics."""

    nats: float = 0.0
    tokens: int = 0
    positions: int = 0
    norm: float = 0.0
    """Of the last step."""
    width: int = 0
    """Tokens in the last step's rows."""
    busy_seconds: float = 1e-9
    waited_seconds: float = 0.0

    @property
    def padding_pct(self) -> float:
        return 100 * (1 - self.tokens / self.positions)

    def add(self, loss: float, norm: float, step: StepBatches, seconds: float) -> None:
        self.nats += loss * step.n_targets
        self.tokens += step.n_targets
        self.positions += sum(batch.targets.size for batch in step.batches)
        self.norm = norm
        self.width = step.batches[-1].targets.shape[1]
        self.busy_seconds += seconds

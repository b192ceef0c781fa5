"""The training loop: evaluate, save, step, log, until the budget is spent or someone asks to stop.

It writes the run's log and its checkpoints, and waits for nobody who reads them. Several processes may train one run
(`lm.distributed`): each goes through this loop, they decide alike, and the first alone writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from storyteller.config.configs import Config, Period
from storyteller.data.batches import StepBatches
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import (
    CorpusError,
    HubError,
    NonFiniteError,
    PeerLostError,
    StorytellerError,
    TrainingError,
)
from storyteller.model import loss_eval, memory, weights
from storyteller.model.cpu_threads import ONE, CpuThreads
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import PatientLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import now_utc
from storyteller.training import checkpoint, gradients
from storyteller.training.distributed import SingleProcess
from storyteller.training.optimizers import Optimizers, clip, lr_scale
from storyteller.training.train_state import RecentSteps, TrainState

Outcome = Literal["finished", "stopped"]
_WAITED_LONG_SECONDS = 5.0
_STORIES_AT_FIRST = 16
"""Held-out stories that weights which know nothing yet are scored on: each costs them the same nats a token."""


class BatchSource(Protocol):
    """Where steps' batches come from: `data.batches.Prefetched`."""

    def next(self, timeout_seconds: float) -> StepBatches | None: ...

    def close(self) -> None: ...


class Observer(Protocol):
    """Who watches the loop. Nothing here may wait: the loop goes on at once."""

    def stop_asked(self) -> bool:
        """Whether to finish the step, save and end."""

    def at(self, progress: TrainState, waiting: bool) -> None:
        """The run is alive and has come so far; `waiting`: no stories come."""

    def evaluated(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        """A story may be told from `weights`, copies under transformers' names."""

    def card_due(self, progress: TrainState, weights: dict[str, Tensor]) -> None:
        """A card may be made from `weights`, copies under transformers' names."""

    def scores(self) -> list[dict[str, float]]:
        """What came of cards since the last time, to be logged."""

    def trouble(self, error: OSError | None) -> None:
        """What keeps metrics or checkpoints from the disk; None: nothing does, or nothing any more."""

    def note(self, line: str) -> None:
        """A line for the run's log."""


@dataclass
class Trainer:
    """One run's parts, and the loop over them."""

    folder: RunFolder
    config: Config
    machine: ComputeDevice
    model: GPT
    optimizers: Optimizers
    tokenizer: Tokenizer
    source: BatchSource
    held_out: Sequence[str]
    observer: Observer
    progress: TrainState
    peak_flops: float = 0.0
    """Of the largest matrix product here; 0: not measured, no MFU."""
    patience_seconds: float = math.inf
    """For so long no story may come."""
    group: SingleProcess = field(default_factory=SingleProcess)
    """The processes that train the run."""
    among: CpuThreads = ONE
    """The threads of this process that a step is dealt out to."""
    _recent: RecentSteps = field(default_factory=RecentSteps)
    _last_line: dict[str, Any] = field(default_factory=dict)
    _bpb: tuple[int, float] | None = None
    _saved_step: int | None = None
    _unsaved: OSError | None = None
    _card_step: int | None = None

    def __post_init__(self) -> None:
        self._parameters = list(self.model.parameters())
        self._scaler = torch.amp.GradScaler(self.machine.device.type, enabled=self.machine.precision == "fp16")
        if self.progress.scaler:
            self._scaler.load_state_dict(self.progress.scaler)
        self._share = self.held_out[self.group.rank :: self.group.size]
        self._encoded = self.tokenizer.encode(self._share)
        self._eval_every = Period.parse(self.config.train.eval_every)
        self._save_every = Period.parse(self.config.train.checkpoint_every)
        self._card_every = Period.parse(self.config.train.card_every)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Train until the budget is spent (`finished`) or until someone asks to stop (`stopped`); saved either way.

        A disk that is full on the way is waited out: lines are kept, and the next period saves. Raises NonFiniteError
        before a step that would poison the weights, OSError where the disk is full at the end, and whatever the source
        of stories raises.
        """
        progress = self.progress
        self._clock = time.perf_counter() - progress.seconds
        with PatientLog(self.folder.metrics) if self.group.is_first else _NoLog() as log:
            if progress.step == 0:
                self._evaluate(log)
            while True:
                share, stop, batches = self._next(log)
                if share >= 1:
                    break
                if stop:
                    self._save(log)
                    return "stopped"
                if batches is None or batches.passes > (self.config.train.epochs or math.inf):
                    break
                begin = time.perf_counter()
                taken = self._step(batches, lr_scale(share, self.config.train))
                now = time.perf_counter()
                progress.step += 1
                progress.tokens += batches.n_targets if taken else 0
                progress.passes, progress.position = batches.passes, batches.position
                progress.seconds = self.group.of_first(now - self._clock)
                self._recent.add(taken, batches, now - begin)
                self.observer.at(progress, waiting=False)
                if progress.step % self.config.train.log_every == 0:
                    log.append(self._line(share))
                save = self._due("save", self._save_every)
                if self._due("eval", self._eval_every) or save:
                    self._evaluate(log)
                if save:
                    self._try_to_save(log)
                self._card(log, due=self._due("card", self._card_every))
                self.observer.trouble(log.fault or self._unsaved)
                progress.seconds = time.perf_counter() - self._clock
            self._evaluate(log)
            self._save(log)
            self._card(log, due=self._card_every != Period())
        return "finished"

    def _step(self, step: StepBatches, scale: float) -> tuple[float, float] | None:
        """One optimiser step; returns nats a token and the gradient's norm, or None where the step was skipped."""
        self.model.train()
        self.optimizers.set_scale(scale)
        if self.model.shape.dropout:
            self.group.seed_step(self.config.train.seed, self.progress.step)
        summed = gradients.accumulate(self.model, step, self.machine, self._scaler, self.among)
        summed = self.group.add_gradients(self._parameters, summed)
        for optimizer in self.optimizers.all:
            self._scaler.unscale_(optimizer)
        length = clip(self._parameters, self.config.train.clip_norm)
        loss, norm = torch.stack((summed, length.to(summed.dtype))).tolist()  # the step's one wait for the device
        bad = self._what_is_bad(loss, norm)
        if bad:
            self._skip(bad)
        elif math.isfinite(norm):  # else the clipping spread it, and the scaler would catch it in one optimiser alone
            with memory.naming("the state of the optimiser"):
                for optimizer in self.optimizers.all:
                    self._scaler.step(optimizer)
        if self._scaler.is_enabled():
            self._scaler.update()
        self.optimizers.zero_grad()
        return None if bad else (loss, norm)

    def _what_is_bad(self, loss: float, norm: float) -> str:
        """What of a step is not a number: its loss, its gradient, or nothing."""
        if not math.isfinite(loss):
            return "loss"
        # With fp16 an overflowing gradient is the scaler's everyday business: it leaves the step out and scales down,
        # until the scale shows that the gradient itself is bad.
        everyday = self._scaler.is_enabled() and self._scaler.get_scale() >= 1
        return "" if math.isfinite(norm) or everyday else "gradient"

    def _skip(self, bad: str) -> None:
        """Pass over a bad step and count it. Raises NonFiniteError where no more may be skipped."""
        progress, allowed = self.progress, self.config.train.skip_bad_steps
        step, skipped = progress.step + 1, progress.skipped_steps
        if skipped >= allowed:
            before = f" ({skipped:,} were skipped before)" if skipped else ""
            raise NonFiniteError(
                f"the {bad} of step {step} is not a number, so the step was not taken{before}",
                f"resume with --skip-bad-steps {skipped + 1} to pass over it, or train anew with a lower --lr or "
                "--precision fp32",
            )
        progress.skipped_steps += 1
        self.observer.note(f"step {step:,} skipped: its {bad} is not a number ({skipped + 1} of {allowed} to skip)")

    # --- what happens every so often ----------------------------------------------------------------------------------

    def _evaluate(self, log: Log) -> None:
        """Score the held-out stories, log it, and let a story be told; at most once a step.

        Each process scores its share of them, and all come to the same sums.
        """
        if self._bpb is not None and self._bpb[0] == self.progress.step:
            return
        self.model.eval()
        with memory.naming("a batch of held-out stories"):
            score = loss_eval.score(
                self._nats,
                *self._scored(),
                beginning_id=self.tokenizer.end_id,
                context=self.model.shape.context,
                device=self.machine.device,
                among=self.among,
            )
        nats, n_tokens, n_bytes = self.group.sums(score.nats, score.n_tokens, score.n_bytes)
        score = loss_eval.Score(nats, int(n_tokens), int(n_bytes))
        bpb = score.bits_per_byte
        if not math.isfinite(bpb):
            raise NonFiniteError(
                f"the held-out loss at step {self.progress.step} is not a number",
                "train anew with a lower --lr or --precision fp32",
            )
        self._bpb = (self.progress.step, bpb)
        self.progress.best_bpb = min(bpb, self.progress.best_bpb or math.inf)
        if not self.group.is_first:
            return
        log.append(self.stamp() | {"eval/loss": score.loss, "eval/perplexity": score.perplexity, "eval/bpb": bpb})
        self.observer.note(self._in_words(bpb))
        self.observer.evaluated(self.progress, weights.to_hf(self.model))

    def _nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        with self.machine.autocast():
            return self.model.loss_sum(ids, targets)

    def _scored(self) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
        """This process's share of the held-out stories, and their tokens: of the first few before the first step."""
        group = self.group
        few = None if self.progress.step else len(range(group.rank, _STORIES_AT_FIRST, group.size))
        return self._share[:few], self._encoded[:few]

    def _card(self, log: Log, due: bool) -> None:
        """Have a card made aside where one is due, once a step, and log what has come of earlier ones.

        A line has the step at which it is written, since steps only rise in the log; `eval/card_step` is the weights'.
        """
        if not self.group.is_first:
            return
        for scores in self.observer.scores():
            log.append(self.stamp() | scores)
        if due and self._card_step != self.progress.step:
            self._card_step = self.progress.step
            self.observer.card_due(self.progress, weights.to_hf(self.model))

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

    def _try_to_save(self, log: Log) -> None:
        """Save; where the disk does not take it training goes on, and the next period tries again."""
        try:
            self._save(log)
        except OSError as error:
            self._unsaved = error
        else:
            self._unsaved = None

    def _save(self, log: Log) -> None:
        """Save a checkpoint of this step, once, and drop those past keeping. Raises OSError where the disk is full."""
        progress = self.progress
        log.flush()  # first: a resume logs only what comes after the checkpoint
        if progress.step == 0 or self._saved_step == progress.step or not self.group.is_first:
            return
        progress.scaler = self._scaler.state_dict()
        facts: dict[str, object] = {"tokens": progress.tokens, "seconds": progress.seconds}
        if self._bpb is not None and self._bpb[0] == progress.step:
            facts["eval/bpb"] = self._bpb[1]
        checkpoint.save(self.folder, self.model, self.optimizers, self.tokenizer, progress, facts)
        self._saved_step = progress.step
        checkpoint_folders.prune(self.folder, self.config.train.keep)

    def _next(self, log: Log) -> tuple[float, bool, StepBatches | None]:
        """Share of the budget that is spent, whether someone asks to stop and, where neither ends the run, the batches.

        All processes come to the same: a step begins once each has its batches. Raises what the source does, a
        CorpusError of any of them after the state has been saved.
        """
        begin, read_seconds = time.perf_counter(), 0.0
        batches: StepBatches | None = None
        error: CorpusError | None = None
        while True:
            # The first one's clock alone counts: another's may be at the budget's end a moment sooner.
            share, stop = self.share_done() if self.group.is_first else 0.0, self.observer.stop_asked()
            if batches is None and share < 1 and not stop:
                start = time.perf_counter()
                try:
                    batches = self.source.next(timeout_seconds=0.2)
                except CorpusError as trouble:
                    error = trouble
                read_seconds += time.perf_counter() - start
            waited = time.perf_counter() - begin
            if waited > self.patience_seconds and batches is None and error is None:
                minutes = f"{self.patience_seconds / 60:.0f} minutes"
                error = HubError(f"no story has come from the Hub for {minutes}", "look at the network")
            share, stops, errors, ready, n_targets = self.group.sums(
                share,
                stop,
                error is not None,
                batches is not None,
                batches.n_targets if batches is not None else 0,
            )
            if share >= 1 or stops:
                return share, bool(stops), None
            if errors:
                self._save(log)
                raise self._without_stories(error)
            if batches is not None and ready == self.group.size:
                break
            self.observer.at(self.progress, waiting=waited > _WAITED_LONG_SECONDS)
        if n_targets != self.group.size * batches.n_targets:
            raise TrainingError(
                f"the processes do not read the same stories at step {self.progress.step + 1:,}",
                "look whether the files of --data are the same on every machine, and unchanged",
            )
        waited = time.perf_counter() - begin
        if waited > _WAITED_LONG_SECONDS:
            self._clock += waited  # an outage spends no budget
        self._recent.waited_seconds += read_seconds
        return share, False, batches

    def _without_stories(self, error: CorpusError | None) -> StorytellerError:
        """What to raise where stories end; None: those of another process did."""
        if error is None:
            return PeerLostError("another process of this run gets no stories", "its own words say why")
        if not isinstance(error, HubError) or not self.progress.step:
            return error
        gone = self._gone_without(error)
        gone.__cause__ = error
        return gone

    def _gone_without(self, error: HubError) -> HubError:
        """`error`, and that nothing is lost by it."""
        return HubError(
            f"{error.problem}; step {self.progress.step:,} is saved",
            f"storyteller resume {self.folder.name} goes on from there when the Hub answers again",
        )

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

    def stamp(self) -> dict[str, object]:
        """What every line of the log begins with."""
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

        recent, self._recent = self._recent, RecentSteps()
        both = recent.busy_seconds + recent.waited_seconds
        line: dict[str, Any] = self.stamp() | {
            "train/lr": self.config.train.lr * lr_scale(share, self.config.train),
            "train/data_wait_pct": round(100 * recent.waited_seconds / both, 3),
            "memory/rss_gib": round(psutil.Process().memory_info().rss / 2**30, 4),
        }
        if self.progress.skipped_steps:
            line["train/skipped_steps"] = self.progress.skipped_steps
        if recent.tokens:  # none where every step since the last line was skipped
            self._last_line = {
                "train/loss": recent.nats / recent.tokens,
                "train/grad_norm": recent.norm,
                "train/tokens_per_second": round(recent.tokens / both, 1),
                "train/padding_pct": round(recent.padding_pct, 3),
            }
            line |= self._last_line
        if self.peak_flops:
            flops = self.model.flops(recent.positions, recent.tokens, recent.width) / both
            line["train/mfu_pct"] = round(100 * flops / self.peak_flops / self.group.size, 2)
        if self.machine.device.type == "cuda":
            line["memory/device_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 4)
        if share > 0:
            line["time/eta_seconds"] = round(self.progress.seconds * (1 - share) / share, 1)
        return line


class _NoLog:
    """The log of a process that writes none."""

    fault: OSError | None = None

    def append(self, record: Mapping[str, object]) -> None:
        """Nothing: the first process logs it."""

    def flush(self) -> None:
        """Nothing."""

    def __enter__(self) -> _NoLog:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""


Log = PatientLog | _NoLog

"""The training loop: fetch, step, log, evaluate, save, until the budget is spent or a stop is requested.

It writes the run's metrics and checkpoints and waits for no reader of them. Several processes may train one run
(`distributed`): each goes through this loop and all decide alike; only the first writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from storyteller.config.configs import Config, Period
from storyteller.data.batches import StepBatches
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CorpusError, HubError, NonFiniteError, PeerLostError, StorytellerError, TrainingError
from storyteller.model import cpu_block, loss_eval, memory, weights
from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import RetryingLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import now_utc
from storyteller.training import checkpoint, gradients
from storyteller.training.distributed import SingleProcess
from storyteller.training.observer import Observer
from storyteller.training.optimizers import Optimizers, clip, lr_scale
from storyteller.training.step_metrics import StepMetrics
from storyteller.training.train_state import TrainState

Outcome = Literal["finished", "stopped"]
_LONG_WAIT_SECONDS = 5.0
"""A longer wait for stories is an outage: it is reported, and is not charged to a budget in minutes."""
_INITIAL_EVAL_STORIES = 16
"""Held-out stories for the evaluation of untrained weights, whose loss is about the same on any story."""


class BatchSource(Protocol):
    """Where the batches of steps come from: `data.batches.Prefetcher`."""

    def next(self, timeout_seconds: float) -> StepBatches | None: ...

    def close(self) -> None: ...


@dataclass
class _Fetch:
    """One wait for the batches of the next step, in this process."""

    begin: float = field(default_factory=time.perf_counter)
    read_seconds: float = 0.0
    batches: StepBatches | None = None
    error: CorpusError | None = None

    @property
    def waited_seconds(self) -> float:
        return time.perf_counter() - self.begin


class _Votes(NamedTuple):
    """Sums over the processes: share of the budget, stop requests, failed sources, processes ready, their targets."""

    share: float
    stops: float
    errors: float
    ready: float
    n_targets: float


@dataclass
class Trainer:
    """The parts of one run, and the training loop over them."""

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
    """What the fastest matrix product reaches here, in FLOP/s; 0 if it was not measured, then no MFU is logged."""
    patience_seconds: float = math.inf
    """How long the stories may fail to arrive."""
    group: SingleProcess = field(default_factory=SingleProcess)
    """The processes that train the run."""
    cpu_threads: CpuThreads = SINGLE_THREAD
    """The threads of this process that share a step."""
    compiled: gradients.StepFunctions | None = None
    _recent: StepMetrics = field(default_factory=StepMetrics)
    _last_metrics: dict[str, float] = field(default_factory=dict)
    _bpb: tuple[int, float] | None = None
    """Step and bits per byte of the last evaluation."""
    _saved_step: int | None = None
    _save_error: OSError | None = None
    _card_step: int | None = None

    def __post_init__(self) -> None:
        self._parameters = list(self.model.parameters())
        self._scaler = torch.amp.GradScaler(self.machine.device.type, enabled=self.machine.precision == "fp16")
        if self.progress.scaler:
            self._scaler.load_state_dict(self.progress.scaler)
        self._own_held_out = self.held_out[self.group.rank :: self.group.size]
        self._own_encoded = self.tokenizer.encode(self._own_held_out)
        self._eval_every = Period.parse(self.config.train.eval_every)
        self._save_every = Period.parse(self.config.train.checkpoint_every)
        self._card_every = Period.parse(self.config.train.card_every)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def train(self) -> Outcome:
        """Train until the budget is spent (`finished`) or a stop is requested (`stopped`); saved either way.

        While the disk is full, metrics are kept in memory and each period tries to save again. Raises NonFiniteError
        before a step that would make the weights NaN, OSError if the disk is full at the end, and what the source of
        stories raises.
        """
        progress = self.progress
        self._clock = time.perf_counter() - progress.seconds
        with RetryingLog(self.folder.metrics) if self.group.is_first else _NoLog() as log:
            if progress.step == 0:
                self._evaluate(log)
            while not isinstance(fetched := self._fetch(log), str):
                share, batches = fetched
                self._take_step(batches, share)
                if progress.step % self.config.train.log_every == 0:
                    log.append(self._metrics(share))
                save_due = progress.is_due("save", self._save_every)
                if progress.is_due("eval", self._eval_every) or save_due:
                    self._evaluate(log)
                if save_due:
                    self._try_to_save(log)
                self._make_card(log, due=progress.is_due("card", self._card_every))
                self.observer.disk_trouble(log.fault or self._save_error)
                progress.seconds = time.perf_counter() - self._clock
            if fetched == "finished":
                self._evaluate(log)
            self._save(log)
            if fetched == "finished":
                self._make_card(log, due=self._card_every != Period())
        return fetched

    # --- fetch --------------------------------------------------------------------------------------------------------

    def _fetch(self, log: Log) -> tuple[float, StepBatches] | Outcome:
        """Wait for the batches of the next step; returns them with the share of the budget spent, or why to end.

        The processes vote until each has its batches or one has a reason to end, so that all of them do the same.
        Raises what the source raises, a CorpusError of any process after the state has been saved.
        """
        fetch = _Fetch()
        while True:
            votes = self._vote(fetch)
            if votes.share >= 1:
                return "finished"
            if votes.stops:
                return "stopped"
            if votes.errors:
                self._save(log)
                raise self._end_of_stories(fetch.error)
            if fetch.batches is not None and votes.ready == self.group.size:
                break
            self.observer.progressed(self.progress, waiting=fetch.waited_seconds > _LONG_WAIT_SECONDS)
        if votes.n_targets != self.group.size * fetch.batches.n_targets:
            raise TrainingError(
                f"the processes do not read the same stories at step {self.progress.step + 1:,}",
                "check that the files of --data are the same on every machine, and unchanged",
            )
        if (waited := fetch.waited_seconds) > _LONG_WAIT_SECONDS:
            self._clock += waited
        self._recent.waited_seconds += fetch.read_seconds
        if fetch.batches.passes > (self.config.train.epochs or math.inf):
            return "finished"
        return votes.share, fetch.batches

    def _vote(self, fetch: _Fetch) -> _Votes:
        """Poll the source if this process still needs batches, and sum what all processes have to say."""
        # Only the first process's clock counts: another's might reach the end of the budget a moment sooner.
        share = self.progress.budget_share(self.config.train) if self.group.is_first else 0.0
        stop = self.observer.stop_requested()
        if fetch.batches is None and share < 1 and not stop:
            self._poll_source(fetch)
        n_targets = fetch.batches.n_targets if fetch.batches is not None else 0
        has_error, has_batches = fetch.error is not None, fetch.batches is not None
        return _Votes(*self.group.sum(share, stop, has_error, has_batches, n_targets))

    def _poll_source(self, fetch: _Fetch) -> None:
        """Ask the source for batches, for 0.2 s at most, so that stop requests and the heartbeat are not delayed."""
        start = time.perf_counter()
        try:
            fetch.batches = self.source.next(timeout_seconds=0.2)
        except CorpusError as error:
            fetch.error = error
        fetch.read_seconds += time.perf_counter() - start
        if fetch.batches is None and fetch.error is None and fetch.waited_seconds > self.patience_seconds:
            minutes = f"{self.patience_seconds / 60:.0f} minutes"
            fetch.error = HubError(f"no story has come from the Hub for {minutes}", "check the network")

    def _end_of_stories(self, error: CorpusError | None) -> StorytellerError:
        """What to raise if a process's source failed; None: another process's did."""
        if error is None:
            return PeerLostError("another process of this run gets no stories", "its own log says why")
        if not isinstance(error, HubError) or not self.progress.step:
            return error
        resumable = HubError(
            f"{error.problem}; step {self.progress.step:,} is saved",
            f"storyteller resume {self.folder.name} goes on from there when the Hub answers again",
        )
        resumable.__cause__ = error
        return resumable

    # --- step ---------------------------------------------------------------------------------------------------------

    def _take_step(self, batches: StepBatches, share: float) -> None:
        """Take one optimizer step and record how far the run has come."""
        begin = time.perf_counter()
        taken = self._step(batches, lr_scale(share, self.config.train))
        now = time.perf_counter()
        progress = self.progress
        progress.step += 1
        progress.tokens += batches.n_targets if taken else 0
        progress.passes, progress.position = batches.passes, batches.position
        progress.seconds = self.group.from_first(now - self._clock)
        self._recent.add(taken, batches, now - begin)
        self.observer.progressed(progress, waiting=False)

    def _step(self, step: StepBatches, scale: float) -> tuple[float, float] | None:
        """Take one optimizer step; returns the loss in nats a token and the gradient's norm, or None if skipped."""
        self.model.train()
        self.optimizers.set_scale(scale)
        if self.model.shape.dropout:
            self.group.seed_step(self.config.train.seed, self.progress.step)
        loss = gradients.accumulate(self.model, step, self.machine, self._scaler, self.cpu_threads, self.compiled)
        loss = self.group.add_gradients(self._parameters, loss)
        for optimizer in self.optimizers.all:
            self._scaler.unscale_(optimizer)  # the norm to clip is that of the true gradient
        norm = clip(self._parameters, self.config.train.clip_norm)
        # Both at once: it is the only point at which the step waits for the device.
        loss_value, norm_value = torch.stack((loss, norm.to(loss.dtype))).tolist()
        bad = self._find_non_finite(loss_value, norm_value)
        if bad:
            self._skip(bad)
        # An overflow of fp16 is tested here for all optimizers: clipping has spread it to every gradient, while the
        # scaler would find it in each optimizer on its own.
        elif math.isfinite(norm_value):
            with memory.explain_out_of_memory("the state of the optimizer"):
                for optimizer in self.optimizers.all:
                    self._scaler.step(optimizer)
        if self._scaler.is_enabled():
            self._scaler.update()
        self.optimizers.zero_grad()
        return None if bad else (loss_value, norm_value)

    def _find_non_finite(self, loss: float, norm: float) -> str:
        """`loss` or `gradient` if it is not finite, else an empty string."""
        if not math.isfinite(loss):
            return "loss"
        # With fp16 overflowing gradients are normal: the scaler leaves the step out and lowers its scale. Only a
        # gradient that overflows at a scale below 1 is itself bad.
        is_normal = self._scaler.is_enabled() and self._scaler.get_scale() >= 1
        return "" if math.isfinite(norm) or is_normal else "gradient"

    def _skip(self, bad: str) -> None:
        """Skip a bad step and count it. Raises NonFiniteError if no more steps may be skipped."""
        progress, allowed = self.progress, self.config.train.skip_bad_steps
        step, skipped = progress.step + 1, progress.skipped_steps
        if skipped >= allowed:
            before = f" ({skipped:,} were skipped before)" if skipped else ""
            raise NonFiniteError(
                f"the {bad} of step {step} is not a number, so the step was not taken{before}",
                f"resume with --skip-bad-steps {skipped + 1} to skip it, or train anew with a lower --lr or "
                "--precision fp32",
            )
        progress.skipped_steps += 1
        self.observer.log(f"step {step:,} skipped: its {bad} is not a number ({skipped + 1} of {allowed} to skip)")

    # --- evaluate, save -----------------------------------------------------------------------------------------------

    def _evaluate(self, log: Log) -> None:
        """Score the held-out stories, log the scores, and request a sample story; at most once a step.

        Each process scores its own share of the stories, and all come to the same sums.
        """
        progress = self.progress
        if self._bpb is not None and self._bpb[0] == progress.step:
            return
        self.model.eval()
        # Untrained weights are scored on the first few stories only: their share of this process.
        end = None if progress.step else len(range(self.group.rank, _INITIAL_EVAL_STORIES, self.group.size))
        with memory.explain_out_of_memory("a batch of held-out stories"):
            score = loss_eval.score(
                self._nats,
                self._own_held_out[:end],
                self._own_encoded[:end],
                beginning_id=self.tokenizer.end_id,
                context=self.model.shape.context,
                device=self.machine.device,
                cpu_threads=self.cpu_threads,
            )
        nats, n_tokens, n_bytes = self.group.sum(score.nats, score.n_tokens, score.n_bytes)
        score = loss_eval.Score(nats, int(n_tokens), int(n_bytes))
        bpb = score.bits_per_byte
        if not math.isfinite(bpb):
            raise NonFiniteError(
                f"the held-out loss at step {progress.step} is not a number",
                "train anew with a lower --lr or --precision fp32",
            )
        self._bpb = (progress.step, bpb)
        progress.best_bpb = min(bpb, progress.best_bpb or math.inf)
        if not self.group.is_first:
            return
        log.append(self.stamp() | {"eval/loss": score.loss, "eval/perplexity": score.perplexity, "eval/bpb": bpb})
        self.observer.log(self._describe_evaluation(bpb))
        self.observer.evaluated(progress, weights.to_hf(self.model))

    def _nats(self, ids: Tensor, targets: Tensor) -> Tensor:
        with self.machine.autocast():
            return self.model.loss_sum(ids, targets, cpu_block.fastest_block_fn(self.machine.device))

    def _describe_evaluation(self, bpb: float) -> str:
        line = f"step {self.progress.step:,}: {bpb:.4f} bits per byte held out"
        if last := self._last_metrics:
            line += f", loss {last['train/loss']:.3f}, {last['train/tokens_per_second']:,.0f} tokens/s"
            line += f", {last['train/padding_pct']:.1f} % padding"
        return line

    def _make_card(self, log: Log, due: bool) -> None:
        """Request a model card if one is due, at most once a step, and log the scores of earlier ones.

        The line has the step at which it is written, since steps only rise in the log; `eval/card_step` names the
        weights' step.
        """
        if not self.group.is_first:
            return
        for scores in self.observer.take_scores():
            log.append(self.stamp() | scores)
        if due and self._card_step != self.progress.step:
            self._card_step = self.progress.step
            self.observer.card_due(self.progress, weights.to_hf(self.model))

    def _try_to_save(self, log: Log) -> None:
        """Save; if the disk is full training goes on, and the next period tries again."""
        try:
            self._save(log)
        except OSError as error:
            self._save_error = error
        else:
            self._save_error = None

    def _save(self, log: Log) -> None:
        """Save a checkpoint of this step, once, and delete those that are no longer kept. Raises OSError."""
        progress = self.progress
        log.flush()  # before the checkpoint: a resume from it must not find later steps logged and these missing
        if progress.step == 0 or self._saved_step == progress.step or not self.group.is_first:
            return
        progress.scaler = self._scaler.state_dict()
        facts: dict[str, object] = {"tokens": progress.tokens, "seconds": progress.seconds}
        if self._bpb is not None and self._bpb[0] == progress.step:
            facts["eval/bpb"] = self._bpb[1]
        checkpoint.save(self.folder, self.model, self.optimizers, self.tokenizer, progress, facts)
        self._saved_step = progress.step
        checkpoint_folders.prune(self.folder, self.config.train.keep)

    # --- metrics ------------------------------------------------------------------------------------------------------

    def stamp(self) -> dict[str, object]:
        """The fields that every line of the metrics log begins with."""
        progress = self.progress
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "seconds": round(progress.seconds, 3),
            "time": now_utc(),
        }

    def _metrics(self, share: float) -> dict[str, Any]:
        """The metrics of the steps since the last line; `share` of the budget was spent before the last step."""
        import psutil

        recent, self._recent = self._recent, StepMetrics()
        line: dict[str, Any] = self.stamp() | {
            "train/lr": self.config.train.lr * lr_scale(share, self.config.train),
            "train/data_wait_pct": round(100 * recent.waited_seconds / recent.seconds, 3),
            "memory/rss_gib": round(psutil.Process().memory_info().rss / 2**30, 4),
        }
        if self.progress.skipped_steps:
            line["train/skipped_steps"] = self.progress.skipped_steps
        if training := recent.training():
            line |= training
            self._last_metrics = training
        if self.peak_flops:
            line["train/mfu_pct"] = recent.mfu_pct(self.model, self.peak_flops, self.group.size)
        if self.machine.device.type == "cuda":
            line["memory/device_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 4)
        if share > 0:
            line["time/eta_seconds"] = round(self.progress.seconds * (1 - share) / share, 1)
        return line


class _NoLog:
    """The metrics log of a process that writes none."""

    fault: OSError | None = None

    def append(self, record: Mapping[str, object]) -> None: ...

    def flush(self) -> None: ...

    def __enter__(self) -> _NoLog:
        return self

    def __exit__(self, *_: object) -> None: ...


Log = RetryingLog | _NoLog

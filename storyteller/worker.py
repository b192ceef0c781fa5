"""The body of the training process: sets a run up, trains it, and records how it ended, whatever that is.

Started by `daemon` as `python -m storyteller.worker RUN_FOLDER`, or called by `train --foreground`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from storyteller.config import PROMPTS, Config, Sample
from storyteller.errors import DiskError, OutOfMemoryError, RunBusyError, RunError, StorytellerError, is_disk_full
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder, sweep_temporaries
from storyteller.runs.metrics import JsonLog
from storyteller.runs.status import State, now_utc, own_status, write_status

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.data.tokenizer import Tokenizer
    from storyteller.lm.checkpoint import Progress
    from storyteller.lm.train import Trainer

_HEARTBEAT_SECONDS = 1.0


class _StoppedEarly(BaseException):
    """A signal came before the first step: there is nothing to save."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status: 0 finished or stopped, 1 failed, 2 the words are off."""
    parser = argparse.ArgumentParser(prog="storyteller.worker", description="Train one run (started by storyteller).")
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--from", dest="from_step", type=int, help="resume from this step's checkpoint")
    given = parser.parse_args(arguments)
    return run(RunFolder(given.folder.resolve()), given.from_step)


def run(folder: RunFolder, from_step: int | None = None) -> int:
    """Train the run in this process, to its end; its exit status. A run that has checkpoints goes on from one.

    Raises RunBusyError where another process trains it; every other end is recorded in the run's status and log.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunBusyError(
            f"{folder.name} is being trained by another process", f"storyteller logs {folder.name} -f follows it"
        ) from None
    with lock:
        desk = _Desk(folder)
        try:
            with desk.at_work():
                outcome = _train(folder, desk, from_step)
        except _StoppedEarly:
            desk.end("stopped", "stopped before its first step", 0)
        except BaseException as error:  # noqa: BLE001  whatever it is, the run's status must say it
            problem = _explained(error, folder)
            if not isinstance(error, StorytellerError):
                desk.note(traceback.format_exc().rstrip())
            desk.note(f"failed: {problem}")
            desk.end("failed", str(problem), problem.exit_status)
        else:
            desk.note(f"{outcome} at step {desk.step:,}")
            desk.end(outcome, "", 0)
    return desk.exit_code


def _explained(error: BaseException, folder: RunFolder) -> StorytellerError:
    """The error as its user can use it."""
    from storyteller.lm.device import out_of_memory

    if isinstance(error, StorytellerError):
        return error
    if is_disk_full(error):
        return DiskError("the disk is full", f"free some space, then storyteller resume {folder.name}")
    if out_of_memory(error):
        return OutOfMemoryError(
            "a batch does not fit into memory", "halve --batch-size and double --set accumulate, or lower --context"
        )
    return RunError(
        f"unexpected {type(error).__name__}: {error}", f"storyteller logs {folder.name} has the whole traceback"
    )


# --- setting up -------------------------------------------------------------------------------------------------------


def _train(folder: RunFolder, desk: _Desk, from_step: int | None) -> State:
    trainer = _set_up(folder, desk, from_step)
    desk.narrator = _Narrator(folder, desk, trainer.tokenizer, trainer.config)
    try:
        desk.ready(trainer.progress)
        return trainer.train()
    finally:
        trainer.source.close()
        desk.narrator.close()


def _set_up(folder: RunFolder, desk: _Desk, from_step: int | None) -> Trainer:
    """Everything that the loop needs: corpus, tokenizer, held-out stories, model, and where to go on from."""
    from storyteller.data.batches import Batches, Prefetched
    from storyteller.data.corpus import Stories, held_out_stories, open_corpus
    from storyteller.lm import checkpoint, device
    from storyteller.lm.model import Shape, seeded
    from storyteller.lm.optim import Optimizers
    from storyteller.lm.train import Trainer

    plan = folder.read_run()
    config = Config.from_json(plan["config"])
    sweep_temporaries(folder.path)
    checkpoints.sweep(folder)
    found = _checkpoint(folder, desk, from_step)
    machine = device.choose(config.train)
    desk.note(f"device: {machine.device.type}, {machine.precision}, {machine.threads} threads")

    known = plan.get("data") or {}
    data = dataclasses.replace(config.data, source=known["kind"]) if known.get("kind") in _NAMED else config.data
    corpus = open_corpus(data, seed=config.train.seed, revision=known.get("revision"), say=desk.note)
    for line in corpus.notes:
        desk.note(line)
    held_out, keys = held_out_stories(corpus, data, limit=config.train.eval_stories)
    tokenizer = _tokenizer(folder, desk, config, Stories(corpus, data, seed=config.train.seed, held_out=keys))

    model = seeded(Shape.of(config.model, tokenizer.vocab_size), config.train.seed).to(machine.device)
    optimizers = Optimizers(model, config.train)
    progress = checkpoint.load_training(found, model, optimizers) if found else checkpoint.Progress()
    position = progress.position
    stories = Stories(
        corpus, data, seed=config.train.seed, held_out=keys, position=position["stories"] if position else None
    )
    batches = Batches(
        stories,
        tokenizer,
        batching=config.data.batching,
        context=config.model.context,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        position=position,
    )
    peak = device.peak_flops(machine)
    if not known:
        facts = {
            "data": {**corpus.description, "held_out_stories": len(held_out)},
            "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256},
            "model": {
                **dataclasses.asdict(model.shape),
                "parameters": model.n_parameters(),
                "parameters_without_embeddings": model.n_parameters(embeddings=False),
            },
            "host": {
                **plan.get("host", {}),
                **machine.describe(),
                "largest_matrix_product_gflops": round(peak / 1e9, 1),
            },
        }
        folder.write_run(plan | facts)
    desk.note(
        f"model: {model.n_parameters():,} parameters, {config.model.n_layer} layers, width {config.model.n_embd}, "
        f"context {config.model.context}, vocabulary {tokenizer.vocab_size:,}"
    )
    if progress.step:
        desk.note(f"resuming from step {progress.step:,}")
    return Trainer(
        folder=folder,
        config=config,
        machine=machine,
        model=model,
        optimizers=optimizers,
        tokenizer=tokenizer,
        source=Prefetched(batches),
        held_out=held_out,
        observer=desk,
        progress=progress,
        peak_flops=peak,
    )


_NAMED = ("tinystories", "bundled")


def _checkpoint(folder: RunFolder, desk: _Desk, from_step: int | None) -> Path | None:
    """The checkpoint to go on from, verified; None for a run that has none yet."""
    if from_step is not None:
        path = folder.checkpoint(from_step)
        if from_step not in checkpoints.steps(folder):
            there = ", ".join(str(step) for step in checkpoints.steps(folder)) or "none"
            raise RunError(f"{folder.name} has no checkpoint of step {from_step}", f"it has {there}")
        checkpoints.verify(path)
        checkpoints.forget_after(folder, from_step)
        return path
    if not checkpoints.steps(folder):
        return None
    path, skipped = checkpoints.newest_good(folder)
    for error in skipped:
        desk.note(f"{error.problem}; going on from an earlier checkpoint")
    return path


def _tokenizer(folder: RunFolder, desk: _Desk, config: Config, stories: Any) -> Tokenizer:
    """The run's tokenizer: loaded where it has one already, else trained or fetched, and kept in the run."""
    from storyteller.data import tokenizer as tokenizers

    if (folder.tokenizer / "tokenizer.json").is_file():
        return tokenizers.load(folder.tokenizer, (folder.read_run().get("tokenizer") or {}).get("kind", "folder"))
    if config.data.tokenizer == "bpe":
        begin = time.perf_counter()
        n_bytes = config.data.tokenizer_mib << 20
        texts = _one_pass(stories)
        trained = tokenizers.train_bpe(texts, config.data.vocab_size, n_bytes, desk.progress("training the tokenizer"))
        desk.note(f"tokenizer: {trained.vocab_size:,} entries, trained in {time.perf_counter() - begin:.1f} s")
    else:
        trained = tokenizers.open_tokenizer(config.data.tokenizer)
        desk.note(f"tokenizer: {config.data.tokenizer}, {trained.vocab_size:,} entries")
    trained.save(folder.tokenizer, config.model.context)
    return trained


def _one_pass(stories: Any) -> Iterator[str]:
    """The training stories of the first pass."""
    iterator = iter(stories)
    try:
        for story, position in iterator:
            yield story
            if position["epoch"] > 0:  # the position is the one after the story: that was the pass's last
                return
    finally:
        iterator.close()


# --- the desk: who hears of the run's life ----------------------------------------------------------------------------


class _Desk:
    """Signals in, status and log out. The loop's observer; writes nothing to the disk while the loop waits for it."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.exit_code = 1
        self.step = self.tokens = 0
        self.narrator: _Narrator | None = None
        self._message = ""
        self._state: State = "starting"
        self._stop = threading.Event()
        self._over = threading.Event()
        self._in_loop = False

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Heartbeats and signal handlers, for as long as this lasts."""
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        self._write_status()
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            yield
        finally:
            self._over.set()
            heart.join()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def ready(self, progress: Progress) -> None:
        """Set-up is over: from here on a signal lets the step finish."""
        self._in_loop = True
        self.at(progress, waiting=False)
        self._write_status()

    def end(self, state: State, message: str, exit_code: int) -> None:
        """The last status of this process."""
        self._state, self._message, self.exit_code = state, message, exit_code
        self._write_status(exit_code)

    def progress(self, what: str) -> Any:
        """A listener for the share that is done of something before the first step; shown as the status's message."""

        def say(share: float) -> None:
            self._message = f"{what}, {share:.0%}"

        return say

    # What the loop tells (`lm.train.Observer`):

    def stop_asked(self) -> bool:
        return self._stop.is_set()

    def at(self, progress: Progress, waiting: bool) -> None:
        self.step, self.tokens = progress.step, progress.tokens
        self._message = "waiting for stories" if waiting else ""
        if not self._stop.is_set():
            self._state = "waiting" if waiting else "running"

    def evaluated(self, progress: Progress, weights: dict[str, Tensor]) -> None:
        if self.narrator is not None:
            self.narrator.ask(progress.step, weights)

    def note(self, line: str) -> None:
        """A line for the run's log; training goes on where it cannot be written."""
        stamped = f"{time.strftime('%H:%M:%S')} {line}\n"
        try:
            with self.folder.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(stamped)
        except OSError as error:
            print(f"the log cannot be written ({error.strerror}): {line}", file=sys.stderr)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            os._exit(128 + number)
        self._stop.set()
        self._state = "stopping"
        if not self._in_loop:
            raise _StoppedEarly

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            self._write_status()

    def _write_status(self, exit_code: int | None = None) -> None:
        status = own_status(self._state, step=self.step, tokens=self.tokens, message=self._message, exit_code=exit_code)
        try:
            write_status(self.folder, status)
        except OSError as error:
            print(f"the status cannot be written ({error.strerror})", file=sys.stderr)


# --- stories told while training goes on ------------------------------------------------------------------------------


class _Narrator:
    """Tells a story from each evaluation's weights, on a thread of its own: training does not wait for it.

    The same prompts and seed each time, so that the samples show one story growing up. While one is being told, later
    weights take the place of those that wait.
    """

    def __init__(self, folder: RunFolder, desk: _Desk, tokenizer: Tokenizer, config: Config) -> None:
        self._folder = folder
        self._desk = desk
        self._tokenizer = tokenizer
        self._config = config
        self._queue: queue.Queue[tuple[int, dict[str, Tensor]] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="narrator", daemon=True)
        self._thread.start()

    def ask(self, step: int, weights: dict[str, Tensor]) -> None:
        """Have stories told from `weights` as soon as may be."""
        while not self._queue.empty():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                break
        self._queue.put((step, weights))

    def close(self, timeout_seconds: float = 15.0) -> None:
        """Let the newest story be told to its end."""
        self._queue.put(None)
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while (asked := self._queue.get()) is not None:
            step, weights = asked
            try:
                self._tell(step, weights)
            except Exception as error:  # noqa: BLE001  a story that cannot be told is no reason to stop training
                self._desk.note(f"no story at step {step:,} ({type(error).__name__}: {error})")

    def _tell(self, step: int, weights: dict[str, Tensor]) -> None:
        from storyteller.engine import engine_from_memory
        from storyteller.lm.checkpoint import hf_config
        from storyteller.lm.model import Shape

        shape = Shape.of(self._config.model, self._tokenizer.vocab_size)
        engine = engine_from_memory(
            {name: tensor.numpy() for name, tensor in weights.items()},
            hf_config(shape, self._tokenizer.end_id),
            self._tokenizer.to_json(),
            threads=1,
        )
        sample = Sample(max_tokens=min(200, shape.context), seed=self._config.train.seed % 2**32)
        stories = engine.batch(PROMPTS, sample)
        with JsonLog(self._folder.samples) as log:
            for story in stories:
                record = {"step": step, "time": now_utc(), "prompt": story.prompt, "text": story.text}
                log.append(record | {"seed": story.seed, "finished": story.finished})
        told = " ".join((stories[0].prompt + stories[0].text).split())
        self._desk.note(f"a story at step {step:,}: {told}")


if __name__ == "__main__":
    sys.exit(main())

"""The body of the training process: sets a run up, trains it, and records how it ended, whatever that is.

Started by `daemon` as `python -m storyteller.worker RUN_FOLDER`, or called by `train --foreground`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config import Config, Data
from storyteller.desk import Desk, StoppedEarly
from storyteller.errors import (
    CorpusError,
    DiskError,
    OutOfMemoryError,
    RunBusyError,
    RunError,
    StorytellerError,
    is_disk_full,
)
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder, sweep_temporaries
from storyteller.runs.status import State

if TYPE_CHECKING:
    from storyteller.data.corpus import Source, Stories
    from storyteller.data.tokenizer import Tokenizer
    from storyteller.lm.train import Trainer


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

    try:
        lock = FileLock(folder.lock).acquire(timeout=0)
    except Timeout:
        raise RunBusyError(
            f"{folder.name} is being trained by another process", f"storyteller logs {folder.name} -f follows it"
        ) from None
    with lock:
        desk = Desk(folder)
        try:
            with desk.at_work():
                outcome = _train(folder, desk, from_step)
        except StoppedEarly:
            desk.note("stopped before its first step")
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


def _train(folder: RunFolder, desk: Desk, from_step: int | None) -> State:
    from storyteller.narrator import Narrator

    stories, trainer = _set_up(folder, desk, from_step)
    narrator = desk.teller = Narrator(folder, trainer.tokenizer, trainer.config, desk.note)
    try:
        desk.ready(trainer.progress)
        return trainer.train()
    finally:
        trainer.source.close()
        narrator.close()
        desk.note(_counted(stories))


# --- setting up -------------------------------------------------------------------------------------------------------


def _set_up(folder: RunFolder, desk: Desk, from_step: int | None) -> tuple[Stories, Trainer]:
    """All that the loop needs: stories, tokenizer, model, and where to go on from."""
    from storyteller.data.batches import Batches, Prefetched
    from storyteller.data.corpus import Stories, held_out_stories
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
    peak = device.peak_flops(machine)
    desk.note(f"device: {machine.device.type}, {machine.precision}, {machine.threads} threads")

    corpus, data = _corpus(folder, desk, plan.get("data") or {}, config.data)
    held_out, keys = held_out_stories(corpus, data, limit=config.train.eval_stories)
    tokenizer = _tokenizer(folder, desk, config, Stories(corpus, data, seed=config.train.seed, held_out=keys))
    model = seeded(Shape.of(config.model, tokenizer.vocab_size), config.train.seed).to(machine.device)
    optimizers = Optimizers(model, config.train)
    progress = checkpoint.load_training(found, model, optimizers) if found else checkpoint.Progress()
    desk.note(
        f"model: {model.n_parameters():,} parameters, {config.model.n_layer} layers, width {config.model.n_embd}, "
        f"context {config.model.context}, vocabulary {tokenizer.vocab_size:,}"
    )
    if "model" not in plan:
        host = {**plan.get("host", {}), **machine.describe(), "largest_matrix_product_gflops": round(peak / 1e9, 1)}
        facts = {
            "data": {**corpus.description, "held_out_stories": len(held_out)},
            "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256},
            "model": {
                **dataclasses.asdict(model.shape),
                "parameters": model.n_parameters(),
                "parameters_without_embeddings": model.n_parameters(embeddings=False),
            },
            "host": host,
        }
        folder.write_run(plan | facts)
    if progress.step:
        desk.note(f"resuming from step {progress.step:,}")
    position = progress.position
    at = position["stories"] if position else None
    stories = Stories(corpus, data, seed=config.train.seed, held_out=keys, position=at)
    batches = Batches(
        stories,
        tokenizer,
        batching=config.data.batching,
        context=config.model.context,
        batch_size=config.train.batch_size,
        accumulate=config.train.accumulate,
        position=position,
    )
    return stories, Trainer(
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


def _corpus(folder: RunFolder, desk: Desk, known: Mapping[str, Any], data: Data) -> tuple[Source, Data]:
    """The source of stories, and the settings with what `auto` came to; on a resume the same as at the beginning."""
    from storyteller.data.corpus import open_corpus

    if known.get("kind") in ("tinystories", "bundled"):
        data = dataclasses.replace(data, source=known["kind"])
    corpus = open_corpus(data, revision=known.get("revision"), say=desk.note)
    desk.listen(corpus.notes)
    if known and known.get("fingerprint") != corpus.description.get("fingerprint"):
        raise CorpusError(
            f"the stories are not those that {folder.name} was begun with", "put the files back, or train a new run"
        )
    return corpus, data


def _counted(stories: Stories) -> str:
    """What was read and what was left out of it, in words."""
    n = stories.counts
    left_out = {
        "held out": n.held_out + n.duplicates_of_valid,
        "too short": n.too_short,
        "broken": n.broken,
        "over 1 MiB": n.too_long,
    }
    return f"stories read: {n.read:,}" + "".join(f", {count:,} {why}" for why, count in left_out.items() if count)


def _checkpoint(folder: RunFolder, desk: Desk, from_step: int | None) -> Path | None:
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


def _tokenizer(folder: RunFolder, desk: Desk, config: Config, stories: Stories) -> Tokenizer:
    """The run's tokenizer: loaded where it has one already, else trained or fetched, and kept in the run."""
    from storyteller.data import tokenizer as tokenizers

    if (folder.tokenizer / "tokenizer.json").is_file():
        return tokenizers.load(folder.tokenizer, (folder.read_run().get("tokenizer") or {}).get("kind", "folder"))
    if config.data.tokenizer == "bpe":
        begin = time.perf_counter()
        texts, n_bytes = _one_pass(stories), config.data.tokenizer_mib << 20
        trained = tokenizers.train_bpe(texts, config.data.vocab_size, n_bytes, desk.progress("training the tokenizer"))
        texts.close()
        desk.note(f"tokenizer: {trained.vocab_size:,} entries, trained in {time.perf_counter() - begin:.1f} s")
    else:
        trained = tokenizers.open_tokenizer(config.data.tokenizer)
        desk.note(f"tokenizer: {config.data.tokenizer}, {trained.vocab_size:,} entries")
    trained.save(folder.tokenizer, config.model.context)
    return trained


def _one_pass(stories: Stories) -> Generator[str, None, None]:
    """The training stories of the first pass."""
    iterator = iter(stories)
    try:
        for story, position in iterator:
            yield story
            if position["epoch"] > 0:  # the position is the one after the story: that was the pass's last
                return
    finally:
        iterator.close()


if __name__ == "__main__":
    sys.exit(main())

"""The body of the training process: sets a run up, trains it, and records how it ended, whatever that is.

Started by `daemon` as `python -m storyteller.worker RUN_FOLDER`, or called by `train --foreground`. With `--nproc` it
leads several such processes (`fleet`), each of which is a worker too (`--member-of`).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from storyteller import fleet
from storyteller.config import Config, Data
from storyteller.desk import Desk, Quiet, StoppedEarly
from storyteller.errors import (
    CorpusError,
    DiskError,
    PeerLostError,
    RunBusyError,
    RunError,
    StorytellerError,
    is_disk_full,
)
from storyteller.fleet import Fleet
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder, fsync_files, sweep_temporaries
from storyteller.runs.status import State, owned_by

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from storyteller.data.batches import Prefetched
    from storyteller.data.corpus import Source, Stories
    from storyteller.data.tokenizer import Tokenizer
    from storyteller.lm.distributed import Alone, Group
    from storyteller.lm.model import GPT
    from storyteller.lm.progress import Progress
    from storyteller.lm.train import Observer, Trainer


_SAME_FAILURE_SECONDS = 5.0
"""For so long a process whose training failed waits whether the first one's did too, and was recorded."""
_LAST_STORY_SECONDS = 15.0
_NAMED_SOURCES = ("tinystories", "bundled")


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status: 0 finished or stopped, 1 failed, 2 the words are off."""
    parser = argparse.ArgumentParser(prog="storyteller.worker", description="Train one run (started by storyteller).")
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--from", dest="from_step", type=int, help="resume from this step's checkpoint")
    parser.add_argument("--nproc", type=int, default=1, help="processes on this machine")
    parser.add_argument("--nnodes", type=int, default=1, help="machines")
    parser.add_argument("--node-rank", type=int, default=0, help="which of them this is")
    parser.add_argument("--rendezvous", default="", help="HOST:PORT of the first machine")
    parser.add_argument("--member-of", type=int, help="be one of the processes under the one of this pid")
    parser.add_argument("--scratch", type=Path, help="where that one looks for what its members leave")
    given = parser.parse_args(arguments)
    try:
        if given.member_of is not None:
            return _member(given.folder, given.from_step, given.member_of, given.scratch)
        of = Fleet(given.nproc, given.nnodes, given.node_rank, given.rendezvous)
        return run(RunFolder(given.folder.resolve()), given.from_step, of)
    except StorytellerError as error:
        print(f"storyteller: {error}", file=sys.stderr)
        return error.exit_status


def leave(status: int) -> NoReturn:
    """End this process at once, all of it being recorded.

    The interpreter's own end aborts now and then where a thread still waits for a server, or a stream was left open.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def run(folder: RunFolder, from_step: int | None = None, of: Fleet | None = None) -> int:
    """Train the run in this process, or in the fleet's, to its end; its exit status.

    A run that has checkpoints goes on from one.

    Raises RunBusyError where another process trains it, DiskError where its lock cannot be made; every other end is
    recorded in the run's status and log.
    """
    with _lock(folder):
        if of is not None and of.size > 1:
            return fleet.lead(folder, of, from_step)
        desk = Desk(folder)
        with desk.at_work():
            desk.end(*_trained(folder, desk, from_step, _alone))
    return desk.exit_code


def _alone() -> Alone:
    from storyteller.lm.distributed import Alone

    return Alone()


def _lock(folder: RunFolder) -> BaseFileLock:
    """The run's lock, taken; the system gives it back however this process ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunBusyError(
            f"{folder.name} is being trained by another process", f"storyteller logs {folder.name} -f follows it"
        ) from None
    except OSError as error:
        raise DiskError(f"the lock of {folder.name} cannot be taken ({error.strerror})", "look at the disk") from error
    return lock


def _trained(folder: RunFolder, desk: Desk, from_step: int | None, join: Callable[[], Alone]) -> tuple[State, str, int]:
    """Train; how it ended: state, message, exit status. Raises PeerLostError alone, whose reason others know."""
    try:
        outcome = _train(folder, desk, from_step, join)
    except PeerLostError:
        raise
    except StoppedEarly:
        message = "stopped before its first step" if desk.step == 0 else f"stopped before it went on from {desk.step:,}"
        desk.note(message)
        return "stopped", message, 0
    except BaseException as error:  # noqa: BLE001  whatever it is, the run's status must say it
        problem = _explained(error, folder.name)
        if not isinstance(error, StorytellerError):
            desk.note(traceback.format_exc().rstrip())
        desk.note(f"failed: {problem}")
        return "failed", str(problem), problem.exit_status
    desk.note(f"{outcome} at step {desk.step:,}")
    return outcome, "", 0


def _explained(error: BaseException, name: str) -> StorytellerError:
    """The error as its user can use it."""
    if isinstance(error, StorytellerError):
        return error
    if is_disk_full(error):
        return DiskError("the disk is full", f"free some space, then storyteller resume {name}")
    with contextlib.suppress(ImportError):  # an installation without a whole torch comes here too
        from storyteller.lm import memory

        if memory.ran_out(error):
            return memory.explained(error, "what training needs")
    return RunError(f"unexpected {type(error).__name__}: {error}", f"storyteller logs {name} has the whole traceback")


def _train(folder: RunFolder, desk: Desk, from_step: int | None, join: Callable[[], Alone]) -> State:
    from storyteller.narrator import Narrator

    with desk.setting_up():
        stories, trainer = _set_up(folder, desk, from_step, join())
    narrator = desk.teller = Narrator(folder, trainer.tokenizer, trainer.config, desk.note)
    try:
        desk.ready(trainer.progress)
        return trainer.train()
    finally:
        in_order = not isinstance(sys.exception(), PeerLostError)
        if in_order:
            trainer.group.ending()
        trainer.source.close()
        patience_seconds = _LAST_STORY_SECONDS if not desk.stop_asked() else _LAST_STORY_SECONDS / 5
        narrator.close(patience_seconds if in_order else 0.0)
        desk.note(_counted(stories))


# --- one of several processes -----------------------------------------------------------------------------------------


def _member(path: Path, from_step: int | None, leader: int, scratch: Path) -> int:
    """One of a fleet's processes, which torchrun has started; its exit status is 0 where the run's end is recorded."""
    threading.Thread(target=_outlive_nobody, name="lifeline", daemon=True).start()
    if int(os.environ["RANK"]) > 0:
        return _take_part(path, scratch)
    folder = RunFolder(path)
    _print_to(folder)
    joined: list[Group] = []

    def join() -> Group:
        from storyteller.lm import distributed

        joined.append(distributed.join())
        return joined[0]

    desk = Desk(folder, owned_by("starting", leader))
    try:
        with desk.at_work():
            how = _trained(folder, desk, from_step, join)
            desk.end(*how)
        joined[0].end(*how)
    except (PeerLostError, IndexError):  # the leader tells why, or nobody has come yet who could be told
        return 1
    return 0


def _take_part(path: Path, scratch: Path) -> int:
    """A process after the first: it trains what that one says, and leaves a word where it alone fails."""
    from storyteller.lm import distributed

    if path.is_absolute():  # on another machine there is no run folder
        _print_to(RunFolder(path))
    quiet, patience_seconds = Quiet(), math.inf
    group: Group | None = None
    over: Mapping[str, Any] | None = None
    with quiet.at_work():
        try:
            group = distributed.join()
            if (plan := group.await_plan()) is not None:
                trainer = _set_up_beside(plan, group, quiet)
                try:
                    trainer.train()
                finally:
                    trainer.source.close()
        except PeerLostError:
            patience_seconds = _SAME_FAILURE_SECONDS
        except BaseException as error:  # noqa: BLE001  whatever it is, the run's status must say it
            patience_seconds = _SAME_FAILURE_SECONDS
            if not isinstance(error, StorytellerError):
                traceback.print_exc()
            fleet.leave_failure(scratch, int(os.environ["RANK"]), _explained(error, path.name))
        with contextlib.suppress(PeerLostError):
            over = group.await_over(patience_seconds) if group is not None else None
    if over is not None and os.environ["LOCAL_RANK"] == "0":
        fleet.leave_end(scratch, over["state"], over["message"], over["exit_code"])
    return 0 if over is not None else 1


def _outlive_nobody() -> None:
    """End this process when its leader has ended: the other end of the pipe that it reads is closed then."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _print_to(folder: RunFolder) -> None:
    """What this process prints goes to the run's log."""
    with folder.log.open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)


# --- setting up -------------------------------------------------------------------------------------------------------


def _set_up(folder: RunFolder, desk: Desk, from_step: int | None, group: Alone) -> tuple[Stories, Trainer]:
    """All that the loop needs: stories, tokenizer, model, and where to go on from; the group's others are told it."""
    from storyteller.data.corpus import Stories
    from storyteller.lm import checkpoint, device, memory
    from storyteller.lm.distributed import Group
    from storyteller.lm.model import Shape, seeded
    from storyteller.lm.optim import Optimizers
    from storyteller.lm.progress import Progress
    from storyteller.lm.train import Trainer

    plan = folder.read_run()
    config = Config.from_json(plan["config"])
    sweep_temporaries(folder.path)
    checkpoints.sweep(folder)
    found = _checkpoint(folder, desk, from_step)
    machine = group.machine(config.train)
    peak = device.peak_flops(machine)
    threads = f"{machine.threads} threads" + (f" in each of {group.size} processes" if group.size > 1 else "")
    desk.note(f"device: {machine.device.type}, {machine.precision}, {threads}")

    corpus, data = desk.wait_for(lambda: _corpus(folder, desk, plan.get("data") or {}, config.data))
    held_out, keys = desk.wait_for(lambda: _held_out(folder, corpus, data, limit=config.train.eval_stories))
    first_pass = Stories(corpus, data, seed=config.train.seed, held_out=keys)
    tokenizer = desk.wait_for(lambda: _tokenizer(folder, desk, config, first_pass))
    shape = Shape.of(config.model, tokenizer.vocab_size)
    memory.check_fits(shape, config, machine)
    with memory.naming(f"a model of {shape.n_parameters():,} parameters"):
        model = seeded(shape, config.train.seed).to(machine.device)
    optimizers = Optimizers(model, config.train)
    progress = checkpoint.load_training(found, model, optimizers) if found else Progress()
    desk.note(
        f"model: {model.n_parameters():,} parameters, {config.model.n_layer} layers, width {config.model.n_embd}, "
        f"context {config.model.context}, vocabulary {tokenizer.vocab_size:,}"
    )
    if "model" not in plan:
        host = {**machine.describe(), "largest_matrix_product_gflops": round(peak / 1e9, 1)}
        host |= {"processes": group.size} if group.size > 1 else {}
        data_facts = {**corpus.description, "held_out_stories": len(held_out)}
        folder.write_run(plan | _facts(plan, data_facts, tokenizer, model, host))
    desk.step, desk.tokens = progress.step, progress.tokens
    if progress.step:
        desk.note(f"resuming from step {progress.step:,}")
    if isinstance(group, Group):
        others = _plan_for_others(config, data, corpus, held_out, keys, tokenizer, progress)
        group.share_plan(others | {"name": folder.name})
    group.share_state(model, optimizers)
    stories, source = _source(config, corpus, data, keys, tokenizer, progress, group)
    return stories, Trainer(
        folder=folder,
        config=config,
        machine=machine,
        model=model,
        optimizers=optimizers,
        tokenizer=tokenizer,
        source=source,
        held_out=held_out,
        observer=desk,
        progress=progress,
        peak_flops=peak,
        patience_seconds=corpus.patience_seconds,
        group=group,
    )


def _source(
    config: Config,
    corpus: Source,
    data: Data,
    keys: frozenset[bytes],
    tokenizer: Tokenizer,
    progress: Progress,
    group: Alone,
) -> tuple[Stories, Prefetched]:
    """The training stories from the run's position on, and this process's share of their batches."""
    from storyteller.data.batches import Batches, Prefetched, steps_ahead
    from storyteller.data.corpus import Stories

    position, rows = progress.position, config.train.batch_size * config.train.accumulate
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
        rank=group.rank,
        processes=group.size,
    )
    return stories, Prefetched(batches, steps_ahead(rows * config.model.context))


def _plan_for_others(
    config: Config,
    data: Data,
    corpus: Source,
    held_out: Sequence[str],
    keys: frozenset[bytes],
    tokenizer: Tokenizer,
    progress: Progress,
) -> dict[str, Any]:
    """What the other processes cannot know, as JSON: they need not see the run folder."""
    kind, revision = corpus.description.get("kind"), corpus.description.get("revision")
    return {
        "config": dataclasses.replace(
            config, data=dataclasses.replace(data, source=kind) if kind in _NAMED_SOURCES else data
        ).to_json(),
        "revision": revision,
        "fingerprint": corpus.description.get("fingerprint"),
        "held_out": list(held_out),
        "keys": [key.hex() for key in keys],
        "tokenizer": {"json": tokenizer.to_json(), "end_of_text": tokenizer.end_of_text, "kind": tokenizer.kind},
        "progress": dataclasses.asdict(progress),
    }


def _set_up_beside(plan: Mapping[str, Any], group: Group, observer: Observer) -> Trainer:
    """What the loop needs in a process after the first, from what that one told."""
    import tokenizers

    from storyteller.data.corpus import open_corpus
    from storyteller.data.tokenizer import Tokenizer
    from storyteller.lm.model import Shape, seeded
    from storyteller.lm.optim import Optimizers
    from storyteller.lm.progress import Progress
    from storyteller.lm.train import Trainer

    config, told = Config.from_json(plan["config"]), plan["tokenizer"]
    machine = group.machine(config.train)
    corpus = open_corpus(config.data, revision=plan["revision"])
    if corpus.description.get("fingerprint") != plan["fingerprint"]:
        raise CorpusError(
            "the stories here are not those of the first process", "put the same files at the same place everywhere"
        )
    fast = tokenizers.Tokenizer.from_str(told["json"])
    tokenizer = Tokenizer(fast, told["end_of_text"], told["kind"])
    model = seeded(Shape.of(config.model, tokenizer.vocab_size), config.train.seed).to(machine.device)
    optimizers = Optimizers(model, config.train)
    group.share_state(model, optimizers)
    progress, keys = Progress(**plan["progress"]), frozenset(bytes.fromhex(key) for key in plan["keys"])
    _, source = _source(config, corpus, config.data, keys, tokenizer, progress, group)
    return Trainer(
        folder=RunFolder(Path(plan["name"])),  # for its name alone: nothing is written here
        config=config,
        machine=machine,
        model=model,
        optimizers=optimizers,
        tokenizer=tokenizer,
        source=source,
        held_out=plan["held_out"],
        observer=observer,
        progress=progress,
        patience_seconds=corpus.patience_seconds,
        group=group,
    )


def _facts(
    plan: Mapping[str, Any], data: Mapping[str, Any], tokenizer: Tokenizer, model: GPT, host: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.json` says beyond the plan, once it is known."""
    return {
        "data": dict(data),
        "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.sha256},
        "model": {
            **dataclasses.asdict(model.shape),
            "parameters": model.n_parameters(),
            "parameters_without_embeddings": model.n_parameters(embeddings=False),
        },
        "host": {**plan.get("host", {}), **host},
    }


def _corpus(folder: RunFolder, desk: Desk, known: Mapping[str, Any], data: Data) -> tuple[Source, Data]:
    """The source of stories, and the settings with what `auto` came to; on a resume the same as at the beginning."""
    from storyteller.data.corpus import open_corpus

    if known.get("kind") in _NAMED_SOURCES:
        data = dataclasses.replace(data, source=known["kind"])
    corpus = open_corpus(data, revision=known.get("revision"), say=desk.tell)
    desk.listen(corpus.notes)
    if known and known.get("fingerprint") != corpus.description.get("fingerprint"):
        raise CorpusError(
            f"the stories are not those that {folder.name} was begun with", "put the files back, or train a new run"
        )
    return corpus, data


def _held_out(folder: RunFolder, corpus: Source, data: Data, limit: int) -> tuple[list[str], frozenset[bytes]]:
    """The run's held-out stories and the keys that training leaves out: chosen once, then kept in its folder."""
    from storyteller.data import held_out
    from storyteller.data.corpus import held_out_stories

    found = held_out.kept(folder.held_out)
    if found is None:
        found = held_out_stories(corpus, data, limit=limit)
        held_out.keep(folder.held_out, *found)
    return found


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

    # Only one that the run's plan knows of is whole: a kill can leave half of one.
    if known := folder.read_run().get("tokenizer"):
        return tokenizers.load(folder.tokenizer, known.get("kind", "folder"))
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
    fsync_files(folder.tokenizer)
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
    leave(main())

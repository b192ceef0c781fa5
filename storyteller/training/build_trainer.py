"""A run's parts, put together before the first step: stories, tokenizer, model, and where to go on from."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import Config, DataConfig
from storyteller.errors import CorpusError, RunError
from storyteller.system.files import fsync_files, sweep_temporaries
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.training.status_reporter import StatusReporter

if TYPE_CHECKING:
    from storyteller.data.batches import Prefetcher
    from storyteller.data.disk_cache import DiskCache
    from storyteller.data.sources import StorySource
    from storyteller.data.story_stream import StoryStream
    from storyteller.data.tokenizer import Tokenizer
    from storyteller.model.device import ComputeDevice
    from storyteller.model.gpt2 import GPT
    from storyteller.training.distributed import ProcessGroup, SingleProcess
    from storyteller.training.train_state import TrainState
    from storyteller.training.trainer import Observer, Trainer

_NAMED_SOURCES = ("tinystories", "bundled")


def set_up(
    folder: RunFolder, desk: StatusReporter, from_step: int | None, joined: ProcessGroup | None = None
) -> tuple[StoryStream, Trainer]:
    """All that the loop needs: stories, tokenizer, model, and where to go on from; the others of a group are told it."""
    from storyteller.data.disk_cache import open_cache
    from storyteller.data.story_stream import StoryStream

    plan = folder.read_run()
    config = Config.from_json(plan["config"])
    sweep_temporaries(folder.path)
    checkpoint_folders.sweep(folder)
    found = _checkpoint(folder, desk, from_step)
    corpus, data = desk.wait_for(lambda: _corpus(folder, desk, plan.get("data") or {}, config.data))
    store = open_cache(data.cache_gib, corpus.notes.append)

    from storyteller.model import cpu_threads, device, memory
    from storyteller.model.gpt2 import Shape, seeded
    from storyteller.training import checkpoint, compile_step
    from storyteller.training.distributed import SingleProcess
    from storyteller.training.optimizers import Optimizers
    from storyteller.training.train_state import TrainState
    from storyteller.training.trainer import Trainer

    group = joined or SingleProcess()
    machine = group.machine(config.train)
    peak = device.peak_flops(machine)
    threads = f"{machine.threads} threads" + (f" in each of {group.size} processes" if group.size > 1 else "")
    desk.note(f"device: {machine.device.type}, {machine.precision}, {threads}")

    held_out, keys = desk.wait_for(lambda: _held_out(folder, corpus, data, config.train.eval_stories, store))
    first_pass = StoryStream(corpus, data, seed=config.train.seed, held_out=keys)
    tokenizer = desk.wait_for(lambda: _tokenizer(folder, desk, config, corpus, first_pass, keys, store))
    shape = Shape.of(config.model, tokenizer.vocab_size)
    memory.check_fits(shape, config, machine)
    with memory.explain_out_of_memory(f"a model of {shape.n_parameters():,} parameters"):
        model = seeded(shape, config.train.seed).to(machine.device)
    among = cpu_threads.choose_cpu_threads(machine, shape.dropout, compile_step.is_wanted(config, machine))
    optimizers = Optimizers(model, config.train, among)
    progress = checkpoint.load_training(found, model, optimizers) if found else TrainState()
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
    if joined is not None:
        others = _plan_for_others(config, data, corpus, held_out, keys, tokenizer, progress)
        joined.share_plan(others | {"name": folder.name})
    group.share_state(model, optimizers)
    rows = _ready_step(model, config, machine, group, desk.note)
    stories, source = _source(config, corpus, data, keys, tokenizer, progress, group, rows)
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
        among=among,
    )


def _ready_step(
    model: GPT, config: Config, machine: ComputeDevice, group: SingleProcess, note: Callable[[str], None]
) -> int:
    """Make the step as quick as it gets here; the rows that go through the model at once."""
    from storyteller.model import memory
    from storyteller.training import compile_step

    rows = memory.rows_at_once(model.shape, config, machine, group.size)
    if rows != config.train.batch_size:
        note(f"a step of {config.train.batch_size * config.train.accumulate:,} rows is taken {rows:,} at a time")
    if compile_step.is_wanted(config, machine):
        note("compiling the step, which takes about half a minute")
        note(compile_step.speed_up(model, config, machine, rows))
    return rows


def _source(
    config: Config,
    corpus: StorySource,
    data: DataConfig,
    keys: frozenset[bytes],
    tokenizer: Tokenizer,
    progress: TrainState,
    group: SingleProcess,
    rows_at_once: int,
) -> tuple[StoryStream, Prefetcher]:
    """The training stories from the run's position on, and this process's share of their batches."""
    from storyteller.data.batches import Batches, Prefetcher, prefetch_steps
    from storyteller.data.story_stream import StoryStream

    position, rows = progress.position, config.train.batch_size * config.train.accumulate
    at, seed = position["stories"] if position else None, config.train.seed
    stories = StoryStream(corpus, data, seed=seed, held_out=keys, position=at)
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
        rows_at_once=rows_at_once,
    )
    return stories, Prefetcher(batches, prefetch_steps(rows * config.model.context))


def _plan_for_others(
    config: Config,
    data: DataConfig,
    corpus: StorySource,
    held_out: Sequence[str],
    keys: frozenset[bytes],
    tokenizer: Tokenizer,
    progress: TrainState,
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


def set_up_beside(plan: Mapping[str, Any], group: ProcessGroup, observer: Observer) -> Trainer:
    """What the loop needs in a process after the first, from what that one told."""
    import tokenizers

    from storyteller.data.sources import open_corpus
    from storyteller.data.tokenizer import Tokenizer
    from storyteller.model import cpu_threads
    from storyteller.model.gpt2 import Shape, seeded
    from storyteller.training import compile_step
    from storyteller.training.optimizers import Optimizers
    from storyteller.training.train_state import TrainState
    from storyteller.training.trainer import Trainer

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
    among = cpu_threads.choose_cpu_threads(machine, model.shape.dropout, compile_step.is_wanted(config, machine))
    optimizers = Optimizers(model, config.train, among)
    group.share_state(model, optimizers)
    progress, keys = TrainState(**plan["progress"]), frozenset(bytes.fromhex(key) for key in plan["keys"])
    rows = _ready_step(model, config, machine, group, lambda _: None)
    _, source = _source(config, corpus, config.data, keys, tokenizer, progress, group, rows)
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
        among=among,
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


def _corpus(
    folder: RunFolder, desk: StatusReporter, known: Mapping[str, Any], data: DataConfig
) -> tuple[StorySource, DataConfig]:
    """The source of stories, and the settings with what `auto` came to; on a resume the same as at the beginning."""
    from storyteller.data.sources import open_corpus

    if known.get("kind") in _NAMED_SOURCES:
        data = dataclasses.replace(data, source=known["kind"])
    corpus = open_corpus(data, revision=known.get("revision"), log=desk.tell)
    desk.listen(corpus.notes)
    if known and known.get("fingerprint") != corpus.description.get("fingerprint"):
        raise CorpusError(
            f"the stories are not those that {folder.name} was begun with", "put the files back, or train a new run"
        )
    return corpus, data


def _held_out(
    folder: RunFolder, corpus: StorySource, data: DataConfig, limit: int, store: DiskCache | None
) -> tuple[list[str], frozenset[bytes]]:
    """The run's held-out stories and the keys that training leaves out: chosen once, then kept in its folder."""
    from storyteller.data import held_out_file
    from storyteller.data.cached_setup import cached_held_out_stories

    found = held_out_file.load(folder.held_out)
    if found is None:
        found = cached_held_out_stories(corpus, data, limit, store)
        held_out_file.save(folder.held_out, *found)
    return found


def _checkpoint(folder: RunFolder, desk: StatusReporter, from_step: int | None) -> Path | None:
    """The checkpoint to go on from, verified; None for a run that has none yet."""
    if from_step is not None:
        path = folder.checkpoint(from_step)
        if from_step not in checkpoint_folders.steps(folder):
            there = ", ".join(str(step) for step in checkpoint_folders.steps(folder)) or "none"
            raise RunError(f"{folder.name} has no checkpoint of step {from_step}", f"it has {there}")
        checkpoint_folders.verify(path)
        checkpoint_folders.forget_after(folder, from_step)
        return path
    if not checkpoint_folders.steps(folder):
        return None
    path, skipped = checkpoint_folders.newest_good(folder)
    for error in skipped:
        desk.note(f"{error.problem}; going on from an earlier checkpoint")
    return path


def _tokenizer(
    folder: RunFolder,
    desk: StatusReporter,
    config: Config,
    corpus: StorySource,
    stories: StoryStream,
    keys: frozenset[bytes],
    store: DiskCache | None,
) -> Tokenizer:
    """The run's tokenizer: loaded where it has one already, else trained or fetched, and kept in the run."""
    from storyteller.data import tokenizer as tokenizers
    from storyteller.data.cached_setup import cached_tokenizer

    # Only one that the run's plan knows of is whole: a kill can leave half of one.
    if known := folder.read_run().get("tokenizer"):
        return tokenizers.load(folder.tokenizer, known.get("kind", "folder"))
    if config.data.tokenizer == "bpe":
        begin = time.perf_counter()

        def train() -> Tokenizer:
            texts, data, say = _one_pass(stories), config.data, desk.progress("training the tokenizer")
            try:
                return tokenizers.train_bpe(texts, data.vocab_size, data.tokenizer_mib << 20, say)
            finally:
                texts.close()

        trained, is_known = cached_tokenizer(corpus, config.data, config.train.seed, keys, store, train)
        how = "from the cache" if is_known else f"trained in {time.perf_counter() - begin:.1f} s"
        desk.note(f"tokenizer: {trained.vocab_size:,} entries, {how}")
    else:
        trained = tokenizers.open_tokenizer(config.data.tokenizer)
        desk.note(f"tokenizer: {config.data.tokenizer}, {trained.vocab_size:,} entries")
    trained.save(folder.tokenizer, config.model.context)
    fsync_files(folder.tokenizer)
    return trained


def _one_pass(stories: StoryStream) -> Generator[str, None, None]:
    """The training stories of the first pass."""
    iterator = iter(stories)
    try:
        for story, position in iterator:
            yield story
            if position["epoch"] > 0:  # the position is the one after the story: that was the pass's last
                return
    finally:
        iterator.close()

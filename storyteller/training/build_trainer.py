"""Builds the `Trainer` of a run before its first step: stories, tokenizer, model, and the checkpoint to resume from.

The first process (`set_up`) opens the run folder. With several processes the others (`set_up_member`) get from it what
they must agree on, a `SharedSetup`. Both end in `_build`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from storyteller.config.configs import Config, Period
from storyteller.data import held_out_file
from storyteller.data import tokenizer as tokenizer_files
from storyteller.data.batches import Batches, Prefetcher, prefetch_steps
from storyteller.data.cached_setup import cached_held_out_stories, cached_tokenizer
from storyteller.data.disk_cache import DiskCache, open_cache
from storyteller.data.sources import StorySource, open_corpus
from storyteller.data.story_stream import StoryStream
from storyteller.data.tokenizer import Tokenizer
from storyteller.errors import CorpusError, RunError
from storyteller.model import device, memory
from storyteller.model.cpu_threads import CpuThreads, choose_cpu_threads
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT, Shape, seeded
from storyteller.system.files import fsync_files, sweep_temporaries
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.training import checkpoint, compile_step
from storyteller.training.card_writer import CardWriter
from storyteller.training.distributed import ProcessGroup, SingleProcess
from storyteller.training.observer import Observer, RunObserver
from storyteller.training.optimizers import Optimizers
from storyteller.training.sample_writer import SampleWriter
from storyteller.training.status_reporter import StatusReporter
from storyteller.training.train_state import TrainState
from storyteller.training.trainer import Trainer

_NAMED_SOURCES = ("tinystories", "bundled")


@dataclass(frozen=True)
class PreparedRun:
    """A trainer, and what its process has to close or report after training."""

    trainer: Trainer
    stories: StoryStream
    samples: SampleWriter
    cards: CardWriter | None


@dataclass(frozen=True)
class SharedSetup:
    """What all processes of a run must agree on."""

    name: str
    config: Config
    """With `data.source` as the name that `auto` was resolved to."""
    revision: str | None
    """Hub commit of the stories."""
    fingerprint: str | None
    held_out: list[str]
    held_out_hashes: frozenset[bytes]
    tokenizer: Tokenizer
    progress: TrainState

    def to_json(self) -> dict[str, Any]:
        """As JSON: another process may be on a machine that does not see the run folder."""
        tokenizer = self.tokenizer
        return {
            "name": self.name,
            "config": self.config.to_json(),
            "revision": self.revision,
            "fingerprint": self.fingerprint,
            "held_out": self.held_out,
            "held_out_hashes": [digest.hex() for digest in self.held_out_hashes],
            "tokenizer": [tokenizer.to_json(), tokenizer.end_of_text, tokenizer.kind],
            "progress": dataclasses.asdict(self.progress),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SharedSetup:
        fast, end_of_text, kind = plain["tokenizer"]
        return cls(
            name=plain["name"],
            config=Config.from_json(plain["config"]),
            revision=plain["revision"],
            fingerprint=plain["fingerprint"],
            held_out=plain["held_out"],
            held_out_hashes=frozenset(map(bytes.fromhex, plain["held_out_hashes"])),
            tokenizer=Tokenizer(tokenizers.Tokenizer.from_str(fast), end_of_text, kind),
            progress=TrainState(**plain["progress"]),
        )


@dataclass(frozen=True)
class _Learner:
    """The model, and what trains it in this process."""

    machine: ComputeDevice
    model: GPT
    optimizers: Optimizers
    cpu_threads: CpuThreads

    @classmethod
    def of(cls, config: Config, machine: ComputeDevice, vocab_size: int) -> _Learner:
        """With initial weights. Raises OutOfMemoryError."""
        shape = Shape.of(config.model, vocab_size)
        memory.check_fits(shape, config, machine)
        with memory.explain_out_of_memory(f"a model of {shape.n_parameters():,} parameters"):
            model = seeded(shape, config.train.seed).to(machine.device)
        threads = choose_cpu_threads(machine, shape.dropout, compile_step.is_wanted(config, machine))
        return cls(machine, model, Optimizers(model, config.train, threads), threads)


# --- the two ways to a trainer ----------------------------------------------------------------------------------------


def set_up(
    folder: RunFolder, reporter: StatusReporter, from_step: int | None, joined: ProcessGroup | None = None
) -> PreparedRun:
    """Set up the run in the process that writes its folder, and send the others of the group what they need."""
    plan = folder.read_run()
    config = Config.from_json(plan["config"])
    sweep_temporaries(folder.path)
    checkpoint_folders.sweep(folder)
    start = _find_checkpoint(folder, reporter, from_step)
    config, corpus = reporter.wait_for(lambda: _open_corpus(folder, reporter, plan.get("data") or {}, config))
    cache = open_cache(config.data.cache_gib, corpus.notes.append)

    group = joined or SingleProcess()
    machine = group.machine(config.train)
    peak_flops = device.peak_flops(machine)
    threads = f"{machine.threads} threads" + (f" in each of {group.size} processes" if group.size > 1 else "")
    reporter.log(f"device: {machine.device.type}, {machine.precision}, {threads}")

    held_out, hashes = reporter.wait_for(lambda: _load_held_out(folder, corpus, config, cache))
    tokenizer = reporter.wait_for(lambda: _load_tokenizer(folder, reporter, config, corpus, hashes, cache))
    learner = _Learner.of(config, machine, tokenizer.vocab_size)
    progress = checkpoint.load_training(start, learner.model, learner.optimizers) if start else TrainState()
    reporter.log(
        f"model: {learner.model.n_parameters():,} parameters, {config.model.n_layer} layers, width "
        f"{config.model.n_embd}, context {config.model.context}, vocabulary {tokenizer.vocab_size:,}"
    )
    if "model" not in plan:
        host = {**machine.describe(), "largest_matrix_product_gflops": round(peak_flops / 1e9, 1)}
        host |= {"processes": group.size} if group.size > 1 else {}
        data = {**corpus.description, "held_out_stories": len(held_out)}
        folder.write_run(plan | _run_facts(plan, data, tokenizer, learner.model, host))
    reporter.resuming(progress)

    revision, fingerprint = corpus.description.get("revision"), corpus.description.get("fingerprint")
    shared = SharedSetup(folder.name, config, revision, fingerprint, held_out, hashes, tokenizer, progress)
    if joined is not None:
        joined.share_setup(shared.to_json())
    samples = SampleWriter(folder, tokenizer, config, reporter.log)
    makes_cards = Period.parse(config.train.card_every) != Period()
    cards = CardWriter(folder, tokenizer, config, reporter.log) if makes_cards else None
    observer = RunObserver(reporter, samples, cards)
    stories, trainer = _build(folder, shared, learner, corpus, group, observer, peak_flops)
    return PreparedRun(trainer, stories, samples, cards)


def set_up_member(shared: SharedSetup, group: ProcessGroup, observer: Observer) -> Trainer:
    """Set up the trainer of a process that does not write the run folder. Raises CorpusError if its stories differ."""
    machine = group.machine(shared.config.train)
    corpus = open_corpus(shared.config.data, revision=shared.revision)
    if corpus.description.get("fingerprint") != shared.fingerprint:
        raise CorpusError(
            "the stories here are not those of the first process", "put the same files at the same place everywhere"
        )
    learner = _Learner.of(shared.config, machine, shared.tokenizer.vocab_size)
    folder = RunFolder(Path(shared.name))  # only its name is used: this process writes nothing
    return _build(folder, shared, learner, corpus, group, observer)[1]


def _build(
    folder: RunFolder,
    shared: SharedSetup,
    learner: _Learner,
    corpus: StorySource,
    group: SingleProcess,
    observer: Observer,
    peak_flops: float = 0.0,
) -> tuple[StoryStream, Trainer]:
    """Share the state of the first process, compile the step, open the stories at the run's position."""
    config, train, position = shared.config, shared.config.train, shared.progress.position
    group.share_state(learner.model, learner.optimizers)
    step_rows = train.batch_size * train.accumulate
    rows_at_once = memory.rows_at_once(learner.model.shape, config, learner.machine, group.size)
    if rows_at_once != train.batch_size:
        observer.log(f"a step of {step_rows:,} rows is taken {rows_at_once:,} at a time")
    compiled = None
    if compile_step.is_wanted(config, learner.machine):
        observer.log("compiling the step, which takes about half a minute")
        compiled, line = compile_step.compile_step(learner.model, config, learner.machine, rows_at_once)
        observer.log(line)
    stories = StoryStream(
        corpus,
        config.data,
        seed=train.seed,
        held_out=shared.held_out_hashes,
        position=position["stories"] if position else None,
    )
    batches = Batches(
        stories,
        shared.tokenizer,
        batching=config.data.batching,
        context=config.model.context,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        position=position,
        rank=group.rank,
        processes=group.size,
        rows_at_once=rows_at_once,
    )
    return stories, Trainer(
        folder=folder,
        config=config,
        machine=learner.machine,
        model=learner.model,
        optimizers=learner.optimizers,
        tokenizer=shared.tokenizer,
        source=Prefetcher(batches, prefetch_steps(step_rows * config.model.context)),
        held_out=shared.held_out,
        observer=observer,
        progress=shared.progress,
        peak_flops=peak_flops,
        patience_seconds=corpus.patience_seconds,
        group=group,
        cpu_threads=learner.cpu_threads,
        compiled=compiled,
    )


# --- the parts of a run -----------------------------------------------------------------------------------------------


def _open_corpus(
    folder: RunFolder, reporter: StatusReporter, known: Mapping[str, Any], config: Config
) -> tuple[Config, StorySource]:
    """The source of stories, and the config with what `auto` was resolved to; a resume gets the source of the start."""

    def with_source(kind: str | None) -> Config:
        named = dataclasses.replace(config.data, source=kind) if kind in _NAMED_SOURCES else config.data
        return dataclasses.replace(config, data=named)

    corpus = open_corpus(with_source(known.get("kind")).data, revision=known.get("revision"), log=reporter.log_status)
    reporter.follow(corpus.notes)
    if known and known.get("fingerprint") != corpus.description.get("fingerprint"):
        raise CorpusError(
            f"the stories are not those that {folder.name} was begun with", "put the files back, or train a new run"
        )
    return with_source(corpus.description.get("kind")), corpus


def _load_held_out(
    folder: RunFolder, corpus: StorySource, config: Config, cache: DiskCache | None
) -> tuple[list[str], frozenset[bytes]]:
    """The run's held-out stories and the hashes of all that training leaves out: chosen once, kept in its folder."""
    found = held_out_file.load(folder.held_out)
    if found is None:
        found = cached_held_out_stories(corpus, config.data, config.train.eval_stories, cache)
        held_out_file.save(folder.held_out, *found)
    return found


def _find_checkpoint(folder: RunFolder, reporter: StatusReporter, from_step: int | None) -> Path | None:
    """The verified checkpoint to resume from; None for a run that has none yet."""
    steps = checkpoint_folders.steps(folder)
    if from_step is not None:
        if from_step not in steps:
            known = ", ".join(map(str, steps)) or "none"
            raise RunError(f"{folder.name} has no checkpoint of step {from_step}", f"it has {known}")
        path = folder.checkpoint(from_step)
        checkpoint_folders.verify(path)
        checkpoint_folders.forget_after(folder, from_step)
        return path
    if not steps:
        return None
    path, skipped = checkpoint_folders.newest_good(folder)
    for error in skipped:
        reporter.log(f"{error.problem}; going on from an earlier checkpoint")
    return path


def _load_tokenizer(
    folder: RunFolder,
    reporter: StatusReporter,
    config: Config,
    corpus: StorySource,
    held_out_hashes: frozenset[bytes],
    cache: DiskCache | None,
) -> Tokenizer:
    """The run's tokenizer: loaded if the run has one, otherwise trained or fetched, and saved in the run folder."""

    # Only a tokenizer that run.json knows of is complete: a killed process can leave half of one.
    if known := folder.read_run().get("tokenizer"):
        return tokenizer_files.load(folder.tokenizer, known.get("kind", "folder"))
    if config.data.tokenizer == "bpe":
        begin = time.perf_counter()
        data, seed = config.data, config.train.seed

        def train() -> Tokenizer:
            stories = StoryStream(corpus, data, seed=seed, held_out=held_out_hashes)
            on_progress = reporter.progress("training the tokenizer")
            with closing(_first_pass(stories)) as texts:
                return tokenizer_files.train_bpe(texts, data.vocab_size, data.tokenizer_mib << 20, on_progress)

        tokenizer, is_cached = cached_tokenizer(corpus, data, seed, held_out_hashes, cache, train)
        how = "from the cache" if is_cached else f"trained in {time.perf_counter() - begin:.1f} s"
        reporter.log(f"tokenizer: {tokenizer.vocab_size:,} entries, {how}")
    else:
        tokenizer = tokenizer_files.open_tokenizer(config.data.tokenizer)
        reporter.log(f"tokenizer: {config.data.tokenizer}, {tokenizer.vocab_size:,} entries")
    tokenizer.save(folder.tokenizer, config.model.context)
    fsync_files(folder.tokenizer)
    return tokenizer


def _first_pass(stories: StoryStream) -> Generator[str, None, None]:
    """The training stories of the first pass."""
    with closing(iter(stories)) as iterator:
        for story, position in iterator:
            yield story
            if position["epoch"] > 0:  # the position after the story: it was the last of the pass
                return


def _run_facts(
    plan: Mapping[str, Any], data: Mapping[str, Any], tokenizer: Tokenizer, model: GPT, host: Mapping[str, Any]
) -> dict[str, Any]:
    """What `run.json` holds besides the plan, once it is known."""
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

"""`storyteller train` and `storyteller resume`: plan a run, start its process, follow it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from storyteller.cli.follow import follow, how_it_ended
from storyteller.cli.text_tables import note, out
from storyteller.config.presets import PRESET_NOTES, resolve
from storyteller.errors import StorytellerError, UsageError
from storyteller.launch import run_plan, start, torchrun
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.tracking import run_folder, run_index, wandb_mirror
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state

RunsDir = Annotated[
    Path | None, typer.Option("--runs-dir", help="Where the runs are; default: $STORYTELLER_RUNS, else runs/.")
]
Nproc = Annotated[int, typer.Option(help="Processes on this machine, which train together: one a GPU, say.")]
Nnodes = Annotated[int, typer.Option(help="Machines: the same command is started on each.")]
NodeRank = Annotated[
    int | None, typer.Option(help="Which of the machines this is, from 0; default: what Slurm says, else 0.")
]
Rendezvous = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The first machine, which has the run, and a free port there.")
]
_PRESET_HELP = " ".join(f"{name}: {what}." for name, what in PRESET_NOTES.items())


def train(
    preset: Annotated[str, typer.Option(help=_PRESET_HELP)] = "quick",
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="auto (TinyStories where the Hub answers, else the bundled tales), tinystories, bundled, or a file "
            "or folder of stories (.jsonl .json .txt .csv .parquet, also .gz); may be given more than once."
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(help="Held-out stories (files or folders); default: 1 % of the stories, by a hash of their text."),
    ] = None,
    clean: Annotated[str | None, typer.Option(help="light or classic (the published recipe's).")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="bpe (trained on the stories), gpt2, or a folder.")] = None,
    vocab_size: Annotated[int | None, typer.Option(help="Entries of a trained tokenizer.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; default: three words and a date.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget: minutes of training.")] = None,
    steps: Annotated[int | None, typer.Option(help="Budget: optimiser steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Budget: passes over the stories.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Budget: tokens.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows in one forward pass.")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens that the model sees at once.")] = None,
    layers: Annotated[int | None, typer.Option(help="Transformer blocks.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the model.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads; they divide the width.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of AdamW.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes weights, order and samples.")] = None,
    skip_bad_steps: Annotated[
        int | None,
        typer.Option(help="Steps to pass over where the loss or gradient is not a number; one more stops the run."),
    ] = None,
    card_every: Annotated[
        str | None,
        typer.Option(
            metavar="STEPS|TIME",
            help="So often a small card is made beside training, its scores logged as eval/...: 500, 10m, 1epoch.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field, such as --set keep=5.")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither keep nor read tokens of the stories in the user's cache folder.")
    ] = False,
    wandb: Annotated[
        str | None, typer.Option(help="auto (online where there are credentials, else off), online, offline or off.")
    ] = None,
    wandb_project: Annotated[str | None, typer.Option(help="The project on Weights & Biases.")] = None,
    wandb_artifacts: Annotated[
        bool | None, typer.Option("--wandb-artifacts", help="Send the best checkpoint there, too.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once training has begun.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Train in this process (containers).")] = False,
    attach: Annotated[str | None, typer.Option(metavar="RUN", help="Follow a run that is training already.")] = None,
    nproc: Nproc = 1,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
    runs_dir: RunsDir = None,
) -> int:
    """Train a model: starts a process that outlives this terminal, and follows it. Ctrl-C detaches.

    Example: storyteller train --minutes 5 --data my-stories.jsonl
    """
    root = run_folder.runs_root(runs_dir)
    if attach is not None:
        return _attach(root, attach)
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    of = torchrun.of_options(nproc, nnodes, node_rank, rendezvous)
    if of.node_rank > 0:
        return torchrun.lead(None, of)
    options = {
        "data.source": run_plan.source(data),
        "data.valid": run_plan.paths(valid, "--valid") if valid else None,
        "data.clean": clean,
        "data.tokenizer": run_plan.tokenizer(tokenizer),
        "data.vocab_size": vocab_size,
        "data.cache_gib": 0.0 if no_cache else None,
        "model.n_layer": layers,
        "model.n_embd": width,
        "model.n_head": heads,
        "model.context": context,
        "train.minutes": minutes,
        "train.steps": steps,
        "train.epochs": epochs,
        "train.tokens": tokens,
        "train.batch_size": batch_size,
        "train.lr": lr,
        "train.precision": precision,
        "train.device": device,
        "train.seed": seed,
        "train.skip_bad_steps": skip_bad_steps,
        "train.card_every": card_every,
        "mirror.wandb": wandb,
        "mirror.wandb_project": wandb_project,
        "mirror.wandb_artifacts": wandb_artifacts,
    }
    config = resolve(preset, options, settings or ())
    mirrored = wandb_mirror.choose_mode(config.mirror.wandb)
    folder = run_plan.plan(root, name, config, ["storyteller", *sys.argv[1:]], of)
    return _launch(folder, mirrored, of, foreground=foreground, detach=detach, is_new=True)


def resume(
    run: Annotated[str, typer.Argument(help="The run: its name, the beginning of it, or latest.")],
    from_step: Annotated[
        int | None, typer.Option("--from", metavar="STEP", help="From this step's checkpoint; later ones are dropped.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="A new budget: minutes, those trained already included.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="A new budget: steps, those trained already included.")] = None,
    epochs: Annotated[float | None, typer.Option(help="A new budget: passes over the stories.")] = None,
    tokens: Annotated[int | None, typer.Option(help="A new budget: tokens.")] = None,
    skip_bad_steps: Annotated[
        int | None, typer.Option(help="Bad steps to pass over, those already passed over included.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once training has begun.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Train in this process (containers).")] = False,
    nproc: Annotated[
        int | None, typer.Option(help="Processes on this machine, which train together; default: as many as before.")
    ] = None,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
    runs_dir: RunsDir = None,
) -> int:
    """Go on with a run that was stopped, failed, died or finished, from its newest good checkpoint.

    Example: storyteller resume latest --minutes 10
    """
    of = torchrun.of_options(1 if nproc is None else nproc, nnodes, node_rank, rendezvous)
    if of.node_rank > 0:
        return torchrun.lead(None, of)
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    given = {"minutes": minutes, "steps": steps, "epochs": epochs, "tokens": tokens, "skip_bad_steps": skip_bad_steps}
    mirrored = run_plan.prepare_resume(folder, given, from_step)
    if of.nnodes == 1:
        of = run_plan.fleet_again(folder, nproc)
        if nproc is None and of.nproc > 1:
            note(f"in {of.nproc} processes, as before; --nproc says otherwise")
    return _launch(folder, mirrored, of, foreground=foreground, detach=detach, from_step=from_step)


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(
    folder: RunFolder,
    mirrored: tuple[wandb_mirror.Mode, str],
    of: TorchrunSpec,
    *,
    foreground: bool,
    detach: bool,
    from_step: int | None = None,
    is_new: bool = False,
) -> int:
    mode, why = mirrored
    note(f"run {folder.name} (in {folder.path})")
    if why:
        note(why)
    offset = folder.log.stat().st_size if folder.log.exists() else 0
    try:
        status = (
            _in_foreground(folder, offset, from_step, mode, of)
            if foreground
            else _in_background(folder, offset, from_step, detach, mode, of)
        )
    except BaseException:
        if is_new:
            run_plan.drop_unbegun(folder)
        raise
    if status and is_new:
        run_plan.drop_unbegun(folder)
    if foreground and threading.active_count() > 1:  # a reader that still waits for the Hub, say
        from storyteller.training import worker

        worker.leave(status)
    return status


def _in_background(
    folder: RunFolder, offset: int, from_step: int | None, detach: bool, mode: wandb_mirror.Mode, of: TorchrunSpec
) -> int:
    process = run_plan.begin(folder, mode, note, from_step, of)
    if detach:
        start.wait_ready(folder, process)
        out(f"{folder.name} is training; storyteller train --attach {folder.name} follows it")
        return 0
    failed: list[StorytellerError] = []
    over = threading.Event()

    def wait() -> None:
        try:
            start.wait_ready(folder, process)
        except StorytellerError as error:
            failed.append(error)
        process.wait()
        over.set()

    # Set-up can take a while (a tokenizer is trained): what it says is shown while it is waited for.
    threading.Thread(target=wait, daemon=True).start()
    if not follow(folder, offset, over):
        return 0
    if failed:
        raise failed[0]
    return how_it_ended(folder)


def _in_foreground(
    folder: RunFolder, offset: int, from_step: int | None, mode: wandb_mirror.Mode, of: TorchrunSpec
) -> int:
    from storyteller.training import worker

    run_plan.begin_mirror(folder, mode, note)
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(folder, offset, over), daemon=True)
    follower.start()
    try:
        worker.run(folder, from_step, of)
    finally:
        over.set()
        follower.join(timeout=5)
    return how_it_ended(folder)


def _attach(root: Path, name: str) -> int:
    folder = run_index.find_run(root, name)
    if seen_state(folder) in LIVING and not follow(folder):
        return 0
    return how_it_ended(folder)

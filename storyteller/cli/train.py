"""`storyteller train` and `storyteller resume`: plan a run, start its process, follow it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from storyteller.cli.follow import follow, print_outcome
from storyteller.cli.text_tables import note, out
from storyteller.config.presets import PRESET_NOTES, resolve
from storyteller.errors import StorytellerError, UsageError
from storyteller.launch import run_plan, start, torchrun
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.tracking import run_folder, run_index, wandb_mirror
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state

RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder of the runs.  [default: $STORYTELLER_RUNS, else runs/]"),
]


def _panel(heading: str) -> Callable[..., Any]:
    """Return `typer.Option` with its heading in `--help` filled in."""
    return partial(typer.Option, rich_help_panel=heading)


_data, _model, _optimisation, _tracking = map(_panel, ("Data", "Model", "Optimisation", "Tracking"))
_processes, _budget = map(_panel, ("Processes", "Budget (one of them)"))
_new_budget = _panel("New budget (one of them, including what was trained)")
_BY_PRESET = "  [default: by the preset]"
Nproc = Annotated[int, _processes(help="Processes on this machine, e.g. one a GPU.")]
Nnodes = Annotated[int, _processes(help="Machines; start the same command on each.", show_default=True)]
NodeRank = Annotated[int | None, _processes(help="This machine's number, from 0.  [default: Slurm's, else 0]")]
Rendezvous = Annotated[str | None, _processes(metavar="HOST:PORT", help="First machine and a free port on it.")]
_PRESET_HELP = " ".join(f"{name}: {what}." for name, what in PRESET_NOTES.items())
Detach = Annotated[bool, _processes("--detach", help="Return once training has started.")]
Foreground = Annotated[bool, _processes("--foreground", help="Train in this process, e.g. in a container.")]


def train(
    preset: Annotated[str, typer.Option(metavar="|".join(PRESET_NOTES), help=_PRESET_HELP)] = "quick",
    data: Annotated[
        list[str] | None,
        _data(
            metavar="SOURCE",
            help="auto (TinyStories from the Hub, else the bundled stories), tinystories, bundled, or a file or folder "
            "of stories (.jsonl .json .txt .csv .parquet, also .gz); repeatable.  [default: auto]",
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        _data(
            metavar="PATH",
            help="Held-out stories; repeatable.  [default: 1 % of the stories, chosen by a hash of their words]",
        ),
    ] = None,
    clean: Annotated[str | None, _data(metavar="light|classic", help="Text cleaning." + _BY_PRESET)] = None,
    tokenizer: Annotated[
        str | None,
        _data(metavar="bpe|gpt2|DIR", help="bpe trains one on the stories; gpt2; or a tokenizer folder." + _BY_PRESET),
    ] = None,
    vocab_size: Annotated[int | None, _data(help="Vocabulary of a trained tokenizer." + _BY_PRESET)] = None,
    no_cache: Annotated[bool, _data("--no-cache", help="Do not use the user's cache folder.")] = False,
    layers: Annotated[int | None, _model(help="Transformer blocks." + _BY_PRESET)] = None,
    width: Annotated[int | None, _model(help="Width of the residual stream." + _BY_PRESET)] = None,
    heads: Annotated[int | None, _model(help="Attention heads; must divide the width." + _BY_PRESET)] = None,
    context: Annotated[int | None, _model(help="Context length in tokens." + _BY_PRESET)] = None,
    minutes: Annotated[float | None, _budget(metavar="MINUTES", help="Minutes of training." + _BY_PRESET)] = None,
    steps: Annotated[int | None, _budget(help="Optimiser steps.")] = None,
    epochs: Annotated[float | None, _budget(help="Passes over the stories.")] = None,
    tokens: Annotated[int | None, _budget(help="Tokens trained on.")] = None,
    batch_size: Annotated[int | None, _optimisation(help="Rows in one forward pass." + _BY_PRESET)] = None,
    lr: Annotated[float | None, _optimisation(metavar="RATE", help="Peak learning rate of AdamW." + _BY_PRESET)] = None,
    precision: Annotated[
        str | None,
        _optimisation(
            metavar="auto|fp32|bf16|fp16",
            help="Mixed precision; auto takes what the hardware supports.  [default: auto]",
        ),
    ] = None,
    device: Annotated[str | None, _optimisation(metavar="auto|cpu|cuda|mps", help="Device.  [default: auto]")] = None,
    seed: Annotated[int | None, _optimisation(help="Seed of weights, data order and samples.  [default: 42]")] = None,
    skip_bad_steps: Annotated[
        int | None,
        _optimisation(help="Steps with a non-finite loss or gradient to skip before the run fails.  [default: 0]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        _optimisation(
            "--set", metavar="KEY=VALUE", help="Any other field of the configuration, e.g. --set keep=5; repeatable."
        ),
    ] = None,
    name: Annotated[str | None, _tracking(help="Name of the run.  [default: three words and the date]")] = None,
    card_every: Annotated[
        str | None,
        _tracking(
            metavar="STEPS|TIME",
            help="Measure generated stories this often, in the background: 500, 10m, 1epoch.  [default: never]",
        ),
    ] = None,
    wandb: Annotated[
        str | None,
        _tracking(
            metavar="auto|online|offline|off",
            help="Weights & Biases; auto is online where there are credentials, else off.  [default: auto]",
        ),
    ] = None,
    wandb_project: Annotated[str | None, _tracking(help="Project on Weights & Biases.  [default: storyteller]")] = None,
    wandb_artifacts: Annotated[
        bool | None, _tracking("--wandb-artifacts", help="Upload the best checkpoint, too.")
    ] = None,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    foreground: Foreground = False,
    attach: Annotated[str | None, _processes(metavar="RUN", help="Follow a run that is already training.")] = None,
    nproc: Nproc = 1,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
) -> int:
    """Train a model in a background process that outlives this terminal, and follow it. Ctrl-C detaches.

    Example: storyteller train --minutes 5 --data my-stories.jsonl
    """
    root = run_folder.runs_root(runs_dir)
    if attach is not None:
        return _attach(root, attach)
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    of = torchrun.spec_from_options(nproc, nnodes, node_rank, rendezvous)
    if of.node_rank > 0:
        return torchrun.lead(None, of)
    options = {
        "data.source": run_plan.parse_source(data),
        "data.valid": run_plan.absolute_paths(valid, "--valid") if valid else None,
        "data.clean": clean,
        "data.tokenizer": run_plan.parse_tokenizer(tokenizer),
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
    folder = run_plan.create_run(root, name, config, ["storyteller", *sys.argv[1:]], of)
    return _launch(folder, mirrored, of, foreground=foreground, detach=detach, is_new=True)


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run, a unique beginning of it, or latest.")],
    from_step: Annotated[
        int | None,
        typer.Option("--from", metavar="STEP", help="Continue from this step's checkpoint; drop later ones."),
    ] = None,
    minutes: Annotated[float | None, _new_budget(metavar="MINUTES", help="Minutes of training in all.")] = None,
    steps: Annotated[int | None, _new_budget(help="Optimiser steps in all.")] = None,
    epochs: Annotated[float | None, _new_budget(help="Passes over the stories.")] = None,
    tokens: Annotated[int | None, _new_budget(help="Tokens in all.")] = None,
    skip_bad_steps: Annotated[
        int | None, typer.Option(help="Non-finite steps to skip in all, those already skipped included.")
    ] = None,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    foreground: Foreground = False,
    nproc: Annotated[int | None, _processes(help="Processes on this machine.  [default: as before]")] = None,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
) -> int:
    """Continue a run that was stopped, failed, died or finished, from its newest intact checkpoint.

    Example: storyteller resume latest --minutes 10
    """
    of = torchrun.spec_from_options(1 if nproc is None else nproc, nnodes, node_rank, rendezvous)
    if of.node_rank > 0:
        return torchrun.lead(None, of)
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    given = {"minutes": minutes, "steps": steps, "epochs": epochs, "tokens": tokens, "skip_bad_steps": skip_bad_steps}
    mirrored = run_plan.prepare_resume(folder, given, from_step)
    if of.nnodes == 1:
        of = run_plan.resume_spec(folder, nproc)
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
            run_plan.remove_unstarted(folder)
        raise
    if status and is_new:
        run_plan.remove_unstarted(folder)
    if foreground and threading.active_count() > 1:  # a reader that still waits for the Hub, say
        from storyteller.training import worker

        worker.leave(status)
    return status


def _in_background(
    folder: RunFolder, offset: int, from_step: int | None, detach: bool, mode: wandb_mirror.Mode, of: TorchrunSpec
) -> int:
    process = run_plan.start_run(folder, mode, note, from_step, of)
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
    return print_outcome(folder)


def _in_foreground(
    folder: RunFolder, offset: int, from_step: int | None, mode: wandb_mirror.Mode, of: TorchrunSpec
) -> int:
    from storyteller.training import worker

    run_plan.start_run_mirror(folder, mode, note)
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(folder, offset, over), daemon=True)
    follower.start()
    try:
        worker.run(folder, from_step, of)
    finally:
        over.set()
        follower.join(timeout=5)
    return print_outcome(folder)


def _attach(root: Path, name: str) -> int:
    folder = run_index.find_run(root, name)
    if seen_state(folder) in LIVING and not follow(folder):
        return 0
    return print_outcome(folder)

"""`storyteller train` and `storyteller resume`: plan a run, start its process, follow it."""

from __future__ import annotations

import sys
import threading
from typing import Annotated

from storyteller.cli.follow import follow, print_outcome
from storyteller.cli.options import Run, RunsDir, option, panel
from storyteller.cli.text_tables import note, out
from storyteller.config.presets import PRESET_NOTES, resolve
from storyteller.errors import StorytellerError, UsageError
from storyteller.launch import run_plan, start, torchrun
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.tracking import run_folder, run_index, wandb_mirror
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state

_data, _model, _optimisation, _tracking = map(panel, ("Data", "Model", "Optimisation", "Tracking"))
_processes, _budget = map(panel, ("Processes", "Budget (one of them)"))
_new_budget = panel("New budget (one of them, including what was trained)")
_BY_PRESET = "  [default: by the preset]"
_PRESET_HELP = " ".join(f"{name}: {what}." for name, what in PRESET_NOTES.items())
Nproc = Annotated[int | None, _processes("Processes on this machine.  [default: as before]")]
Nnodes = Annotated[int, _processes("Machines; start the same command on each.")]
NodeRank = Annotated[int | None, _processes("This machine's number, from 0.  [default: Slurm's, else 0]")]
Rendezvous = Annotated[str | None, _processes("First machine and a free port on it.", metavar="HOST:PORT")]
Detach = Annotated[bool, _processes("Return once training has started.", "--detach")]
Foreground = Annotated[bool, _processes("Train in this process, e.g. in a container.", "--foreground")]


def train(
    preset: Annotated[str, option(_PRESET_HELP, metavar="|".join(PRESET_NOTES))] = "quick",
    data: Annotated[
        list[str] | None,
        _data(
            "auto (TinyStories from the Hub, else the bundled stories), tinystories, bundled, or a file or folder "
            "of stories (.jsonl .json .txt .csv .parquet, also .gz); repeatable.  [default: auto]",
            metavar="SOURCE",
        ),
    ] = None,
    valid: Annotated[
        list[str] | None,
        _data(
            "Held-out stories; repeatable.  [default: 1 % of the stories, chosen by a hash of their words]",
            metavar="PATH",
        ),
    ] = None,
    clean: Annotated[str | None, _data("Text cleaning." + _BY_PRESET, metavar="light|classic")] = None,
    tokenizer: Annotated[
        str | None,
        _data("bpe trains one on the stories; gpt2; or a tokenizer folder." + _BY_PRESET, metavar="bpe|gpt2|DIR"),
    ] = None,
    vocab_size: Annotated[int | None, _data("Vocabulary of a trained tokenizer." + _BY_PRESET)] = None,
    no_cache: Annotated[bool, _data("Do not use the user's cache folder.", "--no-cache")] = False,
    layers: Annotated[int | None, _model("Transformer blocks." + _BY_PRESET)] = None,
    width: Annotated[int | None, _model("Width of the residual stream." + _BY_PRESET)] = None,
    heads: Annotated[int | None, _model("Attention heads; must divide the width." + _BY_PRESET)] = None,
    context: Annotated[int | None, _model("Context length in tokens." + _BY_PRESET)] = None,
    minutes: Annotated[float | None, _budget("Minutes of training." + _BY_PRESET, metavar="MINUTES")] = None,
    steps: Annotated[int | None, _budget("Optimiser steps.")] = None,
    epochs: Annotated[float | None, _budget("Passes over the stories.")] = None,
    tokens: Annotated[int | None, _budget("Tokens trained on.")] = None,
    batch_size: Annotated[int | None, _optimisation("Rows in one forward pass." + _BY_PRESET)] = None,
    lr: Annotated[float | None, _optimisation("Peak learning rate of AdamW." + _BY_PRESET, metavar="RATE")] = None,
    precision: Annotated[
        str | None,
        _optimisation(
            "Mixed precision; auto takes what the hardware supports.  [default: auto]", metavar="auto|fp32|bf16|fp16"
        ),
    ] = None,
    device: Annotated[str | None, _optimisation("Device.  [default: auto]", metavar="auto|cpu|cuda|mps")] = None,
    seed: Annotated[int | None, _optimisation("Seed of weights, data order and samples.  [default: 42]")] = None,
    skip_bad_steps: Annotated[
        int | None,
        _optimisation("Steps with a non-finite loss or gradient to skip before the run fails.  [default: 0]"),
    ] = None,
    settings: Annotated[
        list[str] | None,
        _optimisation(
            "Any other field of the configuration, e.g. --set keep=5; repeatable.", "--set", metavar="KEY=VALUE"
        ),
    ] = None,
    name: Annotated[str | None, _tracking("Name of the run.  [default: three words and the date]")] = None,
    card_every: Annotated[
        str | None,
        _tracking(
            "Measure generated stories this often, in the background: 500, 10m, 1epoch.  [default: never]",
            metavar="STEPS|TIME",
        ),
    ] = None,
    wandb: Annotated[
        str | None,
        _tracking(
            "Weights & Biases; auto is online where there are credentials, else off.  [default: auto]",
            metavar="auto|online|offline|off",
        ),
    ] = None,
    wandb_project: Annotated[str | None, _tracking("Project on Weights & Biases.  [default: storyteller]")] = None,
    wandb_artifacts: Annotated[bool | None, _tracking("Upload the best checkpoint, too.", "--wandb-artifacts")] = None,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    foreground: Foreground = False,
    attach: Annotated[str | None, _processes("Follow a run that is already training.", metavar="RUN")] = None,
    nproc: Annotated[int, _processes("Processes on this machine, e.g. one a GPU.")] = 1,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
) -> int:
    """Train a model in a background process that outlives this terminal, and follow it. Ctrl-C detaches.

    Example: storyteller train --minutes 5 --data my-stories.jsonl
    """
    root = run_folder.runs_root(runs_dir)
    if attach is not None:
        folder = run_index.find_run(root, attach)
        is_detached = seen_state(folder) in LIVING and not follow(folder)
        return 0 if is_detached else print_outcome(folder)
    _check_modes(detach, foreground)
    spec = torchrun.spec_from_options(nproc, nnodes, node_rank, rendezvous)
    if spec.node_rank > 0:
        return torchrun.lead(None, spec)
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
    mirror = wandb_mirror.choose_mode(config.mirror.wandb)
    folder = run_plan.create_run(root, name, config, ["storyteller", *sys.argv[1:]], spec)
    # A run that fails before its first step is removed again.
    status = 1
    try:
        status = _launch(folder, mirror, spec, foreground, detach)
    finally:
        if status:
            run_plan.remove_unstarted(folder)
    return _leave(status, foreground)


def resume(
    run: Run,
    from_step: Annotated[
        int | None, option("Continue from this step's checkpoint; drop later ones.", "--from", metavar="STEP")
    ] = None,
    minutes: Annotated[float | None, _new_budget("Minutes of training in all.", metavar="MINUTES")] = None,
    steps: Annotated[int | None, _new_budget("Optimiser steps in all.")] = None,
    epochs: Annotated[float | None, _new_budget("Passes over the stories.")] = None,
    tokens: Annotated[int | None, _new_budget("Tokens in all.")] = None,
    skip_bad_steps: Annotated[
        int | None, option("Non-finite steps to skip in all, those already skipped included.")
    ] = None,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    foreground: Foreground = False,
    nproc: Nproc = None,
    nnodes: Nnodes = 1,
    node_rank: NodeRank = None,
    rendezvous: Rendezvous = None,
) -> int:
    """Continue a run that was stopped, failed, died or finished, from its newest intact checkpoint.

    Example: storyteller resume latest --minutes 10
    """
    spec = torchrun.spec_from_options(1 if nproc is None else nproc, nnodes, node_rank, rendezvous)
    if spec.node_rank > 0:
        return torchrun.lead(None, spec)
    folder = run_index.find_run(run_folder.runs_root(runs_dir), run)
    _check_modes(detach, foreground)
    given = {"minutes": minutes, "steps": steps, "epochs": epochs, "tokens": tokens, "skip_bad_steps": skip_bad_steps}
    mirror = run_plan.prepare_resume(folder, given, from_step)
    if spec.nnodes == 1:
        spec = run_plan.resume_spec(folder, nproc)
        if nproc is None and spec.nproc > 1:
            note(f"in {spec.nproc} processes, as before; --nproc says otherwise")
    return _leave(_launch(folder, mirror, spec, foreground, detach, from_step), foreground)


def _check_modes(detach: bool, foreground: bool) -> None:
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")


def _launch(
    folder: RunFolder,
    mirror: tuple[wandb_mirror.Mode, str],
    spec: TorchrunSpec,
    foreground: bool,
    detach: bool,
    from_step: int | None = None,
) -> int:
    """Trains in this process or in one of its own, and follows the run's log. Returns the exit status."""
    mode, reason = mirror
    note(f"run {folder.name} (in {folder.path})")
    if reason:
        note(reason)
    offset = folder.log.stat().st_size if folder.log.exists() else 0
    over = threading.Event()
    if foreground:
        from storyteller.training import worker

        run_plan.start_run_mirror(folder, mode, note)
        follower = threading.Thread(target=follow, args=(folder, offset, over), daemon=True)
        follower.start()
        try:
            worker.run(folder, from_step, spec)
        finally:
            over.set()
            follower.join(timeout=5)
        return print_outcome(folder)

    process = run_plan.start_run(folder, mode, note, from_step, spec)
    if detach:
        start.wait_ready(folder, process)
        out(f"{folder.name} is training; storyteller train --attach {folder.name} follows it")
        return 0
    failed: list[StorytellerError] = []

    def wait() -> None:
        try:
            start.wait_ready(folder, process)
        except StorytellerError as error:
            failed.append(error)
        process.wait()
        over.set()

    # Set-up can take a while (a tokenizer is trained), so its log lines are shown while this thread waits for it.
    threading.Thread(target=wait, daemon=True).start()
    if not follow(folder, offset, over):
        return 0
    if failed:
        raise failed[0]
    return print_outcome(folder)


def _leave(status: int, foreground: bool) -> int:
    """Returns `status`, or ends the process if a thread of a foreground run, such as a Hub download, still waits."""
    if foreground and threading.active_count() > 1:
        from storyteller.training import worker

        worker.leave(status)
    return status

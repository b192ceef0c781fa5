"""`storyteller train` and `storyteller resume`: plan a run, start its process, follow it."""

from __future__ import annotations

import datetime
import shlex
import shutil
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from storyteller import daemon, machine, mirror
from storyteller.cli.follow import follow, how_it_ended
from storyteller.cli.show import note, out
from storyteller.config import Config
from storyteller.errors import CorpusError, RunBusyError, StorytellerError, UsageError
from storyteller.presets import PRESET_NOTES, PRESETS, resolve
from storyteller.runs import checkpoints, layout, store
from storyteller.runs.layout import RunFolder
from storyteller.runs.status import LIVING, now_utc, read_status, seen_state
from storyteller.text import safe_line

RunsDir = Annotated[
    Path | None, typer.Option("--runs-dir", help="Where the runs are; default: $STORYTELLER_RUNS, else runs/.")
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
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field, such as --set keep=5.")
    ] = None,
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
    runs_dir: RunsDir = None,
) -> int:
    """Train a model: starts a process that outlives this terminal, and follows it. Ctrl-C detaches.

    Example: storyteller train --minutes 5 --data my-stories.jsonl
    """
    root = layout.runs_root(runs_dir)
    if attach is not None:
        return _attach(root, attach)
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    options = {
        "data.source": _source(data),
        "data.valid": _paths(valid, "--valid") if valid else None,
        "data.clean": clean,
        "data.tokenizer": _tokenizer(tokenizer),
        "data.vocab_size": vocab_size,
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
        "mirror.wandb": wandb,
        "mirror.wandb_project": wandb_project,
        "mirror.wandb_artifacts": wandb_artifacts,
    }
    config = resolve(preset, options, settings or ())
    mirrored = mirror.choose_mode(config.mirror.wandb)
    folder = _plan(root, name, config)
    return _launch(folder, mirrored, foreground=foreground, detach=detach, is_new=True)


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
    runs_dir: RunsDir = None,
) -> int:
    """Go on with a run that was stopped, failed, died or finished, from its newest good checkpoint.

    Example: storyteller resume latest --minutes 10
    """
    folder = store.find_run(layout.runs_root(runs_dir), run)
    state = seen_state(folder)
    if state in LIVING:
        raise RunBusyError(f"{folder.name} is {state}", f"storyteller train --attach {folder.name} follows it")
    if detach and foreground:
        raise UsageError("--detach and --foreground cannot go together", "choose one")
    budget = {"minutes": minutes, "steps": steps, "epochs": epochs, "tokens": tokens}
    given = {f"train.{key}": value for key, value in budget.items() if value is not None}
    if not given and state == "finished" and from_step is None:
        raise UsageError(f"{folder.name} has finished", "give it a larger budget, such as --minutes 10")
    if skip_bad_steps is not None:
        given["train.skip_bad_steps"] = skip_bad_steps
    if given:
        _rebudget(folder, given)
    if from_step is not None and from_step not in checkpoints.steps(folder):
        store.find_checkpoint(folder.path.parent, f"{folder.name}@{from_step}")
    mirrored = mirror.choose_mode(Config.from_json(folder.read_run().get("config") or {}).mirror.wandb)
    return _launch(folder, mirrored, foreground=foreground, detach=detach, from_step=from_step)


# --- planning ---------------------------------------------------------------------------------------------------------


def _source(data: list[str] | None) -> str | tuple[str, ...] | None:
    if not data:
        return None
    if len(data) == 1 and data[0] in ("auto", "tinystories", "bundled"):
        return data[0]
    return _paths(data, "--data")


def _paths(given: list[str], option: str) -> tuple[str, ...]:
    """Absolute paths: the training process does not share this one's current folder."""
    for path in given:
        if not path or "\0" in path or not Path(path).exists():
            raise CorpusError(f"{option} {safe_line(path, 200) or '(empty)'} does not exist", "check the path")
    return tuple(str(Path(path).resolve()) for path in given)


def _tokenizer(given: str | None) -> str | None:
    if given is None or given in ("bpe", "gpt2"):
        return given
    from storyteller.data.tokenizer import check

    check(given)
    return str(Path(given).resolve())


def _plan(root: Path, name: str | None, config: Config) -> RunFolder:
    """A new run folder with its `run.json`."""
    chosen = layout.check_name(name) if name is not None else layout.default_name(root, datetime.date.today())
    folder = layout.create(root, chosen)
    try:
        folder.write_run(
            {
                "name": folder.name,
                "created_at": now_utc(),
                "command": shlex.join(["storyteller", *sys.argv[1:]]),
                "config": config.to_json(),
                "seed": config.train.seed,
                "versions": machine.versions(),
                "git_commit": machine.git_commit(Path(__file__).resolve().parent),
                "host": {"cores": machine.n_cores(), "memory_gib": round(machine.memory_gib(), 1)},
            }
        )
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def _rebudget(folder: RunFolder, given: dict[str, Any]) -> None:
    """Put a new budget, or another setting, into the run's plan; the plan keeps the budget asked for before."""
    run = folder.read_run()
    config = run["config"]
    budgets = ("minutes", "steps", "epochs", "tokens")
    replaced = budgets if any(f"train.{name}" in given for name in budgets) else ()
    train = {k: v for k, v in config["train"].items() if k not in replaced}
    flat = {f"train.{k}": v for k, v in train.items()} | given
    values = {f"{part}.{k}": v for part in ("model", "data", "mirror") for k, v in config.get(part, {}).items()} | flat
    preset = config["preset"] if config["preset"] in PRESETS else "quick"
    fresh = resolve(preset, values)
    earlier = {"earlier_budgets": [*run.get("earlier_budgets", []), {k: config["train"][k] for k in budgets}]}
    folder.write_run(run | {"config": fresh.to_json()} | (earlier if replaced else {}))


# --- starting ---------------------------------------------------------------------------------------------------------


def _launch(
    folder: RunFolder,
    mirrored: tuple[mirror.Mode, str],
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
            _in_foreground(folder, offset, from_step, mode)
            if foreground
            else _in_background(folder, offset, from_step, detach, mode)
        )
    except BaseException:
        if is_new:
            _drop_unbegun(folder)
        raise
    if status and is_new:
        _drop_unbegun(folder)
    if foreground and threading.active_count() > 1:  # a reader that still waits for the Hub, say
        from storyteller import worker

        worker.leave(status)
    return status


def _drop_unbegun(folder: RunFolder) -> None:
    """A run that failed before it trained anything leaves nothing behind, and its name is free again."""
    status = read_status(folder)
    if seen_state(folder) not in LIVING and not checkpoints.steps(folder) and (status is None or status.step == 0):
        shutil.rmtree(folder.path, ignore_errors=True)


def _start_mirror(folder: RunFolder, mode: mirror.Mode) -> None:
    if mode == "off":
        return
    try:
        daemon.start_mirror(folder, mode)
    except OSError as error:
        note(
            f"W&B: its mirror cannot be started ({error.strerror}); storyteller sync {folder.name} sends the run later"
        )


def _in_background(folder: RunFolder, offset: int, from_step: int | None, detach: bool, mode: mirror.Mode) -> int:
    arguments = [] if from_step is None else ["--from", str(from_step)]
    process = daemon.start(folder, arguments)
    _start_mirror(folder, mode)
    if detach:
        daemon.wait_ready(folder, process)
        out(f"{folder.name} is training; storyteller train --attach {folder.name} follows it")
        return 0
    failed: list[StorytellerError] = []
    over = threading.Event()

    def wait() -> None:
        try:
            daemon.wait_ready(folder, process)
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


def _in_foreground(folder: RunFolder, offset: int, from_step: int | None, mode: mirror.Mode) -> int:
    from storyteller import worker

    _start_mirror(folder, mode)
    over = threading.Event()
    follower = threading.Thread(target=follow, args=(folder, offset, over), daemon=True)
    follower.start()
    try:
        worker.run(folder, from_step)
    finally:
        over.set()
        follower.join(timeout=5)
    return how_it_ended(folder)


def _attach(root: Path, name: str) -> int:
    folder = store.find_run(root, name)
    if seen_state(folder) in LIVING and not follow(folder):
        return 0
    return how_it_ended(folder)

"""Runs planned and begun: what the command line and the app do alike, up to the training process's first word."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from storyteller.config.configs import Config
from storyteller.config.presets import PRESETS, resolve
from storyteller.errors import CorpusError, RunBusyError, RunError, UsageError
from storyteller.launch import start
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.system import hardware
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_folder, run_index, wandb_mirror
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, now_utc, read_status, seen_state

BUDGETS = ("minutes", "steps", "epochs", "tokens")

# --- what the options say ---------------------------------------------------------------------------------------------


def source(data: Sequence[str] | None) -> str | tuple[str, ...] | None:
    """`--data` as the config has it. Raises CorpusError for a path that does not exist."""
    if not data:
        return None
    if len(data) == 1 and data[0] in ("auto", "tinystories", "bundled"):
        return data[0]
    return paths(data, "--data")


def paths(given: Sequence[str], option: str) -> tuple[str, ...]:
    """Absolute paths: the training process does not share this one's current folder. Raises CorpusError."""
    for path in given:
        if not path or "\0" in path or not Path(path).exists():
            raise CorpusError(f"{option} {safe_line(path, 200) or '(empty)'} does not exist", "check the path")
    return tuple(str(Path(path).resolve()) for path in given)


def tokenizer(given: str | None) -> str | None:
    """`--tokenizer` as the config has it. Raises TokenizerError for a folder that holds none."""
    if given is None or given in ("bpe", "gpt2"):
        return given
    from storyteller.data.tokenizer import check

    check(given)
    return str(Path(given).resolve())


# --- planning ---------------------------------------------------------------------------------------------------------


def plan(
    root: Path,
    name: str | None,
    config: Config,
    command: Sequence[str],
    of: TorchrunSpec = TorchrunSpec(),  # noqa: B008  it is frozen
) -> RunFolder:
    """A new run folder with its `run.json`; `command` is how the same run is asked for at a shell, `of` trains it.

    Raises UsageError and RunError as `layout.create` does, OSError where the disk does not take it.
    """
    chosen = run_folder.check_name(name) if name is not None else run_folder.default_name(root, datetime.date.today())
    folder = run_folder.create(root, chosen)
    try:
        folder.write_run(
            {
                "name": folder.name,
                "created_at": now_utc(),
                "command": shlex.join(command),
                "config": config.to_json(),
                "seed": config.train.seed,
                "versions": hardware.versions(),
                "git_commit": hardware.git_commit(Path(__file__).resolve().parent),
                "host": {"cores": hardware.n_cores(), "memory_gib": round(hardware.memory_gib(), 1)},
                **_processes(of),
            }
        )
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def prepare_resume(
    folder: RunFolder, given: Mapping[str, Any], from_step: int | None = None
) -> tuple[wandb_mirror.Mode, str]:
    """Make the run ready to go on, with a new budget where `given` has one; how its mirror is to run, as `choose_mode`.

    `given` are fields of `config.Train`, None where not given. Raises RunBusyError for a run that lives, UsageError for
    one that has finished and gets no budget, RunError where there is no checkpoint of `from_step`.
    """
    state = seen_state(folder)
    if state in LIVING:
        raise RunBusyError(f"{folder.name} is {state}", f"storyteller train --attach {folder.name} follows it")
    _check_regular(folder)
    settings = {f"train.{key}": value for key, value in given.items() if value is not None}
    has_budget = any(given.get(name) is not None for name in BUDGETS)
    if not has_budget and state == "finished" and from_step is None:
        raise UsageError(f"{folder.name} has finished", "give it a larger budget, such as --minutes 10")
    if settings:
        _replan(folder, settings, has_budget)
    if from_step is not None and from_step not in checkpoint_folders.steps(folder):
        run_index.find_checkpoint(folder.path.parent, f"{folder.name}@{from_step}")
    return wandb_mirror.choose_mode(Config.from_json(folder.read_run().get("config") or {}).mirror.wandb)


def fleet_again(folder: RunFolder, nproc: int | None = None) -> TorchrunSpec:
    """The processes on this machine that are to go on with the run: so many, which its plan remembers, or as before."""
    run = folder.read_run()
    if nproc is None:
        before = run.get("nproc")
        with contextlib.suppress(UsageError):
            return TorchrunSpec(before) if isinstance(before, int) and not isinstance(before, bool) else TorchrunSpec()
        return TorchrunSpec()
    of = TorchrunSpec(nproc)
    plain = {key: value for key, value in run.items() if key != "nproc"} | _processes(of)
    if plain != run:
        folder.write_run(plain)
    return of


def _processes(of: TorchrunSpec) -> dict[str, int]:
    """What a plan remembers of them. Those of several machines are named anew each time, on each of them."""
    return {"nproc": of.nproc} if of.nproc > 1 and of.nnodes == 1 else {}


def _check_regular(folder: RunFolder) -> None:
    """Raise RunError where something else stands in the place of a file that training appends to, such as a pipe.

    To open one waits for whoever reads it.
    """
    for path in (folder.log, folder.metrics, folder.samples, folder.mirror_log):
        if path.exists() and not path.is_file():
            raise RunError(f"{path.name} of {folder.name} is no file that can be written to", f"move {path} away")


def _replan(folder: RunFolder, given: Mapping[str, Any], has_budget: bool) -> None:
    """Put a new budget, or another setting, into the run's plan; the plan keeps the budget asked for before."""
    run = folder.read_run()
    config = run["config"]
    replaced = BUDGETS if has_budget else ()
    train = {k: v for k, v in config["train"].items() if k not in replaced}
    flat = {f"train.{k}": v for k, v in train.items()} | dict(given)
    values = {f"{part}.{k}": v for part in ("model", "data", "mirror") for k, v in config.get(part, {}).items()} | flat
    preset = config["preset"] if config["preset"] in PRESETS else "quick"
    fresh = resolve(preset, values)
    earlier = {"earlier_budgets": [*run.get("earlier_budgets", []), {k: config["train"][k] for k in BUDGETS}]}
    folder.write_run(run | {"config": fresh.to_json()} | (earlier if replaced else {}))


# --- starting ---------------------------------------------------------------------------------------------------------


def begin(
    folder: RunFolder,
    mode: wandb_mirror.Mode,
    say: Callable[[str], None],
    from_step: int | None = None,
    of: TorchrunSpec | None = None,
) -> Popen[bytes]:
    """Start the run's processes: the one that trains, or leads those that do, and its mirror; the first is returned.

    `of` None: as many as its plan has.

    Raises as `daemon.start`.
    """
    of = of or fleet_again(folder)
    process = start.start(folder, [*([] if from_step is None else ["--from", str(from_step)]), *of.words])
    begin_mirror(folder, mode, say)
    return process


def begin_mirror(folder: RunFolder, mode: wandb_mirror.Mode, say: Callable[[str], None]) -> None:
    """Start the run's mirror, unless it is off; `say` is told where it cannot be started: training needs none."""
    if mode == "off":
        return
    try:
        start.start_mirror(folder, mode)
    except OSError as error:
        say(f"W&B: its mirror cannot be started ({error.strerror}); storyteller sync {folder.name} sends the run later")


def drop_unbegun(folder: RunFolder) -> None:
    """A run that failed before it trained anything leaves nothing behind, and its name is free again."""
    status = read_status(folder)
    if (
        seen_state(folder) not in LIVING
        and not checkpoint_folders.steps(folder)
        and (status is None or status.step == 0)
    ):
        shutil.rmtree(folder.path, ignore_errors=True)

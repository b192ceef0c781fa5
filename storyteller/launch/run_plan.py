"""Creates, resumes and starts runs, for the command line and the app."""

from __future__ import annotations

import contextlib
import datetime
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from storyteller.config.configs import BUDGETS, SECTIONS, Config
from storyteller.config.presets import PRESETS, resolve
from storyteller.errors import CorpusError, RunBusyError, RunError, UsageError
from storyteller.launch import start
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.system import hardware
from storyteller.system.json_values import is_natural
from storyteller.text import safe_line
from storyteller.tracking import checkpoint_folders, run_folder, run_index, wandb_mirror
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, now_utc, read_status, seen_state

# --- option values ----------------------------------------------------------------------------------------------------


def parse_source(data: Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Converts `--data` for the config. Raises CorpusError for a path that does not exist."""
    if not data:
        return None
    if len(data) == 1 and data[0] in ("auto", "tinystories", "bundled"):
        return data[0]
    return absolute_paths(data, "--data")


def absolute_paths(given: Sequence[str], option: str) -> tuple[str, ...]:
    """Makes paths absolute, since a resume may start in another folder. Raises CorpusError for one that is missing."""
    for path in given:
        if not path or "\0" in path or not Path(path).exists():
            raise CorpusError(f"{option} {safe_line(path, 200) or '(empty)'} does not exist", "check the path")
    return tuple(str(Path(path).resolve()) for path in given)


def parse_tokenizer(given: str | None) -> str | None:
    """Converts `--tokenizer` for the config. Raises UsageError where it is neither a known name nor a folder."""
    if given is None or given in ("bpe", "gpt2"):
        return given
    from storyteller.data.tokenizer import check

    check(given)
    return str(Path(given).resolve())


# --- run plans --------------------------------------------------------------------------------------------------------


def create_run(
    root: Path,
    name: str | None,
    config: Config,
    command: Sequence[str],
    spec: TorchrunSpec = TorchrunSpec(),  # noqa: B008  it is frozen
) -> RunFolder:
    """Creates a run folder with its `run.json`. `command` is the command line for the same run.

    Raises UsageError and RunError as `run_folder.create` does, OSError where the folder cannot be written.
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
                **_process_fields(spec),
            }
        )
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def prepare_resume(
    folder: RunFolder, given: Mapping[str, Any], from_step: int | None = None
) -> tuple[wandb_mirror.Mode, str]:
    """Prepares a run to be resumed, and returns the W&B mode and message of `wandb_mirror.choose_mode`.

    `given` maps fields of `TrainConfig` to new values, such as a budget; None keeps the old one. Raises RunBusyError
    for a run that is alive, UsageError for a finished run without a new budget, RunError for a missing checkpoint.
    """
    state = seen_state(folder)
    if state in LIVING:
        raise RunBusyError(f"{folder.name} is {state}", f"storyteller train --attach {folder.name} follows it")
    for path in (folder.log, folder.metrics, folder.samples, folder.mirror_log):
        if path.exists() and not path.is_file():  # such as a pipe: opening it to append would block
            raise RunError(f"{path.name} of {folder.name} is no file that can be written to", f"move {path} away")
    settings = {f"train.{key}": value for key, value in given.items() if value is not None}
    has_budget = any(given.get(name) is not None for name in BUDGETS)
    if not has_budget and state == "finished" and from_step is None:
        raise UsageError(f"{folder.name} has finished", "give it a larger budget, such as --minutes 10")
    if settings:
        _update_plan(folder, settings, has_budget)
    if from_step is not None and from_step not in checkpoint_folders.steps(folder):
        run_index.find_checkpoint(folder.path.parent, f"{folder.name}@{from_step}")
    return wandb_mirror.choose_mode(Config.from_json(folder.read_run().get("config") or {}).mirror.wandb)


def resume_spec(folder: RunFolder, nproc: int | None = None) -> TorchrunSpec:
    """Returns how many processes resume the run on this machine: `nproc`, which `run.json` then keeps, or as before."""
    run = folder.read_run()
    if nproc is None:
        before = run.get("nproc")
        with contextlib.suppress(UsageError):  # run.json may have been edited
            return TorchrunSpec(before if is_natural(before) else 1)
        return TorchrunSpec()
    spec = TorchrunSpec(nproc)
    updated = {key: value for key, value in run.items() if key != "nproc"} | _process_fields(spec)
    if updated != run:
        folder.write_run(updated)
    return spec


def _process_fields(spec: TorchrunSpec) -> dict[str, int]:
    """The fields of `run.json` about processes. Several machines are not recorded: each start names them anew."""
    return {"nproc": spec.nproc} if spec.nproc > 1 and spec.nnodes == 1 else {}


def _update_plan(folder: RunFolder, given: Mapping[str, Any], has_budget: bool) -> None:
    """Writes a new budget or other settings to `run.json`, which keeps the earlier budgets."""
    run = folder.read_run()
    config = run["config"]
    values = {f"{section}.{key}": value for section in SECTIONS for key, value in config.get(section, {}).items()}
    if has_budget:
        values = {key: value for key, value in values.items() if key not in {f"train.{name}" for name in BUDGETS}}
    preset = config["preset"] if config["preset"] in PRESETS else "quick"
    fresh = resolve(preset, {**values, **given})
    earlier = {"earlier_budgets": [*run.get("earlier_budgets", []), {k: config["train"][k] for k in BUDGETS}]}
    folder.write_run(run | {"config": fresh.to_json()} | (earlier if has_budget else {}))


# --- starting ---------------------------------------------------------------------------------------------------------


def start_run(
    folder: RunFolder,
    mode: wandb_mirror.Mode,
    log: Callable[[str], None],
    from_step: int | None = None,
    spec: TorchrunSpec | None = None,
) -> Popen[bytes]:
    """Starts the run's W&B mirror and its training process, which is returned; it starts the others of `spec`.

    Without `spec`, `run.json` says how many processes train. Raises as `start.start` does.
    """
    spec = spec or resume_spec(folder)
    process = start.start(folder, [*([] if from_step is None else ["--from", str(from_step)]), *spec.arguments])
    start_run_mirror(folder, mode, log)
    return process


def start_run_mirror(folder: RunFolder, mode: wandb_mirror.Mode, log: Callable[[str], None]) -> None:
    """Starts the run's W&B mirror unless `mode` is `off`. A failure is only logged, since training does not need it."""
    if mode == "off":
        return
    try:
        start.start_mirror(folder, mode)
    except OSError as error:
        log(f"W&B: its mirror cannot be started ({error.strerror}); storyteller sync {folder.name} sends the run later")


def remove_unstarted(folder: RunFolder) -> None:
    """Deletes a run that ended before its first step, so that its name is free again."""
    status = read_status(folder)
    is_unstarted = not checkpoint_folders.steps(folder) and (status is None or status.step == 0)
    if is_unstarted and seen_state(folder) not in LIVING:
        shutil.rmtree(folder.path, ignore_errors=True)

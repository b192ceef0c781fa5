"""The body of the training process: sets a run up, trains it, and records how it ended, whatever that is.

Started by `daemon` as `python -m storyteller.training.worker RUN_FOLDER`, or called by `train --foreground`. With `--nproc` it
leads several such processes (`fleet`), each of which is a worker too (`--member-of`).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from storyteller.config.configs import Period
from storyteller.errors import (
    DiskError,
    PeerLostError,
    RunBusyError,
    RunError,
    StorytellerError,
    is_disk_full,
)
from storyteller.launch import torchrun
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.system import cpu_priority
from storyteller.system.malloc import keep_freed_blocks
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import State, owned_by
from storyteller.training import build_trainer
from storyteller.training.status_reporter import SilentReporter, StatusReporter, StoppedEarly

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from storyteller.data.story_stream import StoryStream
    from storyteller.training.card_writer import CardWriter
    from storyteller.training.distributed import ProcessGroup
    from storyteller.training.trainer import Trainer


_SAME_FAILURE_SECONDS = 5.0
"""For so long a process whose training failed waits whether the first one's did too, and was recorded."""
_LAST_STORY_SECONDS = 15.0
_LAST_CARD_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit status: 0 finished or stopped, 1 failed, 2 the words are off."""
    parser = argparse.ArgumentParser(
        prog="storyteller.training.worker", description="Train one run (started by storyteller)."
    )
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
        cpu_priority.lower_training_priority()
        of = TorchrunSpec(given.nproc, given.nnodes, given.node_rank, given.rendezvous)
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


def run(folder: RunFolder, from_step: int | None = None, of: TorchrunSpec | None = None) -> int:
    """Train the run in this process, or in the fleet's, to its end; its exit status.

    A run that has checkpoints goes on from one.

    Raises RunBusyError where another process trains it, DiskError where its lock cannot be made; every other end is
    recorded in the run's status and log.
    """
    keep_freed_blocks()
    with _lock(folder):
        if of is not None and of.size > 1:
            return torchrun.lead(folder, of, from_step)
        desk = StatusReporter(folder)
        with desk.at_work():
            desk.end(*_trained(folder, desk, from_step))
    return desk.exit_code


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


def _trained(
    folder: RunFolder, desk: StatusReporter, from_step: int | None, join: Callable[[], ProcessGroup] | None = None
) -> tuple[State, str, int]:
    """Train, alone or with those that `join` finds; how it ended: state, message, exit status.

    Raises PeerLostError alone, whose reason others know.
    """
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
        from storyteller.model import memory

        if memory.is_out_of_memory(error):
            return memory.out_of_memory_error(error, "what training needs")
    return RunError(f"unexpected {type(error).__name__}: {error}", f"storyteller logs {name} has the whole traceback")


def _train(
    folder: RunFolder, desk: StatusReporter, from_step: int | None, join: Callable[[], ProcessGroup] | None
) -> State:
    from storyteller.training.sample_writer import SampleWriter

    with desk.setting_up():
        stories, trainer = build_trainer.set_up(folder, desk, from_step, join() if join else None)
    narrator = desk.teller = SampleWriter(folder, trainer.tokenizer, trainer.config, desk.note)
    critic = _critic(folder, trainer, desk)
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
        if critic is not None:
            critic.close(_LAST_CARD_SECONDS if sys.exception() is None and not desk.stop_asked() else 0.0)
            _log_late(folder, [trainer.stamp() | scores for scores in critic.take()])
        desk.note(_counted(stories))


def _critic(folder: RunFolder, trainer: Trainer, desk: StatusReporter) -> CardWriter | None:
    """Whoever makes cards of this run, where any are asked for."""
    if Period.parse(trainer.config.train.card_every) == Period() or not trainer.group.is_first:
        return None
    from storyteller.training.card_writer import CardWriter

    critic = desk.grader = CardWriter(folder, trainer.tokenizer, trainer.config, desk.note)
    return critic


def _log_late(folder: RunFolder, records: Sequence[Mapping[str, object]]) -> None:
    """Log what came after the loop had ended, and closed its log."""
    if records:
        with contextlib.suppress(OSError), JsonLog(folder.metrics) as log:
            for record in records:
                log.append(record)


def _counted(stories: StoryStream) -> str:
    """What was read and what was left out of it, in words."""
    n = stories.counts
    left_out = {
        "held out": n.held_out + n.duplicates_of_valid,
        "too short": n.too_short,
        "broken": n.broken,
        "over 1 MiB": n.too_long,
    }
    return f"stories read: {n.read:,}" + "".join(f", {count:,} {why}" for why, count in left_out.items() if count)


# --- one of several processes -----------------------------------------------------------------------------------------


def _member(path: Path, from_step: int | None, leader: int, scratch: Path) -> int:
    """One of a fleet's processes, which torchrun has started; its exit status is 0 where the run's end is recorded."""
    keep_freed_blocks()
    threading.Thread(target=_outlive_nobody, name="lifeline", daemon=True).start()
    if int(os.environ["RANK"]) > 0:
        return _take_part(path, scratch)
    folder = RunFolder(path)
    _print_to(folder)
    joined: list[ProcessGroup] = []

    def join() -> ProcessGroup:
        from storyteller.training import distributed

        joined.append(distributed.join())
        return joined[0]

    desk = StatusReporter(folder, owned_by("starting", leader))
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
    from storyteller.training import distributed

    if path.is_absolute():  # on another machine there is no run folder
        _print_to(RunFolder(path))
    quiet, patience_seconds = SilentReporter(), math.inf
    group: ProcessGroup | None = None
    over: Mapping[str, Any] | None = None
    with quiet.at_work():
        try:
            group = distributed.join()
            if (plan := group.await_plan()) is not None:
                trainer = build_trainer.set_up_beside(plan, group, quiet)
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
            torchrun.write_failure(scratch, int(os.environ["RANK"]), _explained(error, path.name))
        with contextlib.suppress(PeerLostError):
            over = group.await_over(patience_seconds) if group is not None else None
    if over is not None and os.environ["LOCAL_RANK"] == "0":
        torchrun.write_end(scratch, over["state"], over["message"], over["exit_code"])
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


if __name__ == "__main__":
    leave(main())

"""The training process: sets a run up, trains it, and records how it ended, in success or failure.

`launch.start` starts it as `python -m storyteller.training.worker RUN_FOLDER`; `train --foreground` calls it. With
`--nproc` it leads several training processes (`launch.torchrun`), each a worker with `--member-of`.
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
from storyteller.training.status_reporter import SilentReporter, StatusReporter, StoppedEarly

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from storyteller.data.story_stream import StoryStream
    from storyteller.training.distributed import ProcessGroup


_SAME_FAILURE_SECONDS = 5.0
"""How long a process whose training failed waits for the first one to fail, too, and to record the failure."""
_LAST_SAMPLE_SECONDS = 15.0
_LAST_CARD_SECONDS = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and train. Returns the exit status: 0 finished or stopped, 1 failed, 2 usage error."""
    parser = argparse.ArgumentParser(
        prog="storyteller.training.worker", description="Train one run (started by storyteller)."
    )
    parser.add_argument("folder", type=Path, help="the run folder")
    parser.add_argument("--from", dest="from_step", type=int, help="resume from this step's checkpoint")
    parser.add_argument("--nproc", type=int, default=1, help="processes on this machine")
    parser.add_argument("--nnodes", type=int, default=1, help="machines")
    parser.add_argument("--node-rank", type=int, default=0, help="index of this machine")
    parser.add_argument("--rendezvous", default="", help="HOST:PORT of the first machine")
    parser.add_argument("--member-of", type=int, help="pid of the leader, in one of several processes")
    parser.add_argument("--scratch", type=Path, help="folder through which the members report to the leader")
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
    """Exit at once, after everything is recorded.

    Python's own shutdown sometimes aborts while a thread waits for a server or a stream is open.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def run(folder: RunFolder, from_step: int | None = None, of: TorchrunSpec | None = None) -> int:
    """Train the run to its end, in this process or in those of `of`; returns the exit status.

    A run with checkpoints is resumed. Raises RunBusyError if another process trains it, DiskError if its lock cannot
    be created; every other failure is recorded in the run's status and log.
    """
    keep_freed_blocks()
    with _lock(folder):
        if of is not None and of.size > 1:
            return torchrun.lead(folder, of, from_step)
        reporter = StatusReporter(folder)
        with reporter.running():
            reporter.end(*_train_and_describe(folder, reporter, from_step))
    return reporter.exit_code


def _lock(folder: RunFolder) -> BaseFileLock:
    """Acquire the run's lock; the system releases it however this process ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunBusyError(
            f"{folder.name} is being trained by another process", f"storyteller logs {folder.name} -f follows it"
        ) from None
    except OSError as error:
        raise DiskError(f"the lock of {folder.name} cannot be taken ({error.strerror})", "check the disk") from error
    return lock


def _train_and_describe(
    folder: RunFolder, reporter: StatusReporter, from_step: int | None, join: Callable[[], ProcessGroup] | None = None
) -> tuple[State, str, int]:
    """Train, alone or with the processes that `join` connects to; returns how it ended: state, message, exit status.

    Raises only PeerLostError: the process that failed reports the reason.
    """
    try:
        outcome = _train(folder, reporter, from_step, join)
    except PeerLostError:
        raise
    except StoppedEarly:
        step = reporter.step
        message = f"stopped before it resumed from step {step:,}" if step else "stopped before its first step"
        reporter.log(message)
        return "stopped", message, 0
    except BaseException as error:  # noqa: BLE001  every failure must reach the run's status
        problem = _explain(error, folder.name)
        if not isinstance(error, StorytellerError):
            reporter.log(traceback.format_exc().rstrip())
        reporter.log(f"failed: {problem}")
        return "failed", str(problem), problem.exit_status
    reporter.log(f"{outcome} at step {reporter.step:,}")
    return outcome, "", 0


def _explain(error: BaseException, name: str) -> StorytellerError:
    """The error with a remedy for the user."""
    if isinstance(error, StorytellerError):
        return error
    if is_disk_full(error):
        return DiskError("the disk is full", f"free some space, then storyteller resume {name}")
    with contextlib.suppress(ImportError):  # an incomplete installation of torch is reported by this function, too
        from storyteller.model import memory

        if memory.is_out_of_memory(error):
            return memory.out_of_memory_error(error, "what training needs")
    return RunError(f"unexpected {type(error).__name__}: {error}", f"storyteller logs {name} has the whole traceback")


def _train(
    folder: RunFolder, reporter: StatusReporter, from_step: int | None, join: Callable[[], ProcessGroup] | None
) -> State:
    with reporter.setting_up():
        from storyteller.training import build_trainer  # imports torch, which takes seconds

        run = build_trainer.set_up(folder, reporter, from_step, join() if join else None)
    trainer = run.trainer
    try:
        reporter.ready(trainer.progress)
        return trainer.train()
    finally:
        # If another process was lost, torchrun ends this one soon: nothing is waited for then.
        peer_lost = isinstance(sys.exception(), PeerLostError)
        if not peer_lost:
            trainer.group.announce_end()
        trainer.source.close()
        sample_seconds = _LAST_SAMPLE_SECONDS / 5 if reporter.stop_requested() else _LAST_SAMPLE_SECONDS
        run.samples.close(0.0 if peer_lost else sample_seconds)
        if run.cards is not None:
            run.cards.close(0.0 if sys.exception() or reporter.stop_requested() else _LAST_CARD_SECONDS)
            _log_late(folder, [trainer.stamp() | scores for scores in run.cards.take_scores()])
        reporter.log(_describe_counts(run.stories))


def _log_late(folder: RunFolder, records: Sequence[Mapping[str, object]]) -> None:
    """Log what came after the training loop had closed its log."""
    if records:
        with contextlib.suppress(OSError), JsonLog(folder.metrics) as log:
            for record in records:
                log.append(record)


def _describe_counts(stories: StoryStream) -> str:
    """Formats the counts of stories read and skipped, by reason, for the log."""
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
    """Train in one of several processes that torchrun started; returns 0 if the run's end is recorded."""
    keep_freed_blocks()
    threading.Thread(target=_exit_with_leader, name="lifeline", daemon=True).start()
    if int(os.environ["RANK"]) > 0:
        return _follow_first(path, scratch)
    folder = RunFolder(path)
    _redirect_output(folder)
    joined: list[ProcessGroup] = []

    def join() -> ProcessGroup:
        from storyteller.training import distributed

        joined.append(distributed.join())
        return joined[0]

    reporter = StatusReporter(folder, owned_by("starting", leader))
    try:
        with reporter.running():
            end = _train_and_describe(folder, reporter, from_step, join)
            reporter.end(*end)
        joined[0].end(*end)
    except (PeerLostError, IndexError):  # the leader reports why; IndexError: the processes were not connected yet
        return 1
    return 0


def _follow_first(path: Path, scratch: Path) -> int:
    """Train in a process other than the first, with its set-up; a failure of this process alone goes to `scratch`."""
    from storyteller.training import distributed

    if path.is_absolute():  # other machines have no run folder
        _redirect_output(RunFolder(path))
    reporter, patience_seconds = SilentReporter(), math.inf
    group: ProcessGroup | None = None
    end: Mapping[str, Any] | None = None
    with reporter.running():
        try:
            group = distributed.join()
            if (setup := group.await_setup()) is not None:
                from storyteller.training import build_trainer

                shared = build_trainer.SharedSetup.from_json(setup)
                trainer = build_trainer.set_up_member(shared, group, reporter)
                try:
                    trainer.train()
                finally:
                    trainer.source.close()
        except PeerLostError:
            patience_seconds = _SAME_FAILURE_SECONDS
        except BaseException as error:  # noqa: BLE001  every failure must reach the run's status
            patience_seconds = _SAME_FAILURE_SECONDS
            if not isinstance(error, StorytellerError):
                traceback.print_exc()
            torchrun.write_failure(scratch, int(os.environ["RANK"]), _explain(error, path.name))
        with contextlib.suppress(PeerLostError):
            end = group.await_end(patience_seconds) if group is not None else None
    if end is not None and os.environ["LOCAL_RANK"] == "0":
        torchrun.write_end(scratch, end["state"], end["message"], end["exit_code"])
    return 0 if end is not None else 1


def _exit_with_leader() -> None:
    """Exit when the leader has ended, which closes the other end of the pipe on standard input."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _redirect_output(folder: RunFolder) -> None:
    """Send what this process prints to the run's log."""
    with folder.log.open("ab") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)


if __name__ == "__main__":
    leave(main())

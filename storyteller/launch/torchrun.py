"""Leads a run that several processes train: starts torchrun, watches it, and records how the run ended.

The leader owns the run in `status.json`, holds its lock, and receives the signals. It starts torchrun
(`torch.distributed.run`), which starts the training processes, each a `storyteller.training.worker --member-of`. Only
the first of those writes the run folder. `training.distributed` defines how they communicate.

    leader -- torchrun -- process 1 (writes the run folder), process 2, ...

All of them watch a pipe whose only writing end is the leader's, so that they end at once if the leader dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from storyteller.errors import RunError, StorytellerError, UsageError, invalid_value
from storyteller.system import child_process
from storyteller.system.hardware import n_cores
from storyteller.system.signals import STOP_SIGNALS, handle_signals
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, State, own_status, read_status, same_owner, write_status

if TYPE_CHECKING:
    import psutil

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""Time for the other processes to notice that one has ended. Those that hang in a collective are killed after it."""
_MAX_PROCESSES = 4096
_END_FILE = "over.json"
_ENDED = re.compile(r"rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+) \(pid: (\d+)\)")
"""What torchrun logs about each process that failed."""


@dataclass(frozen=True)
class TorchrunSpec:
    """How many processes train a run, and on how many machines."""

    nproc: int = 1  # processes per machine, usually one per GPU
    nnodes: int = 1  # number of machines
    node_rank: int = 0  # index of this machine, from 0. The first one has the run folder.
    rendezvous: str = ""  # `HOST:PORT` of the first machine, reachable from the others

    def __post_init__(self) -> None:
        for option, value in (("--nproc", self.nproc), ("--nnodes", self.nnodes)):
            if not 1 <= value <= _MAX_PROCESSES:
                what = "processes on each machine" if option == "--nproc" else "machines"
                raise invalid_value(option, value, f"1 to {_MAX_PROCESSES} {what}")
        if not 0 <= self.node_rank < self.nnodes:
            raise invalid_value("--node-rank", self.node_rank, f"0 (the first machine) to {self.nnodes - 1}")
        if self.nnodes > 1 and _address(self.rendezvous) is None:
            address = "HOST:PORT of the first machine, such as node1:29500"
            if self.rendezvous:
                raise invalid_value("--rendezvous", self.rendezvous, address)
            raise UsageError(f"--nnodes {self.nnodes} needs --rendezvous", address)

    @property
    def size(self) -> int:
        """Number of processes on all machines."""
        return self.nproc * self.nnodes

    @property
    def arguments(self) -> list[str]:
        """The worker's command-line arguments for this spec; none for a single process."""
        if self.size == 1:
            return []
        arguments = ["--nproc", str(self.nproc)]
        if self.nnodes > 1:
            arguments += ["--nnodes", str(self.nnodes), "--node-rank", str(self.node_rank)]
            arguments += ["--rendezvous", self.rendezvous]
        return arguments


def spec_from_options(nproc: int, nnodes: int, node_rank: int | None, rendezvous: str | None) -> TorchrunSpec:
    """Makes a spec from the command's options. Under Slurm, the default of `node_rank` is that of this machine.

    Raises UsageError for an invalid value.
    """
    slurm = os.environ.get("SLURM_NODEID", "")
    if node_rank is None:
        node_rank = int(slurm) if nnodes > 1 and re.fullmatch(r"\d{1,6}", slurm) else 0
    return TorchrunSpec(nproc, nnodes, node_rank, rendezvous or "")


def _address(rendezvous: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"(.+):(\d{1,5})", rendezvous, re.DOTALL)
    return (match[1], match[2]) if match and 0 < int(match[2]) < 65536 else None


def lead(folder: RunFolder | None, spec: TorchrunSpec, from_step: int | None = None) -> int:
    """Trains the run with the processes of `spec` to its end and returns the exit status.

    The caller holds the run's lock. `folder` is None on every machine but the first; how the run ended is then printed.
    """
    return _Leader(folder, spec).run(from_step)


@dataclass
class _Leader:
    folder: RunFolder | None
    spec: TorchrunSpec
    _is_stop_requested: bool = False
    _members: list[psutil.Process] = field(default_factory=list)  # the training processes of this machine
    _killed: set[int] = field(default_factory=set)  # pids of members that the leader killed

    def run(self, from_step: int | None) -> int:
        with tempfile.TemporaryDirectory(prefix="storyteller-") as name, handle_signals(self._on_signal):
            scratch = Path(name)
            if self.folder is not None:
                before = read_status(self.folder)  # a resumed run keeps its step and tokens
                step, tokens = (before.step, before.tokens) if before is not None else (0, 0)
                with contextlib.suppress(OSError):
                    write_status(self.folder, own_status("starting", step=step, tokens=tokens))
            process, lifeline = self._start(scratch, from_step)
            # Whatever happens here, nothing may survive the leader: the run's lock ends with it, and another process
            # may then write to the run folder. Closing the lifeline ends the members that still run, even those that
            # torchrun, once killed, no longer ends.
            try:
                self._watch(process)
            finally:
                os.close(lifeline)
                process.kill()
                process.wait()
                self._end_members()
            return self._record_end(scratch, process.returncode)

    # --- the processes ------------------------------------------------------------------------------------------------

    def _start(self, scratch: Path, from_step: int | None) -> tuple[subprocess.Popen[bytes], int]:
        """Starts torchrun. Returns its process and the writing end of the pipe that the members watch."""
        spec = self.spec
        where = ["--standalone", "--local-addr", "127.0.0.1"]
        if (address := _address(spec.rendezvous)) is not None and spec.nnodes > 1:
            where = ["--nnodes", str(spec.nnodes), "--node-rank", str(spec.node_rank)]
            where += ["--master-addr", address[0], "--master-port", address[1]]
        worker = ["-m", "storyteller.training.worker", str(self.folder.path) if self.folder else "-"]
        worker += ["--member-of", str(os.getpid()), "--scratch", str(scratch)]
        worker += [] if from_step is None else ["--from", str(from_step)]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(spec.nproc)]
        environment = {"OMP_NUM_THREADS": str(max(1, n_cores() // spec.nproc))}
        if spec.nnodes == 1 and Path("/sys/class/net/lo").exists():
            environment["GLOO_SOCKET_IFNAME"] = "lo"  # otherwise gloo looks up the host's name, which may not resolve
        reading, writing = os.pipe()
        try:
            # Signals are blocked in torchrun and all below it. A stop that reached torchrun would give the members 30 s
            # to save, and a member that still imports would die of it. Members unblock the signals once they can stop.
            with (scratch / "torchrun.log").open("ab") as log, child_process.block_signals(STOP_SIGNALS):
                process = subprocess.Popen(
                    [*torchrun, *where, "--max-restarts", "0", *worker],
                    stdin=reading,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=environment | child_process.environment(),
                )
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return process, writing

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for torchrun to end. Forwards a stop to the members, and kills them soon after one has ended."""
        import psutil

        is_forwarded, first_end = False, None
        while process.poll() is None:
            if len(self._members) < self.spec.nproc:  # torchrun has not started all of them yet
                with contextlib.suppress(psutil.Error):
                    self._members = psutil.Process(process.pid).children()
            living = [member for member in self._members if _is_alive(member)]
            if self._is_stop_requested and not is_forwarded:
                is_forwarded = True
                if not living:
                    return  # nothing was started yet
                for member in living:
                    _signal(member, signal.SIGTERM)
            # When one member dies, the others wait for it in a collective operation, which may take minutes to fail.
            if len(living) < len(self._members):
                first_end = first_end or time.monotonic()
                if time.monotonic() - first_end > _GRACE_SECONDS:
                    for member in living:
                        self._killed.add(member.pid)
                        _signal(member, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _end_members(self) -> None:
        """Waits for the members to end, and kills those that do not."""
        import psutil

        _, left = psutil.wait_procs(self._members, timeout=_GRACE_SECONDS)
        for member in left:
            _signal(member, signal.SIGKILL)
        psutil.wait_procs(left, timeout=_GRACE_SECONDS)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Requests a stop at the first signal, and ends the leader and all below it at the second."""
        if self._is_stop_requested:
            os._exit(128 + number)
        self._is_stop_requested = True

    # --- status -------------------------------------------------------------------------------------------------------

    def _record_end(self, scratch: Path, returncode: int) -> int:
        """Returns the exit status, after recording how the run ended where the first member could not."""
        if self.folder is None:
            return self._report_end(scratch, returncode)
        state: State
        status = read_status(self.folder)
        if status is not None and same_owner(status, own_status("running")) and status.state not in LIVING:
            # When a member dies, torchrun stops the others. The first one may record `stopped` then, though it failed.
            was_intended = status.state != "stopped" or self._is_stop_requested or returncode == 0
            if was_intended:
                return status.exit_code or 0
        if self._is_stop_requested and not self._members:
            step = status.step if status is not None else 0
            message = "stopped before its first step" if step == 0 else f"stopped before it resumed from step {step:,}"
            state, exit_code, line = "stopped", 0, message
        else:
            resume = f"storyteller resume {self.folder.name} goes on from the newest checkpoint"
            error = self._failure(scratch, returncode, resume)
            state, exit_code, message, line = "failed", error.exit_status, str(error), f"failed: {error}"
        last = own_status(state, exit_code=exit_code, message=message)
        if status is not None:
            last = replace(last, step=status.step, tokens=status.tokens, wandb_url=status.wandb_url)
        with contextlib.suppress(OSError):
            write_status(self.folder, last)
        with contextlib.suppress(OSError), self.folder.log.open("ab") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n".encode("utf-8", "backslashreplace"))
        return exit_code

    def _report_end(self, scratch: Path, returncode: int) -> int:
        """Prints how the run ended, on a machine other than the first, and returns the exit status."""
        with contextlib.suppress(OSError, ValueError):
            over = json.loads((scratch / _END_FILE).read_text(encoding="utf-8"))
            how = f": {safe_line(over['message'])}" if over["message"] else ""
            print(f"storyteller: the run {'was' if over['state'] == 'stopped' else 'has'} {over['state']}{how}")
            return int(over["exit_code"])
        if self._is_stop_requested and not self._members:
            return 0
        for line in (scratch / "torchrun.log").read_text(encoding="utf-8", errors="replace").splitlines():
            print(safe_line(line), file=sys.stderr)
        raise self._failure(scratch, returncode, "the first machine's log may say more")

    def _failure(self, scratch: Path, returncode: int, remedy: str) -> StorytellerError:
        """The reason of the failure: a member's own error, how a member ended, or the last line of torchrun's log."""
        for path in sorted(scratch.glob("failed-*.json"), key=lambda path: path.stat().st_mtime_ns):
            with contextlib.suppress(OSError, ValueError, KeyError):
                plain = json.loads(path.read_text(encoding="utf-8"))
                kind = UsageError if plain["exit_status"] == UsageError.exit_status else RunError
                return kind(plain["problem"], plain["remedy"])
        said = (scratch / "torchrun.log").read_text(encoding="utf-8", errors="replace")
        # torchrun lists the first failure last. Members that the leader or torchrun ended did not fail, and a member
        # that exited may have done so because another one was killed.
        ended = [
            (int(rank), int(code)) for rank, code, pid in reversed(_ENDED.findall(said)) if int(pid) not in self._killed
        ]
        ended.sort(key=lambda each: (each[1] >= 0, each[1] == -signal.SIGTERM))
        if ended:
            rank, code = ended[0]
            how = f"was {child_process.signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
            how += ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
            how += ", as happens when one on another machine ends" if code == 1 and self.spec.nnodes > 1 else ""
            return RunError(f"process {rank + 1} of {self.spec.size} {how}", remedy)
        lines = [line for line in said.splitlines() if line.strip()]
        last = safe_line(lines[-1], 200) if lines else "its log is empty"
        return RunError(f"torchrun ended with exit status {returncode} ({last})", remedy)


def _is_alive(member: psutil.Process) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        return member.is_running() and member.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False


def _signal(member: psutil.Process, which: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        member.send_signal(which)


def write_failure(scratch: Path, rank: int, error: StorytellerError) -> None:
    """Writes the error of a training process to the file from which the leader reads it."""
    plain = {"problem": error.problem, "remedy": error.remedy, "exit_status": error.exit_status}
    with contextlib.suppress(OSError):
        (scratch / f"failed-{rank}.json").write_text(json.dumps(plain), encoding="utf-8")


def write_end(scratch: Path, state: str, message: str, exit_code: int) -> None:
    """Leaves how the run ended for a leader that does not have its folder."""
    with contextlib.suppress(OSError):
        (scratch / _END_FILE).write_text(
            json.dumps({"state": state, "message": message, "exit_code": exit_code}), encoding="utf-8"
        )

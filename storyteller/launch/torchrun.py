"""One run trained by several processes, from outside: torchrun is started, watched, and its end recorded.

The process that is here leads. It is the run's owner in `status.json` and holds its lock; signals come to it. Under it
torchrun (`torch.distributed.run`) starts the processes that train, each a `storyteller.training.worker --member-of`. The first
of them alone writes the run folder. What they tell each other is `lm.distributed`'s business.

    leader -- torchrun -- process 1 (writes the run folder), process 2, ...

All of them read a pipe whose one writing end the leader holds: should it die, they end at once.
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
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from storyteller.errors import RunError, StorytellerError, UsageError
from storyteller.system import child_process
from storyteller.system.hardware import n_cores
from storyteller.text import safe_line
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, State, own_status, read_status, same_owner, write_status

if TYPE_CHECKING:
    import psutil

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""For so long the others may go on once one process has ended: they notice it, unless they hang in a collective."""
_MOST_PROCESSES = 4096
_OVER = "over.json"
_ENDED = re.compile(r"rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+) \(pid: (\d+)\)")
"""How torchrun tells of each process that failed."""


@dataclass(frozen=True)
class TorchrunSpec:
    """How many processes train a run, and on how many machines."""

    nproc: int = 1
    """Processes on each machine: one a GPU, say."""
    nnodes: int = 1
    """Machines."""
    node_rank: int = 0
    """Which of the machines this is, from 0; the first one has the run folder."""
    rendezvous: str = ""
    """`HOST:PORT` of the first machine, which the others can reach."""

    def __post_init__(self) -> None:
        if not 1 <= self.nproc <= _MOST_PROCESSES:
            raise UsageError(f"--nproc {self.nproc} is off", "it wants the processes of this machine, 1 or more")
        if not 1 <= self.nnodes <= _MOST_PROCESSES:
            raise UsageError(f"--nnodes {self.nnodes} is off", "it wants the count of machines, 1 or more")
        if not 0 <= self.node_rank < self.nnodes:
            raise UsageError(
                f"--node-rank {self.node_rank} is off", f"it wants 0 (the first machine) to {self.nnodes - 1}"
            )
        if self.nnodes > 1 and _address(self.rendezvous) is None:
            shown = safe_line(self.rendezvous, 60)
            problem = f"--rendezvous {shown} is off" if shown else f"--nnodes {self.nnodes} wants a --rendezvous, too"
            raise UsageError(problem, "it wants HOST:PORT of the first machine, such as node1:29500")

    @property
    def size(self) -> int:
        """Processes in all."""
        return self.nproc * self.nnodes

    @property
    def words(self) -> list[str]:
        """The worker's arguments for it; none for one process."""
        if self.size == 1:
            return []
        words = ["--nproc", str(self.nproc)]
        if self.nnodes > 1:
            words += ["--nnodes", str(self.nnodes), "--node-rank", str(self.node_rank)]
            words += ["--rendezvous", self.rendezvous]
        return words


def of_options(nproc: int, nnodes: int, node_rank: int | None, rendezvous: str | None) -> TorchrunSpec:
    """The fleet that the command's options name; under Slurm, which machine this is need not be said.

    Raises UsageError, naming the option that is off.
    """
    slurm = os.environ.get("SLURM_NODEID", "")
    if node_rank is None:
        node_rank = int(slurm) if nnodes > 1 and re.fullmatch(r"\d{1,6}", slurm) else 0
    return TorchrunSpec(nproc, nnodes, node_rank, rendezvous or "")


def _address(rendezvous: str) -> tuple[str, str] | None:
    host, colon, port = rendezvous.rpartition(":")
    if not host or not colon or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        return None
    return host, port


def lead(folder: RunFolder | None, fleet: TorchrunSpec, from_step: int | None = None) -> int:
    """Train the run in the fleet's processes, to its end; the exit status. The caller holds the run's lock.

    `folder` is None on every machine but the first, which has it: what the run's end was is printed there.
    """
    return _Leader(folder, fleet).run(from_step)


@dataclass
class _Leader:
    folder: RunFolder | None
    fleet: TorchrunSpec
    _stop_asked: bool = False
    _members: list[psutil.Process] = field(default_factory=list)
    _killed: set[int] = field(default_factory=set)
    """Pids of members that this process ended itself."""

    def run(self, from_step: int | None) -> int:
        with tempfile.TemporaryDirectory(prefix="storyteller-") as name, self._hearing():
            scratch = Path(name)
            self._say_starting()
            process, lifeline = self._start(scratch, from_step)
            try:
                self._watch(process)
            finally:
                os.close(lifeline)
                process.kill()
                process.wait()
                self._bury()
            return self._told(scratch, process.returncode)

    # --- the processes ------------------------------------------------------------------------------------------------

    def _start(self, scratch: Path, from_step: int | None) -> tuple[subprocess.Popen[bytes], int]:
        """torchrun, and the end of the pipe that keeps what is under it alive."""
        fleet = self.fleet
        where = ["--standalone", "--local-addr", "127.0.0.1"]
        if (address := _address(fleet.rendezvous)) is not None and fleet.nnodes > 1:
            where = ["--nnodes", str(fleet.nnodes), "--node-rank", str(fleet.node_rank)]
            where += ["--master-addr", address[0], "--master-port", address[1]]
        worker = ["-m", "storyteller.training.worker", str(self.folder.path) if self.folder else "-"]
        worker += ["--member-of", str(os.getpid()), "--scratch", str(scratch)]
        worker += [] if from_step is None else ["--from", str(from_step)]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(fleet.nproc)]
        environment = {"OMP_NUM_THREADS": str(max(1, n_cores() // fleet.nproc))}
        if fleet.nnodes == 1 and Path("/sys/class/net/lo").exists():
            environment["GLOO_SOCKET_IFNAME"] = "lo"  # else it asks for the host's name, which need not resolve
        reading, writing = os.pipe()
        try:
            # Held back in all that is under this one: torchrun would give what trains 30 s to save, and a process that
            # still imports would die of it. Those that train take the signals up once they can stop.
            with (scratch / "torchrun.log").open("ab") as log, child_process.held_back(STOP_SIGNALS):
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
        """Until torchrun has ended: pass a stop on, and let no process outlive another for long."""
        told, first_gone = False, None
        while process.poll() is None:
            self._meet(process)
            living = [member for member in self._members if _lives(member)]
            if self._stop_asked and not told:
                told = True
                if not living:
                    return  # nothing has begun
                for member in living:
                    _signal(member, signal.SIGTERM)
            if len(living) < len(self._members):
                first_gone = first_gone or time.monotonic()
                if time.monotonic() - first_gone > _GRACE_SECONDS:
                    for member in living:
                        self._killed.add(member.pid)
                        _signal(member, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)

    def _meet(self, process: subprocess.Popen[bytes]) -> None:
        """Know the processes that train as soon as they are there."""
        import psutil

        if len(self._members) < self.fleet.nproc:
            with contextlib.suppress(psutil.Error):
                self._members = psutil.Process(process.pid).children()

    def _bury(self) -> None:
        """Let none of the processes that train live on: nobody may write the run folder after this one."""
        import psutil

        _, left = psutil.wait_procs(self._members, timeout=_GRACE_SECONDS)
        for member in left:
            _signal(member, signal.SIGKILL)
        psutil.wait_procs(left, timeout=_GRACE_SECONDS)

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        """The first signal asks to stop, the second ends this process, and with it all that is under it."""
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.signal(number, self._signalled) for number in STOP_SIGNALS}
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if self._stop_asked:
            os._exit(128 + number)
        self._stop_asked = True

    # --- what is recorded ---------------------------------------------------------------------------------------------

    def _say_starting(self) -> None:
        if self.folder is None:
            return
        before = read_status(self.folder)  # a resumed run has come so far already
        step, tokens = (before.step, before.tokens) if before is not None else (0, 0)
        with contextlib.suppress(OSError):
            write_status(self.folder, own_status("starting", step=step, tokens=tokens))

    def _told(self, scratch: Path, returncode: int) -> int:
        """Record how the run ended where the first process could not; the exit status."""
        if self.folder is None:
            return self._told_elsewhere(scratch, returncode)
        status = read_status(self.folder)
        own = status is not None and same_owner(status, own_status("running"))
        # Told to stop by torchrun, since another had died, is no stop.
        meant = status is not None and (status.state != "stopped" or self._stop_asked or returncode == 0)
        if status is not None and own and meant and status.state not in LIVING:
            return status.exit_code or 0
        if self._stop_asked and not self._members:
            step = status.step if status is not None else 0
            how = "stopped before its first step" if step == 0 else f"stopped before it went on from {step:,}"
            return self._record("stopped", how, how, 0)
        resume = f"storyteller resume {self.folder.name} goes on from the newest checkpoint"
        error = self._why(scratch, returncode, resume)
        return self._record("failed", f"failed: {error}", str(error), error.exit_status)

    def _told_elsewhere(self, scratch: Path, returncode: int) -> int:
        """On another machine than the first: say how the run ended, as the first process told the others."""
        with contextlib.suppress(OSError, ValueError):
            over = json.loads((scratch / _OVER).read_text(encoding="utf-8"))
            how = f": {safe_line(over['message'])}" if over["message"] else ""
            print(f"storyteller: the run {'was' if over['state'] == 'stopped' else 'has'} {over['state']}{how}")
            return int(over["exit_code"])
        if self._stop_asked and not self._members:
            return 0
        for line in (scratch / "torchrun.log").read_text(encoding="utf-8", errors="replace").splitlines():
            print(safe_line(line), file=sys.stderr)
        raise self._why(scratch, returncode, "the first machine's log may say more")

    def _why(self, scratch: Path, returncode: int, remedy: str) -> StorytellerError:
        """Why the processes ended: what one of them said, how one was killed, or torchrun's own last words."""
        for path in sorted(scratch.glob("failed-*.json"), key=lambda path: path.stat().st_mtime_ns):
            with contextlib.suppress(OSError, ValueError, KeyError):
                plain = json.loads(path.read_text(encoding="utf-8"))
                kind = UsageError if plain["exit_status"] == UsageError.exit_status else RunError
                return kind(plain["problem"], plain["remedy"])
        said = (scratch / "torchrun.log").read_text(encoding="utf-8", errors="replace")
        # It names the first failure last. Whom this one or torchrun ended did not fail, and an exit may be another's
        # consequence.
        ended = [
            (int(rank), int(code)) for rank, code, pid in reversed(_ENDED.findall(said)) if int(pid) not in self._killed
        ]
        ended.sort(key=lambda each: (each[1] >= 0, each[1] == -signal.SIGTERM))
        if ended:
            rank, code = ended[0]
            how = f"was {child_process.signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
            how += ", as the system does where memory runs out" if code == -signal.SIGKILL else ""
            how += ", as it does where one on another machine ends" if code == 1 and self.fleet.nnodes > 1 else ""
            return RunError(f"process {rank + 1} of {self.fleet.size} {how}", remedy)
        lines = [line for line in said.splitlines() if line.strip()]
        last = safe_line(lines[-1], 200) if lines else "it said nothing"
        return RunError(f"torchrun ended with exit status {returncode} ({last})", remedy)

    def _record(self, state: State, line: str, message: str, exit_code: int) -> int:
        """Write the run's last status and a line of its log."""
        assert self.folder is not None  # noqa: S101  the callers looked
        before = read_status(self.folder) or own_status("starting")
        now = own_status(state, exit_code=exit_code, message=message)
        with contextlib.suppress(OSError):
            write_status(self.folder, replace(now, step=before.step, tokens=before.tokens, wandb_url=before.wandb_url))
        with contextlib.suppress(OSError), self.folder.log.open("ab") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {line}\n".encode("utf-8", "backslashreplace"))
        return exit_code


def _lives(member: psutil.Process) -> bool:
    import psutil

    try:
        return member.is_running() and member.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False


def _signal(member: psutil.Process, which: signal.Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        member.send_signal(which)


# --- what a member leaves for its leader ------------------------------------------------------------------------------


def leave_failure(scratch: Path, rank: int, error: StorytellerError) -> None:
    """Why the process of this rank failed, for its leader to find."""
    plain = {"problem": error.problem, "remedy": error.remedy, "exit_status": error.exit_status}
    with contextlib.suppress(OSError):
        (scratch / f"failed-{rank}.json").write_text(json.dumps(plain), encoding="utf-8")


def leave_end(scratch: Path, state: str, message: str, exit_code: int) -> None:
    """How the run ended, for a leader that does not see its folder."""
    with contextlib.suppress(OSError):
        (scratch / _OVER).write_text(
            json.dumps({"state": state, "message": message, "exit_code": exit_code}), encoding="utf-8"
        )

"""What the benchmarks of training share: a run as a user starts it, watched from outside; other processes; stories.

Nothing heavy is imported here: on Linux a child's peak memory is at least that of the process that forked it.
"""

from __future__ import annotations

import compileall
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import storyteller
from storyteller.errors import StorytellerError
from storyteller.tracking import run_process
from storyteller.tracking.run_folder import RunFolder
from tests.support.records import read_records

if TYPE_CHECKING:
    import psutil

STORYTELLER = [sys.executable, "-m", "storyteller"]
NAME = "timed"
"""Of every run here: each is alone in its folder."""
SCORED_BY_THE_PEER = 100
"""Stories."""

Report = dict[str, Any]


# --- processes --------------------------------------------------------------------------------------------------------


def keep_bytecode() -> None:
    """Leave the package's bytecode beside its modules, as its installation does: else each start compiles them anew."""
    compileall.compile_dir(Path(storyteller.__file__).parent, quiet=1)


def fresh_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a user at a machine where nothing is cached and no network answers."""
    ours = ("STORYTELLER_", "WANDB_", "HF_", "XDG_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    folders = {"XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "HF_HOME": "hf"}
    home.mkdir(parents=True, exist_ok=True)
    offline = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1", "HOME": str(home)}
    return kept | offline | {name: str(home / folder) for name, folder in folders.items()} | more


def end_in_order() -> None:
    """Have a SIGTERM end this process as Ctrl-C does: what it started is stopped, and its folders go."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Watched:
    """`storyteller train` in a fresh home, and what its run wrote, with the seconds since the command was typed."""

    def __init__(
        self,
        place: Path,
        *words: str,
        command: Sequence[str] = STORYTELLER,
        env: dict[str, str] | None = None,
        tty: int | None = None,
        look_seconds: float = 0.02,
    ) -> None:
        """Type the command: `words` are its options; `tty` takes what it prints, else nobody does."""
        self._look_seconds = look_seconds
        self.folder = RunFolder(place / "runs" / NAME)
        self.lines: list[tuple[float, str]] = []
        """Of the run's log, each with when it was seen."""
        self.records: list[tuple[float, dict[str, Any]]] = []
        """Of the run's metrics, each with when it was seen."""
        self._log_at = self._metrics_at = 0
        self._paused: list[psutil.Process] = []
        where = ["--name", NAME, "--runs-dir", str(place / "runs")]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with this
        self.typed_at, self._begin = time.time(), time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "train", *where, *words],
            stdin=subprocess.DEVNULL,
            stdout=self._said if tty is None else tty,
            stderr=self._said if tty is None else tty,
            env=env or fresh_environment(place / "home"),
            start_new_session=True,
        )

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of the run is left behind."""
        self.resume()
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(StorytellerError):  # it has ended
            run_process.stop(self.folder, now=True)
        self._said.close()

    @property
    def seconds(self) -> float:
        """Since the command was typed."""
        return time.perf_counter() - self._begin

    def until(
        self, found: Callable[[dict[str, Any]], bool], timeout_seconds: float = 3600
    ) -> tuple[float, dict[str, Any]] | None:
        """Watch until a record of the metrics is as wanted: when it was seen, and it. None where the run ended before.

        Raises SystemExit where the command fails or takes longer.
        """
        while True:
            over = self.process.poll() is not None
            seen = len(self.records)
            self.look()
            for at, record in self.records[seen:]:
                if found(record):
                    return at, record
            if over and self.process.returncode:
                raise SystemExit(f"storyteller train failed: {self._last_words()}")
            if over:
                return None
            if self.seconds > timeout_seconds:
                raise SystemExit(f"storyteller train takes more than {timeout_seconds:.0f} s: {self._last_words()}")
            time.sleep(self._look_seconds)

    def end(self, timeout_seconds: float = 3600) -> None:
        """Watch until the command has ended. Raises SystemExit where it fails or takes longer."""
        self.until(lambda _: False, timeout_seconds)

    def first_step(self) -> tuple[float, float]:
        """Watch a run with `log_every=1`: seconds until its loop began, and until its first step was over."""
        found = self.until(lambda record: "train/loss" in record)
        if found is None:
            raise SystemExit("the run ended before its first step")
        at, record = found
        return at - float(record["seconds"]), at

    def processes(self) -> list[psutil.Process]:
        """Every process of the run: those in whose command, or in that of one above them, its place is."""
        import psutil

        place, found = str(self.folder.path.parent), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(place in " ".join(each.cmdline()) for each in (process, *process.parents())):
                    found.append(process)
        return found

    def pause(self) -> float:
        """Stop every process of the run where it is, until `resume`; when that was, by `perf_counter`."""
        import psutil

        stopped_at = 0.0
        while new := [each for each in self.processes() if each not in self._paused]:  # what was started meanwhile too
            for process in new:
                with contextlib.suppress(psutil.Error):
                    process.suspend()
            stopped_at = stopped_at or time.perf_counter()
            self._paused += new
        return stopped_at or time.perf_counter()

    def resume(self) -> None:
        """Let them go on."""
        import psutil

        for process in reversed(self._paused):
            with contextlib.suppress(psutil.Error):
                process.resume()
        self._paused = []

    def look(self) -> None:
        """Read what has been written since."""
        new, self._metrics_at = read_records(self.folder.metrics, self._metrics_at)
        with contextlib.suppress(OSError), self.folder.log.open("rb") as log:
            log.seek(self._log_at)
            *whole, _ = log.read().split(b"\n")
            self._log_at += sum(len(line) + 1 for line in whole)
            self.lines += [(self.seconds, line.decode("utf-8", "replace")) for line in whole]
        self.records += [(self.seconds, record) for record in new]

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace").strip()[-1000:] or "it said nothing"


def measure_command(what: str, **asked: Any) -> list[str]:
    """The command that measures one of `measures.MEASURES`."""
    return [sys.executable, str(Path(__file__).with_name("measures.py")), what, json.dumps(asked)]


def measured(what: str, **asked: Any) -> Any:
    """What one of `measures.MEASURES` finds, in a process of its own."""
    return json.loads(said_by(measure_command(what, **asked)))


def said_by(command: Sequence[str], env: dict[str, str] | None = None) -> str:
    """What a command prints. Raises SystemExit where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def peak_mib(command: Sequence[str], env: dict[str, str]) -> float:
    """Most memory that a command, or the largest process under it, had at once.

    Linux counts what this process has at the fork as the child's, so nothing large may be imported here.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(command[:3])} failed: {said.read().decode('utf-8', 'replace')[-1000:]}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


# --- stories ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stories:
    """Files of stories, one JSON object with a `text` a line."""

    train: Path
    valid: Path

    @classmethod
    def given(cls, train: Path | None, valid: Path | None, place: Path, n_tales: int) -> Stories:
        """The files that were named, else of the first bundled stories."""
        if train is not None and valid is not None:
            return cls(train.resolve(), valid.resolve())
        if train is not None or valid is not None:
            raise SystemExit("--train and --valid go together")
        from storyteller.data.bundled import stories

        said = list(itertools.islice(stories(), n_tales + max(n_tales // 100, SCORED_BY_THE_PEER)))
        return cls(write(place / "train.jsonl", said[:n_tales]), write(place / "valid.jsonl", said[n_tales:]))


def write(path: Path, texts: Sequence[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def read(path: Path) -> Iterator[str]:
    """The stories as they are in a file of any of the formats that `--data` takes."""
    from storyteller.data.local_files import Files

    return (text for text, _ in Files((str(path),)).read(0, None))

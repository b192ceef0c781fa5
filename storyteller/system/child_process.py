"""Starts child processes, and exchanges JSON lines with them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from storyteller.text import safe_line

_MAX_LINE_BYTES = 1 << 26
_STDERR_TAIL_BYTES = 4096


@contextlib.contextmanager
def block_signals(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Blocks the signals in this thread. Processes started meanwhile, and their children, inherit the blocked mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment() -> dict[str, str]:
    """This process's environment, changed so that a Python child imports this package and nothing from its folder."""
    environment = dict(os.environ)
    package_home = Path(__file__).resolve().parents[2]
    if package_home.name not in ("site-packages", "dist-packages"):
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(package_home), *([earlier] if earlier else [])])
    # `-m` puts the current folder first on the path: a `random.py` beside the user's stories would be imported.
    environment["PYTHONSAFEPATH"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    return environment


def signal_name(number: int) -> str:
    """Describes a process's death by this signal: `killed by SIGKILL`."""
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(number).name}"
    return f"killed by signal {number}"


class JsonLinesProcess:
    """A child process that exchanges JSON values with this one, one a line, over its standard input and output.

    Threads read and write the pipes, so `send` never blocks. The child is expected to exit at the end of its input,
    which also comes when this process dies. What it prints to standard error is kept for the reason of its exit.
    """

    def __init__(
        self,
        command: Sequence[str],
        on_message: Callable[[Any, Any], None] | None = None,
        on_exit: Callable[[Any, str], None] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        new_session: bool = True,
    ) -> None:
        """Starts `command` with `env` added to `environment()`. Raises OSError where it cannot be started.

        `on_message` is called with this object and each JSON value, on the reader thread. If it raises ValueError,
        TypeError, KeyError or the like, the message is invalid, and the child is killed. Without it, `ask` returns the
        messages. `on_exit` is called last, with this object and the reason. Ctrl-C does not reach the child: it has a
        session of its own, which Linux may schedule as one group, or with `new_session=False` only a process group.
        """
        self._on_message = on_message or self._put_answer
        self._on_exit = on_exit
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._stderr_tail = b""
        self._exit_reason = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), "TOKENIZERS_PARALLELISM": "false", **(env or {})},
            start_new_session=new_session,
            process_group=None if new_session else 0,
        )
        self._stdin, self._stdout = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        for work in (self._write, self._read, self._read_errors):
            threading.Thread(target=work, name=f"json-lines{work.__name__}", daemon=True).start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def send(self, message: object) -> None:
        """Queues a message. What is sent to a child that has exited is lost."""
        self._outgoing.put(json.dumps(message).encode("ascii") + b"\n")

    def ask(self, request: object = None) -> dict[str, Any]:
        """Sends a request, unless it is None, and waits for the next JSON object from the child.

        Raises ChildProcessError, whose text is the reason, when the child has exited or sent anything else.
        """
        if request is not None:
            self.send(request)
        answer = self._answers.get()
        if answer is None:
            self._answers.put(None)
            raise ChildProcessError(self._exit_reason)
        return answer

    def close(self, grace_seconds: float) -> None:
        """Ends the child's input, and kills it if it is still running `grace_seconds` later."""
        self._outgoing.put(None)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_seconds)
        self.kill()

    def kill(self) -> None:
        """Kills the child and its descendants."""
        import psutil

        self._outgoing.put(None)
        if self.is_running:  # after its exit, another process may have its pid
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)

    def _put_answer(self, _: JsonLinesProcess, message: Any) -> None:
        if not isinstance(message, dict):
            raise TypeError("not a JSON object")
        self._answers.put(message)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (line := self._outgoing.get()) is not None:
                self._stdin.write(line)
                self._stdin.flush()
        with contextlib.suppress(OSError):
            self._stdin.close()

    def _read(self) -> None:
        invalid = False
        while not invalid and (line := self._stdout.readline(_MAX_LINE_BYTES)):
            try:
                self._on_message(self, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
                invalid = True
        if invalid:
            self._process.kill()
        self._exit_reason = "it sent an invalid message" if invalid else self._describe_exit()
        self._answers.put(None)
        if self._on_exit is not None:
            self._on_exit(self, self._exit_reason)
        self.kill()
        self._stdout.close()

    def _read_errors(self) -> None:
        with cast(BinaryIO, self._process.stderr) as pipe:
            while block := os.read(pipe.fileno(), _STDERR_TAIL_BYTES):
                self._stderr_tail = (self._stderr_tail + block)[-_STDERR_TAIL_BYTES:]

    def _describe_exit(self) -> str:
        """The exit status or signal, and the last line that the child printed to standard error."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it closed its output"
        reason = f"signal {-status}" if status < 0 else f"status {status}"
        time.sleep(0.02)  # lets the other thread read the last of standard error
        lines = [line for line in self._stderr_tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"{reason}: {safe_line(lines[-1].strip(), 200)}" if lines else reason

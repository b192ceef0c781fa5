"""The child as its parent has it: a process, and the pipes to it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from storyteller.text import safe_line

_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_LINE_BYTES = 1 << 20
_TAIL_BYTES = 4096


class Child:
    """The process, and the threads that read and write its pipes."""

    def __init__(
        self,
        command: Sequence[str],
        said: Callable[[Child, dict[str, Any]], None],
        ended: Callable[[Child, str], None],
    ) -> None:
        """Raises OSError where it cannot be started."""
        self.cancelled: set[int] = set()
        """Cancelled stories that still hold their model."""
        self._said = said
        self._ended = ended
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._tail = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "TOKENIZERS_PARALLELISM": "false",
                # The child finds this very package, and nothing that happens to lie in the current folder.
                "PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")))),
                "PYTHONSAFEPATH": "1",
            },
            # Ctrl-C is the parent's; and the scheduler weighs sessions against each other, where it groups them.
            start_new_session=True,
        )
        for work in (self._write, self._read, self._read_errors):
            threading.Thread(target=work, name=f"booth{work.__name__}", daemon=True).start()

    def say(self, line: dict[str, Any]) -> None:
        """Send a line; never waits."""
        self._lines.put(json.dumps(line).encode("ascii") + b"\n")

    def kill(self) -> None:
        """End the process and those that it started."""
        import psutil

        self._lines.put(None)
        if self._process.poll() is None:  # else its number may be another's by now
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101
        with contextlib.suppress(OSError):
            while (line := self._lines.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101
        why = ""
        while not why and (line := pipe.readline(_LINE_BYTES)):
            try:
                self._said(self, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
                why = "it said what cannot be understood"
        if why:
            self._process.kill()
        self._ended(self, why or self._last_words())
        self.kill()
        pipe.close()

    def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None  # noqa: S101
        with pipe:
            while block := os.read(pipe.fileno(), _TAIL_BYTES):
                self._tail = (self._tail + block)[-_TAIL_BYTES:]

    def _last_words(self) -> str:
        """How it ended, and the last line of what it printed."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it does not speak any more"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        time.sleep(0.02)  # for the thread that reads what it printed
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"{how}: {safe_line(lines[-1].strip(), 200)}" if lines else how

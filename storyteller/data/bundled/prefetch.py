"""The first bundled tales, told by another process while this one is busy with something else: loading torch, say."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading

from storyteller.system.child_process import environment


class BundledPrefetch:
    """Tales by their index, as many as have come.

    The process tells them from the last to the first, and whoever reads them begins with the first and tells for
    himself what has not come: so the two meet where the tales of both are all.
    """

    def __init__(self, seed: int, count: int) -> None:
        """Of the first `count` tales. Where the process cannot be started, or is killed, none come."""
        self._tales: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "storyteller.data.bundled", str(seed), str(count)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment() | {"PYTHONUNBUFFERED": ""},
            )
            threading.Thread(target=self._listen, args=(count,), name="tales-ahead", daemon=True).start()

    def __call__(self, index: int) -> str | None:
        """The tale of this index, if it has come; then all after it have, and those before it are not told any more."""
        told = self._tales.get(index)
        if told is not None:
            self.close()
        return told

    def close(self) -> None:
        """End the process; what has come stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listen(self, count: int) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        with process.stdout as lines, contextlib.suppress(OSError, ValueError):  # it was killed within a line
            for index, line in zip(reversed(range(count)), lines, strict=False):
                self._tales[index] = json.loads(line)

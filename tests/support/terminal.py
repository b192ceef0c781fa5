"""A program in a terminal of its own: keys sent, bytes kept with their times, screens as they were at any of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import pyte


class Chunk(NamedTuple):
    """Bytes that the program wrote, and when, by `time.perf_counter`."""

    at_seconds: float
    data: bytes


class Terminal:
    """A child process on a pseudo-terminal. Reading takes the times; screens are drawn afterwards, from what was read.

    So a measured program never waits for the emulation.
    """

    def __init__(
        self, words: Sequence[str], columns: int = 160, rows: int = 45, env: Mapping[str, str] | None = None
    ) -> None:
        self.columns, self.rows = columns, rows
        self.chunks: list[Chunk] = []
        self.begun_seconds = time.perf_counter()
        # Where these are set, they and not the terminal say how large it is.
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        wanted = {name: value for name, value in (env or {}).items() if name not in ("COLUMNS", "LINES")}
        self.pid, self._handle = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.execvpe(words[0], list(words), {**inherited, "TERM": "xterm-256color", **wanted})
            os._exit(127)
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._handle, termios.TIOCSWINSZ, size)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._handle, 1 << 16)
            except OSError:
                return
            if not data:
                return
            self.chunks.append(Chunk(time.perf_counter(), data))

    def send(self, keys: str) -> float:
        """Type `keys`; when, in `perf_counter` seconds."""
        at = time.perf_counter()
        os.write(self._handle, keys.encode())
        return at

    def screens(self) -> Iterator[tuple[float, pyte.Screen]]:
        """The screen after each chunk so far; one and the same object, drawn on further."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        for chunk in list(self.chunks):
            stream.feed(chunk.data)
            yield chunk.at_seconds, screen

    def screen(self) -> pyte.Screen:
        """The screen as it is now."""
        screen = pyte.Screen(self.columns, self.rows)
        stream = pyte.ByteStream(screen)
        for chunk in list(self.chunks):
            stream.feed(chunk.data)
        return screen

    def text(self) -> str:
        """What the screen shows now."""
        return "\n".join(self.screen().display)

    def wait_for(self, text: str, timeout_seconds: float = 20.0) -> None:
        """Until the screen shows `text`. Raises TimeoutError with the screen."""
        end = time.monotonic() + timeout_seconds
        seen = -1
        while time.monotonic() < end:
            if len(self.chunks) != seen:
                seen = len(self.chunks)
                if text in self.text():
                    return
            time.sleep(0.05)
        raise TimeoutError(f"{text!r} is not on the screen:\n{self.text()}")

    def first_time(self, shows: Callable[[pyte.Screen], bool], after_seconds: float = 0.0) -> float | None:
        """When the screen first showed it, from `after_seconds` on, in `perf_counter` seconds."""
        for at, screen in self.screens():
            if at >= after_seconds and shows(screen):
                return at
        return None

    def ended(self, timeout_seconds: float = 10.0) -> int:
        """The exit status, once the program has ended. Raises TimeoutError."""
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            select.select([], [], [], 0.02)
        raise TimeoutError("the program has not ended")

    def close(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
            self.pid = 0
        self._reader.join(5)
        with contextlib.suppress(OSError):
            os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shows(text: str) -> Callable[[pyte.Screen], bool]:
    """Whether a screen shows `text`."""
    return lambda screen: any(text in line for line in screen.display)

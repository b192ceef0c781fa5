"""A command at a terminal: a real pty of 40 columns, driven like a person would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import storyteller

MAIN = "from storyteller.cli import main; main()"
PACKAGE_PARENT = str(Path(storyteller.__file__).parents[1])
_STEERING = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[=>])")
"""What prompt_toolkit itself sends: CSI sequences and keypad modes."""


def environment(**more: str) -> dict[str, str]:
    """For a command of this checkout, at a terminal that can do all that is common."""
    return {**os.environ, "PYTHONPATH": PACKAGE_PARENT, "TERM": "xterm-256color", **more}


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", MAIN, *words]


@dataclass
class Terminal:
    """What a command showed, and the keyboard before it."""

    process: subprocess.Popen[bytes]
    master: int
    seen: bytes = b""
    read: int = 0
    prompts: int = 0

    def until(self, text: str) -> None:
        """Wait until `text` was shown, after what was waited for before; what steers the terminal is not looked at."""
        while (place := self.shown.find(text.encode(), self.read)) < 0:
            assert self._more(), self.shown[self.read :]
        self.read = place + len(text.encode())

    def say(self, text: str | bytes) -> None:
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def ready(self) -> None:
        """Wait until a session's next line can be typed: the terminal is raw by then, and echoes nothing by itself."""
        self.prompts += 1
        while self.seen.count(b"\x1b[?2004h") < self.prompts:
            assert self._more(), self.seen[-2000:]

    def ask(self, line: str, then: str) -> None:
        """Type a line, and wait for what it brings and for the next prompt."""
        self.say(line + "\r")
        self.until(then)
        self.ready()

    def finish(self) -> int:
        """All that is still shown; the exit status."""
        while self._more():
            pass
        return self.process.wait(timeout=30)

    @property
    def shown(self) -> bytes:
        """What was seen, without what steers the terminal; the beginning of such at the end is left out too."""
        return _STEERING.sub(b"", re.sub(rb"\x1b[^a-zA-Z]*$", b"", self.seen))

    @property
    def lines(self) -> list[str]:
        return self.shown.decode().replace("\r\n", "\n").splitlines()

    def _more(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], 30)
        try:
            part = os.read(self.master, 65536) if ready else b""
        except OSError:  # Linux: the other end has closed
            part = b""
        self.seen += part
        return bool(part)


@contextlib.contextmanager
def at_terminal(*words: str, columns: int = 40, **more: str) -> Iterator[Terminal]:
    """`storyteller` with these words at a terminal of its own; ended with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    settings = {key: value for key, value in environment(**more).items() if key != "COLUMNS"}

    def lead() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(command(*words), stdin=slave, stdout=slave, stderr=slave, env=settings, preexec_fn=lead)
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)

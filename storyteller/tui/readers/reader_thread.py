"""The thread that reads the disk for a screen, so that the screen never waits for a file."""

from __future__ import annotations

import threading
from pathlib import Path

from textual.message import Message
from textual.message_pump import MessagePump

from storyteller.errors import StorytellerError

_RETRY_SECONDS = 0.5  # pause after a read that failed


class ReaderThread(threading.Thread):
    """Calls `_read` in a loop; `_read` posts messages to `owner`, a screen.

    An error of the disk does not end the thread: the next read may succeed.
    """

    def __init__(self, owner: MessagePump, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._owner = owner
        self._stopped = threading.Event()
        self._poked = threading.Event()
        self._awake = threading.Event()
        self._awake.set()

    def stop(self) -> None:
        """End the thread after its current read; returns at once."""
        self._stopped.set()
        self.wake()

    def sleep(self) -> None:
        """Read nothing until `wake` is called, while the screen is covered."""
        self._awake.clear()

    def wake(self) -> None:
        """Read again, and at once."""
        self._awake.set()
        self._poked.set()

    def poke(self) -> None:
        """Cut the current pause short."""
        self._poked.set()

    def _post(self, message: Message) -> None:
        if not self._stopped.is_set():
            self._owner.post_message(message)

    def _begin(self) -> None:
        """Called once on the thread, before the first `_read`."""

    def _read(self) -> float:
        """Read and post messages. Returns the pause before the next read, seconds."""
        raise NotImplementedError

    def _on_error(self, problem: str) -> None:
        """Called when `_read` raised a StorytellerError or an OSError."""

    def run(self) -> None:
        self._begin()
        while not self._stopped.is_set():
            # Cleared before the read: a request that comes during the read is answered by the next one.
            self._poked.clear()
            pause_seconds = _RETRY_SECONDS
            try:
                pause_seconds = self._read()
            except StorytellerError as error:
                self._on_error(str(error))
            except OSError as error:
                self._on_error(f"the runs cannot be read ({error.strerror or error})")
            if self._stopped.is_set():
                return
            self._poked.wait(pause_seconds)
            self._awake.wait()


def stamp(path: Path) -> tuple[int, ...]:
    """Identity, size and time of change, which differ whenever a file or the entries of a folder changed."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns

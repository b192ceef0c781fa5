"""The events that the background process sends to its parent."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import BinaryIO

from storyteller.inference.background.cpu_yield import CpuYield
from storyteller.inference.background.events import Event, Released, TextPiece, to_json

PIECE_CHARS = 1 << 15
_BATCH_SECONDS = 0.05
"""Pieces generated within this time are sent as one, so that a fast model does not flood the screen that draws them."""


class OutputQueue:
    """Writes events to the parent in order, on a thread of its own, so that generation never waits for the pipe."""

    def __init__(self, pipe: BinaryIO, cpu_yield: CpuYield) -> None:
        self._pipe = pipe
        self._cpu_yield = cpu_yield
        self._lock = threading.Lock()
        self._waiting: list[Event | Released] = []
        self._any = threading.Event()
        threading.Thread(target=self._write, name="output-queue", daemon=True).start()

    def put(self, event: Event | Released) -> None:
        """Queues an event; a piece is appended to a waiting piece of the same story."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(event, TextPiece)
                and isinstance(last, TextPiece)
                and last.ticket == event.ticket
                and len(last.text) < PIECE_CHARS
            ):
                self._waiting[-1] = TextPiece(event.ticket, last.text + event.text, event.tokens)
            else:
                self._waiting.append(event)
            self._any.set()

    def _write(self) -> None:
        self._cpu_yield.exempt_this_thread()
        try:
            while self._any.wait():
                with self._lock:
                    batch, self._waiting = self._waiting, []
                    self._any.clear()
                self._pipe.write(b"".join(json.dumps(to_json(event)).encode("ascii") + b"\n" for event in batch))
                if any(isinstance(event, TextPiece) for event in batch):
                    time.sleep(_BATCH_SECONDS)
        except OSError:  # the parent is gone
            os._exit(0)

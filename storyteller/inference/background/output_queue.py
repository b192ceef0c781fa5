"""What the child says to its parent."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any, BinaryIO

from storyteller.inference.background.cpu_yield import CpuYield

PIECE_CHARS = 1 << 15
_WAVE_SECONDS = 0.05
"""Pieces told within it come as one: whoever draws them is not flooded by a fast model."""


class OutputQueue:
    """What the parent is told, in order; written by a thread of its own, a wave at a time."""

    def __init__(self, pipe: BinaryIO, manners: CpuYield) -> None:
        self._pipe = pipe
        self._manners = manners
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._any = threading.Event()
        threading.Thread(target=self._write, name="outbox", daemon=True).start()

    def put(self, line: dict[str, Any]) -> None:
        """Send `line`; pieces of one story that wait become one."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else {}
            if "piece" in line and last.get("piece") == line["piece"] and len(last["text"]) < PIECE_CHARS:
                last["text"] += line["text"]
                last["tokens"] = line["tokens"]
            else:
                self._waiting.append(line)
            self._any.set()

    def _write(self) -> None:
        self._manners.keep()
        try:
            while self._any.wait():
                with self._lock:
                    wave, self._waiting = self._waiting, []
                    self._any.clear()
                self._pipe.write(b"".join(json.dumps(line).encode("ascii") + b"\n" for line in wave))
                if any("piece" in line for line in wave):
                    time.sleep(_WAVE_SECONDS)
        except OSError:  # nobody listens any more
            os._exit(0)

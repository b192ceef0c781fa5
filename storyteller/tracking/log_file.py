"""Reading a run's log."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from storyteller.system.files import open_regular
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_process import _POLL_SECONDS
from storyteller.tracking.run_status import (
    LIVING,
    seen_state,
)

_TAIL_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 16


def log_tail(folder: RunFolder, n: int = 5) -> list[str]:
    """The last `n` lines of the log that are not blank, as they stand: not safe to show yet."""
    try:
        with open_regular(folder.log) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line][-n:] if n > 0 else []


def follow_log(folder: RunFolder, follow: bool) -> Iterator[str]:
    """The log's lines as they stand, not safe to show yet, without their newlines.

    With `follow`, goes on until the run no longer lives and all it wrote was read.
    """
    while follow and not folder.log.exists() and seen_state(folder) in LIVING:
        time.sleep(_POLL_SECONDS)
    try:
        file = open_regular(folder.log)
    except FileNotFoundError:
        return
    piece = b""
    with file:
        while True:
            living = follow and seen_state(folder) in LIVING  # before the read: nothing written after it is missed
            while block := file.read(_BLOCK_BYTES):
                *lines, piece = (piece + block).split(b"\n")
                yield from (line.decode("utf-8", "replace") for line in lines)
            if not living:
                break
            time.sleep(4 * _POLL_SECONDS)
    if piece:
        yield piece.decode("utf-8", "replace")

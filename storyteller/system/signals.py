"""Signal handlers that are installed for the length of a `with` block."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # the signals that ask a process to stop: `kill` and Ctrl-C


@contextlib.contextmanager
def handle_signals(
    handler: Callable[[int, FrameType | None], None], signals: Sequence[signal.Signals] = STOP_SIGNALS
) -> Iterator[None]:
    """Call `handler` for `signals` inside the block; the earlier handlers are restored at its end.

    The signals are unblocked too: `child_process.block_signals` starts children with them blocked, so that none of them
    ends a process that is still importing. Outside the main thread, where Python allows no handlers, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, handler) for number in signals}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        yield
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)

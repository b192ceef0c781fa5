"""Signal handlers that are installed for the length of a `with` block."""

from __future__ import annotations

import os
import signal
import threading

from storyteller.system.signals import STOP_SIGNALS, handle_signals


def test_handlers_are_called_inside_the_block_and_restored_after_it() -> None:
    earlier = [signal.getsignal(number) for number in STOP_SIGNALS]
    received: list[int] = []
    with handle_signals(lambda number, _: received.append(number)):
        for number in STOP_SIGNALS:
            os.kill(os.getpid(), number)
    assert received == list(STOP_SIGNALS)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == earlier


def test_signals_that_were_blocked_before_the_block_are_delivered_in_it() -> None:
    received: list[int] = []
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with handle_signals(lambda number, _: received.append(number)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert received == [signal.SIGTERM]


def test_outside_the_main_thread_nothing_is_installed() -> None:
    installed: list[object] = []

    def enter() -> None:
        with handle_signals(lambda *_: None):
            installed.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert installed == [signal.getsignal(signal.SIGTERM)]

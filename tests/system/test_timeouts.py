"""Calls with a time limit."""

from __future__ import annotations

import threading

import pytest

from storyteller.system.timeouts import call_with_timeout


def test_a_call_returns_or_raises_what_its_action_does() -> None:
    assert call_with_timeout(10, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(10, lambda: 1 // 0)


def test_an_action_that_takes_too_long_is_left_behind() -> None:
    released = threading.Event()
    with pytest.raises(TimeoutError):
        call_with_timeout(0.05, lambda: released.wait(10))
    released.set()

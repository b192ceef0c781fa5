"""Time limits for calls that have none of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def call_with_timeout(seconds: float, action: Callable[[], T]) -> T:
    """Returns `action()`, or raises what it raises. Raises TimeoutError after `seconds`.

    The action runs on a daemon thread, which is abandoned on a timeout: Python cannot interrupt it.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(action())
        except BaseException as error:  # noqa: BLE001  raised again by the caller
            result.set_exception(error)

    threading.Thread(target=run, name="call_with_timeout", daemon=True).start()
    return result.result(timeout=seconds)

"""Starting child processes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def held_back(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """A process that is started in here has the signals blocked from its beginning, and so has all that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def environment() -> dict[str, str]:
    """This process's environment, put so that the child finds this package and nothing in the current folder."""
    environment = dict(os.environ)
    package_home = Path(__file__).resolve().parents[2]
    if package_home.name not in ("site-packages", "dist-packages"):
        earlier = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(package_home), *([earlier] if earlier else [])])
    # `-m` puts the current folder first on the path: a `random.py` beside someone's stories would be imported.
    environment["PYTHONSAFEPATH"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    return environment


def signal_name(number: int) -> str:
    """How the signal of this number ended a process, in words."""
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"

"""Where the processor time of a run goes that is not training: for machines whose pace changes more than it costs.

In a run, watched from outside: the share of its time that its process spends outside of steps (evaluation,
checkpoints, log lines, waiting for data), as its metrics have it, and as shares of all cores the processor time of
every other process of it (the command that follows, the mirror and its client) and of the run's own threads that take
no steps (reading ahead, stories, heartbeat). That is more than it costs where a step leaves a core unused now and then.
"""

from __future__ import annotations

import contextlib
import itertools
import time

from storyteller.system import hardware
from tests.benchmarks.processes import Watched

OTHER_THREADS = "threads that take no steps"
_NAMES = {
    "storyteller.training.worker": "the run's process",
    "storyteller.tracking.wandb_mirror": "the mirror",
    "wandb-core": "wandb's own process",
    "storyteller train": "the command that follows",
}
"""What is in a process's command, and what it is."""


def taken(run: Watched, begin_step: int, end_step: int) -> dict[str, float]:
    """Shares in % between two steps of a run whose metrics have lines of both."""
    run.until(lambda record: record["step"] >= begin_step and "train/loss" in record)
    first = _used(run)
    used = dict(first)
    began = time.monotonic()
    while not any(record["step"] >= end_step for _, record in run.records) and run.process.poll() is None:
        time.sleep(0.2)
        run.look()
        used |= _used(run)  # what has ended keeps its last figure
    wall = (time.monotonic() - began) * hardware.n_cores()
    shares: dict[str, float] = {}
    for which, (name, seconds) in used.items():
        shares[name] = shares.get(name, 0.0) + 100 * (seconds - first.get(which, (name, 0.0))[1]) / wall
    shares["outside of steps"] = _outside_steps(run, begin_step, end_step)
    whole = shares.pop("the run's process")
    # Those of its threads that take steps are the busiest: the lanes, and the one that deals out to them.
    threads = sorted((shares.pop(name) for name in list(shares) if name.startswith("thread ")), reverse=True)
    shares[OTHER_THREADS] = whole - sum(threads[: hardware.n_cores() + 1])
    return shares


def _outside_steps(run: Watched, begin_step: int, end_step: int) -> float:
    """Share of the run's own time that no step took."""
    lines = [record for _, record in run.records if "train/loss" in record]
    lines = [line for line in lines if begin_step <= line["step"] <= end_step]
    busy: float = sum(
        (line["tokens"] - before["tokens"]) / line["train/tokens_per_second"]
        for before, line in itertools.pairwise(lines)
    )
    return 100 * (1 - busy / float(lines[-1]["seconds"] - lines[0]["seconds"]))


def _used(run: Watched) -> dict[str, tuple[str, float]]:
    """Processor seconds of each process of the run, and of each thread of its own, by an id: what it is, and they."""
    import psutil

    found: dict[str, tuple[str, float]] = {}
    for process in run.processes():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            name = next((name for word, name in _NAMES.items() if word in words), "others")
            times = process.cpu_times()
            found[str(process.pid)] = name, times.user + times.system
            if name == "the run's process":
                for thread in process.threads():
                    found[f"thread {thread.id}"] = f"thread {thread.id}", thread.user_time + thread.system_time
    return found

"""How long a log of a million lines takes to be seen, followed and listed: python tests/benchmarks/curves.py

Builds a synthetic run of a million lines (300 MB) and 49 small ones in a temporary folder, and measures in processes of
their own: the first picture, the reading of every line with its memory and with what another thread has to wait
meanwhile, looks at the curve, the lag behind a writer of 100 lines a second, and the list of 50 runs.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEYS = ("train/grad_norm", "train/lr", "train/tokens_per_second", "train/padding_pct", "memory/rss_gib")


def record(line: int, noise: random.Random) -> dict[str, object]:
    """A line of training, of about 300 bytes; `time/written` is when it was written."""
    step = line * 10
    return {
        "step": step,
        "tokens": step * 4096,
        "seconds": round(step / 7, 3),
        "time": "2026-01-01T00:00:00Z",
        "train/loss": 2 + 4 * math.exp(-line / 1e5) + noise.gauss(0, 0.1),
        **{key: round(noise.random(), 6) for key in KEYS},
        "time/eta_seconds": 81.5,
        "time/written": time.time(),
    }


def build(root: Path, lines: int) -> Path:
    """The folder of all runs, the long one named `long`."""
    noise = random.Random(0)
    for n in range(50):
        folder = root / ("long" if n == 0 else f"short-{n:02}")
        folder.mkdir(parents=True)
        config = {"preset": "quick", "train": {"steps": lines * 10}}
        run = {"schema": 1, "created_at": f"2026-01-01T00:00:{n:02}Z", "config": config}
        (folder / "run.json").write_text(json.dumps(run))
        status = {"state": "finished", "pid": 1, "create_time": 1.0, "exit_code": 0}
        (folder / "status.json").write_text(json.dumps(status))
        with (folder / "metrics.jsonl").open("w", encoding="utf-8") as log:
            for line in range(lines if n == 0 else 200):
                log.write(json.dumps(record(line, noise)) + "\n")
                if n and line % 50 == 0:  # the long run was never evaluated: the worst for a search backwards
                    log.write(json.dumps({"step": line * 10, "eval/bpb": 3.0}) + "\n")
    return root


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(action: Callable[[], object]) -> float:
    """Milliseconds."""
    begin = time.perf_counter()
    action()
    return round(1000 * (time.perf_counter() - begin), 2)


class Waiting(threading.Thread):
    """How much later than asked a thread wakes up, 200 times a second: what a key has to wait."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.late_ms: list[float] = []
        self.over = False

    def run(self) -> None:
        while not self.over:
            begin = time.perf_counter()
            time.sleep(0.005)
            self.late_ms.append(1000 * (time.perf_counter() - begin) - 5)

    def percentile(self, share: float) -> float:
        return round(sorted(self.late_ms)[int(share * (len(self.late_ms) - 1))], 2)


def measure_reading(root: Path) -> dict[str, Any]:
    import numpy  # noqa: F401  its own memory and import are not the reader's

    from storyteller.tracking.curves import Curves
    from storyteller.tracking.run_folder import RunFolder

    baseline_mib = peak_mib()
    curves = Curves(RunFolder(root / "long"))
    before = time.process_time()
    found: dict[str, Any] = {"sketch_ms": timed(curves.sketch)}
    found["sketch_cpu_ms"] = round(1000 * (time.process_time() - before), 2)
    found["line_of_sketch_ms"] = timed(lambda: curves.line("train/loss", smoothing=0.05))
    waiting = Waiting()
    waiting.start()
    wall, cpu = time.perf_counter(), time.process_time()
    while not curves.catch_up(0.2):
        pass
    found["catch_up_seconds"] = round(time.perf_counter() - wall, 2)
    found["catch_up_cpu_seconds"] = round(time.process_time() - cpu, 2)
    waiting.over = True
    found["other_thread_waits_p95_ms"] = waiting.percentile(0.95)
    found["other_thread_waits_most_ms"] = waiting.percentile(1)
    found["memory_growth_mib"] = round(peak_mib() - baseline_mib, 1)
    last = float(curves.last["step"])
    looks = {
        "line_ms": {},
        "line_by_seconds_ms": {"x": "seconds", "smoothing": 0.05},
        "zoom_of_12000_lines_ms": {"begin": last / 2, "end": last / 2 + 120_000},
        "the_same_zoom_again_ms": {"begin": last / 2, "end": last / 2 + 120_000},
        "zoom_of_1000_lines_ms": {"begin": last / 4, "end": last / 4 + 10_000},
    }
    for name, how in looks.items():
        found[name] = timed(lambda how=how: curves.line("train/loss", **how))  # type: ignore[misc]
    return found


def write_on(root: Path, seconds: float) -> None:
    """Append 100 lines a second to the long run."""
    noise = random.Random(1)
    lines = sum(1 for _ in (root / "long" / "metrics.jsonl").open("rb"))
    begin = time.monotonic()
    with (root / "long" / "metrics.jsonl").open("a", encoding="utf-8") as log:
        for n in range(int(seconds * 100)):
            time.sleep(max(0.0, begin + n / 100 - time.monotonic()))
            log.write(json.dumps(record(lines + n, noise)) + "\n")
            log.flush()


def measure_lag(root: Path, seconds: float) -> dict[str, Any]:
    """How old the newest line that is seen is, four looks a second, while every line is still read and after that."""
    from storyteller.tracking.curves import Curves
    from storyteller.tracking.run_folder import RunFolder

    writer = subprocess.Popen([sys.executable, __file__, "--write", str(root), str(seconds)])
    time.sleep(2.0)
    curves = Curves(RunFolder(root / "long"))
    curves.sketch()
    while_reading: list[float] = []
    after: list[float] = []
    read = False
    cpu = wall = 0.0
    try:
        while writer.poll() is None:
            read_now = curves.catch_up(0.2)
            curves.line("train/loss", smoothing=0.05)
            (after if read else while_reading).append(time.time() - float(curves.last["time/written"]))
            if read_now:
                if not read:
                    cpu, wall = time.process_time(), time.perf_counter()
                read = True
                time.sleep(0.25)
    finally:
        writer.kill()
        writer.wait()
    busy = (time.process_time() - cpu) / (time.perf_counter() - wall) if read else None
    return {
        "lag_while_reading_most_seconds": round(max(while_reading), 3),
        "lag_after_most_seconds": round(max(after[:-1]), 3) if len(after) > 1 else None,
        "following_cpu_pct": round(100 * busy, 2) if busy is not None else None,
    }


def measure_list(root: Path) -> dict[str, Any]:
    from storyteller.tracking.run_index import list_runs, summarise
    from storyteller.tracking.run_watcher import RunWatcher

    before = time.process_time()
    found = {"list_and_summarise_ms": timed(lambda: [summarise(folder) for folder in list_runs(root)])}
    found["list_and_summarise_cpu_ms"] = round(1000 * (time.process_time() - before), 2)
    runs = RunWatcher(root)
    found["first_look_ms"] = timed(runs.poll)
    found["next_look_ms"] = timed(runs.poll)
    found["sparks_ms"] = timed(lambda: [runs.loss_sparkline(summary.name) for summary in runs.poll()])
    found["next_sparks_ms"] = timed(lambda: [runs.loss_sparkline(summary.name) for summary in runs.poll()])
    return found


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "reading": measure_reading,
    "list": measure_list,
    "lag": measure_lag,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the writer writes")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_on(Path(arguments.write[0]), float(arguments.write[1]))
        return
    if arguments.measure:
        name, root = arguments.measure
        more = (arguments.seconds,) if name == "lag" else ()
        print(json.dumps(MEASURES[name](Path(root), *more)))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = build(Path(folder) / "runs", arguments.lines)
        found: dict[str, Any] = {"lines": arguments.lines}
        found["megabytes"] = round((root / "long" / "metrics.jsonl").stat().st_size / 1e6, 1)
        for name in MEASURES:
            command = [sys.executable, __file__, "--seconds", str(arguments.seconds), "--measure", name, str(root)]
            found |= json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    for name, value in found.items():
        print(f"{name:<34}{'-' if value is None else format(value, ','):>12}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

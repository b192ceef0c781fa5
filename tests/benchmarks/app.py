"""The terminal app, timed from outside: a pseudo-terminal, keys, and what came back when.

    python tests/benchmarks/app.py [--quick] [--json FILE] [training] [big]

`training`: while a run trains on all cores: the first frame, keys, the lag of metrics, a killed run, the app's share of
a core. `big`: 50 runs, one of them with a million lines of metrics, and keys while these are read for the first time.
Prints a table, and JSON with --json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyte

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storyteller.tracking.metrics_log import last_record
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status
from tests.benchmarks.processes import keep_bytecode
from tests.support.terminal import Terminal, shows

COMMAND = [sys.executable, "-m", "storyteller"]
SIZE = (160, 45)


def app(root: Path, *words: str) -> Terminal:
    return Terminal([*COMMAND, "tui", "--runs-dir", str(root), *words], *SIZE)


def painted(screen: pyte.Screen) -> bool:
    """Whether a first frame is there: some lines with words on them."""
    return sum(bool(re.search(r"[a-z]{3}", line)) for line in screen.display) >= 2


def first_frames(root: Path, run: str, times: int) -> dict[str, float]:
    """Seconds from the command to the first frame and to the run in the list, medians."""
    frames, lists = [], []
    for _ in range(times):
        with app(root) as terminal:
            terminal.wait_for(run, 30)
            frames.append((terminal.first_time(painted) or 0) - terminal.begun_seconds)
            lists.append((terminal.first_time(shows(run)) or 0) - terminal.begun_seconds)
            quit_app(terminal)
    return {"first_frame_seconds": statistics.median(frames), "list_seconds": statistics.median(lists)}


def quit_app(terminal: Terminal) -> None:
    terminal.send("q")
    try:
        terminal.ended()
    except TimeoutError:
        terminal.close()


RARE = "QXZ"
"""Letters that no screen here shows by itself: where one of them is seen, it was typed."""
READING = "reading the log"


def type_letters(
    terminal: Terminal, times: int, seconds: float, pauses: tuple[float, float]
) -> list[tuple[float, float]]:
    """Type so many letters into the line that `/` opens, for so long at most: when each was typed, and the seconds
    until it was on the screen, in their order up to the first that never was.

    `pauses`: the shortest and the longest between two of them.
    """
    terminal.send("/")
    time.sleep(1)
    marks: list[tuple[float, str]] = []
    typed, until = "", time.perf_counter() + seconds
    while len(marks) < times and time.perf_counter() < until:
        letter = random.choice(RARE)
        typed += letter
        marks.append((terminal.send(letter), typed))
        time.sleep(random.uniform(*pauses))
        if len(typed) == 12:
            for _ in typed:
                terminal.send("\x7f")
                time.sleep(pauses[0] / 2)
            typed = ""
            time.sleep(0.5)
    time.sleep(1)
    terminal.send("\x1b")
    return answers(terminal, marks)


def answers(terminal: Terminal, marks: list[tuple[float, str]]) -> list[tuple[float, float]]:
    """Each time something was typed, and the seconds until all that was typed by then was shown."""
    found: list[tuple[float, float]] = []
    waiting = iter(marks)
    mark = next(waiting, None)
    for at, screen in terminal.screens():
        while mark is not None and at >= mark[0] and shows(mark[1])(screen):
            found.append((mark[0], at - mark[0]))
            mark = next(waiting, None)
    return found


def key_latencies(terminal: Terminal, times: int) -> list[float]:
    """Seconds from a key to the first bytes that answer it: the filter's line, one letter at a time."""
    return [seconds for _, seconds in type_letters(terminal, times, 600, (0.2, 0.45))]


def keys_while_reading(terminal: Terminal) -> dict[str, float]:
    """How soon keys are answered while a run's log is read for the first time: sent from its first picture on."""
    terminal.wait_for(READING, 60)
    began = time.perf_counter()
    letters = type_letters(terminal, 1000, 12, (0.08, 0.2))
    over = terminal.first_time(lambda screen: not shows(READING)(screen), began) or time.perf_counter()
    counted = [seconds for at, seconds in letters if at < over]
    return {
        "reading_keys_answered": len(counted),
        "reading_key_median_ms": 1e3 * statistics.median(counted or [float("nan")]),
        "reading_key_p95_ms": 1e3 * p95(counted),
        "reading_seconds": over - terminal.begun_seconds,
    }


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


def metric_lags(terminal: Terminal, folder: RunFolder, seconds: float) -> list[float]:
    """Seconds from a line in the log to its step on the screen."""
    written: list[tuple[float, int]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        record = last_record(folder.metrics) or {}
        step = int(record.get("step", 0))
        if not written or step != written[-1][1]:
            written.append((time.perf_counter(), step))
        time.sleep(0.02)
    time.sleep(2)
    lags = []
    for at, step in written[1:]:

        def there(screen: pyte.Screen, step: int = step) -> bool:
            # Between two lines of metrics the head counts on: a later step says as much.
            shown = re.findall(r"step ([\d,]+)", "\n".join(screen.display))
            return any(int(one.replace(",", "") or 0) >= step for one in shown)

        seen = terminal.first_time(there, at - 0.02)
        if seen is not None:
            lags.append(max(seen - at, 0.0))
    return lags


def share_of_a_core(pid: int, seconds: float) -> float:
    """Percent of one core that the process takes."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    time.sleep(seconds)
    after = process.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / seconds


def start_training(root: Path, name: str) -> RunFolder:
    words = ["train", "--name", name, "--data", "bundled", "--minutes", "60", "--wandb", "off", "--detach"]
    subprocess.run([*COMMAND, *words, "--runs-dir", str(root)], check=True, stdout=subprocess.DEVNULL)
    folder = RunFolder(root / name)
    while not (last_record(folder.metrics, needs="train/loss") or {}):
        time.sleep(0.5)
    return folder


def while_training(root: Path, quick: bool) -> dict[str, Any]:
    """Everything that is asked of the app while a run trains on all cores."""
    folder = start_training(root, "busy-bee")
    try:
        figures: dict[str, Any] = first_frames(root, "busy-bee", 3 if quick else 7)
        with app(root) as terminal:
            terminal.wait_for("busy-bee", 30)
            latencies = key_latencies(terminal, 24 if quick else 80)
            figures["key_median_ms"] = 1e3 * statistics.median(latencies)
            figures["key_p95_ms"] = 1e3 * p95(latencies)
            figures["keys_answered"] = len(latencies)
        with app(root, "busy-bee") as terminal:
            terminal.wait_for("busy-bee", 30)
            time.sleep(5)
            lags = metric_lags(terminal, folder, 15 if quick else 40)
            figures["metric_lag_max_seconds"] = max(lags, default=float("nan"))
            figures["metric_lines_seen"] = len(lags)
            figures["share_of_a_core_pct"] = share_of_a_core(terminal.pid, 15 if quick else 40)
            figures["rss_mib"] = psutil.Process(terminal.pid).memory_info().rss / 2**20
            status = read_status(folder)
            assert status is not None and status.pid
            os.kill(status.pid, signal.SIGKILL)
            killed = time.perf_counter()
            terminal.wait_for("died", 30)
            figures["died_seconds"] = (terminal.first_time(shows("died"), killed) or 0) - killed
    finally:
        subprocess.run([*COMMAND, "stop", "busy-bee", "--now", "--runs-dir", str(root)], capture_output=True)
    return figures


def make_big(root: Path, lines: int) -> None:
    """50 runs, the newest with `lines` lines of metrics, 300 bytes each."""
    for number in range(50):
        folder = RunFolder(root / f"run-{number:02}")
        folder.path.mkdir(parents=True)
        folder.write_run(
            {"name": folder.name, "created_at": f"2026-01-01T00:{number:02}:00Z", "config": {"train": {"steps": lines}}}
        )
        count = lines if number == 49 else 200
        with folder.metrics.open("w", encoding="ascii") as file:
            for step in range(1, count + 1):
                file.write(line(step))


def line(step: int) -> str:
    loss = 8 / (1 + step / 1e4) + random.gauss(0, 0.1)
    record = {
        "step": step,
        "tokens": 4096 * step,
        "seconds": step * 0.5,
        "time": "2026-01-01T00:00:00Z",
        "train/lr": 0.001,
        "train/data_wait_pct": 0.02,
        "memory/rss_gib": 0.8164,
        "train/loss": loss,
        "train/grad_norm": abs(random.gauss(1, 0.2)),
        "train/tokens_per_second": 6000.0 + step % 100,
        "train/padding_pct": 0.0,
        "train/mfu_pct": 17.0,
        "time/eta_seconds": 1000.0,
    }
    if step % 100 == 0:
        record["eval/bpb"] = loss / 4
    return json.dumps(record).ljust(299) + "\n"


def braille(screen: pyte.Screen) -> bool:
    return sum("\u2801" <= cell <= "\u28ff" for row in screen.display for cell in row) > 40


def with_a_big_log(root: Path, quick: bool) -> dict[str, Any]:
    """50 runs, one of them with a million lines."""
    lines = 200_000 if quick else 1_000_000
    make_big(root, lines)
    figures: dict[str, Any] = first_frames(root, "run-49", 3)
    big = RunFolder(root / "run-49")
    figures["log_mb"] = big.metrics.stat().st_size / 1e6
    with app(root, "run-49") as terminal:
        figures |= keys_while_reading(terminal)
    with app(root, "run-49") as terminal:
        time.sleep(15)
        painted_at = terminal.first_time(braille)
        figures["run_first_paint_seconds"] = (painted_at or float("nan")) - terminal.begun_seconds
        stop = threading.Event()

        def write() -> None:
            step = lines
            while not stop.wait(0.5):
                step += 1
                with big.metrics.open("a", encoding="ascii") as file:
                    file.write(line(step))

        writer = threading.Thread(target=write)
        writer.start()
        time.sleep(3)
        lags = metric_lags(terminal, big, 15)
        stop.set()
        writer.join()
        figures["metric_lag_max_seconds"] = max(lags, default=float("nan"))
        figures["metric_lines_seen"] = len(lags)
        process = psutil.Process(terminal.pid)
        figures["rss_mib"] = sum(p.memory_info().rss for p in (process, *process.children(True))) / 2**20
    return figures


PARTS: dict[str, Callable[[Path, bool], dict[str, Any]]] = {"training": while_training, "big": with_a_big_log}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which; both where none is named")
    parser.add_argument("--quick", action="store_true", help="fewer times, smaller logs")
    parser.add_argument("--json", type=Path, help="write the figures there")
    arguments = parser.parse_args()
    keep_bytecode()
    figures = {}
    for name in arguments.parts or PARTS:
        root = Path(tempfile.mkdtemp(prefix="storyteller-app-"))
        try:
            figures[name] = PARTS[name](root, arguments.quick)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        for key, value in figures[name].items():
            print(f"{name:10}{key:28}{value:12.3f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

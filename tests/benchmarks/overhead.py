"""What all that is not training costs it, in tokens a second: logging, stories, evaluation, checkpoints and the rest.

    python tests/benchmarks/overhead.py [--train PATH --valid PATH] [--only all,logging,...] [--windows 3] [--quick]

The same training is run with all of it (as `storyteller train` does it, followed at a terminal, with a W&B mirror)
and with nothing of it (`--foreground`, no evaluation and no checkpoint but at the ends, no mirror, a line of metrics
now and then). All runs are alive at once and go in turns of a few seconds, every process of the others being stopped
meanwhile, so that the machine's pace, which changes by the minute, is the same for all. Evaluation is due every
--period seconds and a checkpoint every second time; both are given in steps, by the speed of a first short run. A
window is two such periods, the same steps in all runs: its tokens over the seconds in which it was a run's turn.

Each part alone is compared with the run that differs by it alone: `sampling`, a story at each evaluation, and
`checkpoints` with `evaluation`, without which there are none; `mirror` with `logging`; the others with the bare run;
`again`, a second bare one, shows what is not seen. A cost is 1 - the median of the windows' ratios.

Three windows take three minutes a run; `--only all` takes seven in all, everything half an hour.

`--accounts` runs it once with all of it and once without, and tells where processor time goes that is not training
(`accounts`). It takes seven minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pty
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storyteller.config.presets import PRESETS, resolve
from storyteller.system import hardware
from storyteller.tracking import run_process
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.wandb_cursor import read_cursor
from tests.benchmarks import accounts
from tests.benchmarks.processes import STORYTELLER, Report, Stories, Watched, end_in_order, fresh_environment
from tests.support.records import read_records
from tests.support.wandb_loopback import LoopbackWandb

SILENT = [
    sys.executable,
    "-c",
    "from storyteller.training.sample_writer import SampleWriter\n"
    "SampleWriter.submit = lambda *_: None\n"
    "from storyteller.cli import main\n"
    "main()",
]
"""storyteller without the stories that are told at evaluations, which no option leaves out."""

PARTS = ("logging", "evaluation", "sampling", "checkpoints", "daemon", "mirror")
VARIANTS: dict[str, tuple[tuple[str, ...], str]] = {
    "bare": ((), "bare"),
    "again": ((), "bare"),
    "all": (PARTS, "bare"),
    "logging": (("logging",), "bare"),
    "evaluation": (("evaluation",), "bare"),
    "sampling": (("evaluation", "sampling"), "evaluation"),
    "checkpoints": (("evaluation", "checkpoints"), "evaluation"),
    "daemon": (("daemon",), "bare"),
    "mirror": (("logging", "mirror"), "logging"),
}
"""What each has, and what it is compared with."""
WANTED_PCT = 3.0
_MIRROR_SECONDS = 180.0
_TURN_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every run goes by."""

    place: Path
    preset: str
    stories: list[str]
    """Options that name them, and the tokenizer once there is one."""
    settings: list[str]
    period_seconds: float
    windows: int
    mirror: str
    server: LoopbackWandb | None
    first_steps: int

    @property
    def log_every(self) -> int:
        """Steps between two lines of metrics, as the preset has it."""
        return resolve(self.preset, {}, self.settings).train.log_every

    def words(self, steps: int, *settings: str) -> list[str]:
        """Options of `storyteller train`."""
        words = ["--preset", self.preset, *self.stories, "--steps", str(steps)]
        return [*words, *(word for setting in (*self.settings, *settings) for word in ("--set", setting))]

    def environment(self, home: Path) -> dict[str, str]:
        return fresh_environment(home, **(self.server.env() if self.server is not None else {}))


def first_run(plan: Plan) -> tuple[float, Path]:
    """Seconds of a step, from a short bare run, and the tokenizer that it trained."""
    place = Path(tempfile.mkdtemp(dir=plan.place))
    words = plan.words(plan.first_steps, "log_every=1", "eval_every=never", "checkpoint_every=never")
    with Watched(place, *words, "--foreground", "--wandb", "off", env=plan.environment(place / "home")) as run:
        run.end()
        at = [float(record["seconds"]) for _, record in run.records if "train/loss" in record]
        spans = [after - before for before, after in itertools.pairwise(at)]
        return statistics.median(spans[len(spans) // 3 :]), run.folder.tokenizer


class Variant:
    """One of the runs that go in turns."""

    def __init__(self, plan: Plan, parts: tuple[str, ...], every: int, stack: contextlib.ExitStack) -> None:
        """Start it, to be paused where its first window begins: after `every` steps."""
        self.parts, self._every = parts, every
        place = Path(tempfile.mkdtemp(dir=plan.place))
        self._begin, self._end = every, every * (1 + 2 * plan.windows)
        settings = [
            f"log_every={plan.log_every if 'logging' in parts else every}",
            f"eval_every={every if 'evaluation' in parts else 'never'}",
            f"checkpoint_every={2 * every if 'checkpoints' in parts else 'never'}",
        ]
        # It goes on past its last window while others are in theirs, and is stopped then.
        words = [*plan.words(2 * self._end, *settings), "--wandb", "off" if "mirror" not in parts else plan.mirror]
        words += [] if "daemon" in parts else ["--foreground"]
        command = SILENT if _is_silent(parts) else STORYTELLER
        tty = stack.enter_context(terminal()) if "daemon" in parts else None
        env = plan.environment(place / "home") | {"TERM": "xterm-256color"}
        self.run = stack.enter_context(Watched(place, *words, command=command, env=env, tty=tty))
        self.seconds = 0.0
        """In which it was its turn."""
        self._lines: dict[int, tuple[float, float]] = {}
        """Of the metrics, by step: those seconds, and the tokens."""

    @property
    def is_there(self) -> bool:
        """Whether its last window is over."""
        return self._end in self._lines

    def go_to_begin(self) -> None:
        """Its turn, until its first window begins."""
        while self._begin not in self._lines:
            self.go(_TURN_SECONDS)

    def go(self, seconds: float) -> None:
        """Its turn, for so long. Raises SystemExit where the run has ended."""
        self.run.resume()
        begin, before = time.perf_counter(), self.seconds
        while time.perf_counter() < begin + seconds:
            time.sleep(0.05)
            self.run.look()
            self._stamp(before + time.perf_counter() - begin)
        if self.run.process.poll() is not None:
            raise SystemExit(f"a run with {', '.join(self.parts) or 'nothing'} has ended before its time")
        self.seconds += self.run.pause() - begin
        self.run.look()
        self._stamp(self.seconds)

    def _stamp(self, seconds: float) -> None:
        """Note the new lines, and after how many seconds of its own they came."""
        for _, record in self.run.records:
            if "train/loss" in record:
                self._lines.setdefault(record["step"], (seconds, float(record["tokens"])))
        self.run.records.clear()

    def rates(self) -> list[float]:
        """Tokens a second of each window."""
        ends = range(self._begin, self._end + 1, 2 * self._every)
        return [
            (self._lines[end][1] - self._lines[begin][1]) / (self._lines[end][0] - self._lines[begin][0])
            for begin, end in itertools.pairwise(ends)
        ]

    def end(self) -> None:
        """Have it stop, and look whether what was to happen did."""
        self.run.resume()
        run_process.stop(self.run.folder)
        if "mirror" in self.parts:
            _await_mirror(self.run.folder)
        _check(self.run.folder, self.parts, self._every, self._begin, self._end)


def in_turns(plan: Plan, names: list[str], every: int) -> dict[str, list[float]]:
    """Tokens a second of each variant's windows."""
    with contextlib.ExitStack() as stack:
        variants: dict[str, Variant] = {}
        for name in names:
            variants[name] = Variant(plan, VARIANTS[name][0], every, stack)
            variants[name].go_to_begin()
            _say(f"{name}: at its first window")
        while not all(variant.is_there for variant in variants.values()):
            for name in (*names, *reversed(names)):
                variants[name].go(_TURN_SECONDS)
        for name in names:
            _say(f"{name}: {', '.join(f'{rate:,.0f}' for rate in variants[name].rates())} tokens/s")
            variants[name].end()
        return {name: variant.rates() for name, variant in variants.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def accounts_of(plan: Plan, every: int) -> Report:
    """Where the processor time of a run with all the parts goes, beside one with none of them but the process's own."""
    shares: list[dict[str, float]] = []
    begin, end = every, every * (1 + 2 * plan.windows)
    for settings, mirror in (
        ((f"eval_every={every}", f"checkpoint_every={2 * every}"), plan.mirror),
        (("eval_every=never", "checkpoint_every=never"), "off"),
    ):
        place = Path(tempfile.mkdtemp(dir=plan.place))
        words = [*plan.words(end, *settings), "--wandb", mirror]
        with terminal() as tty:
            env = plan.environment(place / "home") | {"TERM": "xterm-256color"}
            with Watched(place, *words, env=env, tty=tty, look_seconds=0.5) as run:
                shares.append(accounts.taken(run, begin, end))
                run.end()
                if mirror != "off":
                    _await_mirror(run.folder)
                    _check(run.folder, PARTS, every, begin, end)
    found, without = shares
    # Reading ahead is on such a thread too, and no run does without it.
    found[accounts.OTHER_THREADS] -= without[accounts.OTHER_THREADS]
    return {"shares_pct": found, "cost_pct": sum(found.values()), "without": without}


def _is_silent(parts: tuple[str, ...]) -> bool:
    """Whether its evaluations go without a story."""
    return "evaluation" in parts and "sampling" not in parts


def _check(folder: RunFolder, parts: tuple[str, ...], every: int, begin: int, end: int) -> None:
    """Raise SystemExit unless what was to happen between two steps did."""
    evaluated = [record["step"] for record in read_records(folder.metrics)[0] if "eval/bpb" in record]
    evaluated = [step for step in evaluated if begin <= step < end]
    wanted = list(range(begin, end, every)) if "evaluation" in parts else []
    if evaluated != wanted:
        raise SystemExit(f"evaluated at {evaluated}, not at {wanted}")
    told = folder.samples.exists()
    if told and _is_silent(parts):
        raise SystemExit("stories were told by a run that was to tell none")
    if "sampling" in parts and not told:
        raise SystemExit("no story was told")
    if "mirror" not in parts:
        return
    # Rows are counted where a server has them; offline the client's own file is all there is.
    mirrored, offline = read_cursor(folder), folder.wandb_files.rglob("*.wandb")
    if (mirrored is None or not mirrored.rows) and not any(file.stat().st_size for file in offline):
        raise SystemExit("the mirror took nothing over")


def _await_mirror(folder: RunFolder) -> None:
    """Wait until the run's mirror has ended: the next run is to be alone."""
    deadline = time.monotonic() + _MIRROR_SECONDS
    while (mirrored := read_cursor(folder)) is None or not mirrored.ended_as:
        if time.monotonic() > deadline:
            raise SystemExit(f"the mirror has not ended within {_MIRROR_SECONDS:.0f} s")
        time.sleep(0.2)


@contextlib.contextmanager
def terminal() -> Iterator[int]:
    """A terminal to print on; what comes is read, and goes nowhere."""
    parent, child = pty.openpty()

    def drain() -> None:
        with contextlib.suppress(OSError):
            while os.read(parent, 1 << 16):
                pass

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    try:
        yield child
    finally:
        os.close(child)  # the last of them: the reader is told that nothing more comes
        reader.join(timeout=5)
        os.close(parent)


# --- the table --------------------------------------------------------------------------------------------------------


def costs(rates: dict[str, list[float]]) -> Report:
    """Of each variant: the share of tokens a second that it costs, in %, with the least and the most of the windows."""
    found: Report = {}
    for name, its in rates.items():
        beside = VARIANTS[name][1]
        windows = [100 * (1 - mine / other) for mine, other in zip(its, rates[beside], strict=True)]
        found[name] = {
            "tokens_per_second": statistics.median(its),
            "beside": beside,
            "cost_pct": statistics.median(windows),
            "least_pct": min(windows),
            "most_pct": max(windows),
            "windows": its,
        }
    return found


def table(found: Report) -> list[str]:
    lines = [f"{'what':14}{'tokens/s':>10}  {'beside':12}{'cost, %':>9}{'of the windows':>18}{'wanted':>8}"]
    for name, its in found.items():
        wanted = f"<= {WANTED_PCT:g}" if name == "all" else ""
        if name == "bare":
            lines.append(f"{name:14}{its['tokens_per_second']:>10,.0f}")
            continue
        windows = f"{its['least_pct']:.1f} to {its['most_pct']:.1f}"
        line = f"{name:14}{its['tokens_per_second']:>10,.0f}  {its['beside']:12}{its['cost_pct']:>9.1f}{windows:>18}"
        lines.append(f"{line}{wanted:>8}")
    return lines


def account(found: Report) -> list[str]:
    lines = [f"{name:28}{share:>8.2f} %" for name, share in found["shares_pct"].items()]
    return [*lines, f"{'all together':28}{found['cost_pct']:>8.2f} %   (wanted: <= {WANTED_PCT:g} %)"]


def chosen(only: str) -> list[str]:
    """The variants asked for and those that they are compared with, in the table's order. Raises SystemExit."""
    asked = only.split(",") if only else list(VARIANTS)
    if unknown := [name for name in asked if name not in VARIANTS]:
        raise SystemExit(f"there is no {unknown[0]!r}: take of {', '.join(VARIANTS)}")
    wanted = set(asked) | {"bare"}
    for name in asked:
        wanted.add(VARIANTS[name][1])
    return [name for name in VARIANTS if name in wanted]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"parts, parted by commas: {','.join(VARIANTS)}")
    parser.add_argument("--train", type=Path, help="stories to train on; default: the bundled stories")
    parser.add_argument("--valid", type=Path, help="stories to score on")
    parser.add_argument("--preset", default="quick", choices=list(PRESETS))
    parser.add_argument("--tokenizer", type=Path, help="a folder; default: one is trained once, for all runs")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="a setting of all runs, as train takes it")
    parser.add_argument(
        "--mirror",
        choices=("offline", "loopback"),
        default="offline",
        help="W&B: its client's own files, or a server on the loopback, which takes a share of a core itself",
    )
    parser.add_argument("--period", type=float, help="seconds between two evaluations (30)")
    parser.add_argument("--windows", type=int, help="twice so many periods are measured (3)")
    parser.add_argument("--accounts", action="store_true", help="where the processor time of one run goes, instead")
    parser.add_argument("--quick", action="store_true", help="short periods: to see that it works")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _shape(preset: str) -> list[str]:
    """The width that the preset has by its own budget, and would not have by a budget in steps."""
    model = resolve(preset, {}).model
    return [f"n_embd={model.n_embd}", f"n_head={model.n_head}"]


def measure(given: argparse.Namespace, place: Path, server: LoopbackWandb | None) -> Report:
    """All the runs."""
    small, names = given.quick, chosen(given.only)
    stories = Stories.given(given.train, given.valid, place, 2_000 if small else 20_000)
    plan = Plan(
        place=place,
        preset=given.preset,
        stories=["--data", str(stories.train), "--valid", str(stories.valid)],
        settings=[*_shape(given.preset), *(given.set or [])],
        period_seconds=given.period or (2 if small else 30),
        windows=given.windows or (1 if small else 3),
        mirror="online" if server is not None else "offline",
        server=server,
        first_steps=10 if small else 30,
    )
    if given.tokenizer is not None:
        plan.stories.extend(["--tokenizer", str(given.tokenizer.resolve())])
    step_seconds, tokenizer = first_run(plan)
    if given.tokenizer is None:
        plan.stories.extend(["--tokenizer", str(tokenizer)])
    # Whole lines of metrics, so that each run has one where the window begins and one where it ends.
    every = plan.log_every * max(1, round(plan.period_seconds / step_seconds / plan.log_every))
    facts: Report = {"steps_between_evaluations": every, "step_seconds": step_seconds}
    if given.accounts:
        return facts | {"accounts": accounts_of(plan, every)}
    return facts | {"costs": costs(in_turns(plan, names, every))}


def main() -> None:
    given = _options()
    end_in_order()
    report: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": hardware.git_commit(Path(__file__).resolve().parent),
        "processor": hardware.processor(),
        "cores": hardware.n_cores(),
        "load": os.getloadavg()[0],
        "options": {key: str(value) for key, value in vars(given).items() if value},
    }
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="storyteller-overhead-", ignore_cleanup_errors=True)
        )
        server = stack.enter_context(LoopbackWandb()) if given.mirror == "loopback" else None
        report |= measure(given, Path(place), server)
    print(*(account(report["accounts"]) if given.accounts else table(report["costs"])), sep="\n")
    print(f"(load average {report['load']:.1f} on {report['cores']} cores at the start)")
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    else:
        print(json.dumps(report))


if __name__ == "__main__":
    main()

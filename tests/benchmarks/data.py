"""How fast stories become batches, and whether training ever waits for them: python tests/benchmarks/data.py

`rates`: megabytes of stories (UTF-8, as cleaning leaves them) per second of one core's time: reading them from a file,
cleaning them (with the hash of the held-out rule), encoding them, and all of that up to batches. Each part is timed in
turn in one process of one thread, by its processor time, so that other load on the machine counts for little; figures
are medians.

`runs`: `storyteller train` as it is typed, with `--no-cache`, then with an empty cache, then with what that run left:
the share of the steps' time spent waiting for data, as the run's metrics have it, over the whole run and in its worst
line, and the seconds from the command to the end of the first optimizer step. The stories are the bundled stories, or
those of --train.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storyteller.system import hardware
from tests.benchmarks.processes import Report, Watched, end_in_order, fresh_environment, said_by, write

_RUNS = {"no cache": ["--no-cache"], "cache empty": [], "cache full": []}
_PARTS = {
    "reading": "reading a .jsonl file",
    "cleaning": "cleaning, and the hash",
    "encoding": "encoding",
    "batches": "stories to batches",
}


# --- rates: in a process of their own ---------------------------------------------------------------------------------


def measure_rates(path: str, repeats: int, vocab_size: int) -> Report:
    """Megabytes a second of one core, by part; every part's figures, and how many stories, bytes and tokens."""

    from storyteller.config.configs import DataConfig
    from storyteller.data.batches import Batches
    from storyteller.data.cleaning import clean
    from storyteller.data.held_out_stories import story_hash
    from storyteller.data.local_files import Files
    from storyteller.data.story_stream import StoryStream
    from storyteller.data.tokenizer import train_bpe

    data = DataConfig(source=(path,))
    raw = [story for story, _ in Files((path,)).read(0, None)]
    cleaned = [clean(story) for story in raw]
    tokenizer = train_bpe(cleaned, vocab_size, 4 << 20, lambda _: None)
    n_bytes = sum(len(story.encode()) for story in cleaned)
    n_tokens = sum(map(len, tokenizer.encode(cleaned)))

    def batches() -> None:
        """One pass."""
        stories = StoryStream(Files((path,)), data, seed=1)
        steps = iter(Batches(stories, tokenizer, batching="pack", context=256, batch_size=16, accumulate=1))
        for _ in itertools.takewhile(lambda step: step.passes < 1, steps):
            pass

    parts: dict[str, Callable[[], object]] = {
        "reading": lambda: [story for story, _ in Files((path,)).read(0, None)],
        "cleaning": lambda: [(clean(story), story_hash(story)) for story in raw],
        "encoding": lambda: [tokenizer.encode(cleaned[at : at + 64]) for at in range(0, len(cleaned), 64)],
        "batches": batches,
    }
    rates: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            begin = time.process_time()
            part()
            rates[name].append(n_bytes / 1e6 / (time.process_time() - begin))
    return {
        "megabytes_per_core_second": {name: statistics.median(each) for name, each in rates.items()},
        "all": rates,
        "stories": len(raw),
        "bytes": n_bytes,
        "tokens": n_tokens,
    }


def rates_section(given: argparse.Namespace, place: Path) -> Report:
    path = given.train or write(place / "stories.jsonl", list(_bundled_stories(given.megabytes)))
    asked = json.dumps({"path": str(path), "repeats": given.repeats, "vocab_size": given.vocab_size})
    env = fresh_environment(place / "rates", RAYON_NUM_THREADS="1", OMP_NUM_THREADS="1")
    found: Report = json.loads(said_by([sys.executable, __file__, "--child", asked], env))
    return found


def _bundled_stories(megabytes: float) -> Iterator[str]:
    from storyteller.data.bundled import stories

    n_bytes = 0
    for story in stories():
        yield story
        n_bytes += len(story.encode())
        if n_bytes >= megabytes * 1e6:
            return


# --- runs -------------------------------------------------------------------------------------------------------------


def runs_section(given: argparse.Namespace, place: Path) -> Report:
    corpus = ["--data", str(given.train.resolve()) if given.train else "bundled"]
    budget = ["--minutes", str(given.minutes)]
    settings = [word for setting in given.set or () for word in ("--set", setting)]
    found: Report = {}
    for name, words in _RUNS.items():
        env = fresh_environment(place / ("alone" if words else "home"))
        where = place / name.replace(" ", "-")
        with Watched(
            where, *corpus, *budget, *words, *settings, "--wandb", "off", "--set", "log_every=1", env=env
        ) as run:
            _, first = run.first_step()
            run.end()
            found[name] = {"first_step_seconds": first, **_waits([record for _, record in run.records])}
            found[name]["log"] = [(round(at, 2), line) for at, line in run.lines]
    return found


def _waits(records: list[dict[str, Any]]) -> Report:
    """The share of the time in steps that was spent waiting, over all and at worst, the first step aside."""
    seconds, waited, worst, before = 0.0, 0.0, 0.0, None
    for record in (record for record in records if "train/data_wait_pct" in record):
        if before is not None:
            pct, took = float(record["train/data_wait_pct"]), float(record["seconds"]) - before
            seconds, waited, worst = seconds + took, waited + took * pct / 100, max(worst, pct)
        before = float(record["seconds"])
    share = 100 * waited / seconds if seconds else None
    return {"data_wait_pct": share, "worst_step_pct": worst, "steps": records[-1]["step"], "seconds": round(seconds, 2)}


# --- the table --------------------------------------------------------------------------------------------------------


def lines_of(section: str, found: Report) -> list[str]:
    """A section's lines of the table."""
    rows: list[tuple[str, float | None, str]] = []
    if section == "rates":
        rates = found["megabytes_per_core_second"]
        rows += [(f"{what}, MB/s a core", rates[name], "") for name, what in _PARTS.items()]
        tokens_per_byte = found["tokens"] / found["bytes"]
        rows += [("stories to batches, million tokens/s a core", rates["batches"] * tokens_per_byte, "")]
    else:
        for name, its in found.items():
            rows += [(f"{name}: waiting for data, % of the steps' time", its["data_wait_pct"], "<= 1")]
            rows += [(f"{name}: worst step, %", its["worst_step_pct"], "")]
            rows += [(f"{name}: command to first step, s", its["first_step_seconds"], "<= 8")]
    return [f"{what:56}{'-' if value is None else f'{value:.2f}':>10}{wanted:>10}" for what, value, wanted in rows]


SECTIONS: dict[str, Callable[[argparse.Namespace, Path], Report]] = {"rates": rates_section, "runs": runs_section}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"sections, parted by commas: {','.join(SECTIONS)}")
    parser.add_argument("--train", type=Path, help="stories to train on; default: the bundled stories")
    parser.add_argument("--megabytes", type=float, default=8.0, help="rates: of bundled stories, without --train (8)")
    parser.add_argument("--repeats", type=int, default=5, help="rates: times that each part is timed (5)")
    parser.add_argument("--vocab-size", type=int, default=4096, help="rates: the tokenizer's entries (4096)")
    parser.add_argument("--minutes", type=float, default=1.0, help="runs: each run's budget (1)")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="runs: a setting, as train takes it")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = _options()
    if given.child:
        print(json.dumps(measure_rates(**json.loads(given.child))))
        return
    end_in_order()
    wanted = given.only.split(",") if given.only else list(SECTIONS)
    if unknown := [section for section in wanted if section not in SECTIONS]:
        raise SystemExit(f"there is no section {unknown[0]!r}: take of {', '.join(SECTIONS)}")
    report: Report = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": hardware.git_commit(Path(__file__).resolve().parent),
        "processor": hardware.processor(),
        "cores": hardware.n_cores(),
        "load": os.getloadavg()[0],
        "versions": hardware.versions(),
        "options": {key: str(value) for key, value in vars(given).items() if value},
    }
    print(f"{'':56}{'ours':>10}{'wanted':>10}", flush=True)
    with tempfile.TemporaryDirectory(prefix="storyteller-data-", ignore_cleanup_errors=True) as place:
        for section in wanted:
            report[section] = SECTIONS[section](given, Path(place))
            print(*lines_of(section, report[section]), sep="\n", flush=True)
            if given.json:
                given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"(load average {report['load']:.1f} on {report['cores']} cores at the start)")
    if not given.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()

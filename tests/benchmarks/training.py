"""How fast, in how little memory and how well training goes, beside the loop that a user would otherwise write.

    python tests/benchmarks/training.py --peer PATH [--train PATH --valid PATH] [--only step,memory,...] [--quick]

`step`: tokens a second of a preset's optimizer step, the peer's in turn; and which share that is of the largest matrix
product at the run's precision, measured between the steps, as machines drift. `memory`: the peak of `classic` at batch
8 x 512 tokens. `quick`: `storyteller train` as it is typed, with nothing cached: the bits per byte of what there is so
many seconds later. `peer`: seconds until ours are as good as the peer at its end. `first-step`: seconds from the
command to the end of the first optimizer step.

The peer is a script that takes `--seconds --threads --train --valid`, and `--tokenizer` where that is given here. It
loops around transformers' GPT2LMHeadModel and prints a JSON line now and then, with `seconds` trained, `tokens` and
`bits_per_byte` on the first 100 stories of --valid. Without --peer only ours is measured; `peer` then wants --target.
The stories are files of the bundled stories where none are named. Every process is a fresh one, in turns; figures are
medians. Bits per byte are of the stories as the file has them, each scored on its own from the saved checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storyteller.config.presets import PRESETS, resolve
from storyteller.system import hardware
from storyteller.tracking import checkpoint_folders
from tests.benchmarks.measures import ROWS, TOKENS
from tests.benchmarks.processes import (
    STORYTELLER,
    Report,
    Stories,
    Watched,
    end_in_order,
    fresh_environment,
    keep_bytecode,
    measure_command,
    measured,
    peak_mib,
    read,
    said_by,
    write,
)

_END_SECONDS = 5.0
"""What the last evaluation and the last checkpoint may take, where a budget is to end at a moment."""

# --- the peer ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Peer:
    """The loop that a user would otherwise write."""

    script: Path
    tokenizer: Path | None

    def command(self, seconds: float, stories: Stories) -> list[str]:
        words = [sys.executable, str(self.script), "--seconds", str(seconds), "--threads", str(hardware.n_cores())]
        words += ["--train", str(stories.train), "--valid", str(stories.valid)]
        return words + (["--tokenizer", str(self.tokenizer)] if self.tokenizer is not None else [])

    def train(self, seconds: float, stories: Stories) -> list[dict[str, float]]:
        """Its lines, from a process of `seconds` of training."""
        lines = said_by(self.command(seconds, stories)).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def rates(self, seconds: float, stories: Stories) -> list[float]:
        """Tokens a second between each two of its lines; what comes before the first one warms it up."""
        lines = self.train(seconds, stories)
        pairs = [(b["tokens"] - a["tokens"], b["seconds"] - a["seconds"]) for a, b in itertools.pairwise(lines)]
        found = [tokens / spent for tokens, spent in pairs if spent > 0]
        return found or [lines[-1]["tokens"] / lines[-1]["seconds"]]


# --- what is asked for ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Plan:
    """What every section goes by."""

    place: Path
    stories: Stories
    named: bool
    """Whether the stories were named, rather than bundled."""
    tokenizer: Path | None
    peer: Peer | None
    presets: list[str]
    settings: list[str]
    turns: int
    steps: int
    sizes: list[int]
    seconds: float
    minutes: float | None
    peer_seconds: float
    peer_turn_seconds: float
    target: float | None
    budgets: list[float]
    scored: int | None

    def fresh(self) -> Path:
        """A folder of its own for a run."""
        return Path(tempfile.mkdtemp(dir=self.place))

    def words(self, *more: str) -> list[str]:
        """Options of `storyteller train` on the stories."""
        return ["--data", str(self.stories.train), "--valid", str(self.stories.valid), *self.plain_words(), *more]

    def plain_words(self) -> list[str]:
        """Options of `storyteller train` but for the stories."""
        return ["--wandb", "off", *(word for setting in self.settings for word in ("--set", setting))]


def step_section(plan: Plan) -> Report:
    """Steps of each preset and the peer's, in turn."""
    folders = {preset: _tokenizer(plan, preset) for preset in plan.presets}
    turns: dict[str, list[Report]] = {preset: [] for preset in plan.presets}
    rates: list[float] = []
    # Its stories are scored at each mark, which is not what is measured here.
    few = Stories(
        plan.stories.train, write(plan.place / "one.jsonl", list(itertools.islice(read(plan.stories.valid), 1)))
    )
    for _ in range(plan.turns):
        for preset, folder in folders.items():
            asked: Report = {"settings": plan.settings, "train": str(plan.stories.train), "tokenizer": str(folder)}
            asked |= {"steps": plan.steps, "sizes": plan.sizes, "burst_seconds": 0.1}
            turns[preset].append(measured("step", preset=preset, **asked))
        if plan.peer is not None:
            rates += plan.peer.rates(plan.peer_turn_seconds, few)
    found: Report = {preset: _of_turns(parts) for preset, parts in turns.items()}
    if rates:
        found["peer"] = {"tokens_per_second": statistics.median(rates), "all": rates}
    return found


def _of_turns(parts: list[Report]) -> Report:
    """A preset's figures of all turns: medians, and what they are of."""
    rates = [rate for part in parts for rate in part["tokens_per_second"]]
    flops = statistics.median(rate for part in parts for rate in part["flops"])
    kinds = {kind: [rate for part in parts for rate in part["products"].get(kind, [])] for kind in parts[0]["products"]}
    products = {kind: statistics.median(rates) for kind, rates in kinds.items()}
    largest = max(products, key=lambda kind: products[kind])
    logged = statistics.median(part["logged_peak_flops"] for part in parts)
    same = ("device", "processor", "threads", "precision", "parameters")
    return {key: parts[0][key] for key in same} | {
        "tokens_per_second": statistics.median(rates),
        "flops": flops,
        "share_pct": 100 * flops / products[largest],
        "share_of_logged_peak_pct": 100 * flops / logged,
        "largest_product": largest,
        "product_flops": products,
        "all": rates,
    }


def _tokenizer(plan: Plan, preset: str) -> Path:
    """The folder of the preset's tokenizer, or of one that stands in for GPT-2's."""
    data = resolve(preset, {}, plan.settings).data
    if data.tokenizer != "bpe":
        if Path(data.tokenizer).is_dir():
            return Path(data.tokenizer)
        if plan.tokenizer is not None:
            return plan.tokenizer
        data = resolve("quick", {}).data
    folder = plan.place / f"tokenizer-{data.vocab_size}"
    if not folder.exists():
        asked = {"vocab_size": data.vocab_size, "n_bytes": data.tokenizer_mib << 20}
        measured("tokenizer", train=str(plan.stories.train), folder=str(folder), **asked)
    return folder


def memory_section(plan: Plan) -> Report:
    """Peak memory of `classic` at 8 rows of 512 tokens: the step alone, the whole command, the peer's loop."""
    texts = itertools.cycle(read(plan.stories.train))
    long = []
    for _ in range(2 * ROWS):  # no story of this corpus is as long as the context, but some together are
        story = ""
        while len(story) < 12 * TOKENS:
            story += next(texts) + " "
        long.append(story)
    stories = Stories(write(plan.place / "long.jsonl", long), write(plan.place / "short.jsonl", [next(texts)]))
    commands = {"step": measure_command("memory", settings=plan.settings)}
    if plan.tokenizer is not None:
        words = ["--preset", "classic", "--foreground", "--steps", "3", "--set", "accumulate=1", "--wandb", "off"]
        words += ["--batch-size", str(ROWS), "--context", str(TOKENS), "--tokenizer", str(plan.tokenizer)]
        words += ["--data", str(stories.train), "--valid", str(stories.valid)]
        commands["command"] = [*STORYTELLER, "train", *words]
    if plan.peer is not None:
        commands["peer"] = plan.peer.command(1.0, stories)
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(plan.turns):
        for name, command in commands.items():
            place = plan.fresh()
            ours = fresh_environment(place / "home", STORYTELLER_RUNS=str(place / "runs"))
            found[name].append(peak_mib(command, dict(os.environ) if name == "peer" else ours))
    return {f"{name}_mib": statistics.median(peaks) for name, peaks in found.items()} | {"all": found}


def quick_section(plan: Plan) -> Report:
    """`storyteller train` as it is typed, to be done so many seconds later, and its bits per byte."""
    begun = None
    minutes = plan.minutes
    if minutes is None:  # what comes before the loop is seen beforehand, as a budget is of the loop alone
        with Watched(plan.fresh(), *plan.words("--set", "log_every=1")) as run:
            begun, _ = run.first_step()
        minutes = max(plan.seconds - begun - _END_SECONDS, 1.0) / 60
    return {"asked_seconds": plan.seconds, "loop_begun_seconds": begun} | _trained(plan, minutes)


def _trained(plan: Plan, minutes: float) -> Report:
    """A whole run with a budget: when its last checkpoint was there, and how good that is."""
    with Watched(plan.fresh(), *plan.words("--minutes", f"{minutes:.4f}")) as run:
        run.end()
        ended = run.seconds
        path, _ = checkpoint_folders.newest_good(run.folder)
        last = [record for _, record in run.records if "train/loss" in record]
        found: Report = {
            "minutes": minutes,
            "checkpoint_seconds": (path / checkpoint_folders.MANIFEST).stat().st_mtime - run.typed_at,
            "ended_seconds": ended,
            "steps": run.records[-1][1]["step"],
            "tokens": run.records[-1][1]["tokens"],
            "tokens_per_second": statistics.median(r["train/tokens_per_second"] for r in last) if last else None,
            "data_wait_pct": statistics.median(r["train/data_wait_pct"] for r in last) if last else None,
            "curve": [(round(at, 2), record["eval/bpb"]) for at, record in run.records if "eval/bpb" in record],
        }
        score = measured("score", checkpoint=str(path), valid=str(plan.stories.valid), most=plan.scored)
    return found | {"bits_per_byte": score["all"], "first_100_bits_per_byte": score["first_100"]} | {"scored": score}


def peer_section(plan: Plan) -> Report:
    """Seconds until ours are as good as the peer at its end: along one run, and by the smallest budget of some."""
    found: Report = {"target_bits_per_byte": plan.target}
    if plan.target is None:
        if plan.peer is None:
            return {"skipped": "give --peer PATH, or --target BPB"}
        lines = plan.peer.train(plan.peer_seconds, plan.stories)
        found |= {"peer": lines, "target_bits_per_byte": lines[-1]["bits_per_byte"]}
    target = float(found["target_bits_per_byte"])
    with Watched(plan.fresh(), *plan.words("--set", "eval_every=3s")) as run:
        seen = run.until(lambda record: bool(record.get("eval/bpb", math.inf) <= target))
        found["seen_seconds"] = None if seen is None else seen[0]
        found["curve"] = [(round(at, 2), record["eval/bpb"]) for at, record in run.records if "eval/bpb" in record]
    found["budgets"] = []
    for seconds in plan.budgets:
        tried = _trained(plan, seconds / 60)
        found["budgets"].append(tried)
        if tried["first_100_bits_per_byte"] <= target:
            return found | {"seconds": tried["checkpoint_seconds"], "budget_seconds": seconds}
    return found | {"seconds": None}


def first_step_section(plan: Plan) -> Report:
    """Seconds from the command to the end of the first optimizer step; the first run warms the disk."""
    corpora = {"bundled": ["--data", "bundled", *plan.plain_words()]} | ({"files": plan.words()} if plan.named else {})
    found: Report = {}
    for corpus, words in corpora.items():
        taken: list[float] = []
        for _ in range(1 + plan.turns):
            with Watched(plan.fresh(), *words, "--set", "log_every=1") as run:
                begun, at = run.first_step()
                taken.append(at)
                lines = [(round(when, 2), line) for when, line in run.lines]
        found[corpus] = {"seconds": statistics.median(taken[1:]), "all": taken, "loop_begun_seconds": begun}
        found[corpus]["log"] = lines
    return found


SECTIONS: dict[str, Callable[[Plan], Report]] = {
    "step": step_section,
    "memory": memory_section,
    "first-step": first_step_section,
    "quick": quick_section,
    "peer": peer_section,
}


# --- the table --------------------------------------------------------------------------------------------------------

Row = tuple[str, float | None, str, float | None]
"""What, ours, what is wanted of it, the peer's."""


def rows_of(section: str, found: Report) -> list[Row]:
    """A section's lines of the table."""
    if section == "step":
        theirs = found.get("peer", {}).get("tokens_per_second")
        rows: list[Row] = []
        for preset in (name for name in found if name != "peer"):
            its = found[preset]
            rows.append((f"{preset}: tokens/s", its["tokens_per_second"], "", theirs))
            what = f"{preset}: GFLOP/s, {its['precision']}, {its['threads']} threads"
            rows.append((what, its["flops"] / 1e9, "", None))
            largest = f"largest product ({its['largest_product']}), GFLOP/s"
            rows.append((f"{preset}: {largest}", its["product_flops"][its["largest_product"]] / 1e9, "", None))
            rows.append((f"{preset}: share of it, %", its["share_pct"], ">= 55", None))
        return rows
    if section == "memory":
        theirs, half = found.get("peer_mib"), "<= half"
        names = [name for name in ("step", "command") if f"{name}_mib" in found]
        return [(f"classic, 8 x 512: {name}, peak MiB", found[f"{name}_mib"], half, theirs) for name in names]
    if section == "first-step":
        return [(f"first step, {corpus}, s", its["seconds"], "<= 8", None) for corpus, its in found.items()]
    if section == "quick":
        return [
            (f"bits per byte, {found['scored']['stories']:,} stories", found["bits_per_byte"], "<= 0.90", None),
            ("bits per byte, first 100", found["first_100_bits_per_byte"], "", None),
            ("checkpoint after the command, s", found["checkpoint_seconds"], f"<= {found['asked_seconds']:g}", None),
            ("run: tokens/s", found["tokens_per_second"], "", None),
            ("run: waiting for data, %", found["data_wait_pct"], "<= 1", None),
        ]
    if "skipped" in found:
        return []
    ended = found["peer"][-1]["seconds"] if "peer" in found else None
    return [
        ("bits per byte that the peer ends with", None, "", found["target_bits_per_byte"]),
        ("seconds to it, by a budget", found["seconds"], "<= 15", ended),
        ("seconds to it, along a run", found["seen_seconds"], "", ended),
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:,.0f}"


def line_of(row: Row) -> str:
    what, mine, wanted, theirs = row
    ratio = f"{mine / theirs:.2f}x" if mine is not None and theirs else "-"
    return f"{what:52}{_figure(mine):>10}{wanted:>10}{_figure(theirs):>10}{ratio:>10}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"sections, parted by commas: {','.join(SECTIONS)}")
    parser.add_argument("--train", type=Path, help="stories to train on; default: the bundled stories")
    parser.add_argument("--valid", type=Path, help="stories to score on")
    parser.add_argument("--peer", type=Path, help="the peer's script")
    parser.add_argument("--tokenizer", type=Path, help="GPT-2's, a folder: for `classic` and the peer")
    parser.add_argument("--preset", action="append", choices=list(PRESETS), help="whose steps; default: all")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="a setting of ours, as train takes it")
    parser.add_argument("--seconds", type=float, help="quick: from the command to the model (300)")
    parser.add_argument("--minutes", type=float, help="quick: this budget instead")
    parser.add_argument("--target", type=float, help="peer: bits per byte to come to, without a peer")
    parser.add_argument("--peer-seconds", type=float, help="peer: for so long it trains (300)")
    parser.add_argument("--budgets", default="3,5,7,10,15,20,30", help="peer: seconds of ours that are tried")
    parser.add_argument("--turns", type=int, help="repeats (3)")
    parser.add_argument("--steps", type=int, help="step: steps of a turn (20)")
    parser.add_argument("--quick", action="store_true", help="small sizes, short turns: to see that it works")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser.parse_args()


def _plan(given: argparse.Namespace, place: Path) -> Plan:
    small = given.quick
    sizes = [256, 512] if small else [512, 1024, 2048, 4096]
    return Plan(
        place=place,
        stories=Stories.given(given.train, given.valid, place, 2_000 if small else 20_000),
        named=given.train is not None,
        tokenizer=given.tokenizer.resolve() if given.tokenizer else None,
        peer=Peer(given.peer.resolve(), given.tokenizer.resolve() if given.tokenizer else None) if given.peer else None,
        presets=given.preset or list(PRESETS),
        settings=given.set or [],
        turns=given.turns or (1 if small else 3),
        steps=given.steps or (3 if small else 20),
        sizes=sizes,
        seconds=given.seconds or (20 if small else 300),
        minutes=given.minutes,
        peer_seconds=given.peer_seconds or (2 if small else 300),
        peer_turn_seconds=2 if small else 30,
        target=given.target,
        budgets=[float(seconds) for seconds in given.budgets.split(",")][: 1 if small else None],
        scored=120 if small else None,
    )


def main() -> None:
    given = _options()
    end_in_order()
    keep_bytecode()
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
    print(f"{'':52}{'ours':>10}{'wanted':>10}{'peer':>10}{'ours/peer':>10}", flush=True)
    with tempfile.TemporaryDirectory(prefix="storyteller-training-", ignore_cleanup_errors=True) as place:
        plan = _plan(given, Path(place))
        for section in wanted:
            report[section] = SECTIONS[section](plan)
            lines = [line_of(row) for row in rows_of(section, report[section])]
            print(*(lines or [f"{section}: {report[section].get('skipped', '-')}"]), sep="\n", flush=True)
            if given.json:
                given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"(load average {report['load']:.1f} on {report['cores']} cores at the start)")
    if not given.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()

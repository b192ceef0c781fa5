"""How fast stories are told, beside what a user would otherwise run: `python tests/benchmarks/telling.py`.

Ours and the peers take turns in one run, so that what else the machine does falls on both alike: read the ratios first.
Figures are medians. Without `--model` a short real run makes a checkpoint of the default shape (4 layers, width 256,
vocabulary 4,096). Peers: transformers' `generate`, and llama.cpp where `llama-cpp-python` and `gguf` are installed.

`--while-training` measures something else: what telling from a run's newest checkpoint costs that run, and how fast the
story comes meanwhile. It takes eight minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import pty
import queue
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

PROMPT = "Once there was a little boy"
TOKENS = 200
ROWS = 32
DRAWS = {"temperature": 0.8, "top_k": 50}
TARGETS = {
    "first word, seconds": 0.5,
    "whole story, seconds": 0.9,
    "one story fp32, tokens/s": 1300,
    "one story int8, tokens/s": 2400,
    "32 at once, tokens/s": 3500,
}
"""What ours should reach on two cores: at most, for seconds; at least, for tokens a second."""

_OURS = """
import json, sys, time
from storyteller.config.configs import SamplingParams
from storyteller.inference.engine import open_model
path, prompt, tokens, rows, repeats, draws, numbers = json.loads(sys.argv[1])
engine = open_model(path, compute_type=numbers)
def rate(what, count, seed):
    began = time.perf_counter()
    stories = engine.batch([prompt] * count, SamplingParams(max_tokens=tokens, top_p=1, seed=seed, **draws))
    seconds = time.perf_counter() - began
    whole = count > 1 or stories[0].tokens == tokens  # the peers tell on past a story's end
    if whole:
        print(json.dumps({f"{what} {numbers}": sum(story.tokens for story in stories) / seconds}), flush=True)
    return whole
seeds = iter(range(100))
for seed in range(repeats):
    whole = 0  # one after the other, as someone does who asks for another story
    while whole < 3:
        whole += rate("one story", 1, next(seeds))
    rate(f"{rows} at once", rows, seed)
"""

_TRANSFORMERS = """
import json, sys, time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer
path, prompt, tokens, rows, repeats, draws, told = json.loads(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(path)
model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
def generate(count, **more):
    ids = tokenizer([prompt] * count, return_tensors="pt", add_special_tokens=False)["input_ids"]
    began = time.perf_counter()
    model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                   do_sample=True, pad_token_id=0, **draws, **more)
    return count * tokens / (time.perf_counter() - began)
if told:
    generate(1, streamer=TextStreamer(tokenizer))
else:
    generate(1)
    for _ in range(repeats):
        print(json.dumps({"one story": generate(1)}), flush=True)
        print(json.dumps({f"{rows} at once": generate(rows)}), flush=True)
"""

_LLAMA_CPP = """
import json, sys, time
from llama_cpp import Llama
paths, prompt, tokens, rows, repeats, draws, told = json.loads(sys.argv[1])
llamas = {numbers: Llama(path, n_threads=2, verbose=False) for numbers, path in paths.items()}
def tell(llama):
    draw = {"temp": draws["temperature"], "top_k": draws["top_k"], "top_p": 1.0, "min_p": 0.0}
    began, said = time.perf_counter(), 0
    for token in llama.generate(llama.tokenize(prompt.encode(), add_bos=False), **draw):
        said += 1
        text = llama.detokenize([token]).decode("utf-8", "replace")
        if told:
            print(text, end="", flush=True)
        if said == tokens:
            return said / (time.perf_counter() - began)
if told:
    print(prompt, end="", flush=True)
    tell(*llamas.values())
else:
    for llama in llamas.values():
        tell(llama)
    for _ in range(repeats):
        for numbers, llama in llamas.items():
            for _ in range(3):
                print(json.dumps({f"one story {numbers}": tell(llama)}), flush=True)
"""


# --- what is measured -------------------------------------------------------------------------------------------------


def first_word_seconds(command: list[str]) -> float:
    """From the start of a process to the first character on its terminal that comes after the prompt."""
    parent, child = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=subprocess.DEVNULL, start_new_session=True)
    os.close(child)
    seen, wanted = b"", len(re.sub(r"\s", "", PROMPT))
    try:
        while True:
            ready, _, _ = select.select([parent], [], [], 120)
            seen += os.read(parent, 65536) if ready else b""
            shown = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]|\s", b"", seen)
            if len(shown.decode("utf-8", "replace")) > wanted:
                return time.perf_counter() - began
            if not ready:
                raise SystemExit(f"no word within 120 s from {command[:3]}")
    except OSError as error:
        raise SystemExit(f"no word from {command[:3]}: {seen.decode('utf-8', 'replace')}") from error
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def whole_seconds(command: list[str]) -> float:
    """From the start of a process to its end."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def rates(command: list[str]) -> dict[str, list[float]]:
    """What a process prints of its tokens per second."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"{command[:2]} failed: {said.stderr.strip().splitlines()[-1:]}")
    found: dict[str, list[float]] = {}
    for line in said.stdout.splitlines():
        for name, value in json.loads(line).items():
            found.setdefault(name, []).append(value)
    return found


def _measure(model: Path, repeats: int, ggufs: dict[str, str]) -> dict[str, dict[str, list[float]]]:
    """Every figure of every teller, all of them in turn."""
    shared = [PROMPT, TOKENS, ROWS, max(1, repeats // 2), DRAWS]

    def script(code: str, path: object, *more: object) -> list[str]:
        return [sys.executable, "-c", code, json.dumps([path, *shared, *more])]

    settings = ["--model", str(model), "--max-tokens", str(TOKENS), "--temperature", "0.8", "--top-k", "50"]
    tell = [sys.executable, "-m", "storyteller", "tell", PROMPT, *settings, "--top-p", "1", "--seed", "1"]
    tellers = {"ours": (tell, [script(_OURS, str(model), numbers) for numbers in ("fp32", "int8")])}
    tellers["transformers"] = (script(_TRANSFORMERS, str(model), True), [script(_TRANSFORMERS, str(model), False)])
    if ggufs:
        each = [{numbers: path} for numbers, path in ggufs.items()]
        tellers["llama.cpp"] = (script(_LLAMA_CPP, each[0], True), [script(_LLAMA_CPP, one, False) for one in each])
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in tellers}
    for turn in range(repeats + 1):
        for name, (told, _) in tellers.items():
            first, whole = first_word_seconds(told), whole_seconds(told)
            if turn:  # the first one warms the disk
                figures[name].setdefault("first word, seconds", []).append(first)
                figures[name].setdefault("whole story, seconds", []).append(whole)
    for _ in range(4):  # rather than two long turns: these machines change their pace within minutes
        for nth in range(2):  # the same numbers of ours and of the peers right after each other
            for name, (_, rated) in tellers.items():
                for what, values in rates(rated[nth]).items() if nth < len(rated) else ():
                    figures[name].setdefault(f"{what}, tokens/s", []).extend(values)
    return figures


# --- beside a training run --------------------------------------------------------------------------------------------


def _train(runs: Path, *options: str) -> None:
    command = [
        sys.executable,
        "-m",
        "storyteller",
        "train",
        "--runs-dir",
        str(runs),
        "--data",
        "bundled",
        "--wandb",
        "off",
    ]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


def _while_training(window_seconds: float, turns: int) -> dict[str, Any]:
    """Tokens a second of a run in windows: left alone, told from by the app's child and by the command, in turn.

    Each window that is told in stands between two in which the run is left alone; what it cost is its rate beside their
    mean, so that what else drifts falls on both. On a machine whose pace changes by the minute that says little; the
    share of a core that telling took says more, as a step ends when the slowest of its threads does.
    """
    from storyteller.inference.background import GenerationClient
    from storyteller.tracking.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as place:
        runs, folder = Path(place), RunFolder(Path(place) / "trained")
        minutes = (4 * turns + 2) * (window_seconds + 2) / 60 + 3
        _train(runs, "--name", "trained", "--detach", "--minutes", f"{minutes:.2f}", "--set", "log_every=1",
               "--set", "checkpoint_every=45s", "--set", "eval_every=never")  # fmt: skip
        booth = GenerationClient(runs)
        ways: dict[str, Callable[[float], tuple[int, float]]] = {
            "the app": lambda seconds: _told_by_the_app(booth, seconds),
            "the command": lambda seconds: _told_by_the_command(runs, seconds),
        }
        windows: list[tuple[str, float]] = []
        told: dict[str, list[float]] = {name: [] for name in ways}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        try:
            while not any(folder.checkpoints.glob("step-*")):
                time.sleep(1)
            _told_by_the_app(booth, 10)  # its child has opened a model by then

            def alone() -> None:
                began = time.time()
                time.sleep(window_seconds)
                windows.append(("alone", _trained(folder, began)))

            alone()
            for _ in range(turns):
                for name, tell in ways.items():
                    began, used = time.time(), _processor_seconds()
                    tokens, seconds = tell(window_seconds)
                    taken[name].append(100 * (_processor_seconds() - used) / (time.time() - began))
                    windows.append((name, _trained(folder, began)))
                    told[name].append(tokens / seconds)
                    alone()
        finally:
            booth.close()
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run([sys.executable, "-m", "storyteller", "stop", "trained", "--now", "--runs-dir", place],
                               check=False, stdout=subprocess.DEVNULL)  # fmt: skip
    figures: dict[str, Any] = {"windows": windows}
    figures["alone, tokens/s"] = statistics.median(rate for name, rate in windows if name == "alone")
    for name in ways:
        costs = [
            100 * (1 - rate / statistics.mean((windows[place - 1][1], windows[place + 1][1])))
            for place, (which, rate) in enumerate(windows)
            if which == name
        ]
        figures[f"told by {name}: cost, %"] = statistics.median(costs)
        figures[f"told by {name}: costs, %"] = costs
        figures[f"told by {name}: of one core, %"] = statistics.median(taken[name])
        figures[f"told by {name}: the story, tokens/s"] = statistics.median(told[name])
    return figures


def _processor_seconds() -> float:
    """What this process's children have used so far: those that have ended, and the app's that tells."""
    import psutil

    ended = os.times()
    alive = [child.cpu_times() for child in psutil.Process().children()]
    return ended.children_user + ended.children_system + sum(times.user + times.system for times in alive)


def _trained(folder: Any, began: float) -> float:
    """Tokens a second of the middle step since.

    What befalls some steps alone, as a neighbour on the machine does, is left out; a story takes a little of every one.
    """
    from tests.support.records import read_records

    lines = [line for line in read_records(folder.metrics)[0] if "train/tokens_per_second" in line]
    lines = [line for line in lines if _epoch(line["time"]) > began]
    if len(lines) < 6:
        raise SystemExit("the run took fewer than six steps in a window: give a longer --window")
    return float(statistics.median(line["train/tokens_per_second"] for line in lines))


def _told_by_the_app(booth: Any, seconds: float) -> tuple[int, float]:
    """Story after story by the app's child for so long: tokens, and the seconds from each story's first to its last."""
    from storyteller.config.configs import SamplingParams
    from storyteller.inference.background import Ended, Event, Failed

    until, tokens, telling = time.monotonic() + seconds, 0, 0.0
    heard: queue.SimpleQueue[Event] = queue.SimpleQueue()
    while time.monotonic() < until:
        ticket = booth.generate("trained", PROMPT, SamplingParams(max_tokens=TOKENS), heard.put)
        event: Event | None = None
        while not isinstance(event, Ended):
            try:
                event = heard.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                booth.cancel(ticket)
            if isinstance(event, Failed):
                raise SystemExit(f"{event.problem}: {event.remedy}")
        tokens, telling = tokens + event.tokens, telling + event.seconds
    return tokens, telling or seconds


def _told_by_the_command(runs: Path, seconds: float) -> tuple[int, float]:
    """Story after story for so long, a process each: tokens, and the seconds from each story's first to its last.

    What it takes to start a process and to open a model is part of what this costs the run.
    """
    command = [sys.executable, "-m", "storyteller", "tell", PROMPT, "--model", "trained", "--runs-dir", str(runs)]
    command += ["--max-tokens", str(TOKENS), "--no-keep", "--json"]
    until, tokens, telling = time.monotonic() + seconds, 0, 0.0
    while time.monotonic() < until:
        story = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        tokens, telling = tokens + story["tokens"], telling + story["seconds"]
    return tokens, telling


def _epoch(moment: str) -> float:
    import datetime

    return datetime.datetime.fromisoformat(moment).timestamp()


# --- the table --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _model(given: Path | None) -> Iterator[Path]:
    """The checkpoint folder that was named, else one that a short real run makes."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as place:
        _train(Path(place), "--name", "made", "--steps", "20", "--set", "eval_every=never")
        yield max((Path(place) / "made" / "checkpoints").glob("step-*"))


def _table(figures: dict[str, dict[str, list[float]]]) -> list[str]:
    """A line for each of ours: the medians, and how many times better than each peer."""
    ours, peers = figures["ours"], {name: of for name, of in figures.items() if name != "ours"}
    lines = [f"{'what':34}{'ours':>9}{'wanted':>9}" + "".join(f"{name:>14}{'ratio':>8}" for name in peers)]
    for what, values in ours.items():
        wanted = TARGETS.get(what, TARGETS["32 at once, tokens/s"] if what.startswith(str(ROWS)) else None)
        mine = statistics.median(values)
        line = f"{what:34}{_figure(mine):>9}{_figure(wanted):>9}"
        for of in peers.values():
            same = of.get(what) or of.get(re.sub(r" (fp32|int8)", "", what))
            theirs = statistics.median(same) if same else None
            ratio = None if theirs is None else theirs / mine if "seconds" in what else mine / theirs
            line += f"{_figure(theirs):>14}{'-' if ratio is None else f'{ratio:.1f}x':>8}"
        lines.append(line)
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a checkpoint folder; none: a short run makes one")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="two repeats instead of seven")
    parser.add_argument("--while-training", action="store_true", help="what telling costs a run instead")
    parser.add_argument("--window", type=float, default=15, help="seconds of a window of --while-training")
    options = parser.parse_args()
    from tests.benchmarks.processes import keep_bytecode

    keep_bytecode()
    report: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    if options.while_training:
        cost = _while_training(options.window, 2 if options.quick else 6)
        report["while training"] = cost
        shown = {what: value for what, value in cost.items() if isinstance(value, float)}
        print(*(f"{what:46}{_figure(value):>9}" for what, value in shown.items()), sep="\n")
    else:
        with _model(options.model) as model, tempfile.TemporaryDirectory() as place:
            ggufs = _ggufs(model, Path(place))
            figures = _measure(model, 2 if options.quick else 7, ggufs)
        report["figures"] = figures
        print(*_table(figures), sep="\n")
        if not ggufs:
            print("llama.cpp: it wants the packages llama-cpp-python and gguf")
    print(f"(load average {report['load']:.1f} on {report['cores']} cores at the start)")
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))


def _ggufs(model: Path, place: Path) -> dict[str, str]:
    """The model for llama.cpp, by the numbers that its weights are; nothing where llama.cpp is not installed."""
    if not all(map(importlib.util.find_spec, ("llama_cpp", "gguf"))):
        return {}
    from tests.benchmarks import gguf_file

    return {
        numbers: str(gguf_file.write(model, place / f"{numbers}.gguf", bits))
        for numbers, bits in (("fp32", 32), ("int8", 8))
    }


if __name__ == "__main__":
    main()

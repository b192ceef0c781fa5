"""`show` and `compare`: plain text, a terminal's colours, JSON, and one line where it fails."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storyteller.cli import main
from storyteller.tracking import run_folder
from storyteller.tracking.compare_runs import compare_runs, format_setting
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status
from tests.tracking.test_run_index import save


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def storyteller(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process; terminals and encodings are tried in processes of their own."""

    def run(*words: str) -> Done:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        said = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return Done(stopped.value.code, said.out, said.err)

    return run


def make(name: str, minute: int = 0, scale: float = 1.0, **train: Any) -> RunFolder:
    folder = run_folder.create(Path("runs").resolve(), name)
    folder.write_run(
        {
            "name": name,
            "created_at": f"2025-11-22T10:{minute:02}:00Z",
            "config": {"preset": "quick", "model": {"n_layer": 2}, "train": {"steps": 100, "lr": 0.5} | train},
            "tokenizer": {"kind": "bpe", "vocab_size": 400, "sha256": "ab" * 32},
            "model": {"n_layer": 2, "n_embd": 32, "parameters": 27_616},
            "host": {"device": "cpu", "threads": 2},
        }
    )
    with JsonLog(folder.metrics) as log:
        for step in range(0, 101, 10):
            stamp = {"step": step, "tokens": step * 100, "seconds": step / 2}
            if step:
                log.append(stamp | {"train/loss": scale * (6 - step / 25), "train/tokens_per_second": 200.0})
            if step % 50 == 0:
                log.append(stamp | {"eval/bpb": scale * (3 - step / 50)})
    write_status(folder, Status("finished", 1, 1.0, step=100, tokens=10_000, exit_code=0))
    return folder


def test_show_tells_what_the_run_is_how_it_went_and_what_it_told(storyteller: Command) -> None:
    folder = make("fox")
    save(folder, 50, 2.0)
    save(folder, 100, 1.0)
    with JsonLog(folder.samples) as log:
        log.append({"step": 50, "prompt": "Once", "text": " upon.", "seed": 42})
        log.append({"step": 100, "prompt": "Once", "text": " there was a fox.\nIt ran.", "seed": 42})
    done = storyteller("show", "--width", "60")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[:9] == [
        "run         fox, finished, 100 % of 100 steps",
        "trained     100 steps, 10,000 tokens in 50s, 200 tokens/s",
        "loss        2.0000 nats a token",
        "held out    1.0000 bits per byte (best 1.0000)",
        "model       parameters 27,616, layers 2, width 32",
        "training    preset quick, lr 0.5",
        "machine     device cpu, threads 2",
        "checkpoints 2, newest at step 100, best 100",
        "",
    ]
    assert lines[9].startswith("training loss, nats a token")
    assert any(line.startswith("held out, bits per byte") for line in lines)
    assert lines[-3:] == ["a story at step 100:", "  Once there was a fox.", "  It ran."]
    chart = lines[9 : lines.index("", 9)]
    assert len(chart) == 14
    assert max(map(len, chart)) <= 60
    assert any("\u2800" < character <= "\u28ff" for character in "".join(chart))
    assert any("\u25b4" in line for line in chart)  # the checkpoints


def test_show_draws_what_it_is_asked_for(storyteller: Command) -> None:
    make("fox")
    words = ("show", "fox", "--key", "train/tokens_per_second", "--key", "train/loss", "--rows", "9", "--width", "50")
    done = storyteller(*words, "--x", "seconds", "--log-y", "--smoothing", "0.2", "--ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    titles = [n for n, line in enumerate(done.stdout.splitlines()) if line.startswith(("train/tok", "training loss"))]
    assert titles[1] - titles[0] == 10
    assert " 50s" in done.stdout or " 40s" in done.stdout


def test_where_braille_cannot_be_written_the_chart_is_of_plain_characters() -> None:
    make("fox")
    command = [sys.executable, "-m", "storyteller", "show", "fox"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, check=True)
    assert b"*" in done.stdout


def test_show_as_json_has_the_points_of_the_lines(storyteller: Command) -> None:
    make("fox")
    done = storyteller("show", "fox", "--json", "--x", "tokens", "--smoothing", "0")
    found = json.loads(done.stdout)
    assert (found["name"], found["state"], found["x"], found["eval_bpb"]) == ("fox", "finished", "tokens", 1.0)
    assert found["lines"]["eval/bpb"] == {
        "x": [0.0, 5000.0, 10000.0],
        "mean": [3.0, 2.0, 1.0],
        "low": [3.0, 2.0, 1.0],
        "high": [3.0, 2.0, 1.0],
        "smooth": [3.0, 2.0, 1.0],
    }
    assert found["lines"]["train/loss"]["mean"][0] == 5.6
    assert (found["resumes"], found["checkpoints"], found["stories"]) == ([], [], [])
    assert found["config"]["train"]["lr"] == 0.5


def test_a_run_without_metrics_is_shown_with_what_there_is(storyteller: Command) -> None:
    folder = run_folder.create(Path("runs").resolve(), "new")
    folder.write_run({"name": "new", "config": {"train": {"steps": 3}}})
    done = storyteller("show", "new")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "run         new, died"
    assert done.stdout.endswith("no metrics yet: storyteller logs new -f shows what the run is doing\n")
    assert json.loads(storyteller("show", "new", "--json").stdout)["lines"] == {}
    done = storyteller("compare", "new")
    assert done.stdout.startswith("no metrics yet: storyteller ps shows what the runs are doing\n")


@pytest.mark.parametrize(
    ("words", "status", "line"),
    [
        (("show", "owl"), 1, "there is no run owl: the runs are fox"),
        (("compare", "fox", "owl"), 1, "there is no run owl: the runs are fox"),
        (
            ("show", "fox", "--key", "a\x1b[2J"),
            2,
            "fox has no metric a\u241b[2J: it has eval/bpb, train/loss, train/tokens_per_second",
        ),
        (
            ("compare", "fox", "--key", "x"),
            2,
            "fox has no metric x: it has eval/bpb, train/loss, train/tokens_per_second",
        ),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    storyteller: Command, words: tuple[str, ...], status: int, line: str
) -> None:
    make("fox")
    done = storyteller(*words)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"storyteller: {line}\n")


def test_compare_puts_settings_that_differ_and_results_side_by_side(storyteller: Command) -> None:
    make("fox", lr=0.5)
    make("owl", minute=1, scale=0.5, lr=0.25, seed=7)
    done = storyteller("compare", "fox", "owl", "fox", "--by", "tokens", "--width", "70")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("held out, bits per byte")
    assert "fox" in lines[0] and "owl" in lines[0]
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines[19:]]
    assert rows == [
        ["RUN", "STATE", "STEPS", "TOKENS", "TIME", "PARAMETERS", "LOSS", "BITS/BYTE", "BEST", "TOKENS/S"],
        ["fox", "finished", "100", "10,000", "50s", "27,616", "2.0000", "1.0000", "1.0000", "200"],
        ["owl", "finished", "100", "10,000", "50s", "27,616", "1.0000", "0.5000", "0.5000", "200"],
        [""],
        ["SETTING", "fox", "owl"],
        ["train.lr", "0.5", "0.25"],
        ["train.seed", "-", "7"],
    ]


def test_compare_as_json_has_differences_results_and_points(storyteller: Command) -> None:
    make("fox")
    make("owl", minute=1, scale=0.5)
    found = json.loads(storyteller("compare", "owl", "fox", "--json", "--key", "eval/bpb", "--by", "seconds").stdout)
    assert (found["runs"], found["differences"], found["key"], found["x"]) == (
        ["owl", "fox"],
        [],
        "eval/bpb",
        "seconds",
    )
    assert [(result["name"], result["best_bpb"], result["parameters"]) for result in found["results"]] == [
        ("owl", 0.5, 27_616),
        ("fox", 1.0, 27_616),
    ]
    assert found["lines"]["owl"]["mean"] == [1.5, 1.0, 0.5]
    assert found["lines"]["fox"]["x"] == [0.0, 25.0, 50.0]


def test_runs_with_the_same_settings_and_one_run_alone_are_compared_too(storyteller: Command) -> None:
    make("fox")
    make("owl", minute=1)
    assert storyteller("compare", "fox", "owl").stdout.endswith("\ntheir settings do not differ\n")
    alone = storyteller("compare", "owl")
    assert alone.stdout.splitlines()[-1].startswith("owl")


def at_terminal(*words: str, **environment: str) -> bytes:
    """What the command writes to a real terminal."""
    parent, child = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "storyteller", *words]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env=env)
    os.close(child)
    written = b""
    try:
        while piece := os.read(parent, 1 << 16):
            written += piece
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    assert process.wait(30) == 0, written
    return written


def test_colours_are_for_a_terminal_that_wants_them() -> None:
    make("fox")
    make("owl", minute=1)
    colours = re.compile(rb"\x1b\[([0-9;]*)m")
    plain = at_terminal("compare", "fox", "owl", NO_COLOR="1")
    assert b"\x1b" not in plain
    coloured = at_terminal("compare", "fox", "owl")
    assert {b"36", b"33", b"0"} <= set(colours.findall(coloured))


def test_nothing_of_a_hostile_run_reaches_the_terminal_raw() -> None:
    folder = make("fox")
    evil = "\x1b]52;c;AAAA\x07\x9b31m\u202e[/end]"
    folder.write_run({"config": {"preset": evil, "train": {"steps": evil, evil: 1}}, "model": {"parameters": evil}})
    folder.status_json.write_text(json.dumps({"state": "failed", "pid": 1, "create_time": 1.0, "message": evil}))
    with JsonLog(folder.metrics) as log:
        log.append({"step": 110, f"evil{evil}": 1.0})
    with JsonLog(folder.samples) as log:
        log.append({"step": 100, "prompt": evil, "text": evil + "\r\n" + evil, "seed": 42})
    make("owl", minute=1)
    for words in (("show", "fox"), ("show", "fox", "--key", f"evil{evil}"), ("compare", "fox", "owl")):
        written = at_terminal(*words, "--runs-dir", str(folder.path.parent)).decode("utf-8")
        for sequence in re.findall("\x1b.{0,6}", written):
            assert re.match(r"\x1b\[[0-9;]*m", sequence), sequence
        assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202e]", written)
        assert "[/end]" in written


def test_broken_runs_are_compared_without_what_they_lack(tmp_path: Path) -> None:
    sound = make("fox")
    broken, empty = (run_folder.create(tmp_path / "others", name) for name in ("broken", "empty"))
    broken.run_json.write_text('{"schema": 1, "config": [1], "model": 7, "data": {"kind": [1]}}')
    broken.metrics.write_bytes(b"\xff\n{}\n")
    compared = compare_runs([sound, broken, empty])
    assert compared.names == ("fox", "broken", "empty")
    differences = dict(compared.differences)
    assert differences["train.lr"] == (0.5, None, None)
    assert differences["data.kind"] == (None, [1], None)
    assert [result.state for result in compared.results] == ["finished", "died", "died"]
    assert [result.parameters for result in compared.results] == [27_616, None, None]
    assert [result.best_bpb for result in compared.results] == [1.0, None, None]


def test_a_value_is_shown_in_a_few_words() -> None:
    values = [None, True, 5e-05, 1.0, 4096, 27_616, "bpe", "ab" * 32, ["a", "b"], [], {"a": 1}]
    words = ["-", "yes", "5e-05", "1", "4096", "27,616", "bpe", "abababababab", "a, b", "none", "{'a': 1}"]
    assert [format_setting(value) for value in values] == words

"""Training through outages of the Hub: the same data afterwards, or a checkpoint and one clear line.

The Hub's libraries read their address when they are imported, so each test trains in a process of its own. There the
library's own tries (6 within 23 s) are turned off, but for the tests marked slow: what is tested is what comes above.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from storyteller.data import bundled
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_status import read_status
from tests.cli.test_train import run_of, storyteller
from tests.support.hub_loopback import LoopbackHub
from tests.support.training import losses, make_run, trained_run

N_ROWS = 100
"""In each of the two files: some steps' worth, so that training meets the second one."""

PRELUDE = """
import itertools, json, os, sys, threading, time, urllib.request
from pathlib import Path
import huggingface_hub.utils._http as http
from storyteller.training import worker
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_status import read_status
from tests.support.training import losses, make_run

tries = http._http_backoff_base
http._http_backoff_base = lambda **request: tries(**(request | {"max_retries": 0}))

def fault(mode, match="train-00001", times=-1, arg=0):
    query = f"mode={mode}&match={match}&times={times}&arg={arg}"
    urllib.request.urlopen(f"{os.environ['HF_ENDPOINT']}/_ctl?{query}").read()

def run(name, **how):
    return make_run(Path("runs"), name, **(json.loads(os.environ["HOW"]) | how))

def tell(**what):
    print(json.dumps(what))
"""


def client(script: str, hub: LoopbackHub, how: dict[str, Any]) -> dict[str, Any]:
    """What the script tells; `how` are the options of its runs."""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        env={**os.environ, "HF_ENDPOINT": hub.url, "HOW": json.dumps(how), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    """The dataset as the Hub has it, of two small files."""
    folder = tmp_path / "hub" / "datasets" / "roneneldan" / "TinyStories" / "data"
    folder.mkdir(parents=True)
    for n in range(2):
        stories = [bundled.story(i)[:160] for i in range(N_ROWS * n, N_ROWS * (n + 1))]
        path = folder / f"train-0000{n}-of-00002.parquet"
        parquet.write_table(pyarrow.table({"text": stories}), path, row_group_size=16)
    return tmp_path / "hub"


@pytest.fixture
def how(tmp_path: Path) -> dict[str, Any]:
    """A run whose set-up reads no story from the Hub: its tokenizer and its held-out stories are there."""
    tokenizer = trained_run(tmp_path / "earlier", "tokenizer", train_steps=1).tokenizer
    valid = tmp_path / "valid.txt"
    valid.write_text("\n\n".join(bundled.story(i) for i in range(5000, 5004)), encoding="utf-8")
    return {
        "data_source": "tinystories",
        "data_tokenizer": str(tokenizer),
        "data_valid": str(valid),
        "data_shuffle_stories": 8,
        "train_steps": 90,
    }


@pytest.mark.slow
def test_a_passing_outage_of_any_kind_changes_no_loss(hub_root: Path, how: dict[str, Any]) -> None:
    script = """
        whole = run("whole")
        assert worker.run(whole) == 0
        told = {}
        for mode, arg in (("drop", 0), ("500", 0), ("503", 0), ("429", 1), ("truncate", 0)):
            fault(mode, times=2, arg=arg)
            cut = run(f"cut-{mode}")
            assert worker.run(cut) == 0, cut.log.read_text()
            told[mode] = [losses(cut) == losses(whole), cut.log.read_text()]
        tell(told=told, steps=max(losses(whole)))
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
        met = [request.fault for request in hub.requests if request.fault]
    assert told["steps"] == 90
    assert met == ["drop"] * 2 + ["500"] * 2 + ["503"] * 2 + ["429"] * 2 + ["truncate"] * 2
    for mode, (same, log) in told["told"].items():
        assert same, mode
        assert re.search(r"the Hub does not answer \(.+\): trying again for 10 minutes\n", log), mode
        assert "the Hub answers again, after 3 s\n" in log, mode


@pytest.mark.slow
def test_a_lasting_outage_saves_the_state_and_says_what_to_do_and_a_resume_ends_the_same(
    hub_root: Path, how: dict[str, Any]
) -> None:
    script = """
        whole = run("whole")
        assert worker.run(whole) == 0
        fault("503")
        cut = run("cut", data_hub_patience_minutes=2 / 60)
        ended = worker.run(cut)
        status = read_status(cut)
        steps = checkpoint_folders.steps(cut)
        before = losses(cut)
        log = cut.log.read_text()
        fault("ok")
        again = worker.run(cut)
        tell(ended=ended, state=status.state, message=status.message, steps=steps, reached=max(before), again=again,
             same=losses(cut) == losses(whole), log=log, tail=cut.log.read_text()[len(log):])
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
    assert (told["ended"], told["state"], told["again"]) == (1, "failed", 0)
    reached = told["reached"]
    assert 1 <= reached < 90 and told["steps"] == [reached]
    assert re.fullmatch(
        rf"TinyStories cannot be read from the Hub for 2 s \(.+\); step {reached} is saved: "
        r"storyteller resume cut goes on from there when the Hub answers again",
        told["message"],
    )
    assert told["log"].count("failed: ") == 1 and "Traceback" not in told["log"]
    assert f"resuming from step {reached}" in told["tail"]
    assert told["same"] is True


@pytest.mark.slow
def test_an_outage_during_set_up_is_waited_out_and_told(hub_root: Path, how: dict[str, Any]) -> None:
    script = """
        seen = []
        whole, late = run("whole"), run("late")
        assert worker.run(whole) == 0
        fault("503", match="api/datasets", times=3)
        over = threading.Event()
        def watch():
            while not over.wait(0.1):
                status = read_status(late)
                if status: seen.append([status.state, status.message.partition(" (")[0]])
        watcher = threading.Thread(target=watch)
        watcher.start()
        assert worker.run(late) == 0
        over.set(), watcher.join()
        tell(same=losses(late) == losses(whole), seen=seen)
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
    assert told["same"] is True
    assert ["starting", "the Hub does not answer"] in told["seen"]


@pytest.mark.slow
def test_what_no_waiting_mends_is_said_at_once(hub_root: Path, how: dict[str, Any]) -> None:
    script = """
        told = []
        for mode in ("401", "403", "404"):
            fault(mode)
            folder = run(f"refused-{mode}")
            begin = time.monotonic()
            ended = worker.run(folder)
            told.append([ended, read_status(folder).message, checkpoint_folders.steps(folder) == [max(losses(folder))]])
        tell(told=told, seconds=time.monotonic() - begin)
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
    assert told["seconds"] < 30
    for ended, message, saved in told["told"]:
        assert (ended, saved) == (1, True)
        assert message.startswith("TinyStories cannot be read from the Hub (")


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_when_the_patience_is_over(hub_root: Path, how: dict[str, Any]) -> None:
    script = """
        import storyteller.data.tinystories
        storyteller.data.tinystories._LIBRARY_SECONDS = 1.0
        fault("hang", arg=60)
        folder = run("hung", data_hub_patience_minutes=2 / 60)
        begin = time.monotonic()
        ended = worker.run(folder)
        tell(ended=ended, message=read_status(folder).message, seconds=time.monotonic() - begin,
             saved=checkpoint_folders.steps(folder) == [max(losses(folder))])
        sys.stdout.flush()
        os._exit(0)  # as the worker does: a thread still waits for the server
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
    assert (told["ended"], told["saved"]) == (1, True)
    assert told["message"].startswith("no story has come from the Hub for ")
    assert told["seconds"] < 25


# --- resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resume_from_the_hub_asks_for_no_story_that_was_read_before(hub_root: Path, how: dict[str, Any]) -> None:
    script = """
        from storyteller.training.status_reporter import StatusReporter
        whole, cut = run("whole", data_valid=""), run("cut", data_valid="")
        assert worker.run(whole) == 0
        real = StatusReporter.stop_requested
        StatusReporter.stop_requested = lambda reporter: reporter.step >= 45 or real(reporter)
        assert worker.run(cut) == 0
        StatusReporter.stop_requested = real
        state = json.loads((cut.checkpoint(45) / "training_state" / "state.json").read_text())
        urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/_reset").read()
        before = len(cut.log.read_text())
        from storyteller.data import tinystories
        rows = tinystories.TinyStories._rows
        begun = []
        def watched(self, cursor):
            for story, behind in rows(self, cursor):
                begun.append(behind["rows"])
                yield story, behind
        tinystories.TinyStories._rows = watched
        assert worker.run(cut) == 0
        tell(same=losses(cut) == losses(whole), position=state["position"]["stories"], first=begun[0],
             log=cut.log.read_text()[before:])
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub, how)
        asked = [request.path for request in hub.requests if "train-0000" in request.path and request.method == "GET"]
    assert told["same"] is True
    position = told["position"]
    assert position["epoch"] == 0 and position["cursor"]["rows"] > N_ROWS, "the test wants a stop in the second file"
    assert told["first"] == position["cursor"]["rows"] + 1
    # One look into the first file's footer for the names of the columns, then the second file; the first again only
    # when its turn comes in the next pass.
    second = next(index for index, path in enumerate(asked) if "train-00001" in path)
    assert second <= 1, asked


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_a_resume_from_files_reads_no_story_that_was_read_before(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storyteller.data.local_files import Files
    from storyteller.training import worker
    from storyteller.training.status_reporter import StatusReporter

    stories = [f"Story number {i} is about a cat that has {i * 7} toys and a dog." for i in range(300)]
    path = tmp_path / f"stories.{kind}"
    if kind == "parquet":
        parquet.write_table(pyarrow.table({"text": stories}), path, row_group_size=25)
    else:
        path.write_text("".join(json.dumps({"text": story}) + "\n" for story in stories), encoding="utf-8")
    options = {"data_source": (str(path),), "data_shuffle_stories": 10, "train_steps": 20, "data_valid_pct": 5}
    whole = trained_run(tmp_path / "runs", "whole", **options)
    cut = make_run(tmp_path / "runs", "cut", **options)
    real = StatusReporter.stop_requested
    with monkeypatch.context() as patch:
        patch.setattr(StatusReporter, "stop_requested", lambda reporter: reporter.step >= 12 or real(reporter))
        assert worker.run(cut) == 0
    state = json.loads((cut.checkpoint(12) / "training_state" / "state.json").read_text(encoding="utf-8"))
    position = state["position"]["stories"]
    assert position["epoch"] == 0 and position["block"] >= 5, "the test wants a stop well inside the first pass"
    read: list[str] = []
    rows = Files.read

    def watched(self: Files, epoch: int, cursor: dict[str, Any] | None) -> Any:
        for story, behind in rows(self, epoch, cursor):
            read.append(story)
            yield story, behind

    monkeypatch.setattr(Files, "read", watched)
    assert worker.run(cut) == 0
    assert losses(cut) == losses(whole)
    first = stories.index(read[0])
    assert first >= 10 * position["block"]
    assert read[: 300 - first] == stories[first:]


# --- as a user meets it -----------------------------------------------------------------------------------------------


def _until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _words(how: dict[str, Any], patience_minutes: float) -> list[str]:
    settings = ["tokenizer_mib=1", "eval_stories=4", "log_every=1", "threads=1", "shuffle_stories=8"]
    settings += [f"hub_patience_minutes={patience_minutes}", "eval_every=never", "checkpoint_every=never"]
    words = ["--data", "tinystories", "--tokenizer", how["data_tokenizer"], "--valid", how["data_valid"]]
    words += ["--steps", "90", "--layers", "1", "--width", "32", "--heads", "2", "--context", "64"]
    words += ["--batch-size", "4", "--precision", "fp32"]
    return words + [word for setting in settings for word in ("--set", setting)]


@pytest.mark.slow
def test_a_hub_that_fails_then_refuses_then_is_back_leaves_the_run_waiting_and_then_the_same(
    hub_root: Path, how: dict[str, Any]
) -> None:
    with LoopbackHub(hub_root) as hub:
        port = int(hub.url.rpartition(":")[2])
        env = os.environ | {"HF_ENDPOINT": hub.url}
        whole = storyteller("train", "--foreground", "--name", "whole", *_words(how, 5), env=env)
        assert whole.returncode == 0, whole.stderr
        hub.fault("503", match="train-00001")
        # What the first run kept of the stories would do without the Hub.
        cut = ["--name", "cut", "--no-cache", *_words(how, 5)]
        assert storyteller("train", "--detach", *cut, env=env).returncode == 0
        folder = run_of("cut")
        _until(lambda: any(request.fault for request in hub.requests))
    _until(lambda: (status := read_status(folder)) is not None and status.state == "waiting")
    _until(lambda: "the Hub does not answer" in folder.log.read_text(encoding="utf-8"))
    status = read_status(folder)
    assert status is not None and status.message == "waiting for stories"
    with LoopbackHub(hub_root, port):
        _until(lambda: (status := read_status(folder)) is not None and status.state == "finished")
    assert losses(folder) == losses(run_of("whole"))


@pytest.mark.slow
def test_an_outage_past_the_patience_ends_the_command_with_one_line(hub_root: Path, how: dict[str, Any]) -> None:
    with LoopbackHub(hub_root) as hub:
        env = os.environ | {"HF_ENDPOINT": hub.url}
        hub.fault("503", match="train-00001")
        done = storyteller("train", "--foreground", "--name", "cut", *_words(how, 0.05), env=env)
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "storyteller resume cut goes on from there when the Hub answers again" in last
        folder = run_of("cut")
        reached = max(losses(folder))
        assert checkpoint_folders.steps(folder) == [reached]
        hub.fault("ok")
        assert storyteller("resume", "cut", "--foreground", env=env).returncode == 0
        whole = storyteller("train", "--foreground", "--name", "whole", *_words(how, 5), env=env)
        assert whole.returncode == 0, whole.stderr
    assert losses(folder) == losses(run_of("whole"))

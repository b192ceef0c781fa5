"""The mirror: the real wandb client, online against a server on the loopback, through the faults that servers have."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from storyteller.cli import main
from storyteller.config.configs import Config
from storyteller.config.presets import resolve
from storyteller.errors import RunError, UsageError
from storyteller.launch import start
from storyteller.tracking import checkpoint_folders, run_index, run_process, wandb_mirror
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, read_status, seen_state, write_status
from storyteller.tracking.wandb_cursor import WandbCursor, WandbRows, is_complete, mirror_is_running, read_cursor
from storyteller.training.status_reporter import StatusReporter
from tests.cli.test_train import TINY, run_of, storyteller
from tests.support.records import read_records
from tests.support.training import make_run
from tests.support.wandb_loopback import KEY, LoopbackWandb

SHORT = ("--grace", "18")
"""Patience of seconds: 3 for a server that does not answer, 18 after the run's end."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackWandb]:
    with LoopbackWandb() as loopback:
        monkeypatch.delenv("WANDB_MODE")
        for name, value in loopback.env().items():
            monkeypatch.setenv(name, value)
        yield loopback


@pytest.fixture(autouse=True)
def _no_process_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(word.startswith("storyteller.") for word in words) and any(str(tmp_path) in word for word in words):
            for child in [*process.children(recursive=True), process]:
                child.kill()


class Training:
    """A run as its training process would write it, without one: this process says that it lives."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.folder = make_run(root, "little-fox", **options)
        self.step = 0
        write_status(self.folder, own_status("running"))

    def log(self, steps: int) -> None:
        with JsonLog(self.folder.metrics) as log:
            for _ in range(steps):
                self.step += 1
                record = {"step": self.step, "tokens": 256 * self.step, "seconds": self.step / 8}
                log.append(record | {"time": "2026-01-01T00:00:00Z", "train/loss": 6 / self.step})

    def evaluate(self) -> None:
        with JsonLog(self.folder.metrics) as log:
            log.append({"step": self.step, "tokens": 256 * self.step, "eval/bpb": 2 + 1 / self.step})
        with JsonLog(self.folder.samples) as log:
            for prompt in ("Once", "A fox"):
                log.append({"step": self.step, "prompt": prompt, "text": f" had {self.step} \x1b[31m", "seed": 42})

    def end(self, state: Any = "finished") -> None:
        write_status(self.folder, own_status(state, step=self.step))

    def mirror(self, *words: str, mode: str = "online") -> subprocess.Popen[bytes]:
        return start.start_mirror(self.folder, mode, words or SHORT)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "runs")


def ended(process: subprocess.Popen[bytes], seconds: float = 60) -> int:
    return process.wait(timeout=seconds)


def wait_for(what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def rows_on(server: LoopbackWandb) -> int:
    return len(server.only_run().history) if server.runs else 0


def check_page(server: LoopbackWandb, folder: RunFolder) -> None:
    """Each line of the log is a row of the page, once, in order; so are the stories of each step."""
    history = server.only_run().history
    assert [row["_step"] for row in history] == list(range(len(history)))
    told = [{k: v for k, v in row.items() if not k.startswith("_")} for row in history if "stories" not in row]
    logged = read_records(folder.metrics)[0]
    for record in logged:
        record["trainer/step"] = record.pop("step")
        record.pop("time", None)
    assert told == logged
    steps = list(dict.fromkeys(record["step"] for record in read_records(folder.samples)[0]))
    assert [row["trainer/step"] for row in history if "stories" in row] == steps
    assert server.unknown == []


def cli(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """A command in this process: its exit status, what it printed, what it noted."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    out, err = capfd.readouterr()
    return int(stop.value.code or 0), out, err


def said(folder: RunFolder) -> str:
    return folder.log.read_text(encoding="utf-8") if folder.log.exists() else ""


# --- rows and their numbers -------------------------------------------------------------------------------------------


def drained(rows: WandbRows, settled: bool = True) -> list[object]:
    """What each row shows: a step of metrics, or the texts of stories."""
    shown: list[object] = []
    while (row := rows.next(settled)) is not None:
        assert row.number == rows.number - 1
        shown.append(row.metrics["step"] if row.metrics is not None else [s["prompt"] for s in row.stories])
    return shown


def test_stories_stand_between_the_metrics_of_their_steps(training: Training) -> None:
    training.log(2)
    training.evaluate()
    training.log(2)
    rows = WandbRows(training.folder, WandbCursor.fresh("p"))
    assert drained(rows) == [1, 2, 2, ["Once", "A fox"], 3, 4]
    assert rows.at_end()


def test_stories_wait_until_all_of_their_step_are_there(training: Training) -> None:
    rows = WandbRows(training.folder, WandbCursor.fresh("p"))
    with JsonLog(training.folder.samples) as log:
        log.append({"step": 1, "prompt": "one"})
        assert drained(rows, settled=False) == []
        log.append({"step": 1, "prompt": "two"})
        assert drained(rows, settled=False) == []
        assert drained(rows, settled=False) == [["one", "two"]]
        log.append({"step": 2, "prompt": "three"})
        log.append({"step": 3, "prompt": "four"})
        assert drained(rows, settled=False) == [["three"]]


@pytest.mark.parametrize("has", range(8))
def test_the_same_rows_have_the_same_numbers_whoever_reads_them(training: Training, has: int) -> None:
    first = WandbRows(training.folder, WandbCursor.fresh("p"))
    training.log(1)
    all_of_it = drained(first)
    training.evaluate()
    training.log(2)
    all_of_it += drained(first)
    training.step = 1  # a resume from an earlier checkpoint
    training.log(1)
    training.evaluate()
    all_of_it += drained(first)
    assert all_of_it == [1, 1, ["Once", "A fox"], 2, 3, 2, 2, ["Once", "A fox"]]
    cursor = read_cursor(training.folder)
    assert cursor is not None and cursor.rows == 0
    second = WandbRows(training.folder, cursor)
    second.skip_to(has)
    moved = read_cursor(training.folder)
    assert moved is not None and moved.rows == has
    assert drained(second) == all_of_it[has:]
    assert drained(WandbRows(training.folder, moved)) == all_of_it[has:]


def test_a_broken_or_torn_line_is_no_row(training: Training) -> None:
    training.log(1)
    with training.folder.metrics.open("a") as file:
        file.write('{"step": 2, "tra\n{"step": 3}\n{"step": 4')
    assert drained(WandbRows(training.folder, WandbCursor.fresh("p"))) == [1, 3]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "a", "project": "p", "rows": -1}', '{"id": 1}', "nonsense"])
def test_a_broken_cursor_is_none(training: Training, text: str) -> None:
    training.folder.wandb_json.write_text(text)
    assert read_cursor(training.folder) is None


# --- whether to mirror ------------------------------------------------------------------------------------------------


def test_auto_is_online_with_a_key_and_off_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wandb_mirror.choose_mode("auto") == ("off", "W&B: disabled (WANDB_MODE=disabled)")
    monkeypatch.delenv("WANDB_MODE")
    assert wandb_mirror.choose_mode("auto")[0] == "off"
    assert "no API key found" in wandb_mirror.choose_mode("auto")[1]
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert wandb_mirror.choose_mode("auto")[0] == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mirror.choose_mode("auto")[0] == "offline"
    assert wandb_mirror.choose_mode("online") == ("online", "")
    assert wandb_mirror.choose_mode("off") == ("off", "")


def test_a_key_is_found_in_netrc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    (Path.home() / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    assert wandb_mirror.choose_mode("auto")[0] == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_mirror.choose_mode("auto")[0] == "off"
    (Path.home() / ".netrc").write_text("machine\n")
    assert wandb_mirror.choose_mode("auto")[0] == "off"


def test_the_settings_are_of_the_run_and_checked() -> None:
    config = resolve("quick", {}, ["wandb_artifacts=true", "wandb=offline", "wandb_project=tiny"])
    assert (config.mirror.wandb_artifacts, config.mirror.wandb, config.mirror.wandb_project) == (
        True,
        "offline",
        "tiny",
    )
    assert Config.from_json(config.to_json()) == config
    plain = config.to_json()
    del plain["mirror"]  # a run of before
    assert Config.from_json(plain).mirror.wandb == "auto"
    for setting in ("wandb=sometimes", "wandb_project=a/b", "wandb_project=", "wandb_artifacts=maybe"):
        with pytest.raises(UsageError, match="invalid value"):
            resolve("quick", {}, [setting])


def test_train_says_that_w_and_b_is_off_and_online_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")
    refused = storyteller("train", "--wandb", "online", "--steps", "2", *TINY)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--wandb online: no API key found: run `wandb login`" in refused.stderr
    assert not Path("runs").exists()
    Path("short.txt").write_text("Tiny.\n\nSmall.")
    failed = storyteller("train", "--name", "quiet", "--foreground", *TINY[2:], "--data", "short.txt")
    assert failed.returncode == 1
    assert "W&B: disabled (no API key found" in failed.stderr
    assert not Path("runs/quiet").exists()


# --- a server that works ----------------------------------------------------------------------------------------------


def test_a_run_s_page_has_every_row_once_and_its_end(server: LoopbackWandb, tmp_path: Path) -> None:
    training = Training(tmp_path / "runs", mirror_wandb_artifacts=True, mirror_wandb_project="tiny")
    folder = training.folder
    process = training.mirror()
    training.log(3)
    wait_for(lambda: rows_on(server) == 3)
    assert not server.only_run().complete
    training.evaluate()
    training.log(20)
    staging = checkpoint_folders.stage(folder, training.step)
    (staging / "config.json").write_text("{}")
    (staging / "training_state").mkdir()
    (staging / "training_state" / "state.json").write_text("{}")
    checkpoint_folders.seal(staging, folder, training.step, {"eval/bpb": 2.1})
    training.end()
    assert ended(process) == 0, folder.mirror_log.read_text()
    check_page(server, folder)
    page = server.only_run()
    assert (page.project, page.display, page.complete, page.exit_code) == ("tiny", "little-fox", True, 0)
    assert page.config["model"]["value"]["n_embd"] == 32
    assert page.summary["state"] == "finished" and page.summary["best/bpb"] == 2 + 1 / 3
    assert page.summary["final/loss"] == 6 / 23
    (table,) = (blob for name, blob in page.uploads.items() if "table" in name)
    assert [row[2] for row in json.loads(table)["data"]] == [" had 3 \x1b[31m"] * 2
    (model,) = (artifact for artifact in server.artifacts.values() if artifact["artifactTypeName"] == "model")
    assert {alias["alias"] for alias in model["aliases"]} >= {"best", "step-00000023"}
    sent = [name.rsplit("/", 1)[1] for name in server.blobs if name.startswith("artifact/")]
    assert sent.count("config.json") == 1 and "state.json" not in sent
    assert run_index.summarise(folder).wandb_url == f"{server.url}/loopback/tiny/runs/{page.name}"
    assert f"W&B: {server.url}" in said(folder)
    assert is_complete(folder)
    for file in folder.path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_the_same_page(server: LoopbackWandb, training: Training) -> None:
    process = training.mirror()
    training.log(4)
    training.end("stopped")
    assert ended(process) == 0
    assert not WandbRows(training.folder, WandbCursor.fresh("p")).at_end()
    process = training.mirror()
    write_status(training.folder, own_status("running"))
    training.step = 2
    training.log(5)
    training.end()
    assert ended(process) == 0
    check_page(server, training.folder)
    assert server.only_run().summary["state"] == "finished"
    assert len(server.only_run().history) == 9


@pytest.mark.slow
def test_a_killed_mirror_leaves_no_row_out_and_none_twice(server: LoopbackWandb, training: Training) -> None:
    process = training.mirror()
    training.log(4)
    training.evaluate()
    wait_for(lambda: rows_on(server) >= 4)
    training.log(30)
    time.sleep(1.0)  # some of them are on their way
    process.kill()
    process.wait()
    process = training.mirror()
    training.end("failed")
    assert ended(process) == 0
    check_page(server, training.folder)
    assert server.only_run().exit_code == 1


@pytest.mark.slow
def test_one_mirror_a_run(server: LoopbackWandb, training: Training) -> None:
    first, second = training.mirror(), training.mirror()
    training.log(5)
    wait_for(lambda: rows_on(server) == 5)
    assert mirror_is_running(training.folder)
    training.end()
    assert (ended(first), ended(second)) == (0, 0)
    check_page(server, training.folder)
    assert not mirror_is_running(training.folder)


def test_a_run_that_ends_before_its_first_row_has_no_page(server: LoopbackWandb, training: Training) -> None:
    process = training.mirror()
    training.end("failed")
    assert ended(process) == 0
    assert server.calls == [] and not training.folder.wandb_json.exists()


# --- a server that does not -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_key_that_is_refused_is_said_once(
    server: LoopbackWandb, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    server.status = 401
    training.log(3)
    process = training.mirror()
    assert ended(process) == 1
    assert seen_state(training.folder) == "running"
    assert said(training.folder).count("\n") == 1
    assert "W&B refuses little-fox (the API key is not valid, see `wandb login --relogin`)" in said(training.folder)
    assert "fix that, then run storyteller sync little-fox" in said(training.folder)
    assert KEY not in said(training.folder)
    server.status = 0
    training.end()
    status, _, noted = cli(capfd, "sync", "little-fox", "--runs-dir", str(training.folder.path.parent))
    assert status == 0, noted
    check_page(server, training.folder)


@pytest.mark.slow
def test_a_client_that_is_killed_is_started_again(server: LoopbackWandb, training: Training) -> None:
    process = training.mirror()
    training.log(4)
    wait_for(lambda: rows_on(server) == 4)
    cores = [child for child in psutil.Process(process.pid).children(recursive=True) if "core" in child.name()]
    assert cores
    for core in cores:
        core.kill()
    training.log(4)
    wait_for(lambda: rows_on(server) == 8)
    training.evaluate()
    training.end()
    assert ended(process) == 0
    check_page(server, training.folder)


@pytest.mark.slow
def test_an_offline_run_is_sent_by_sync_and_sent_once(
    server: LoopbackWandb, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    root = ["--runs-dir", str(training.folder.path.parent)]
    process = training.mirror(mode="offline")
    training.log(5)
    training.evaluate()
    training.end()
    assert ended(process) == 0
    assert server.calls == []
    status, shown, _ = cli(capfd, "dashboard", "little-fox", *root)
    assert status == 0 and "little-fox is offline: wandb leet " in shown
    status, shown, noted = cli(capfd, "sync", "little-fox", *root)
    assert status == 0, noted
    assert "sent 7 rows of little-fox: W&B is up to date" in shown
    check_page(server, training.folder)
    n_calls = len(server.calls)
    status, shown, _ = cli(capfd, "sync", "little-fox", "--json", *root)
    url = f"{server.url}/loopback/storyteller/runs/{server.only_run().name}"
    answer = {"run": "little-fox", "wandb_url": url, "rows": 7, "sent": 0, "complete": True, "problem": None}
    assert (status, json.loads(shown)) == (0, answer)
    assert len(server.calls) == n_calls
    assert cli(capfd, "dashboard", "little-fox", "--print", *root)[1] == f"{url}\n"
    assert json.loads(cli(capfd, "ps", "--json", *root)[1])[0]["wandb_url"] == url
    assert f"little-fox: {url}\n" in cli(capfd, "ps", *root)[1]
    reporter = StatusReporter(training.folder)
    with reporter.running():
        reporter.end("stopped", "", 0)
    status_now = read_status(training.folder)
    assert status_now is not None and status_now.wandb_url == url


def test_sync_without_a_key_says_what_to_do(training: Training, capfd: pytest.CaptureFixture[str]) -> None:
    training.log(2)
    training.end()
    root = ["--runs-dir", str(training.folder.path.parent)]
    status, _, noted = cli(capfd, "sync", "little-fox", *root)
    assert (status, noted) == (
        1,
        "storyteller: no W&B API key found: run `wandb login`, or set WANDB_API_KEY\n",
    )
    status, _, noted = cli(capfd, "dashboard", "little-fox", *root)
    assert (status, noted) == (1, "storyteller: little-fox has no W&B page: storyteller sync little-fox makes one\n")
    with pytest.raises(RunError, match="no API key found"):
        wandb_mirror.choose_mode("online")


def test_the_client_has_the_settings_and_the_row_count_that_the_mirror_relies_on() -> None:
    import wandb

    settings = wandb_mirror._client_settings(60.0, lambda: None)  # raises for a setting that the client does not know
    assert (settings.x_disable_meta, settings.x_disable_stats, settings.x_save_requirements) == (True, True, False)
    assert callable(settings.stop_fn)
    assert isinstance(wandb.Run.starting_step, property)
    with pytest.raises(ValueError, match="x_no_such_setting"):
        wandb.Settings(x_no_such_setting=True)


def test_a_page_that_still_says_stop_does_not_stop_a_resumed_run(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(run_process, "stop", lambda _folder: stopped.set())
    WandbRows(training.folder, WandbCursor.fresh("p")).update_cursor(was_stopped=True)
    reader = wandb_mirror.WandbMirror(training.folder, "online", since_ns=0, grace_seconds=9)
    reader.opened = time.monotonic()
    reader.stop_run()
    assert not stopped.wait(0.2)
    reader.opened -= 60  # asked for since
    reader.stop_run()
    assert stopped.wait(5)


# --- longer troubles --------------------------------------------------------------------------------------------------


def refused(server: LoopbackWandb) -> Callable[[], None]:
    server.down()
    return server.up


def unavailable(server: LoopbackWandb) -> Callable[[], None]:
    server.status = 503
    return lambda: setattr(server, "status", 0)


def hanging(server: LoopbackWandb) -> Callable[[], None]:
    server.delay_seconds = 12
    return lambda: setattr(server, "delay_seconds", 0)


def malformed(server: LoopbackWandb) -> Callable[[], None]:
    server.malformed = True
    return lambda: setattr(server, "malformed", False)


FAULTS = [refused, unavailable, hanging, malformed]


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_has_it_all_when_it_is_back(
    server: LoopbackWandb, training: Training
) -> None:
    mend = FAULTS[0](server)
    process = training.mirror()
    training.log(4)
    wait_for(lambda: "W&B is unreachable" in said(training.folder), 60)
    training.evaluate()
    for fault in FAULTS[1:]:
        mend()
        mend = fault(server)
        time.sleep(4)
    assert rows_on(server) == 0
    mend()
    wait_for(lambda: rows_on(server) >= 4, 90)
    training.log(4)
    training.end()
    assert ended(process) == 0
    check_page(server, training.folder)
    assert said(training.folder).count("W&B is unreachable") == 1


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle_has_every_row_once_afterwards(
    server: LoopbackWandb, training: Training
) -> None:
    process = training.mirror("--grace", "60")
    for fault in FAULTS:
        training.log(4)
        wait_for(lambda: rows_on(server) >= training.step, 90)
        mend = fault(server)
        training.log(4)
        training.evaluate()  # a table is uploaded as a file, and waits for the server
        time.sleep(4)
        mend()
    training.log(4)
    training.end()
    assert ended(process, 120) == 0
    check_page(server, training.folder)


@pytest.mark.slow
def test_a_server_that_is_away_at_the_end_is_left_to_sync(
    server: LoopbackWandb, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    process = training.mirror("--grace", "8")
    training.log(4)
    wait_for(lambda: rows_on(server) == 4)
    server.status = 503
    training.log(4)
    training.end()
    assert ended(process) == 1
    assert "W&B does not have all of little-fox" in said(training.folder)
    assert "storyteller sync little-fox" in said(training.folder)
    server.status = 0
    status, _, noted = cli(capfd, "sync", "little-fox", "--runs-dir", str(training.folder.path.parent))
    assert status == 0, noted
    check_page(server, training.folder)


@pytest.mark.slow
def test_rows_that_were_taken_and_not_kept_are_sent_again(server: LoopbackWandb, training: Training) -> None:
    process = training.mirror("--grace", "60")
    training.log(4)
    wait_for(lambda: rows_on(server) == 4)
    server.swallows = True
    training.log(4)
    training.end()
    time.sleep(6)
    server.swallows = False
    assert ended(process, 120) == 0
    check_page(server, training.folder)


@pytest.mark.slow
def test_stop_run_on_the_page_stops_the_run_with_a_checkpoint(server: LoopbackWandb) -> None:
    words = ["--name", "stopped", "--wandb", "online", "--steps", "1000000", "--detach", *TINY]
    assert storyteller("train", *words).returncode == 0
    folder = run_of("stopped")
    wait_for(lambda: rows_on(server) > 3, 60)
    server.stop_runs = True
    wait_for(lambda: seen_state(folder) == "stopped", 60)
    assert checkpoint_folders.steps(folder)[-1] == read_records(folder.metrics)[0][-1]["step"]
    assert "stopped from its W&B page" in said(folder)
    wait_for(lambda: is_complete(folder), 60)
    check_page(server, folder)
    assert server.only_run().summary["state"] == "stopped"
    cursor = read_cursor(folder)
    assert cursor is not None and cursor.was_stopped


@pytest.mark.slow
def test_training_does_not_notice_an_outage(server: LoopbackWandb) -> None:
    words = ["--name", "steady", "--wandb", "online", "--steps", "1000000", "--detach", *TINY]
    done = storyteller("train", *words, "--set", "eval_every=2s")
    assert done.returncode == 0, done.stderr
    folder = run_of("steady")
    wait_for(lambda: rows_on(server) > 3, 60)
    time.sleep(4)
    begin = read_records(folder.metrics)[0][-1]["seconds"]
    server.down()
    time.sleep(10)
    (core,) = (p for p in psutil.process_iter(["cmdline"]) if "wandb-core" in " ".join(p.info["cmdline"] or []))
    core.kill()
    time.sleep(4)
    end = read_records(folder.metrics)[0][-1]["seconds"]
    server.up()
    assert storyteller("stop", "steady").returncode == 0
    records = read_records(folder.metrics)[0]
    trained = [record for record in records if "train/loss" in record]
    assert [record["step"] for record in trained] == list(range(1, len(trained) + 1))
    # What was logged in one go: no evaluation or checkpoint lies between.
    steps = [
        (later["seconds"], later["seconds"] - earlier["seconds"])
        for earlier, later in itertools.pairwise(records)
        if "train/loss" in earlier and "train/loss" in later
    ]
    during = max(seconds for at, seconds in steps if begin < at <= end)
    before = max(seconds for at, seconds in steps if at <= begin)
    # What waits for a server waits for seconds; a busy machine holds up a step for tenths.
    assert during - before < 1, (before, during)
    wait_for(lambda: is_complete(folder), 90)
    check_page(server, folder)

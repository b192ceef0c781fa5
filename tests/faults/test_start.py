"""Starting and staying: many daemons at once, stale owners, a closed terminal, a clock that jumps, links and names."""

from __future__ import annotations

import ast
import json
import os
import pty
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import psutil
import pytest

import storyteller as package
from storyteller.launch import start
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.metrics_log import by_step
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import create_time, read_status, seen_state
from tests.cli.test_train import TINY, _no_process_left_behind, run_of, storyteller
from tests.support.living import last_step, state, until, worker
from tests.support.records import read_records
from tests.support.training import make_run, trained_run

__all__ = ["_no_process_left_behind"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "storyteller", *words]


# --- many at once -----------------------------------------------------------------------------------------------------


def test_of_twenty_daemons_started_on_one_run_at_once_one_wins_and_the_others_name_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", train_steps=100_000)
    processes = [start.start(folder) for _ in range(20)]
    try:
        until(lambda: sum(process.poll() is not None for process in processes) == 19)
        assert [process.returncode for process in processes if process.returncode is not None] == [1] * 19
        (winner,) = [process for process in processes if process.poll() is None]
        status = read_status(folder)
        assert status is not None and status.pid == winner.pid
        refused = "storyteller: fox is being trained by another process: storyteller logs fox -f follows it"
        assert folder.log.read_text().splitlines().count(refused) == 19
        assert "Traceback" not in folder.log.read_text()
        winner.terminate()
        assert winner.wait(timeout=20) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_of_many_who_resume_a_run_at_once_one_does_and_the_others_are_told() -> None:
    folder = trained_run(Path("runs").resolve(), "fox", train_steps=2)
    plan = folder.read_run()  # finished: a new budget makes it one to resume
    plan["config"]["train"]["steps"] = 100_000
    folder.write_run(plan)
    status = read_status(folder)
    assert status is not None
    folder.status_json.write_text(json.dumps(asdict(status) | {"state": "stopped"}))
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    asked = [subprocess.Popen(command("resume", "fox", "--detach"), **how) for _ in range(6)]  # type: ignore[call-overload]
    said = [process.communicate(timeout=120) for process in asked]
    statuses = sorted(process.returncode for process in asked)
    assert statuses == [0, 1, 1, 1, 1, 1], said
    for process, (_, errors) in zip(asked, said, strict=True):
        if process.returncode:
            assert "fox is " in errors.splitlines()[-1] and "follows it" in errors.splitlines()[-1]
    assert storyteller("stop", "fox").returncode == 0


def test_of_many_who_take_one_name_at_once_one_has_it() -> None:
    code = """
from pathlib import Path
from storyteller.errors import RunError
from storyteller.tracking import run_folder
try:
    run_folder.create(Path("runs"), "fox")
except RunError as error:
    print(error)
else:
    print("mine")
"""
    asked = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = sorted(process.communicate(timeout=60)[0] for process in asked)
    taken = "a run named fox exists: choose another --name, or `storyteller resume fox`\n"
    assert said == [*[taken] * 5, "mine\n"]


# --- owners that are gone ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_whose_owner_s_pid_a_bystander_has_by_now_is_died_and_resumes_and_the_bystander_lives() -> None:
    folder = make_run(Path("runs").resolve(), "fox", train_steps=40, train_checkpoint_every="2")
    with worker(folder) as process:
        until(lambda: checkpoint_folders.steps(folder))
        process.kill()
    status = read_status(folder)
    assert status is not None and seen_state(folder) == "died"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        born = create_time(bystander.pid)
        assert born is not None
        # All that the status says but the birth is true of the bystander now.
        folder.status_json.write_text(
            json.dumps(asdict(status) | {"state": "running", "pid": bystander.pid, "create_time": born})
        )
        assert json.loads(storyteller("ps", "--json").stdout)[0]["state"] == "died"
        for words in (["stop", "fox"], ["stop", "fox", "--now"]):
            done = storyteller(*words)
            assert (done.returncode, done.stderr.count("\n")) == (1, 1)
            assert "fox is not running (it has died): `storyteller resume fox` continues it" in done.stderr
        assert storyteller("wait", "fox", "--timeout", "5").returncode == 1
        done = storyteller("resume", "fox")
        assert done.returncode == 0, done.stderr
        assert psutil.Process(bystander.pid).status() != psutil.STATUS_ZOMBIE
        bystander.communicate(b"\n")
        assert bystander.returncode == 0
    assert state(folder) == ("finished", 40)


# --- the terminal -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_goes_on_when_the_terminal_closes() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command("train", "--name", "fox", "--steps", "100000", *TINY))
    folder = run_of("fox")
    try:
        shown = b""
        while b"step 0: " not in shown:
            shown += os.read(terminal, 65536)
        os.close(terminal)  # the system hangs up on whoever is in the foreground of it
        waited, how = os.waitpid(pid, 0)
        assert waited == pid and (os.WIFSIGNALED(how) or os.WEXITSTATUS(how) != 0)
        reached = last_step(folder)
        until(lambda: last_step(folder) >= reached + 20)
        assert seen_state(folder) == "running"
        owner = read_status(folder)
        assert owner is not None and os.getsid(owner.pid) == owner.pid
    finally:
        assert storyteller("stop", "fox").returncode == 0
    assert seen_state(folder) == "stopped"


# --- the clock --------------------------------------------------------------------------------------------------------

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
/* The wall clock, a day ahead while the file is there. */
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    const char *file = getenv("DAY_FILE");
    if (!failed && which == CLOCK_REALTIME && file && access(file, F_OK) == 0) now->tv_sec += 86400;
    return failed;
}
"""


def has_gone_on(folder: RunFolder, step: int) -> bool:
    return last_step(folder) > step + 20 and bool(checkpoint_folders.steps(folder))


@pytest.mark.slow
def test_a_wall_clock_that_jumps_a_day_and_back_changes_no_order_and_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler to make a clock with")
    source, clock, jumped = tmp_path / "clock.c", tmp_path / "clock.so", tmp_path / "jumped"
    source.write_text(CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", clock, source, "-ldl"], check=True)
    folder = make_run(tmp_path, "fox", train_steps=None, train_minutes=0.1, train_checkpoint_every="1s")
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(clock))
        patch.setenv("DAY_FILE", str(jumped))
        process = start.start(folder)
    begin = time.monotonic()
    try:
        for jump in (jumped.touch, jumped.unlink):
            reached = last_step(folder)
            until(partial(has_gone_on, folder, reached))
            assert seen_state(folder) == "running"
            jump()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
    records = read_records(folder.metrics)[0]
    days = [record["time"][:10] for record in records]
    assert days[0] == days[-1] and len(set(days)) > 1  # it did jump, and back
    assert [r["seconds"] for r in records] == sorted(r["seconds"] for r in records)
    assert [r["step"] for r in by_step(records)] == list(range(records[-1]["step"] + 1))
    assert 6.0 <= records[-1]["seconds"] < min(9, time.monotonic() - begin)  # the budget: a tenth of a minute
    assert len(checkpoint_folders.steps(folder)) >= 3  # one a second, of which three are kept
    assert state(folder)[0] == "finished"


def test_nothing_measures_a_time_by_the_wall_clock() -> None:
    found = set()
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in WALL_CLOCKS:
                found.add((path.name, ast.unparse(node.func)))
    # What people read, names, and which status is new enough for the mirror; nothing else is worked out from these.
    assert found <= {
        ("run_status.py", "datetime.datetime.now"),
        ("run_plan.py", "datetime.date.today"),
        ("story_history.py", "datetime.datetime.now"),
        ("start.py", "time.time_ns"),
    }


WALL_CLOCKS = {"time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today"}


# --- names, paths and links -------------------------------------------------------------------------------------------

REFUSED = [
    (["ps", "--runs-dir", "file"], "file is not a folder: choose another --runs-dir"),
    (["train", "--runs-dir", "file"], "file is not a folder: choose another --runs-dir"),
    (["train", "--runs-dir", "file/under"], "file/under (Not a directory): choose another --runs-dir"),
    (["train", "--runs-dir", "/proc/none"], "/proc/none"),
    (["train", "--name", "out"], "a run named out exists"),
    (["stop", "out"], "out is a link that leads out of the runs folder"),
    (["logs", "out"], "out is a link that leads out of the runs folder"),
    (["wait", "out"], "out is a link that leads out of the runs folder"),
    (["resume", "out"], "out is a link that leads out of the runs folder"),
    (["resume", "inner"], "metrics.jsonl is a link that leads out of the runs folder"),
    (["resume", "../elsewhere"], "there is no run ../elsewhere"),
    (["wait", "x\x1b[2J"], "there is no run x\u241b[2J"),
    (["train", "--set", "keep=\x1b[2J"], "invalid value \u241b[2J for train.keep"),
    (["train", "--set", "../../keep=3"], "there is no setting ../../keep"),
    (["train", "--set", "keep\x07=3"], "there is no setting keep\u2407"),
    (["train", "--set", "source=../no\x1b[2Jwhere"], "no\u241b[2Jwhere"),
    (["train", "--data", "../no\u202ewhere"], "--data ../no"),
]


@pytest.mark.parametrize(("words", "line"), REFUSED, ids=[ascii(" ".join(words)) for words, _ in REFUSED])
def test_what_leads_elsewhere_or_steers_a_terminal_is_refused_in_one_line(words: list[str], line: str) -> None:
    Path("file").touch()
    elsewhere = make_run(Path("elsewhere").resolve(), "theirs")
    Path("runs").mkdir()
    Path("runs/out").symlink_to(elsewhere.path)
    inner = make_run(Path("runs").resolve(), "inner")
    inner.metrics.symlink_to(Path("elsewhere/theirs.jsonl").resolve())
    before = sorted(Path().rglob("*"))
    done = storyteller(*words, timeout=60)
    assert done.returncode in (1, 2)
    assert line in done.stderr.splitlines()[-1], done.stderr
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr + done.stdout
    assert sorted(Path().rglob("*")) == before  # nothing was made, here or there


def test_a_checkpoint_that_is_a_link_out_of_the_run_is_named_and_not_gone_on_from(tmp_path: Path) -> None:
    theirs = trained_run(tmp_path / "elsewhere", "theirs", train_steps=4)
    folder = trained_run(tmp_path / "runs", "fox", train_steps=2)
    folder.checkpoint(4).symlink_to(theirs.checkpoint(4))
    path, skipped = checkpoint_folders.newest_good(folder)
    assert path == folder.checkpoint(2)
    assert [error.problem for error in skipped] == ["checkpoint fox@4 is a link"]

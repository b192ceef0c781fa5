"""`wait RUN` and `logs -f`: following a run over its ends and restarts. The runs' processes are stand-ins."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storyteller.cli.follow import log_across_restarts
from storyteller.errors import RunError
from storyteller.launch import start
from storyteller.tracking import run_process
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, own_status, seen_state, write_status
from tests.cli.test_train import storyteller
from tests.launch.test_start import started
from tests.support.living import until
from tests.support.ptys import at_terminal
from tests.support.training import make_run

GONE = 2**22 + 1
"""A pid that no process has."""


@pytest.fixture
def folder() -> RunFolder:
    return make_run(Path("runs").resolve(), "fox")


def ended(state: str, exit_code: int | None = None, message: str = "") -> Status:
    return Status(state, GONE, 1.0, step=7, exit_code=exit_code, message=message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "exit_status", "line"),
    [
        (ended("finished", 0), 0, "fox has finished: 7 steps"),
        (ended("stopped", 0), 0, "fox was stopped: 7 steps"),
        (ended("failed", 1, "no stories"), 1, "storyteller: fox has failed: no stories"),
        (ended("failed", 2, "invalid value -1 for --lr"), 2, "storyteller: fox has failed: invalid value -1 for --lr"),
        (ended("running"), 1, "storyteller: fox has died: its process is gone"),
    ],
)
def test_wait_ends_with_the_run_s_exit_status(folder: RunFolder, status: Status, exit_status: int, line: str) -> None:
    write_status(folder, status)
    done = storyteller("wait", "fox")
    assert done.returncode == exit_status
    assert (done.stdout + done.stderr).startswith(line)


def test_wait_lasts_as_long_as_the_run(folder: RunFolder) -> None:
    with started(folder, "say('running', step=1); input_at = time.sleep(60)") as process:
        start.wait_ready(folder, process, timeout_seconds=20)
        late = storyteller("wait", "fox", "--timeout", "0.3")
        assert (late.returncode, late.stdout) == (1, "")
        assert late.stderr == "storyteller: fox is still running after 0.3 s: storyteller wait fox\n"
        waiting = subprocess.Popen([sys.executable, "-m", "storyteller", "wait", "fox"], stderr=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=2)
        process.kill()
        process.wait()
        said = waiting.communicate(timeout=10)[1]
    assert waiting.returncode == 1 and b"fox has died" in said


def test_waiting_for_a_run_that_does_not_live_takes_no_time(folder: RunFolder) -> None:
    write_status(folder, ended("stopped", 0))
    begin = time.monotonic()
    assert run_process.wait_end(folder) == "stopped"
    assert time.monotonic() - begin < 0.5
    write_status(folder, own_status("waiting"))
    with pytest.raises(RunError, match=r"fox is still waiting after 0 s"):
        run_process.wait_end(folder, 0)


def test_the_log_is_followed_across_restarts_until_the_run_has_finished(folder: RunFolder) -> None:
    said: list[str] = []
    lines: list[str] = []
    follower = threading.Thread(target=lambda: lines.extend(log_across_restarts(folder, said.append)))
    with started(folder, "say('running'); print('one'); say('stopped', exit_code=0)") as process:
        follower.start()
        process.wait()
    until(lambda: said, seconds=10)
    with started(folder, "say('running'); print('two'); time.sleep(60)") as process:
        until(lambda: seen_state(folder) == "running", seconds=10)
        time.sleep(0.6)
        process.kill()
        process.wait()
    until(lambda: len(said) == 2, seconds=10)
    with started(folder, "say('running'); print('three \\x1b[2J'); print('four', end=''); say('finished')") as process:
        process.wait()
    follower.join(timeout=10)
    assert lines == ["one", "two", "three \u241b[2J", "four"]
    assert said == [
        "fox was stopped; waiting for storyteller resume fox (Ctrl-C quits)",
        "fox has died; waiting for storyteller resume fox (Ctrl-C quits)",
    ]


def test_following_the_log_of_a_run_that_has_failed_ends(folder: RunFolder) -> None:
    folder.log.write_text("one\n")
    write_status(folder, ended("failed", 1, "no stories"))
    done = storyteller("logs", "fox", "-f", timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_following_the_log_of_a_run_that_is_removed_ends(folder: RunFolder) -> None:
    write_status(folder, ended("stopped"))
    said: list[str] = []
    follower = threading.Thread(target=lambda: list(log_across_restarts(folder, said.append)))
    follower.start()
    until(lambda: said, seconds=10)
    for path in folder.path.iterdir():
        path.unlink()
    folder.path.rmdir()
    follower.join(timeout=10)
    assert not follower.is_alive()


def test_the_bar_is_drawn_where_something_is_new_and_at_no_other_time(folder: RunFolder) -> None:
    write_status(folder, own_status("running", step=1))
    with at_terminal("train", "--attach", "fox", columns=100) as terminal:
        terminal.until("step 1")
        while select.select([terminal.master], [], [], 1)[0]:  # what comes with the first picture
            os.read(terminal.master, 65536)
        for step in (1, 2):  # a heartbeat with nothing new, then one with a step
            write_status(folder, own_status("running", step=step))
            assert bool(select.select([terminal.master], [], [], 2)[0]) == (step == 2)
        terminal.until("step 2")
        folder.log.write_text("a story at last\n")
        terminal.until("a story at last")
        write_status(folder, ended("finished", 0))
        assert terminal.finish() == 0

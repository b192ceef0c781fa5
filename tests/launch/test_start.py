from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from storyteller.errors import RunError
from storyteller.launch import start
from storyteller.tracking import run_folder, run_process
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, create_time, owned_by, read_status, seen_state, write_status

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
folder = RunFolder(Path(sys.argv[1]))
def say(state, **facts):
    write_status(folder, own_status(state, **facts))
"""
POLITE = """
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
say("running", step=1)
while not asked:
    time.sleep(0.01)
say("stopping")
time.sleep(0.1)
say("stopped", step=2, exit_code=0)
"""


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return run_folder.create(tmp_path / "runs", "fox")


@contextmanager
def started(folder: RunFolder, body: str, arguments: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PRELUDE + body, str(folder.path)]
    process = start.start(folder, arguments, command=command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_the_process_is_the_worker_s_module_with_the_run_s_folder(folder: RunFolder, tmp_path: Path) -> None:
    # Stands in for the interpreter: says how it was called and where it looks for modules.
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$PYTHONUNBUFFERED" "$PYTHONSAFEPATH"\n')
    python.chmod(0o755)
    before = sys.executable
    sys.executable = str(python)
    try:
        process = start.start(folder, ["--resume", "500"])
    finally:
        sys.executable = before
    assert process.wait() == 0
    assert folder.log.read_text().split("\n") == [
        "-m",
        "storyteller.training.worker",
        str(folder.path),
        "--resume",
        "500",
        "1",
        "1",
        "",
    ]


def test_the_process_has_its_own_session_no_input_and_the_log_for_its_output(folder: RunFolder) -> None:
    body = """
say("running")
print(os.getsid(0) == os.getpid(), repr(sys.stdin.read()), sys.argv[2:], flush=True)
print("to stderr \\u2028 \\udcff", file=sys.stderr)
"""
    folder.log.write_text("of an earlier start\n")
    with started(folder, body, ["--from", "7"]) as process:
        assert process.wait() == 0
    assert folder.log.read_text().split("\n") == [
        "of an earlier start",
        "True '' ['--from', '7']",
        "to stderr \u2028 \\udcff",
        "",
    ]


def test_a_module_in_the_current_folder_is_not_imported_by_the_process(folder: RunFolder) -> None:
    Path("wave.py").write_text("raise SystemExit('mine was imported')")
    process = start.start(folder, command=[sys.executable, "-m", "wave", "--help"])
    process.wait()
    assert "mine was imported" not in folder.log.read_text()


def test_a_new_run_says_starting_before_its_process_can_speak(folder: RunFolder) -> None:
    with started(folder, "time.sleep(60)") as process:
        status = read_status(folder)
        assert status is not None
        assert (status.state, status.pid) == ("starting", process.pid)
        assert seen_state(folder) == "starting"


def test_what_a_status_says_already_is_never_written_over_by_the_one_who_starts(folder: RunFolder) -> None:
    earlier = Status("stopped", 2**22 + 1, 1.0, step=7)
    write_status(folder, earlier)
    with started(folder, "time.sleep(60)"):
        assert read_status(folder) == earlier


def test_a_link_in_the_run_s_folder_that_leads_elsewhere_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    folder.log.symlink_to(tmp_path / "elsewhere.log")
    with pytest.raises(RunError, match="leads out of the runs folder"):
        start.start(folder, command=["true"])
    assert not (tmp_path / "elsewhere.log").exists()


@pytest.mark.parametrize("state", ["running", "waiting", "finished", "stopped"])
def test_a_run_is_ready_once_its_process_says_so(folder: RunFolder, state: str) -> None:
    body = f"say('starting'); time.sleep(0.1); say({state!r}, step=3)" + (
        "; time.sleep(60)" if state in ("running", "waiting") else ""
    )
    with started(folder, body) as process:
        status = start.wait_ready(folder, process, timeout_seconds=20)
    assert (status.state, status.step, status.pid) == (state, 3, process.pid)


def test_the_status_of_an_earlier_process_is_not_taken_for_readiness(folder: RunFolder) -> None:
    write_status(folder, Status("stopped", 2**22 + 1, 1.0, step=1))
    with started(folder, "time.sleep(0.2); say('running', step=2); time.sleep(60)") as process:
        # In a container the next process often gets the very pid of the one before.
        write_status(folder, Status("stopped", process.pid, 1.0, step=1))
        assert start.wait_ready(folder, process, timeout_seconds=20).step == 2


def test_a_run_that_ended_before_anyone_waited_is_known(folder: RunFolder) -> None:
    with started(folder, "say('finished', step=9, exit_code=0)") as process:
        process.wait()
        assert start.wait_ready(folder, process).step == 9


def test_a_failed_start_says_what_was_recorded(folder: RunFolder) -> None:
    body = "say('failed', message='there is no story in /a\\nb: give another --data', exit_code=1); sys.exit(1)"
    with started(folder, body) as process, pytest.raises(RunError) as caught:
        start.wait_ready(folder, process, timeout_seconds=20)
    assert str(caught.value) == "there is no story in /a\u240ab: give another --data"


def test_a_start_that_ends_without_a_word_shows_the_log_s_tail(folder: RunFolder) -> None:
    with (
        started(folder, "print('one'); print(); print('two \\x1b[2J'); sys.exit(3)") as process,
        pytest.raises(RunError) as caught,
    ):
        start.wait_ready(folder, process, timeout_seconds=20)
    assert str(caught.value) == (
        "fox ended before its first step (exit status 3); its log ends: one | two \u241b[2J: "
        "storyteller logs fox shows its whole log"
    )


def test_a_start_that_is_killed_names_the_signal(folder: RunFolder) -> None:
    with (
        started(folder, "say('running'); os.kill(os.getpid(), 9)") as process,
        pytest.raises(RunError, match=r"\(killed by SIGKILL\)"),
    ):
        process.wait()
        start.wait_ready(folder, process)


def test_a_start_that_takes_too_long_is_told_and_left_running(folder: RunFolder) -> None:
    with started(folder, "time.sleep(60)") as process:
        with pytest.raises(RunError) as caught:
            start.wait_ready(folder, process, timeout_seconds=0.1)
        assert str(caught.value) == "fox took no step within 0.1 s: storyteller logs fox -f shows what it does"
        assert process.poll() is None


def test_a_run_that_is_stopped_finishes_in_its_own_way(folder: RunFolder) -> None:
    with started(folder, POLITE) as process:
        start.wait_ready(folder, process, timeout_seconds=20)
        assert run_process.stop(folder) == "stopped"
        assert process.wait() == 0


def test_without_process_handles_a_run_is_stopped_all_the_same(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    with started(folder, POLITE) as process:
        start.wait_ready(folder, process, timeout_seconds=20)
        assert run_process.stop(folder) == "stopped"


def test_a_run_that_is_stopping_gets_no_second_signal(folder: RunFolder) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
say("stopping")
time.sleep(0.4)
say("stopped", exit_code=0)
"""
    with started(folder, body) as process:
        while (status := read_status(folder)) is None or status.state == "starting":
            time.sleep(0.01)
        assert run_process.stop(folder) == "stopped"
        assert process.wait() == 0


def test_a_run_that_does_not_end_in_time_is_told_and_can_be_killed(folder: RunFolder) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('running'); time.sleep(60)"
    with started(folder, body) as process:
        start.wait_ready(folder, process, timeout_seconds=20)
        with pytest.raises(RunError) as caught:
            run_process.stop(folder, timeout_seconds=0.1)
        assert str(caught.value) == (
            "fox has not ended within 0.1 s: it may still be saving; `storyteller stop fox --now` kills it"
        )
        assert run_process.stop(folder, now=True) == "died"
        assert process.wait() == -signal.SIGKILL


def test_stopping_a_run_that_is_not_alive_says_in_which_state_it_is(folder: RunFolder) -> None:
    for state, line in {
        "finished": "fox is not running (it has finished): nothing to stop",
        "stopped": "fox is not running (it was stopped): `storyteller resume fox` continues it",
        "failed": "fox is not running (it has failed): `storyteller resume fox` continues it",
        "running": "fox is not running (it has died): `storyteller resume fox` continues it",
    }.items():
        write_status(folder, Status(state, 2**22 + 1, 1.0))  # type: ignore[arg-type]
        with pytest.raises(RunError) as caught:
            run_process.stop(folder)
        assert str(caught.value) == line


@pytest.mark.parametrize("now", [False, True])
def test_a_bystander_who_has_the_pid_is_never_signalled(folder: RunFolder, now: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        born = create_time(bystander.pid)
        assert born is not None
        write_status(folder, Status("running", bystander.pid, born - 60))
        with pytest.raises(RunError, match="it has died"):
            run_process.stop(folder, now=now)
        time.sleep(0.1)
        assert psutil.Process(bystander.pid).status() != psutil.STATUS_ZOMBIE
        bystander.communicate(b"\n")
        assert bystander.returncode == 0


def test_a_run_outlives_the_process_that_started_it(folder: RunFolder) -> None:
    code = f"""
import sys
from pathlib import Path
from storyteller.launch import start
from storyteller.tracking.run_folder import RunFolder
folder = RunFolder(Path({str(folder.path)!r}))
process = start.start(folder, command=[sys.executable, "-c", {PRELUDE + POLITE!r}, str(folder.path)])
print(start.wait_ready(folder, process, 20).state)
"""
    root = Path(run_process.__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    said, _ = parent.communicate()
    assert said == "running\n"
    assert seen_state(folder) == "running"
    assert run_process.stop(folder) == "stopped"


def test_the_owner_of_a_started_process_is_known_by_its_birth(folder: RunFolder) -> None:
    with started(folder, "say('running'); time.sleep(60)") as process:
        status = start.wait_ready(folder, process, timeout_seconds=20)
        assert status.birth == owned_by("running", process.pid).birth

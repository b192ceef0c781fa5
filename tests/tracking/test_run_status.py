from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from storyteller.tracking import run_folder
from storyteller.tracking import run_status as status_module
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import (
    State,
    Status,
    birth,
    create_time,
    own_status,
    owned_by,
    owner_alive,
    read_status,
    seen_state,
    write_status,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return run_folder.create(tmp_path / "runs", "fox")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_status_is_read_as_it_was_written(folder: RunFolder) -> None:
    status = Status("failed", 123, 1700000000.25, 500, 81920, "2025-11-22T10:00:00Z", "no stories", 1)
    write_status(folder, status)
    assert read_status(folder) == status
    assert json.loads(folder.status_json.read_text()) == {
        "state": "failed",
        "pid": 123,
        "create_time": 1700000000.25,
        "step": 500,
        "tokens": 81920,
        "heartbeat_at": "2025-11-22T10:00:00Z",
        "message": "no stories",
        "exit_code": 1,
        "birth": "",
        "wandb_url": "",
    }


def test_keys_that_are_not_known_are_tolerated(folder: RunFolder) -> None:
    folder.status_json.write_text('{"state": "running", "pid": 1, "create_time": 2, "later": [1]}')
    assert read_status(folder) == Status("running", 1, 2)


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"state": "running"}',
        '{"state": "dancing", "pid": 1, "create_time": 1}',
        '{"state": ["running"], "pid": 1, "create_time": 1}',
        '{"state": "running", "pid": "1", "create_time": 1}',
        '{"state": "running", "pid": true, "create_time": 1}',
        '{"state": "running", "pid": 1, "create_time": 1, "step": null}',
    ],
)
def test_a_broken_status_is_none_and_the_run_died(folder: RunFolder, contents: str) -> None:
    folder.status_json.write_text(contents)
    assert read_status(folder) is None
    assert seen_state(folder) == "died"


def test_a_missing_status_is_none_and_the_run_died(folder: RunFolder) -> None:
    assert read_status(folder) is None
    assert seen_state(folder) == "died"


@pytest.mark.parametrize("state", ["starting", "running", "waiting", "stopping"])
def test_a_living_state_is_believed_while_its_owner_lives_and_no_longer(
    folder: RunFolder, child: subprocess.Popen[bytes], state: State
) -> None:
    write_status(folder, owned_by(state, child.pid))
    assert seen_state(folder) == state
    child.kill()
    # Not waited for: what is left is a zombie, which still has its pid and its create time.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.pid_exists(child.pid)
    assert seen_state(folder) == "died"
    child.wait()
    assert seen_state(folder) == "died"


@pytest.mark.parametrize("state", ["finished", "stopped", "failed"])
def test_an_end_is_believed_without_its_owner(folder: RunFolder, state: State) -> None:
    write_status(folder, Status(state, 2**22 + 1, 1.0))
    assert seen_state(folder) == state


def test_a_bystander_who_has_the_pid_now_is_not_the_owner(folder: RunFolder, child: subprocess.Popen[bytes]) -> None:
    born = create_time(child.pid)
    assert born is not None
    assert owner_alive(Status("running", child.pid, born))
    assert not owner_alive(Status("running", child.pid, born - 1))
    assert not owner_alive(Status("running", child.pid, born, birth="another-boot/1"))
    write_status(folder, Status("running", os.getpid(), 1.0))
    assert seen_state(folder) == "died"


@pytest.mark.parametrize("pid", [-1, 0, 2**22 + 1, 2**40])
def test_a_pid_that_nobody_has_is_not_alive(pid: int) -> None:
    assert create_time(pid) is None
    assert not owner_alive(Status("running", pid, 1.0))


def test_the_create_time_is_what_psutil_says() -> None:
    assert create_time(os.getpid()) == psutil.Process().create_time()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="births are read from /proc, on Linux alone")
def test_an_owner_is_known_after_the_clock_was_set(child: subprocess.Popen[bytes]) -> None:
    # Setting the clock by a day moves the create time that psutil works out by as much.
    status = owned_by("running", child.pid)
    assert owner_alive(dataclasses.replace(status, create_time=status.create_time - 86400))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="births are read from /proc, on Linux alone")
def test_a_birth_is_found_whatever_the_process_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to(sys.executable)
    process = subprocess.Popen([str(odd), "-c", "input()"], stdin=subprocess.PIPE)
    try:
        ticks = int(birth(process.pid).rpartition("/")[2]) / os.sysconf("SC_CLK_TCK")
        assert (
            abs(psutil.boot_time() + ticks - psutil.Process(process.pid).create_time()) < 1.5
        )  # the boot time is rounded
    finally:
        process.communicate(b"\n")


def test_the_own_status_is_that_of_a_living_owner(folder: RunFolder) -> None:
    status = own_status("running", step=7, tokens=700)
    assert (status.pid, status.step, status.tokens, status.exit_code) == (os.getpid(), 7, 700, None)
    assert status.heartbeat_at.endswith("Z")
    write_status(folder, status)
    assert seen_state(folder) == "running"


def test_a_writer_s_own_birth_is_filled_in(folder: RunFolder) -> None:
    pid = os.getpid()
    write_status(folder, Status("running", pid, create_time(pid) or 0.0))
    written = read_status(folder)
    assert written is not None
    assert written.birth == birth(pid)


def test_importing_status_does_not_import_psutil() -> None:
    code = f"import sys; import {status_module.__name__}; sys.exit('psutil' in sys.modules)"
    root = Path(status_module.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0

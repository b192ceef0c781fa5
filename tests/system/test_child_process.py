"""Child processes that speak JSON lines: requests and answers, invalid messages, and how they end."""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import storyteller
from storyteller.system.child_process import JsonLinesProcess
from tests.support.living import until

_ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"echo": json.loads(line)}), flush=True)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def echo() -> Iterator[JsonLinesProcess]:
    process = JsonLinesProcess(python(_ECHO))
    yield process
    process.kill()


def test_each_request_gets_its_answer(echo: JsonLinesProcess) -> None:
    assert echo.ask({"text": "a\nb \u20ac\ud800"}) == {"echo": {"text": "a\nb \u20ac\ud800"}}
    echo.send(1)
    assert echo.ask(2) == {"echo": 1}
    assert echo.ask() == {"echo": 2}


def test_the_end_of_its_input_ends_a_child_within_its_grace(echo: JsonLinesProcess) -> None:
    echo.ask(1)
    began = time.monotonic()
    echo.close(grace_seconds=30)
    assert not echo.is_running
    assert time.monotonic() - began < 15
    with pytest.raises(ChildProcessError, match="status 0"):
        echo.ask(2)


def test_a_child_that_ignores_the_end_of_its_input_is_killed() -> None:
    process = JsonLinesProcess(python("import time; time.sleep(600)"))
    process.close(grace_seconds=0.2)
    assert not process.is_running
    for _ in range(2):  # every later request fails as well
        with pytest.raises(ChildProcessError, match="signal 9"):
            process.ask(1)


def test_a_kill_takes_the_processes_that_the_child_started() -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    process = JsonLinesProcess(python(f"{code} print('{{\"pid\": %d}}' % p.pid, flush=True); time.sleep(600)"))
    grandchild = psutil.Process(process.ask()["pid"])
    process.kill()
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_the_reason_of_an_exit_has_the_last_line_of_standard_error() -> None:
    process = JsonLinesProcess(python("import sys; print('first', file=sys.stderr); sys.exit('no \\x1b[31mmemory')"))
    with pytest.raises(ChildProcessError, match=r"^status 1: no \u241b\[31mmemory$"):
        process.ask()


@pytest.mark.parametrize("line", ["no JSON", "[1]", "1", "[" * 99_999], ids=lambda line: line[:10])
def test_a_message_that_is_no_json_object_ends_the_child(line: str) -> None:
    process = JsonLinesProcess(python(f"import time; print({line!r}, flush=True); time.sleep(600)"))
    with pytest.raises(ChildProcessError, match="invalid message"):
        process.ask()
    until(lambda: not process.is_running)


def test_callbacks_get_the_messages_and_the_reason_in_order() -> None:
    events: queue.Queue[Any] = queue.Queue()
    process = JsonLinesProcess(
        python("print(1); print(2); raise SystemExit(3)"),
        lambda source, message: events.put((source, message)),
        lambda source, reason: events.put((source, reason)),
    )
    assert [events.get(timeout=30) for _ in range(3)] == [(process, 1), (process, 2), (process, "status 3")]


def test_a_child_imports_this_package_and_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("raise SystemExit(9)")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import json, os, random, storyteller; print(json.dumps({'at': storyteller.__file__, 'x': os.environ['X']}))"
    assert JsonLinesProcess(python(code), env={"X": "1"}).ask() == {"at": storyteller.__file__, "x": "1"}


@pytest.mark.parametrize("new_session", [True, False])
def test_a_child_has_a_process_group_of_its_own_and_a_session_if_asked(new_session: bool) -> None:
    code = "import json, os; print(json.dumps({'group': os.getpgid(0), 'session': os.getsid(0), 'pid': os.getpid()}))"
    child = JsonLinesProcess(python(code), new_session=new_session).ask()
    assert child["group"] == child["pid"]
    assert child["session"] == (child["pid"] if new_session else os.getsid(0))


def test_a_command_that_does_not_exist_raises() -> None:
    with pytest.raises(FileNotFoundError):
        JsonLinesProcess(["/nothing/here"])

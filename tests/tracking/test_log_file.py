"""The training process's log: its new lines as it grows, its last lines, all of it, and following a run to its end."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.launch import start
from storyteller.tracking import run_folder
from storyteller.tracking.log_file import FileTail, follow_log, last_lines, read_log
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import LIVING, seen_state
from tests.launch.test_start import started

MOST_BYTES = 256 << 10


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return run_folder.create(tmp_path / "runs", "fox")


def test_the_tail_gives_whole_lines_as_they_come_and_each_of_them_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = FileTail(path, most_bytes=MOST_BYTES)
    assert tail.read() == ([], False, False)
    path.write_bytes(b"one\ntw")
    assert tail.read() == (["one"], True, False)
    with path.open("ab") as log:
        log.write(b"o\nthree\n")
    assert tail.read() == (["two", "three"], False, False)
    assert tail.read() == ([], False, False)


def test_the_tail_of_a_log_begun_anew_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = FileTail(path, most_bytes=MOST_BYTES)
    path.write_bytes(b"a long first line\nto")
    tail.read()
    path.write_bytes(b"new\n")
    assert tail.read() == (["new"], True, False)
    path.unlink()
    assert tail.read() == ([], False, False)


def test_of_a_long_log_the_end_is_read_and_it_is_said_that_more_came_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %06d\n" % number for number in range(100_000)))
    lines, restarted, skipped = FileTail(path, most_bytes=MOST_BYTES).read()
    assert (restarted, skipped) == (True, True)
    assert lines[-1] == "line 099999"
    assert len(lines) == (256 << 10) // 12
    assert all(len(line) == 11 for line in lines)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_however_a_log_grows_its_lines_are_those_of_the_whole(pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "log"
        path.touch()
        tail, seen = FileTail(path, most_bytes=MOST_BYTES), []
        for piece in pieces:
            with path.open("ab") as log:
                log.write(piece)
            seen += tail.read()[0]
        path.with_name("whole").write_bytes(b"".join(pieces))
        assert seen == FileTail(path.with_name("whole"), most_bytes=MOST_BYTES).read()[0]


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="not a regular file"):
        FileTail(tmp_path / "log").read()


def test_a_tail_goes_on_from_an_offset(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree")
    tail = FileTail(path, offset=4)
    assert (tail.read(), tail.partial) == ((["two"], False, False), "three")


def test_a_line_without_end_takes_no_more_memory_than_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = FileTail(path, most_bytes=100)
    for _ in range(5):
        with path.open("ab") as log:
            log.write(b"x" * 60)
        assert tail.read().lines == []
        assert len(tail.partial) <= 100


def test_the_log_s_tail_is_its_last_lines_that_are_not_blank(folder: RunFolder) -> None:
    assert last_lines(folder) == []
    folder.log.write_bytes(b"x" * 200_000 + b"\none\n\n two\xff \r\n\nthree")
    assert last_lines(folder, 3) == ["one", "two\ufffd", "three"]
    assert last_lines(folder, 0) == []


def test_a_log_is_read_as_it_stands(folder: RunFolder) -> None:
    assert read_log(folder) == []
    folder.log.write_bytes(b"one\n\ntwo \xc3\xa4 \xff\x1b[2J\nhalf")
    assert read_log(folder) == ["one", "", "two \u00e4 \ufffd\x1b[2J", "half"]


def test_a_log_is_followed_until_the_run_has_ended_and_all_was_read(folder: RunFolder) -> None:
    body = """
say("running")
for n in range(20):
    print("line", n, end="")
    time.sleep(0.01)
    print(" \\u00e4" * n)
say("finished", exit_code=0)
print("bye", end="")
"""
    with started(folder, body) as process:
        reaper = threading.Thread(target=process.wait)
        reaper.start()
        lines = [line for new in follow_log(folder, lambda: seen_state(folder) not in LIVING) for line in new]
        reaper.join()
    assert lines[:20] == [f"line {n}" + " \u00e4" * n for n in range(20)]
    assert lines[20:] in ([], ["bye"])  # what is printed after the end was declared may be missed


def test_a_followed_log_ends_when_the_run_is_killed(folder: RunFolder) -> None:
    with started(folder, "say('running'); print('one'); time.sleep(60)") as process:
        start.wait_ready(folder, process, timeout_seconds=20)
        following = follow_log(folder, lambda: seen_state(folder) not in LIVING)
        assert next(following) == ["one"]
        process.kill()
        assert [line for new in following for line in new] == []

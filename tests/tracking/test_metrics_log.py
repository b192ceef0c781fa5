from __future__ import annotations

import errno
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storyteller.tracking.metrics_log import JsonLog, by_step, last_record, records_in
from tests.support.records import read_records

_values = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20), st.none())
_records = st.lists(st.dictionaries(st.text(max_size=8), _values, max_size=4), max_size=6)


@contextmanager
def _disk_of(size_bytes: int) -> Iterator[None]:
    """No file may grow past `size_bytes`: the kernel cuts the write that crosses it, then refuses, as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _write(path: Path, records: list[dict[str, Any]]) -> bytes:
    with JsonLog(path) as log:
        for record in records:
            log.append(record)
    return path.read_bytes()


def test_a_record_is_one_line_of_json_that_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with JsonLog(path) as log:
        log.append({"step": 1, "train/loss": 8.25, "story": "a\nb\u2028\ud800"})
        assert path.read_bytes() == b'{"step": 1, "train/loss": 8.25, "story": "a\\nb\\u2028\\ud800"}\n'
        assert read_records(path)[0] == [{"step": 1, "train/loss": 8.25, "story": "a\nb\u2028\ud800"}]


def test_a_value_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    line = _write(tmp_path / "log", [{"step": 1, "a": float("nan"), "b": float("inf"), "c": -float("inf"), "d": None}])
    assert line == b'{"step": 1, "d": null}\n'


@settings(max_examples=150, deadline=None)
@given(_records, _records, st.data())
def test_a_log_cut_at_any_byte_is_mended_before_the_next_line(
    before: list[dict[str, Any]], after: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        whole = _write(path, before)
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        ends = [len(b"".join(whole.splitlines(True)[: n + 1])) for n in range(len(before))]
        # A line that lost its newline alone is a whole record: it is kept.
        kept = [record for record, end in zip(before, ends, strict=True) if cut >= end - 1]
        assert read_records(path)[0] == [record for record, end in zip(before, ends, strict=True) if cut >= end]
        _write(path, after)
        assert read_records(path)[0] == kept + after
        assert all(isinstance(json.loads(line), dict) for line in path.read_bytes().splitlines())


def test_a_torn_piece_longer_than_a_block_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}\n{"story": "' + b"x" * 200_000)
    assert _write(path, [{"step": 2}]) == b'{"step": 1}\n{"step": 2}\n'


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}\n' + bytes(5000))
    assert _write(path, [{"step": 2}]) == b'{"step": 1}\n{"step": 2}\n'


def test_a_full_disk_leaves_no_torn_line_and_the_log_works_again_when_there_is_space(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with JsonLog(path) as log:
        log.append({"step": 1})
        with _disk_of(20), pytest.raises(OSError, match="File too large") as caught:
            log.append({"step": 2, "text": "x" * 100})
        assert caught.value.errno == errno.EFBIG
        assert path.read_bytes() == b'{"step": 1}\n'
        log.append({"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 3}\n'


def test_a_disk_without_room_for_the_mending_newline_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"step": 1}')
    with _disk_of(11), pytest.raises(OSError, match="File too large"):
        JsonLog(path)
    assert _write(path, [{"step": 2}]) == b'{"step": 1}\n{"step": 2}\n'


def test_reading_goes_on_from_an_offset_and_leaves_a_line_under_way(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert read_records(path) == ([], 0)
    path.write_bytes(b'{"step": 1}\n{"st')
    assert read_records(path) == ([{"step": 1}], 12)
    assert read_records(path, 12) == ([], 12)
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    assert read_records(path, 12) == ([{"step": 2}], 24)


def test_broken_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    broken = [b"{", b"", b"[1]", b"7", b'{"a": NaN}', b"\xff\xfe", bytes(9), b"[" * 100_000, b'{"a": 1}{"a": 2}']
    path.write_bytes(b'{"step": 1}\n' + b"\n".join(broken) + b'\n{"step": 2}\n')
    records, offset = read_records(path)
    assert records == [{"step": 1}, {"step": 2}]
    assert offset == path.stat().st_size
    assert last_record(path, needs="a") is None


def test_reading_from_an_offset_costs_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:  # 300 MB that take no room: reading them would take seconds
        file.truncate(300_000_000)
        file.seek(0, 2)
        file.write(b'\n{"step": 1}\n')
    began = time.perf_counter()
    assert read_records(path, 300_000_001) == ([{"step": 1}], 300_000_013)
    assert last_record(path) == {"step": 1}
    assert time.perf_counter() - began < 0.05


def test_the_last_record_is_the_last_complete_one_that_has_the_key(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_record(path) is None
    path.write_bytes(b"")
    assert last_record(path) is None
    path.write_bytes(b'{"step": 1, "eval/bpb": 2.5}\n{"step": 2}\n{"step": 3, "eval/bpb": 1')
    assert last_record(path) == {"step": 2}
    assert last_record(path, needs="eval/bpb") == {"step": 1, "eval/bpb": 2.5}
    assert last_record(path, needs="train/loss") is None


def test_a_key_named_in_a_text_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, [{"step": 1, "loss": 2.0}, {"step": 2, "text": 'the "loss" of a friend', "why": "loss"}])
    assert last_record(path, needs="loss") == {"step": 1, "loss": 2.0}


def test_a_record_past_a_resume_s_last_step_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, [{"step": 400, "bpb": 1.2}, {"step": 500, "bpb": 1.1}, {"step": 410}])
    assert last_record(path, needs="bpb") == {"step": 400, "bpb": 1.2}
    _write(path, [{"step": 500}])
    assert last_record(path, needs="bpb") == {"step": 500, "bpb": 1.1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 150_000), max_size=6), st.integers(0, 100))
def test_the_last_record_is_found_across_blocks_of_any_size(sizes: list[int], torn: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        _write(path, [{"n": n, "pad": "x" * size} for n, size in enumerate(sizes)])
        with path.open("ab") as file:
            file.write(b"{" * torn)
        assert [record["n"] for record in read_records(path)[0]] == list(range(len(sizes)))
        assert last_record(path) == ({"n": len(sizes) - 1, "pad": "x" * sizes[-1]} if sizes else None)


def test_a_search_backwards_can_be_bounded(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, [{"step": 1, "bpb": 1.5}, *({"step": n} for n in range(2, 100))])
    assert last_record(path, needs="bpb") == {"step": 1, "bpb": 1.5}
    assert last_record(path, needs="bpb", within_bytes=200) is None
    assert last_record(path, within_bytes=200) == {"step": 99}


def test_the_decoder_reads_an_object_within_a_text_and_says_where_it_ends() -> None:
    # `raw_decode` takes the place to start at, which Python's documentation does not mention.
    decoder = json.JSONDecoder()
    assert decoder.raw_decode('[1]\n{"step": 1}\n', 4) == ({"step": 1}, 15)
    with pytest.raises(ValueError, match="Expecting value"):
        decoder.raw_decode("{}\n\n", 3)
    block = b'{"a": 1}\n\n{"b": "\\u00e4"} \n{"c": 1}{\n'
    assert records_in(block) == ([0, 10], [{"a": 1}, {"b": "\u00e4"}])


def test_lines_of_one_step_are_merged() -> None:
    records = [{"step": 10, "train/loss": 5.0}, {"step": 10, "eval/bpb": 2.0}, {"step": 20, "train/loss": 4.0}]
    assert by_step(records) == [
        {"step": 10, "train/loss": 5.0, "eval/bpb": 2.0},
        {"step": 20, "train/loss": 4.0},
    ]


def test_a_resume_replaces_all_that_was_logged_from_its_step_on() -> None:
    first = [{"step": 10, "a": 1}, {"step": 20, "a": 1}, {"step": 20, "eval": 1}, {"step": 25, "eval": 1}]
    assert by_step([*first, {"step": 20, "a": 2}]) == [{"step": 10, "a": 1}, {"step": 20, "a": 2}]
    assert by_step([*first, {"step": 15, "a": 2}]) == [{"step": 10, "a": 1}, {"step": 15, "a": 2}]
    assert by_step([*first, {"step": 25, "a": 2}])[-1] == {"step": 25, "eval": 1, "a": 2}
    again = [{"step": 20, "a": 2}, {"step": 30, "a": 2}, {"step": 20, "a": 3}, {"step": 40, "a": 3}]
    assert by_step([*first, *again]) == [{"step": 10, "a": 1}, {"step": 20, "a": 3}, {"step": 40, "a": 3}]


def test_records_without_a_step_are_left_out() -> None:
    assert by_step([{"a": 1}, {"step": None}, {"step": "1"}, {"step": True}, {"step": 1.5}, {"step": 0}]) == [
        {"step": 0}
    ]


@given(st.lists(st.integers(1, 12), max_size=40))
@example([5, 5, 6, 5, 5])
def test_each_step_is_seen_once_ascending_as_the_last_course_left_it(steps: list[int]) -> None:
    records = [{"step": step, "line": line} for line, step in enumerate(steps)]
    merged = by_step(records)
    seen = [record["step"] for record in merged]
    assert seen == sorted(set(seen))
    for record in merged:
        line = record["line"]
        assert steps[line] == record["step"]
        assert all(later > record["step"] for later in steps[line + 1 :])  # it is the last, and nothing went below it
    survivors = {step for line, step in enumerate(steps) if all(later > step for later in steps[line + 1 :])}
    assert set(seen) == survivors


@given(st.data())
def test_a_run_killed_and_resumed_anywhere_reads_as_one_that_was_not(data: st.DataObject) -> None:
    """Logged every step, evaluated every third, saved every fourth; killed at random, between log and save too."""
    log: list[dict[str, int]] = []
    step, saved = 0, 0
    for _ in range(data.draw(st.integers(0, 5))):
        for step in range(saved + 1, saved + 1 + data.draw(st.integers(0, 9))):
            _log_step(log, step)
            if step % 4 == 0 and data.draw(st.booleans()):
                saved = step
    for step in range(saved + 1, 40):
        _log_step(log, step)
    whole: list[dict[str, int]] = []
    for step in range(1, 40):
        _log_step(whole, step)
    assert by_step(log) == by_step(whole)


def _log_step(log: list[dict[str, int]], step: int) -> None:
    log.append({"step": step, "loss": 100 - step})
    if step % 3 == 0:
        log.append({"step": step, "eval": 1000 - step})

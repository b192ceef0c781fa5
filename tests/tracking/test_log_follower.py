"""Following a JSON Lines log: pieces against the whole, resumes, torn and long lines, a file that is started anew."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.tracking.log_follower import LogFollower
from storyteller.tracking.metrics_log import by_step
from tests.support.records import read_records


def read(follower: LogFollower, path: Path) -> list[tuple[list[int], bool]]:
    """The steps of each part that is new, and whether it is a resume."""
    with path.open("rb") as file:
        follower.restart_if_replaced(file)
        return [([record["step"] for record in part.records], part.is_resume) for part in follower.read_to_end(file)]


def lines(*steps: int) -> bytes:
    return b"".join(json.dumps({"step": step, "n": n}).encode() + b"\n" for n, step in enumerate(steps))


@given(st.lists(st.integers(0, 9), max_size=30), st.data())
def test_a_log_read_in_pieces_gives_the_records_that_no_resume_superseded(
    steps: list[int], data: st.DataObject
) -> None:
    whole = lines(*steps)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        path.write_bytes(whole)
        expected = by_step(read_records(path)[0])
        path.write_bytes(b"")
        follower = LogFollower()
        for begin, end in itertools.pairwise([0, *cuts, len(whole)]):
            with path.open("ab") as file:
                file.write(whole[begin:end])
            with path.open("rb") as log:
                assert not follower.restart_if_replaced(log)
                for part in follower.read_to_end(log):
                    assert [whole[at : at + 1] for at in part.offsets] == [b"{"] * len(part.records)
                    if part.is_resume:
                        kept = [record for record in kept if record["step"] < part.records[0]["step"]]
                    kept += part.records
    assert by_step(kept) == expected


def test_a_step_below_the_one_before_it_is_a_resume_also_between_two_looks(tmp_path: Path) -> None:
    path, follower = tmp_path / "log", LogFollower()
    path.write_bytes(lines(1, 2, 2, 3, 2))
    assert read(follower, path) == [([1, 2, 2, 3], False), ([2], True)]
    with path.open("ab") as file:
        file.write(lines(2, 3))
    assert read(follower, path) == [([2, 3], False)]
    with path.open("ab") as file:
        file.write(lines(1))
    assert read(follower, path) == [([1], True)]


def test_a_torn_line_is_left_and_not_read_again_until_it_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, follower = tmp_path / "log", LogFollower()
    path.write_bytes(lines(1) + b'{"step": 2, "pad": "' + b"x" * 5000)
    assert read(follower, path) == [([1], False)]
    pread, asked = os.pread, []

    def counted(handle: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    assert read(follower, path) == []
    assert sum(asked) < 100
    with path.open("ab") as file:
        file.write(b'"}\n')
    assert read(follower, path) == [([2], False)]


def test_a_log_that_is_replaced_or_rewritten_is_read_from_its_start(tmp_path: Path) -> None:
    path, follower = tmp_path / "log", LogFollower()
    path.write_bytes(lines(1, 2))
    read(follower, path)
    path.write_bytes(lines(7))  # shorter
    assert read(follower, path) == [([7], False)]
    path.write_bytes(lines(8, 9, 10))  # longer, in the same file
    assert read(follower, path) == [([8, 9, 10], False)]
    (tmp_path / "new").write_bytes(lines(8, 9, 10, 11))
    (tmp_path / "new").replace(path)
    assert read(follower, path) == [([8, 9, 10, 11], False)]


def test_refused_records_and_long_lines_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(lines(1) + b'{"step": 0}\n{"step": 2, "pad": "' + b"x" * 2_500_000 + b'"}\n' + lines(3))
    assert read(LogFollower(lambda record: "n" in record), path) == [([1], False), ([3], False)]
    assert read(LogFollower(lambda record: record["step"] > 0, 3_000_000), path) == [([1], False), ([2, 3], False)]


@pytest.mark.parametrize("torn", [b"", b'{"step"', b"x" * 300_000])
def test_a_follower_that_skips_to_the_end_knows_a_resume_after_it(tmp_path: Path, torn: bytes) -> None:
    path, follower = tmp_path / "log", LogFollower()
    path.write_bytes(lines(*range(5000)) + torn)
    with path.open("rb") as file:
        follower.skip_to_end(file)
    assert read(follower, path) == []
    with path.open("ab") as file:
        file.write(b"\n" + lines(5000, 4000))
    assert read(follower, path) == [([5000], False), ([4000], True)]

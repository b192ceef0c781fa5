"""What a run is started with again: the processes it had, and files that can be written to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from storyteller.config.presets import resolve
from storyteller.errors import RunError, UsageError
from storyteller.launch import run_plan, start
from storyteller.launch.torchrun import TorchrunSpec
from storyteller.tracking import log_file
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import Status, write_status


def planned(root: Path, of: TorchrunSpec = TorchrunSpec()) -> RunFolder:  # noqa: B008  it is frozen
    """A run that was stopped."""
    folder = run_plan.create_run(root, "fox", resolve("quick", {"train.steps": 200}), ["storyteller", "train"], of)
    write_status(folder, Status("stopped", 1, 1.0, step=7))
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The arguments of each training process that would have been started."""
    words: list[list[str]] = []

    def begin(_folder: RunFolder, arguments: Sequence[str] = (), **_: Any) -> None:
        words.append(list(arguments))

    monkeypatch.setattr(start, "start", begin)
    return words


def test_a_run_goes_on_in_as_many_processes_as_before_until_another_number_is_given(
    tmp_path: Path, started: list[list[str]]
) -> None:
    folder = planned(tmp_path, TorchrunSpec(3))
    run_plan.start_run(folder, "off", print)
    assert run_plan.resume_spec(folder, 2) == TorchrunSpec(2)
    run_plan.start_run(folder, "off", print)
    assert run_plan.resume_spec(folder, 1) == TorchrunSpec(1)
    run_plan.start_run(folder, "off", print, from_step=5)
    assert started == [["--nproc", "3"], ["--nproc", "2"], ["--from", "5"]]
    assert "nproc" not in folder.read_run()
    with pytest.raises(UsageError, match="invalid value 0 for --nproc"):
        run_plan.resume_spec(folder, 0)


@pytest.mark.parametrize("nproc", [0, -1, 10**9, "2", True, None, [2], 1.5])
def test_a_plan_with_an_absurd_number_of_processes_means_one(tmp_path: Path, nproc: object) -> None:
    folder = planned(tmp_path)
    folder.write_run(folder.read_run() | {"nproc": nproc})
    assert run_plan.resume_spec(folder) == TorchrunSpec()


def test_of_several_machines_the_processes_are_named_each_time(tmp_path: Path) -> None:
    folder = planned(tmp_path, TorchrunSpec(4, 2, 0, "node1:29500"))
    assert "nproc" not in folder.read_run()
    assert run_plan.resume_spec(folder) == TorchrunSpec()


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", "samples.jsonl", "mirror.log"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_in_the_place_of_a_log_is_named_rather_than_waited_for(
    tmp_path: Path, name: str, make: Any
) -> None:
    folder = planned(tmp_path)
    (folder.path / name).unlink(missing_ok=True)
    make(folder.path / name)
    with pytest.raises(RunError, match=rf"^{name} of fox is no file that can be written to"):
        run_plan.prepare_resume(folder, {})


def test_a_pipe_in_the_place_of_a_log_is_not_waited_for_by_who_reads_it(tmp_path: Path) -> None:
    folder = planned(tmp_path)
    os.mkfifo(folder.log)
    assert log_file.last_lines(folder) == []
    with pytest.raises(OSError, match="not a regular file"):
        log_file.read_log(folder)

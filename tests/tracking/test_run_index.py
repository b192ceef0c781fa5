from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storyteller.errors import CheckpointError, RunError
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import (
    RunSummary,
    any_trains,
    check_readable,
    find_checkpoint,
    find_run,
    list_runs,
    summarise,
)
from storyteller.tracking.run_status import Status, own_status, write_status
from storyteller.tracking.run_watcher import RunWatcher


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make(root: Path, name: str, minute: int = 0, train: dict[str, Any] | None = None) -> RunFolder:
    folder = run_folder.create(root, name)
    created_at = f"2025-11-22T10:{minute:02}:00Z"
    folder.write_run({"name": name, "created_at": created_at, "config": {"preset": "quick", "train": train or {}}})
    return folder


def save(folder: RunFolder, step: int, bits: float | None = None) -> Path:
    staging = checkpoint_folders.stage(folder, step)
    (staging / "weights").write_text("w")
    return checkpoint_folders.seal(staging, folder, step, {"eval/bpb": bits} if bits is not None else {})


def says(root: Path, name: str) -> str:
    with pytest.raises(RunError) as caught:
        find_run(root, name)
    return str(caught.value)


def test_runs_are_listed_newest_first_and_anything_else_is_passed_over(root: Path) -> None:
    assert list_runs(root) == []
    for name, minute in (("fox", 2), ("owl", 3), ("bear", 1)):
        make(root, name, minute)
    (root / "no-run").mkdir()
    (root / "a-file").write_text("")
    (root / ".hidden").mkdir()
    (root / "alias").symlink_to(root / "fox")
    assert [run.name for run in list_runs(root)] == ["owl", "fox", "bear"]


def test_a_run_whose_json_is_broken_is_listed_by_its_file_s_time(root: Path) -> None:
    make(root, "fox", 1)
    broken = make(root, "owl", 2)
    broken.run_json.write_text("{")
    os.utime(broken.run_json, (0, 0))
    assert [run.name for run in list_runs(root)] == ["fox", "owl"]
    os.utime(broken.run_json, (4e9, 4e9))
    assert [run.name for run in list_runs(root)] == ["owl", "fox"]


def test_a_run_is_found_by_its_name_by_latest_and_by_a_prefix(root: Path) -> None:
    for minute, name in enumerate(("fox", "fox-2", "owl")):
        make(root, name, minute)
    assert find_run(root, "fox").name == "fox"
    assert find_run(root, "fox-").name == "fox-2"
    assert find_run(root, "o").name == "owl"
    assert find_run(root, "latest").name == "owl"


def test_a_run_that_is_not_there_is_told_with_what_is(root: Path) -> None:
    assert says(root, "latest") == f"there are no runs yet in {root}: storyteller train starts one"
    assert says(root, "fox") == f"there is no run fox: no runs yet in {root}: storyteller train"
    for name in ("brave-fox", "brave-owl"):
        make(root, name)
    assert says(root, "brave-fix") == "there is no run brave-fix: did you mean brave-fox or brave-owl?"
    assert says(root, "zzz") == "there is no run zzz: the runs are brave-owl, brave-fox"
    assert says(root, "brave") == "brave matches brave-owl, brave-fox: give more of the name"


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "/etc", "fox/", "fox/../fox", "FOX", "a\x1b[2J"])
def test_a_name_that_no_run_can_have_is_refused_in_one_safe_line(root: Path, name: str) -> None:
    make(root, "fox")
    (root.parent / "outside").mkdir()
    (root.parent / "outside" / "run.json").write_text('{"schema": 1}')
    line = says(root, name)
    assert line.startswith("there is no run ")
    assert "\x1b" not in line
    assert "\n" not in line


def test_of_many_runs_only_some_are_named(root: Path) -> None:
    for n in range(30):
        make(root, f"fox-{n:02}", n)
    assert says(root, "fox") == (
        "fox matches fox-29, fox-28, fox-27, fox-26, \u2026 (22 more), fox-03, fox-02, fox-01, fox-00: "
        "give more of the name"
    )


def test_a_link_that_leads_out_of_the_root_is_refused(root: Path) -> None:
    outside = make(root.parent / "outside", "fox")
    make(root, "owl").samples.symlink_to("/etc/hostname")
    (root / "fox").symlink_to(outside.path)
    assert "leads out of the runs folder" in says(root, "fox")
    assert "leads out of the runs folder" in says(root, "owl")
    assert [run.name for run in list_runs(root)] == ["owl"]


def test_a_checkpoint_is_found_by_every_kind_of_reference(root: Path) -> None:
    make(root, "owl", 1)
    folder = make(root, "fox", 2)
    save(folder, 100, 1.5)
    save(folder, 200, 1.25)
    save(folder, 300)
    (folder.checkpoint(300) / "weights").write_text("x")
    skipped: list[CheckpointError] = []
    for reference in ("fox", "latest", "f", "fox@latest", "latest@latest"):
        assert find_checkpoint(root, reference, skipped.append) == folder.checkpoint(200)
    assert len(skipped) == 5
    assert skipped[0].problem == "checkpoint fox@300 is damaged: weights does not match its checksum"
    assert find_checkpoint(root, "fox@100") == folder.checkpoint(100)
    assert find_checkpoint(root, "fox@00000300") == folder.checkpoint(300)
    assert find_checkpoint(root, "fox@best") == folder.checkpoint(200)


def test_a_checkpoint_that_is_not_there_is_told_with_what_is(root: Path) -> None:
    folder = make(root, "fox")
    with pytest.raises(RunError, match=r"^fox has no checkpoint yet: wait for its first"):
        find_checkpoint(root, "fox")
    save(folder, 100)
    save(folder, 200)
    cases = {
        "fox@150": "fox has no step 150: it has 100, 200",
        "fox@best": "no checkpoint of fox was evaluated: use fox@latest",
        "fox@\x1bnext": "invalid checkpoint fox@\u241bnext: expected fox@STEP, fox@best or fox@latest",
        "fox@": "invalid checkpoint fox@: expected fox@STEP, fox@best or fox@latest",
        "fox@-100": "invalid checkpoint fox@-100: expected fox@STEP, fox@best or fox@latest",
        "@100": "there is no run without a name: names consist of a-z 0-9 . _ -; storyteller ps lists the runs",
    }
    for reference, line in cases.items():
        with pytest.raises(RunError) as caught:
            find_checkpoint(root, reference)
        assert str(caught.value) == line


def test_a_checkpoint_that_is_a_link_out_of_the_root_is_refused(root: Path) -> None:
    folder = make(root, "fox")
    save(folder, 100)
    (root.parent / "outside").mkdir()
    folder.checkpoint(200).symlink_to(root.parent / "outside")
    with pytest.raises(RunError, match="leads out of the runs folder"):
        find_checkpoint(root, "fox@200")
    assert find_checkpoint(root, "fox") == folder.checkpoint(100)


def test_a_living_run_is_summed_up(root: Path) -> None:
    folder = make(root, "fox", train={"minutes": 5.0})
    with JsonLog(folder.metrics) as log:
        log.append({"step": 90, "tokens": 900, "seconds": 60.0, "eval/bpb": 1.5})
        log.append(
            {
                "step": 100,
                "tokens": 1000,
                "seconds": 75.0,
                "train/loss": 2.5,
                "train/tokens_per_second": 20000.0,
                "time/eta_seconds": 225.0,
            }
        )
        log.append({"step": 100, "tokens": 1000, "seconds": 75.0, "eval/loss": 2.25})
    write_status(folder, own_status("waiting", step=104, tokens=1040, message="the Hub is away"))
    assert summarise(folder) == RunSummary(
        name="fox",
        state="waiting",
        preset="quick",
        step=104,
        tokens=1040,
        seconds=75.0,
        train_loss=2.5,
        eval_bpb=1.5,
        tokens_per_second=20000.0,
        eta_seconds=225.0,
        created_at="2025-11-22T10:00:00Z",
        message="the Hub is away",
        progress=0.25,
    )
    assert json.loads(json.dumps(summarise(folder).to_json()))["eta_seconds"] == 225.0


@pytest.mark.parametrize(
    ("logged", "logged_at", "reached"),
    [
        (66, "10:00:05", 66),  # between two heartbeats, in the second of the last one or after it
        (66, "10:00:06", 66),
        (63, "10:00:05", 64),  # the heartbeat of a step that is not logged
        (99, "10:00:04", 64),  # resumed from an earlier step: the line was given up
        (99, None, 64),
    ],
)
def test_of_the_heartbeat_and_the_newest_line_the_one_written_later_says_how_far_a_living_run_is(
    root: Path, logged: int, logged_at: str | None, reached: int
) -> None:
    folder = make(root, "fox", train={"steps": 128})
    stamp = {} if logged_at is None else {"time": f"2025-11-22T{logged_at}Z"}
    with JsonLog(folder.metrics) as log:
        log.append({"step": logged, "tokens": 10 * logged, "seconds": 75.0, **stamp})
    beat = replace(own_status("running", step=64, tokens=640), heartbeat_at="2025-11-22T10:00:05Z")
    write_status(folder, beat)
    summary = summarise(folder)
    assert (summary.step, summary.tokens, summary.progress) == (reached, 10 * reached, reached / 128)


def test_of_a_run_that_died_the_log_knows_more_than_the_last_heartbeat(root: Path) -> None:
    folder = make(root, "fox", train={"steps": 400})
    write_status(folder, Status("running", 2**22 + 1, 1.0, step=90, tokens=900))
    with JsonLog(folder.metrics) as log:
        log.append({"step": 100, "tokens": 1000, "seconds": 75.0, "time/eta_seconds": 225.0})
    summary = summarise(folder)
    assert (summary.state, summary.step, summary.tokens) == ("died", 100, 1000)
    assert (summary.eta_seconds, summary.progress) == (None, 0.25)


@pytest.mark.parametrize(
    ("budget", "progress"),
    [
        ({"steps": 200}, 0.5),
        ({"tokens": 4000}, 0.25),
        ({"minutes": 1.0}, 1.0),
        ({"epochs": 3.0}, 0.75),
        ({"steps": 10**400}, 0.75),
        ({}, 0.75),
    ],
)
def test_progress_is_the_share_of_whichever_budget_there_is(
    root: Path, budget: dict[str, Any], progress: float
) -> None:
    folder = make(root, "fox", train=budget)
    write_status(folder, own_status("running", step=100, tokens=1000))
    with JsonLog(folder.metrics) as log:
        log.append({"step": 100, "tokens": 1000, "seconds": 75.0, "time/eta_seconds": 25.0})
    assert summarise(folder).progress == progress


def test_a_finished_run_is_done(root: Path) -> None:
    folder = make(root, "fox", train={"steps": 400})
    write_status(folder, Status("finished", 1, 1.0, step=399, tokens=7, exit_code=0))
    summary = summarise(folder)
    assert (summary.state, summary.step, summary.tokens, summary.progress) == ("finished", 399, 7, 1.0)


def test_a_run_of_which_nothing_is_known_is_summed_up_all_the_same(root: Path) -> None:
    folder = make(root, "fox")
    folder.run_json.write_text("{")
    folder.metrics.write_bytes(b'{"step": "x", "seconds": 1e999}\n{"train/loss": "much"}\nnothing\n')
    assert summarise(folder) == RunSummary("fox", "died", *[None] * 11)


def test_a_folder_of_runs_that_cannot_be_read_has_none_and_whoever_names_one_is_told_why(root: Path) -> None:
    check_readable(root)  # there is none yet
    make(root, "fox")
    check_readable(root)
    shut = root.parent / "shut"
    shut.symlink_to(shut)
    assert list_runs(shut) == [] and not any_trains(shut)
    for ask in (lambda: check_readable(shut), lambda: find_run(shut, "fox"), lambda: RunWatcher(shut).poll()):
        with pytest.raises(RunError, match=r"the runs in .*shut cannot be read \(Too many levels of symbolic links\)"):
            ask()

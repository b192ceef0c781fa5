"""The list of runs that is looked at again and again: as true as a fresh look, and cheap."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storyteller.system.files import open_regular
from storyteller.tracking import run_folder, run_watcher
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import list_runs, summarise
from storyteller.tracking.run_status import owned_by, write_status
from storyteller.tracking.run_watcher import RunWatcher


def make(root: Path, name: str, minute: int = 0) -> RunFolder:
    folder = run_folder.create(root, name)
    folder.write_run({"name": name, "created_at": f"2025-11-22T10:{minute:02}:00Z", "config": {"preset": "quick"}})
    return folder


def log(folder: RunFolder, *records: dict[str, Any]) -> None:
    with JsonLog(folder.metrics) as metrics:
        for record in records:
            metrics.append(record)


def test_a_look_is_what_a_fresh_summary_of_each_run_is(tmp_path: Path) -> None:
    runs = RunWatcher(tmp_path)
    assert runs.poll() == []
    for n, name in enumerate(("fox", "owl", "bear")):
        log(make(tmp_path, name, n), {"step": 10, "tokens": 20, "train/loss": 3.5 + n, "eval/bpb": 1.5})
    for _ in range(3):
        looked = runs.poll()
        assert looked == [summarise(folder) for folder in list_runs(tmp_path)]
        assert [summary.name for summary in looked] == ["bear", "owl", "fox"]
        log(RunFolder(tmp_path / "owl"), {"step": looked[1].step + 10 if looked[1].step else 0, "train/loss": 2.5})
    shutil.rmtree(tmp_path / "owl")
    (tmp_path / "fox").rename(tmp_path / "vixen")
    assert [summary.name for summary in runs.poll()] == ["bear", "vixen"]


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [make(tmp_path, f"run-{n}", n) for n in range(5)]
    for folder in folders:
        log(folder, {"step": 1, "train/loss": 2.0})
    runs = RunWatcher(tmp_path)
    runs.poll()
    read: list[str] = []

    def counted(path: Path) -> Any:
        read.append(path.parent.name)
        return open_regular(path)

    def searched(folder: RunFolder) -> Any:
        raise AssertionError(f"the log of {folder.name} is searched again")

    monkeypatch.setattr(run_watcher, "open_regular", counted)
    monkeypatch.setattr(run_watcher, "newest_figures", searched)
    runs.poll()
    assert read == []
    log(folders[3], {"step": 2, "train/loss": 1.5})
    assert runs.poll()[1].train_loss == 1.5
    assert read == ["run-3"]


def test_a_figure_that_is_not_logged_again_is_remembered_and_one_that_was_given_up_is_not(tmp_path: Path) -> None:
    folder = make(tmp_path, "fox")
    log(folder, {"step": 100, "eval/bpb": 1.5}, {"step": 200, "eval/bpb": 1.25}, {"step": 210, "train/loss": 2.0})
    runs = RunWatcher(tmp_path)
    assert runs.poll()[0].eval_bpb == 1.25
    log(folder, {"step": 220, "train/loss": 1.75, "pad": "x" * 200_000})
    assert (runs.poll()[0].eval_bpb, runs.poll()[0].train_loss) == (1.25, 1.75)
    log(folder, {"step": 110, "train/loss": 2.25})  # resumed from step 100
    assert (runs.poll()[0].eval_bpb, runs.poll()[0].train_loss) == (1.5, 2.25)
    assert runs.poll() == [summarise(folder)]


def test_a_log_that_was_begun_anew_is_read_anew(tmp_path: Path) -> None:
    folder = make(tmp_path, "fox")
    log(folder, {"step": 100, "eval/bpb": 1.5}, {"step": 110, "train/loss": 2.0})
    runs = RunWatcher(tmp_path)
    runs.poll()
    folder.metrics.write_text('{"step": 1, "train/loss": 9.0}\n')
    assert (runs.poll()[0].eval_bpb, runs.poll()[0].train_loss, runs.poll()[0].step) == (None, 9.0, 1)
    folder.metrics.unlink()
    assert runs.poll()[0].train_loss is None


def test_a_run_whose_process_is_killed_is_seen_to_have_died_though_no_file_changed(tmp_path: Path) -> None:
    folder = make(tmp_path, "fox")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        write_status(folder, owned_by("running", process.pid))
        runs = RunWatcher(tmp_path)
        assert [runs.poll()[0].state for _ in range(2)] == ["running", "running"]
    finally:
        process.kill()
        process.wait()
    assert runs.poll()[0].state == "died"


def test_a_spark_is_the_loss_from_the_beginning_to_now(tmp_path: Path) -> None:
    folder = make(tmp_path, "fox")
    log(folder, *({"step": n, "train/loss": 1000.0 - n} for n in range(1000)))
    runs = RunWatcher(tmp_path)
    assert runs.loss_sparkline("fox") == []
    runs.poll()
    spark = runs.loss_sparkline("fox")
    assert len(spark) == 24
    assert spark == sorted(spark, reverse=True)
    assert spark[0] > 950
    assert spark[-1] == 1.0
    assert runs.loss_sparkline("fox", points=1) == [1.0]
    assert runs.loss_sparkline("owl") == []
    log(folder, {"step": 1000, "train/loss": 0.5})
    runs.poll()
    assert runs.loss_sparkline("fox") == [*spark[:-1], 0.5]
    log(folder, *({"step": n, "train/loss": 0.25} for n in range(1001, 4000)))
    runs.poll()
    assert runs.loss_sparkline("fox")[8:] == pytest.approx([0.25] * 16)


def test_a_spark_shows_one_course_and_no_broken_figure(tmp_path: Path) -> None:
    folder = make(tmp_path, "fox")
    lines = [{"step": n, "train/loss": 5.0} for n in range(10)] + [{"step": n, "train/loss": 1e308} for n in range(4)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    folder.metrics.write_text(text + '{"step": 4, "train/loss": 1e400}\nbroken\n{"step": 5, "train/loss": "much"}\n')
    runs = RunWatcher(tmp_path)
    runs.poll()
    assert runs.loss_sparkline("fox") == [1e308] * 4


def test_what_is_no_run_is_not_listed_and_a_broken_one_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "no-run").mkdir()
    folder = make(tmp_path, "fox")
    folder.run_json.write_text("{")
    folder.status_json.write_text("[1]")
    folder.metrics.mkdir()
    runs = RunWatcher(tmp_path)
    for _ in range(2):
        assert [(summary.name, summary.state, summary.step) for summary in runs.poll()] == [("fox", "died", None)]
    assert runs.loss_sparkline("fox") == []

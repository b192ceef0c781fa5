"""Whole runs with the cache: the losses are those of runs without, also across a resume with it and one without."""

from __future__ import annotations

from pathlib import Path

import pytest

from storyteller.data import disk_cache
from storyteller.tracking.run_folder import RunFolder
from storyteller.training import worker
from tests.support.training import losses, trained_run

pytestmark = pytest.mark.slow


def log(folder: RunFolder) -> str:
    return folder.log.read_text(encoding="utf-8")


def kinds() -> set[str]:
    """The kinds of entries in the cache."""
    return {path.name.rpartition("-")[0] for path in disk_cache.cache_folder().iterdir()}


def test_a_run_that_fills_the_cache_and_one_that_reads_it_learn_what_one_without_learns(tmp_path: Path) -> None:
    plain = trained_run(tmp_path, "plain")
    assert not disk_cache.cache_folder().exists()
    filling = trained_run(tmp_path, "filling", data_cache_gib=1.0)
    assert kinds() == {"held-out", "tokenizer"}
    reading = trained_run(tmp_path, "reading", data_cache_gib=1.0)
    assert losses(filling) == losses(reading) == losses(plain)
    assert len(losses(plain)) == 6
    assert filling.held_out.read_bytes() == reading.held_out.read_bytes() == plain.held_out.read_bytes()
    made = {(run.tokenizer / "tokenizer.json").read_bytes() for run in (plain, filling, reading)}
    assert len(made) == 1
    assert "trained in" in log(filling)
    assert "400 entries, from the cache" in log(reading)


def test_a_run_goes_on_with_the_cache_where_it_began_without_and_the_other_way_round(tmp_path: Path) -> None:
    # A budget decides the rate's course, so it is to have none: this one is raised on the way.
    steady = {"train_decay": "constant", "train_warmup_pct": 0.0}
    whole = trained_run(tmp_path, "whole", train_steps=60, **steady)
    for first, then in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        run = trained_run(tmp_path, f"cut-{first:.0f}-{then:.0f}", train_steps=25, data_cache_gib=first, **steady)
        plan = run.read_run()
        plan["config"]["train"]["steps"], plan["config"]["data"]["cache_gib"] = 60, then
        run.write_run(plan)
        assert worker.run(run) == 0, log(run)
        assert losses(run) == losses(whole)

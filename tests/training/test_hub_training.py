"""Training on TinyStories from a Hub that speaks HTTP on the loopback, through the commands, as a user would."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from storyteller.data import bundled
from tests.cli.test_train import TINY, run_of, storyteller
from tests.support.hub_loopback import MAIN_SHA, LoopbackHub
from tests.support.records import read_records
from tests.support.training import losses

HUB = ["--data", "tinystories", *TINY[2:], "--set", "tokenizer_mib=1", "--set", "hub_patience_minutes=0.05"]


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    """A Hub's folder with a small `roneneldan/TinyStories`: two parquet files of several row groups."""
    folder = tmp_path / "hub" / "datasets" / "roneneldan" / "TinyStories" / "data"
    folder.mkdir(parents=True)
    for n in range(2):
        stories = [bundled.story(i) for i in range(600 * n, 600 * (n + 1))]
        path = folder / f"train-0000{n}-of-00002.parquet"
        parquet.write_table(pyarrow.table({"text": stories}), path, row_group_size=150)
    return tmp_path / "hub"


@pytest.mark.slow
def test_tinystories_trains_from_the_hub_and_resumes_exactly(hub_root: Path) -> None:
    with LoopbackHub(hub_root) as hub:
        env = os.environ | {"HF_ENDPOINT": hub.url}
        whole = storyteller("train", "--foreground", "--name", "whole", "--steps", "8", *HUB, env=env)
        assert whole.returncode == 0, whole.stderr
        assert f"roneneldan/TinyStories from the Hub, at commit {MAIN_SHA}" in whole.stdout
        cut = ["--foreground", "--name", "cut", "--steps", "8", "--set", "checkpoint_every=5", "--set", "keep=9"]
        assert storyteller("train", *cut, *HUB, env=env).returncode == 0
        again = storyteller("resume", "cut", "--from", "5", "--foreground", env=env)
        assert again.returncode == 0, again.stderr
    run = run_of("whole").read_run()
    assert (run["data"]["kind"], run["data"]["revision"]) == ("tinystories", MAIN_SHA)
    assert losses(run_of("cut")) == losses(run_of("whole"))
    steps = [r["step"] for r in read_records(run_of("cut").metrics)[0] if "train/loss" in r]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]


@pytest.mark.slow
def test_auto_takes_tinystories_where_the_hub_answers_and_says_so(hub_root: Path) -> None:
    with LoopbackHub(hub_root) as hub:
        env = os.environ | {"HF_ENDPOINT": hub.url}
        words = ["--foreground", "--name", "auto", "--steps", "2", *TINY[2:]]
        done = storyteller("train", *words, env=env)
    assert done.returncode == 0, done.stderr
    assert "data: TinyStories from the Hub" in done.stdout
    assert run_of("auto").read_run()["data"]["kind"] == "tinystories"


def test_auto_without_a_hub_takes_the_bundled_stories_and_says_how_to_choose() -> None:
    done = storyteller("train", "--foreground", "--name", "auto", "--steps", "2", *TINY[2:])
    assert done.returncode == 0, done.stderr
    assert "data: the bundled stories, since the Hub does not answer (--data tinystories insists" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert run_of("auto").read_run()["data"]["kind"] == "bundled"


@pytest.mark.slow
def test_tinystories_by_name_never_falls_back() -> None:
    done = storyteller("train", "--foreground", "--name", "strict", "--steps", "2", *HUB)
    assert done.returncode == 1
    assert "TinyStories cannot be read from the Hub" in done.stderr.splitlines()[-1]
    assert not list(Path("runs").iterdir())

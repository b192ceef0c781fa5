"""Tales told ahead by another process are the tales that the run would have told itself, whatever becomes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from storyteller.config.configs import DataConfig
from storyteller.data.bundled import tale
from storyteller.data.bundled.prefetch import BundledPrefetch
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.sources import BundledSource
from tests.support.living import until
from tests.support.training import make_run, trained_run


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "storyteller.data.bundled" in child.cmdline()]


def test_the_first_tales_come_the_last_of_them_first_and_are_those_of_their_index() -> None:
    told = BundledPrefetch(seed=3, count=40)
    until(lambda: told(0) is not None)
    assert [told(index) for index in range(40)] == [tale(index, 3) for index in range(40)]
    assert told(40) is None
    until(lambda: not children())


def test_held_out_stories_are_the_same_with_and_without_them() -> None:
    alone, helped = BundledSource(), BundledSource()
    helped.ahead = BundledPrefetch(seed=0, count=1500)
    data = DataConfig(source="bundled", valid_pct=1.0)
    assert held_out_stories(helped, data, limit=12) == held_out_stories(alone, data, limit=12)


def test_where_reader_and_teller_meet_the_teller_ends() -> None:
    told = BundledPrefetch(seed=0, count=200_000)
    until(lambda: told._tales)  # the last ones have come
    source = BundledSource()
    source.ahead = told
    at = min(told._tales)
    texts = [text for text, _ in source.read(at // source._per_pass, {"index": at})][:2]
    assert texts == [tale(at), tale(at + 1)]
    assert not children()


def test_a_teller_that_is_killed_leaves_the_rest_to_the_reader() -> None:
    told = BundledPrefetch(seed=0, count=300)
    (child,) = children()
    until(lambda: told._tales)
    os.kill(child.pid, signal.SIGKILL)
    source = BundledSource()
    source.ahead = told
    stories = source.read(0, None)
    assert [next(stories)[0] for _ in range(300)] == [tale(index) for index in range(300)]


def test_a_process_that_cannot_be_started_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert BundledPrefetch(seed=0, count=10)(0) is None


def test_a_teller_whose_reader_is_gone_ends_by_itself() -> None:
    words = [sys.executable, "-m", "storyteller.data.bundled", "0", "1000000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == tale(999_999)
    process.stdout.close()
    assert process.wait(20) == -signal.SIGPIPE


@pytest.mark.parametrize("known", [False, True])
def test_tales_are_told_ahead_only_where_held_out_ones_must_be_looked_for(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def begin(seed: int, count: int) -> BundledPrefetch:
        started.append(count)
        return BundledPrefetch(seed, count)

    if known:
        trained_run(tmp_path / "runs", "before", data_cache_gib=1.0, train_eval_stories=20)
    monkeypatch.setattr("storyteller.training.build_trainer.TalesAhead", begin)
    monkeypatch.setattr("storyteller.training.build_trainer.n_cores", lambda: 2)
    trained_run(tmp_path / "runs", "fox", data_cache_gib=1.0, train_eval_stories=20)
    assert started == ([] if known else [2000])
    until(lambda: not children())


def test_they_are_begun_before_torch_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from storyteller.training import build_trainer, worker\n"
        "from storyteller.tracking.run_folder import RunFolder\n"
        "build_trainer._begin_tales = lambda *_: print('torch' in sys.modules)\n"
        "raise SystemExit(worker.run(RunFolder(Path(sys.argv[1]))))"
    )
    folder = make_run(tmp_path, "fox", train_steps=1)
    done = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]

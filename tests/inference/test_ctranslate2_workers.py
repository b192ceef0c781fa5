"""int8 stories from a worker pool: each seed gives its story, whatever was generated before, at once or in part."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from storyteller.config.configs import SamplingParams
from storyteller.inference import ctranslate2_backend
from storyteller.inference.engine import open_model
from storyteller.system.cpu_priority import THROTTLE
from tests.support import tiny_models

CONTEXT = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = tiny_models.random_weights(width=32, layers=2, context=CONTEXT, seed=5)
    settings = tiny_models.config(32, 2, 4, CONTEXT, eos_token_id=None, bos_token_id=None)
    return tiny_models.write_folder(tmp_path_factory.mktemp("pool") / "model", weights, settings)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The workers of each generator that is loaded from here on."""
    found: list[int] = []
    load = ctranslate2_backend.CTranslate2Backend._load

    def counted(
        backend: ctranslate2_backend.CTranslate2Backend, threads: int, workers: int
    ) -> ctranslate2_backend._Loading:
        found.append(workers)
        return load(backend, threads, workers)

    monkeypatch.setattr(ctranslate2_backend.CTranslate2Backend, "_load", counted)
    monkeypatch.setattr("storyteller.system.hardware.n_cores", lambda: 2)
    return found


def sample(seed: int, tokens: int = 30) -> SamplingParams:
    return SamplingParams(seed=seed, max_tokens=tokens, temperature=1.0)


def alone(folder: Path, wanted: SamplingParams) -> str:
    with open_model(str(folder), compute_type="int8") as engine:
        return engine.batch(["Once"], wanted)[0].text


def test_eight_stories_are_told_for_each_loading_of_the_weights(folder: Path, loaded: list[int]) -> None:
    with open_model(str(folder), compute_type="int8") as engine:
        stories = [engine.batch(["Once"], sample(seed))[0].text for seed in range(17)]
    assert loaded == [8, 8, 8]
    assert len(set(stories)) == 17
    assert [stories[seed] for seed in (0, 7, 8, 16)] == [alone(folder, sample(seed)) for seed in (0, 7, 8, 16)]


def test_a_story_that_was_given_up_takes_nothing_from_the_next(folder: Path) -> None:
    whole = alone(folder, sample(2))
    with open_model(str(folder), compute_type="int8") as engine:
        for seed in (1, 2, 1, 2):
            with closing(engine.stream("Once", sample(seed, 60))) as telling:
                next(telling)
            assert engine.batch(["Once"], sample(2))[0].text == whole


@pytest.mark.parametrize("compute_type", ["fp32", "int8"])
def test_a_story_that_rests_on_the_way_is_the_same(
    folder: Path, compute_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_model(str(folder), compute_type=compute_type) as engine:
        quick = engine.batch(["Once"], sample(2))[0]
        monkeypatch.setattr(THROTTLE, "rest_seconds", 0.02)
        slow = engine.batch(["Once"], sample(2))[0]
    assert slow.text == quick.text
    assert slow.seconds >= 29 * 0.02 > quick.seconds


def test_stories_side_by_side_are_those_of_their_seeds(folder: Path) -> None:
    wanted = {seed: alone(folder, sample(seed)) for seed in (1, 2, 3)}
    with open_model(str(folder), compute_type="int8") as engine:
        for _ in range(4):
            told: dict[int, str] = {}

            def tell(seed: int, told: dict[int, str] = told) -> None:
                told[seed] = "".join(engine.stream("Once", sample(seed)))

            threads = [threading.Thread(target=tell, args=(seed,)) for seed in wanted]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert told == wanted


def test_a_story_that_outgrows_the_window_is_that_of_its_seed_too(folder: Path) -> None:
    long = sample(4, 3 * CONTEXT)
    first = alone(folder, long)
    assert alone(folder, long) == first != alone(folder, sample(5, 3 * CONTEXT))
    with open_model(str(folder), compute_type="int8") as engine:
        engine.batch(["Once"], sample(1))
        assert engine.batch(["Once"], long)[0].text == first


def test_a_batch_and_a_greedy_story_go_between_the_stories_of_a_pool(folder: Path) -> None:
    wanted = alone(folder, sample(3))
    with open_model(str(folder), compute_type="int8") as engine:
        batches, greedy = [], []
        for _ in range(3):
            assert engine.batch(["Once"], sample(3))[0].text == wanted
            batches.append([story.text for story in engine.batch(["Once"] * 20, sample(3))])
            greedy.append(engine.batch(["Once"], SamplingParams(temperature=0, max_tokens=20))[0].text)
    assert batches[0] == batches[1] == batches[2]
    assert greedy[0] == greedy[1] == greedy[2]


def test_a_process_ends_in_order_that_closes_nothing(folder: Path) -> None:
    code = f"""
from storyteller.config.configs import SamplingParams
from storyteller.inference.engine import open_model
engine = open_model({str(folder)!r}, compute_type="int8")
for seed in range(4):
    telling = engine.stream("Once", SamplingParams(seed=seed, max_tokens=20))
    next(telling) if seed % 2 else list(telling)
kept = engine.stream("Once", SamplingParams(seed=9, max_tokens=60))
print(len(next(kept)) > 0)
"""
    for _ in range(4):  # who is first at the end, Python or a worker, is a matter of moments
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize(("compute_type", "given", "taken"), [("fp32", "", "0"), ("int8", "", "-"), ("fp32", "1", "1")])
def test_fp32_leaves_mkl_out_unless_its_user_says_otherwise(
    folder: Path, compute_type: str, given: str, taken: str
) -> None:
    code = f"""
import os
from storyteller.inference.engine import open_model
open_model({str(folder)!r}, compute_type={compute_type!r}).close()
print(os.environ.get("CT2_USE_MKL", "-"))
"""
    env = {name: value for name, value in os.environ.items() if name != "CT2_USE_MKL"} | (
        {"CT2_USE_MKL": given} if given else {}
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=env)
    assert done.stdout == f"{taken}\n"

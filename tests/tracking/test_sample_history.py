"""The stories of a run by prompt and step: as they are logged, within bounds, and generated afterwards."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.config.configs import PROMPTS
from storyteller.inference.engine import open_model
from storyteller.tracking.metrics_log import JsonLog
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import LONGEST_CHARS, SampleHistory, SampleRecord, sampling_params
from tests.support.training import tiny_config, trained_run

FOX = "The fox"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    return run


def log_samples(folder: RunFolder, *steps: int, prompt: str = FOX, text: str | None = None, **more: Any) -> None:
    with JsonLog(folder.samples) as log:
        for step in steps:
            log.append({"step": step, "prompt": prompt, "text": text or f" at {step}", "seed": 42, **more})


def read(folder: RunFolder, **options: Any) -> SampleHistory:
    history = SampleHistory(folder, **options)
    history.catch_up()
    return history


def test_stories_are_found_by_prompt_and_step(folder: RunFolder) -> None:
    log_samples(folder, 0, 60)
    log_samples(folder, 60, prompt=PROMPTS[1], finished=False)
    history = read(folder)
    assert history.prompts == (PROMPTS[1], FOX)
    assert history.steps(FOX) == (0, 60)
    assert history.at(FOX, 60) == SampleRecord(60, FOX, " at 60", 42)
    assert history.at(PROMPTS[1], 60) == SampleRecord(60, PROMPTS[1], " at 60", 42, finished=False)
    assert history.at(FOX, 30) is None
    assert history.at("never", 0) is None


def test_a_story_told_meanwhile_is_read_and_nothing_is_read_twice(folder: RunFolder) -> None:
    log_samples(folder, 0)
    history = read(folder)
    assert not history.catch_up()
    log_samples(folder, 60)
    assert history.catch_up()
    assert history.steps(FOX) == (0, 60)


def test_a_resume_from_an_earlier_step_gives_up_what_came_after_it(folder: RunFolder) -> None:
    log_samples(folder, 0, 60, 120, 180)
    log_samples(folder, 100, text=" again")
    history = read(folder)
    assert history.steps(FOX) == (0, 60, 100)
    sample = history.at(FOX, 100)
    assert sample is not None and sample.text == " again"


def test_a_story_told_afterwards_stands_among_the_others(folder: RunFolder) -> None:
    log_samples(folder, 0, 120)
    history = read(folder)
    history.add(SampleRecord(60, FOX, " later", 42, later=True))
    assert history.steps(FOX) == (0, 60, 120)
    log_samples(folder, 30)  # resumed: the checkpoint of step 60 is of the course that was given up
    history.catch_up()
    assert history.steps(FOX) == (0, 30)


def test_the_stories_of_a_folder_that_was_removed_are_kept(folder: RunFolder) -> None:
    log_samples(folder, 0, 60)
    history = read(folder)
    shutil.rmtree(folder.path)
    assert not history.catch_up()
    assert history.steps(FOX) == (0, 60)
    folder.path.mkdir()
    log_samples(folder, 0, text=" anew")
    assert history.catch_up()
    assert history.steps(FOX) == (0,)


def test_a_file_begun_anew_takes_the_place_of_the_one_before(folder: RunFolder) -> None:
    log_samples(folder, 10, 60)
    history = read(folder)
    folder.samples.write_bytes(b"")
    log_samples(folder, 70, text="")
    history.catch_up()
    assert history.steps(FOX) == (70,)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[1]",
        b'{"step": true, "prompt": "a", "text": "b"}',
        b'{"step": -1, "prompt": "a", "text": "b"}',
        b'{"step": 1e9, "prompt": "a", "text": "b"}',
        b'{"step": 1%s, "prompt": "a", "text": "b"}' % (b"0" * 400),
        b'{"step": 1, "prompt": null, "text": "b"}',
        b'{"step": 1, "prompt": "a", "text": ["b"]}',
        b"\xff\xfe\x00",
    ],
)
def test_a_line_that_is_no_story_is_passed_over(folder: RunFolder, line: bytes) -> None:
    folder.samples.write_bytes(line + b"\n")
    log_samples(folder, 5)
    history = read(folder)
    assert history.prompts == (FOX,)
    assert history.steps(FOX) == (5,)


@given(st.lists(st.fixed_dictionaries({"step": st.integers(), "prompt": st.text(), "text": st.text()})))
def test_the_steps_are_ascending_and_each_has_its_story_whatever_is_read(records: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        folder.samples.write_text("".join(json.dumps(record) + "\n" for record in records))
        history = read(folder, most_chars=2000)
        for prompt in history.prompts:
            steps = history.steps(prompt)
            assert list(steps) == sorted(set(steps))
            assert all(history.at(prompt, step) is not None for step in steps)


def test_of_too_many_stories_the_first_the_newest_and_some_between_are_kept(folder: RunFolder) -> None:
    log_samples(folder, *range(1000), text="x" * 100)
    history = read(folder, most_chars=20_000)
    steps = history.steps(FOX)
    assert steps[0] == 0
    assert steps[-1] == 999
    assert 20 < len(steps) < 100
    assert max(b - a for a, b in itertools.pairwise(steps)) < 100


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(folder: RunFolder) -> None:
    os.mkfifo(folder.samples)
    assert read(folder).prompts == ()


def test_a_story_of_megabytes_is_cut(folder: RunFolder) -> None:
    log_samples(folder, 0, text="x" * 10_000_000)
    sample = read(folder).at(FOX, 0)
    assert sample is not None and len(sample.text) == LONGEST_CHARS


@pytest.mark.slow
def test_a_story_told_afterwards_is_the_one_that_training_told(tmp_path: Path) -> None:
    folder = trained_run(tmp_path / "runs", "small", train_steps=4)
    history = read(folder)
    with open_model("small@4", tmp_path / "runs", threads=1) as engine:
        [story] = engine.batch([PROMPTS[0]], sampling_params(tiny_config(train_steps=4)))
    sample = history.at(PROMPTS[0], 4)
    assert sample is not None
    assert (story.text, story.seed) == (sample.text, sample.seed)

"""How a run learned to speak: stories by prompt and step, within bounds, told later as they would have been."""

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


def tell(folder: RunFolder, *steps: int, prompt: str = FOX, text: str | None = None, **more: Any) -> None:
    with JsonLog(folder.samples) as log:
        for step in steps:
            log.append({"step": step, "prompt": prompt, "text": text or f" at {step}", "seed": 42, **more})


def read(folder: RunFolder, **options: Any) -> SampleHistory:
    growth = SampleHistory(folder, **options)
    growth.catch_up()
    return growth


def test_stories_are_found_by_prompt_and_step(folder: RunFolder) -> None:
    tell(folder, 0, 60)
    tell(folder, 60, prompt=PROMPTS[1], finished=False)
    growth = read(folder)
    assert growth.prompts == (PROMPTS[1], FOX)
    assert growth.steps(FOX) == (0, 60)
    assert growth.at(FOX, 60) == SampleRecord(60, FOX, " at 60", 42)
    assert growth.at(PROMPTS[1], 60) == SampleRecord(60, PROMPTS[1], " at 60", 42, finished=False)
    assert growth.at(FOX, 30) is None
    assert growth.at("never", 0) is None


def test_a_story_told_meanwhile_is_read_and_nothing_is_read_twice(folder: RunFolder) -> None:
    tell(folder, 0)
    growth = read(folder)
    assert not growth.catch_up()
    tell(folder, 60)
    assert growth.catch_up()
    assert growth.steps(FOX) == (0, 60)


def test_a_resume_from_an_earlier_step_gives_up_what_came_after_it(folder: RunFolder) -> None:
    tell(folder, 0, 60, 120, 180)
    tell(folder, 100, text=" again")
    growth = read(folder)
    assert growth.steps(FOX) == (0, 60, 100)
    told = growth.at(FOX, 100)
    assert told is not None and told.text == " again"


def test_a_story_told_afterwards_stands_among_the_others(folder: RunFolder) -> None:
    tell(folder, 0, 120)
    growth = read(folder)
    growth.add(SampleRecord(60, FOX, " later", 42, later=True))
    assert growth.steps(FOX) == (0, 60, 120)
    tell(folder, 30)  # resumed: the checkpoint of step 60 is of the course that was given up
    growth.catch_up()
    assert growth.steps(FOX) == (0, 30)


def test_the_stories_of_a_folder_that_was_removed_are_kept(folder: RunFolder) -> None:
    tell(folder, 0, 60)
    growth = read(folder)
    shutil.rmtree(folder.path)
    assert not growth.catch_up()
    assert growth.steps(FOX) == (0, 60)
    folder.path.mkdir()
    tell(folder, 0, text=" anew")
    assert growth.catch_up()
    assert growth.steps(FOX) == (0,)


def test_a_file_begun_anew_takes_the_place_of_the_one_before(folder: RunFolder) -> None:
    tell(folder, 10, 60)
    growth = read(folder)
    folder.samples.write_bytes(b"")
    tell(folder, 70, text="")
    growth.catch_up()
    assert growth.steps(FOX) == (70,)


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
    tell(folder, 5)
    growth = read(folder)
    assert growth.prompts == (FOX,)
    assert growth.steps(FOX) == (5,)


@given(st.lists(st.fixed_dictionaries({"step": st.integers(), "prompt": st.text(), "text": st.text()})))
def test_the_steps_are_ascending_and_each_has_its_story_whatever_is_read(records: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        folder = RunFolder(Path(temporary))
        folder.samples.write_text("".join(json.dumps(record) + "\n" for record in records))
        growth = read(folder, most_chars=2000)
        for prompt in growth.prompts:
            steps = growth.steps(prompt)
            assert list(steps) == sorted(set(steps))
            assert all(growth.at(prompt, step) is not None for step in steps)


def test_of_too_many_stories_the_first_the_newest_and_some_between_are_kept(folder: RunFolder) -> None:
    tell(folder, *range(1000), text="x" * 100)
    growth = read(folder, most_chars=20_000)
    steps = growth.steps(FOX)
    assert steps[0] == 0
    assert steps[-1] == 999
    assert 20 < len(steps) < 100
    assert max(b - a for a, b in itertools.pairwise(steps)) < 100


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(folder: RunFolder) -> None:
    os.mkfifo(folder.samples)
    assert read(folder).prompts == ()


def test_a_story_of_megabytes_is_cut(folder: RunFolder) -> None:
    tell(folder, 0, text="x" * 10_000_000)
    told = read(folder).at(FOX, 0)
    assert told is not None and len(told.text) == LONGEST_CHARS


@pytest.mark.slow
def test_a_story_told_afterwards_is_the_one_that_training_told(tmp_path: Path) -> None:
    folder = trained_run(tmp_path / "runs", "small", train_steps=4)
    growth = read(folder)
    with open_model("small@4", tmp_path / "runs", threads=1) as engine:
        [story] = engine.batch([PROMPTS[0]], sampling_params(tiny_config(train_steps=4)))
    told = growth.at(PROMPTS[0], 4)
    assert told is not None
    assert (story.text, story.seed) == (told.text, told.seed)

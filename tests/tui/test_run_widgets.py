"""What the Run view is made of: the log's tail, where steps lie on an axis, facts of a plan, stories told later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, ModelOpened, Note, TextPiece
from storyteller.tracking.log_file import FileTail
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.sample_history import SampleHistory, SampleRecord
from storyteller.tui.checkpoint_stories import CheckpointStories
from storyteller.tui.readers.run_reader import StepAxis, safe_log_lines
from storyteller.tui.widgets.key_values import KeyValue, flatten, sections_of
from storyteller.tui.widgets.step_slider import step_after

# --- the log ----------------------------------------------------------------------------------------------------------


def test_lines_of_the_log_are_safe_and_none_is_endless(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[31m\xff\r\n" + b"x" * 100_000 + b"\n")
    lines = safe_log_lines(FileTail(path).read().lines)
    assert lines[0] == "\u241b[31m\ufffd\u240d"
    assert (len(lines[1]), lines[1][-1]) == (2000, "\u2026")


# --- axes and steps ---------------------------------------------------------------------------------------------------


def test_places_on_an_axis_and_steps_are_found_from_each_other() -> None:
    axis = StepAxis((0, 10, 20), (0, 100, 400))
    assert [axis.place_of(step) for step in (-5, 0, 5, 10, 15, 30)] == [0, 0, 50, 100, 250, 400]
    assert [axis.step_at(place) for place in (0, 50, 250, 999)] == [0, 5, 15, 20]
    assert (StepAxis().place_of(7), StepAxis().step_at(7)) == (7, 7)


@pytest.mark.parametrize(
    ("here", "by", "found"),
    [(10, 1, 20), (10, -1, 10), (30, 1, 30), (15, 1, 20), (15, -1, 10), (None, -1, 30), (99, -1, 30), (20, 9, 30)],
)
def test_the_step_beside_another(here: int | None, by: int, found: int) -> None:
    assert step_after((10, 20, 30), here, by) == found
    assert step_after((), here, by) is None


# --- facts ------------------------------------------------------------------------------------------------------------


def test_a_plan_is_flattened_to_names_and_words() -> None:
    plan: dict[str, Any] = {
        "model": {"n_layer": 4, "dropout": 0.0},
        "valid": [],
        "source": ["a", "b"],
        "steps": None,
        "on": True,
        "parameters": 4273664,
        "odd": [{"x": 1}],
        "empty": {},
    }
    assert list(flatten(plan)) == [
        KeyValue("model.n_layer", "4"),
        KeyValue("model.dropout", "0.0"),
        KeyValue("valid", "none"),
        KeyValue("source", "a, b"),
        KeyValue("steps", "none"),
        KeyValue("on", "yes"),
        KeyValue("parameters", "4,273,664"),
        KeyValue("odd", '[{"x": 1}]'),
        KeyValue("empty", "{}"),
    ]


def test_what_of_a_plan_is_no_setting_comes_in_sections_the_plain_values_first() -> None:
    plan = {"schema": 1, "host": {"cores": 2}, "config": {"preset": "quick"}, "name": "fox"}
    assert sections_of(plan) == [("run", {"name": "fox"}), ("host", {"cores": 2})]


# --- stories told later -----------------------------------------------------------------------------------------------


class Bench:
    """A generation client that is played by the test."""

    def __init__(self, folder: RunFolder) -> None:
        self.asked: list[tuple[str, str, int | None]] = []
        self.history = SampleHistory(folder)
        self.stories = CheckpointStories("fox", self.history, self.begin)
        self.stories.set_params(SamplingParams(seed=42))

    def begin(self, model: str, prompt: str, sample: SamplingParams) -> int:
        self.asked.append((model, prompt, sample.seed))
        return len(self.asked)

    def hear(self, *events: Event) -> None:
        for event in events:
            assert self.stories.handle(event)


def test_missing_stories_are_told_one_after_another_with_the_same_seed(tmp_path: Path) -> None:
    bench = Bench(RunFolder(tmp_path))
    bench.history.add(SampleRecord(20, "Once", " there"))
    assert bench.stories.request("Once", (10, 20, 30)) == 2
    assert bench.stories.request("Once", (10, 30)) == 0
    assert bench.asked == [("fox@10", "Once", 42)]
    assert bench.stories.status("Once", 10) == "opening the model \u2026"
    assert bench.stories.status("Once", 30) == "queued \u2026"
    bench.hear(ModelOpened(1, "fox@10", 42), Note(1, "slow"))
    assert bench.stories.status("Once", 10) == "slow"
    bench.hear(TextPiece(1, " a", 1), TextPiece(1, " fox", 2))
    assert bench.stories.partial_text("Once", 10) == " a fox"
    bench.hear(Ended(1, " a fox", 2, 0.1, 42, finished=True, stopped=False))
    assert bench.history.at("Once", 10) == SampleRecord(10, "Once", " a fox", 42, finished=True, later=True)
    assert bench.asked[1:] == [("fox@30", "Once", 42)]
    assert not bench.stories.handle(TextPiece(1, "late", 3))
    assert not bench.stories.handle(TextPiece(77, "another's", 3))


def test_a_story_that_fails_says_why_and_the_next_one_is_told(tmp_path: Path) -> None:
    bench = Bench(RunFolder(tmp_path))
    bench.stories.request("Once", (10, 30))
    bench.hear(Failed(1, "fox has no step 10", "it has 30"))
    assert bench.stories.status("Once", 10) == "fox has no step 10: it has 30"
    assert bench.stories.partial_text("Once", 10) is None
    assert bench.stories.current == ("Once", 30)
    assert bench.stories.request("Once", (10,)) == 1  # asked again, it is tried again
    assert bench.stories.status("Once", 10) == "queued \u2026"

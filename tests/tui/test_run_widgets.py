"""The parts of the Run view: log lines, the steps of an axis, the values of a run.json, stories generated later."""

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


def test_steps_and_places_on_an_axis_are_converted_into_each_other() -> None:
    axis = StepAxis((0, 10, 20), (0, 100, 400))
    assert [axis.place_of(step) for step in (-5, 0, 5, 10, 15, 30)] == [0, 0, 50, 100, 250, 400]
    assert [axis.step_at(place) for place in (0, 50, 250, 999)] == [0, 5, 15, 20]
    assert (StepAxis().place_of(7), StepAxis().step_at(7)) == (7, 7)


@pytest.mark.parametrize(
    ("current", "by", "found"),
    [(10, 1, 20), (10, -1, 10), (30, 1, 30), (15, 1, 20), (15, -1, 10), (None, -1, 30), (99, -1, 30), (20, 9, 30)],
)
def test_the_step_a_number_of_places_after_another(current: int | None, by: int, found: int) -> None:
    assert step_after((10, 20, 30), current, by) == found
    assert step_after((), current, by) is None


# --- values -----------------------------------------------------------------------------------------------------------


def test_json_is_flattened_to_names_and_values() -> None:
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


def test_the_sections_of_a_run_json_begin_with_its_plain_values_and_leave_out_the_config() -> None:
    plan = {"schema": 1, "host": {"cores": 2}, "config": {"preset": "quick"}, "name": "fox"}
    assert sections_of(plan) == [("run", {"name": "fox"}), ("host", {"cores": 2})]


# --- stories generated later ------------------------------------------------------------------------------------------


class Bench:
    """Stands in for the generation client: records requests, and passes on the events that a test sends."""

    def __init__(self, folder: RunFolder) -> None:
        self.requested: list[tuple[str, str, int | None]] = []
        self.history = SampleHistory(folder)
        self.stories = CheckpointStories("fox", self.history, self.begin)
        self.stories.sampling = SamplingParams(seed=42)

    def begin(self, model: str, prompt: str, sample: SamplingParams) -> int:
        self.requested.append((model, prompt, sample.seed))
        return len(self.requested)

    def send(self, *events: Event) -> None:
        for event in events:
            assert self.stories.handle(event)


def test_missing_stories_are_generated_one_after_another_with_the_same_seed(tmp_path: Path) -> None:
    bench = Bench(RunFolder(tmp_path))
    bench.history.add(SampleRecord(20, "Once", " there"))
    assert bench.stories.request("Once", (10, 20, 30)) == 2
    assert bench.stories.request("Once", (10, 30)) == 0
    assert bench.requested == [("fox@10", "Once", 42)]
    assert bench.stories.status("Once", 10) == "opening the model \u2026"
    assert bench.stories.status("Once", 30) == "queued \u2026"
    bench.send(ModelOpened(1, "fox@10", 42), Note(1, "slow"))
    assert bench.stories.status("Once", 10) == "slow"
    bench.send(TextPiece(1, " a", 1), TextPiece(1, " fox", 2))
    assert bench.stories.partial_text("Once", 10) == " a fox"
    bench.send(Ended(1, " a fox", 2, 0.1, 42, finished=True, stopped=False))
    assert bench.history.at("Once", 10) == SampleRecord(10, "Once", " a fox", 42, finished=True, later=True)
    assert bench.requested[1:] == [("fox@30", "Once", 42)]
    assert not bench.stories.handle(TextPiece(1, "late", 3))
    assert not bench.stories.handle(TextPiece(77, "another's", 3))


def test_a_failed_story_says_why_and_the_next_one_is_generated(tmp_path: Path) -> None:
    bench = Bench(RunFolder(tmp_path))
    bench.stories.request("Once", (10, 30))
    bench.send(Failed(1, "fox has no step 10", "it has 30"))
    assert bench.stories.status("Once", 10) == "fox has no step 10: it has 30"
    assert bench.stories.partial_text("Once", 10) is None
    assert bench.stories.current == ("Once", 30)
    assert bench.stories.request("Once", (10,)) == 1  # a failed story can be requested again
    assert bench.stories.status("Once", 10) == "queued \u2026"

"""The observer of a run: when it asks for sample stories and cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storyteller.training.observer import RunObserver
from storyteller.training.status_reporter import StatusReporter
from storyteller.training.train_state import TrainState
from tests.support.training import make_run


class Recorder:
    """Records what is submitted, instead of working on it."""

    def __init__(self) -> None:
        self.submitted: list[tuple[int, Any]] = []

    def submit(self, step: int, weights: Any) -> None:
        self.submitted.append((step, weights))

    def take_scores(self) -> list[dict[str, float]]:
        return [{"eval/card_step": step} for step, _ in self.submitted]


def test_a_sample_of_the_untrained_model_is_submitted_once_after_the_first_step_and_others_at_once(
    tmp_path: Path,
) -> None:
    samples = Recorder()
    observer = RunObserver(StatusReporter(make_run(tmp_path, "fox")), samples, None)
    untrained: Any = {"w": 0}
    observer.evaluated(TrainState(), untrained)
    observer.progressed(TrainState(), waiting=True)
    assert samples.submitted == []
    observer.progressed(TrainState(step=1), waiting=False)
    observer.progressed(TrainState(step=2), waiting=False)
    assert samples.submitted == [(0, untrained)]
    observer.evaluated(TrainState(step=2), untrained)
    assert [step for step, _ in samples.submitted] == [0, 2]


def test_cards_are_made_by_the_card_writer_where_there_is_one(tmp_path: Path) -> None:
    reporter, cards = StatusReporter(make_run(tmp_path, "fox")), Recorder()
    observer = RunObserver(reporter, Recorder(), cards)
    observer.card_due(TrainState(step=3), {})
    assert observer.take_scores() == [{"eval/card_step": 3}]
    without = RunObserver(reporter, Recorder(), None)
    without.card_due(TrainState(step=3), {})
    assert without.take_scores() == []

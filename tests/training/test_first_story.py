"""The story of the untrained model is told, and nobody waits for it before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storyteller.training.status_reporter import StatusReporter
from storyteller.training.train_state import TrainState
from tests.support.training import make_run


class Listener:
    """Instead of a narrator: what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Any]] = []

    def ask(self, step: int, weights: Any) -> None:
        self.asked.append((step, weights))


def test_it_is_asked_for_once_after_the_first_step_and_others_at_once(tmp_path: Path) -> None:
    desk = StatusReporter(make_run(tmp_path, "fox"))
    teller = desk.teller = Listener()
    untrained: Any = {"w": 0}
    desk.evaluated(TrainState(), untrained)
    desk.at(TrainState(), waiting=True)
    assert teller.asked == []
    desk.at(TrainState(step=1), waiting=False)
    desk.at(TrainState(step=2), waiting=False)
    assert teller.asked == [(0, untrained)]
    desk.evaluated(TrainState(step=2), untrained)
    assert [step for step, _ in teller.asked] == [0, 2]

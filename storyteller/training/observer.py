"""The callbacks of the training loop, and their implementation for the process that records the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from storyteller.training.train_state import TrainState


class Observer:
    """Callbacks of the training loop, which do nothing here. They must not block: the loop waits for them."""

    def stop_requested(self) -> bool:
        """True if training should finish the step, save, and end."""
        return False

    def progressed(self, state: TrainState, waiting: bool) -> None:
        """The run has come this far; `waiting`: no stories are arriving."""

    def evaluated(self, state: TrainState, weights: dict[str, Tensor]) -> None:
        """An evaluation is done; `weights` are copies under transformers' names."""

    def card_due(self, state: TrainState, weights: dict[str, Tensor]) -> None:
        """A model card is due; `weights` are copies under transformers' names."""

    def take_scores(self) -> list[dict[str, float]]:
        """The scores of cards made since the last call, for the metrics log."""
        return []

    def disk_trouble(self, error: OSError | None) -> None:
        """Metrics or checkpoints cannot be written; None: everything is written."""

    def log(self, line: str) -> None:
        """Add a line to the run's log."""


class WeightsTask(Protocol):
    """Background work on the weights of a step; newer weights replace those that wait."""

    def submit(self, step: int, weights: dict[str, Tensor]) -> None: ...


class CardTask(WeightsTask, Protocol):
    """Background work that makes model cards: `card_writer.CardWriter`."""

    def take_scores(self) -> list[dict[str, float]]: ...


class RunObserver(Observer):
    """The observer in the process that writes the run folder: status, log, sample stories and model cards."""

    def __init__(self, reporter: Observer, samples: WeightsTask, cards: CardTask | None) -> None:
        """`reporter` keeps the status and the log; `cards` is None for a run without model cards."""
        self._reporter = reporter
        self._samples = samples
        self._cards = cards
        self._initial_weights: dict[str, Tensor] | None = None

    def stop_requested(self) -> bool:
        return self._reporter.stop_requested()

    def disk_trouble(self, error: OSError | None) -> None:
        self._reporter.disk_trouble(error)

    def log(self, line: str) -> None:
        self._reporter.log(line)

    def progressed(self, state: TrainState, waiting: bool) -> None:
        self._reporter.progressed(state, waiting)
        if self._initial_weights is not None and state.step:
            self._samples.submit(0, self._initial_weights)
            self._initial_weights = None

    def evaluated(self, state: TrainState, weights: dict[str, Tensor]) -> None:
        # The sample of the untrained model can wait; the first step, which it would slow down, is waited for.
        if state.step == 0:
            self._initial_weights = weights
        else:
            self._samples.submit(state.step, weights)

    def card_due(self, state: TrainState, weights: dict[str, Tensor]) -> None:
        if self._cards is not None:
            self._cards.submit(state.step, weights)

    def take_scores(self) -> list[dict[str, float]]:
        return self._cards.take_scores() if self._cards is not None else []

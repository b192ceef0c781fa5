"""Which model is told from: the one that was named, else the newest run's, else the one that comes with the package."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from storyteller.cli.story_output import warn
from storyteller.errors import StorytellerError
from storyteller.inference.engine import STARTER, Engine, is_run, newest_label, open_model
from storyteller.system import cpu_priority
from storyteller.tracking.run_folder import runs_root
from storyteller.tracking.run_index import any_trains, default_model


class LoadedModel:
    """A model that was opened by its name, and how to name these very weights again."""

    def __init__(
        self, reference: str | None, runs_dir: Path | str | None = None, threads: int = 0, compute_type: str = "fp32"
    ) -> None:
        """Open `reference`; None: the newest run that has a checkpoint, else the starter.

        Raises RunError, CheckpointError, ModelError, HubError or UsageError.
        """
        self.root = runs_root(Path(runs_dir) if runs_dir is not None else None)
        self.threads = threads
        self.compute_type = compute_type
        self.reference = reference if reference is not None else default_model(self.root)
        self._passed_over = ""
        self._aside = False
        self.engine = self._open(self.reference)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.engine.close()

    def reopen(self, reference: str) -> None:
        """Take another model in its place; the one there is stays where that fails. Raises as opening does."""
        engine = self._open(reference)
        self.engine.close()
        self.engine, self.reference = engine, reference

    def yield_cpu_to_training(self) -> None:
        """Between two stories: where a run trains by now, tell behind it from here on. Raises as opening does."""
        if not self._aside and any_trains(self.root):
            self.reopen(self.reference)

    @property
    def run(self) -> str | None:
        """The name of the run that the model is of, where it is a run's."""
        return self.engine.label.rpartition("@")[0] if is_run(self.reference) else None

    @property
    def follows_newest(self) -> bool:
        """Whether a run was named without a step: its newest checkpoint is meant, also of those to come."""
        return is_run(self.reference) and not self.reference.rpartition("@")[2].isdecimal()

    def newer_checkpoint(self) -> str | None:
        """The label of a checkpoint that was saved since and would be opened now; each is told of once."""
        if self.run is None:
            return None
        with contextlib.suppress(StorytellerError, OSError):
            label = newest_label(self.reference if self.follows_newest else self.run, self.root)
            if label is not None and label not in (self.engine.label, self._passed_over):
                self._passed_over = label
                return label
        return None

    def record_fields(self) -> dict[str, Any]:
        """`Told`'s fields that name these weights."""
        if self.run is not None:
            return {
                "model": self.engine.label,
                "runs_dir": str(self.root.absolute()),
                "compute_type": self.compute_type,
            }
        folder = Path(self.reference).expanduser()
        is_folder = self.reference != STARTER and folder.is_dir()
        return {"model": str(folder.absolute()) if is_folder else self.reference, "compute_type": self.compute_type}

    def _open(self, reference: str) -> Engine:
        trains = any_trains(self.root)
        threads = self.threads or (cpu_priority.GENERATION_THREADS if trains else 0)
        engine = open_model(reference, self.root, threads, warn, self.compute_type)
        if trains and not self._aside:  # now only: a model is opened at full speed
            self._aside = True
            cpu_priority.lower_generation_priority()
        return engine

"""The model of a command: the one that was named, else the newest run's, else the starter."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from storyteller.config.configs import STARTER
from storyteller.errors import StorytellerError
from storyteller.inference.engine import Engine, is_run, newest_label, open_model
from storyteller.system import cpu_priority
from storyteller.tracking.run_folder import runs_root
from storyteller.tracking.run_index import any_trains, default_model


class LoadedModel:
    """An open model, and the reference that opens the same weights again."""

    def __init__(
        self,
        reference: str | None,
        runs_dir: Path | str | None = None,
        threads: int = 0,
        compute_type: str = "fp32",
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Opens `reference`; None means the newest run with a checkpoint, else the starter.

        `log` receives messages, for example that a damaged checkpoint was skipped. Raises RunError, CheckpointError,
        ModelError, HubError or UsageError.
        """
        self.root = runs_root(Path(runs_dir) if runs_dir is not None else None)
        self.threads = threads
        self.compute_type = compute_type
        self._log = log
        self.reference = reference if reference is not None else default_model(self.root)
        self._announced = ""
        self._yields_cpu = False
        self.engine = self._open(self.reference)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.close()

    def reopen(self, reference: str) -> None:
        """Opens another model and closes this one, which stays open if that fails. Raises as `__init__` does."""
        engine = self._open(reference)
        self.engine.close()
        self.engine, self.reference = engine, reference

    def yield_cpu_to_training(self) -> None:
        """Between two stories: if a run has begun to train, reopens the model at low priority, on one thread."""
        if not self._yields_cpu and any_trains(self.root):
            self.reopen(self.reference)

    @property
    def run(self) -> str | None:
        """The name of the model's run, if it belongs to one."""
        return self.engine.label.rpartition("@")[0] if is_run(self.reference) else None

    @property
    def follows_newest(self) -> bool:
        """True if a run was named without a step, so that its newest checkpoint is used, also in the future."""
        return is_run(self.reference) and not self.reference.rpartition("@")[2].isdecimal()

    def newer_checkpoint(self) -> str | None:
        """The label of a checkpoint that is newer than the open one; each is returned once."""
        if self.run is None:
            return None
        with contextlib.suppress(StorytellerError, OSError):
            label = newest_label(self.reference if self.follows_newest else self.run, self.root)
            if label is not None and label not in (self.engine.label, self._announced):
                self._announced = label
                return label
        return None

    def record_fields(self) -> dict[str, Any]:
        """The fields of a `StoryRecord` that identify the weights."""
        if self.run is not None:
            runs_dir = str(self.root.absolute())
            return {"model": self.engine.label, "runs_dir": runs_dir, "compute_type": self.compute_type}
        folder = Path(self.reference).expanduser()
        is_folder = self.reference != STARTER and folder.is_dir()
        return {"model": str(folder.absolute()) if is_folder else self.reference, "compute_type": self.compute_type}

    def _open(self, reference: str) -> Engine:
        is_training = any_trains(self.root)
        threads = self.threads or (cpu_priority.GENERATION_THREADS if is_training else 0)
        engine = open_model(reference, self.root, threads, self._log, self.compute_type)
        if is_training and not self._yields_cpu:  # after loading, which may run at full speed
            self._yields_cpu = True
            cpu_priority.lower_generation_priority()
        return engine

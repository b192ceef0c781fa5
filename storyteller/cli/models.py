"""Which model is told from: the one that was named, else the newest run's, else the one that comes with the package."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from storyteller.cli.page import note
from storyteller.runs import checkpoints
from storyteller.runs.layout import RunFolder, runs_root
from storyteller.runs.store import list_runs

if TYPE_CHECKING:
    from storyteller.engine import Engine

STARTER = "starter"
"""The model that comes with the package."""


class Loaded:
    """A model that was opened by its name, and how to name these very weights again."""

    def __init__(
        self, reference: str | None, runs_dir: Path | str | None = None, threads: int = 0, numbers: str = "fp32"
    ) -> None:
        """Open `reference`; None: the newest run that has a checkpoint, else the starter.

        Raises RunError, CheckpointError, ModelError, HubError or UsageError.
        """
        self.root = runs_root(Path(runs_dir) if runs_dir is not None else None)
        self.threads = threads
        self.numbers = numbers
        self.reference = reference if reference is not None else default_model(self.root)
        self._passed_over = 0
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

    @property
    def run(self) -> RunFolder | None:
        """The run that the model is of, where it is a run's."""
        name, at, _ = self.engine.label.rpartition("@")
        folder = RunFolder(self.root / name)
        return folder if at and "/" not in self.reference and folder.run_json.is_file() else None

    @property
    def follows(self) -> bool:
        """Whether a run was named without a step: its newest checkpoint is meant, also of those to come."""
        return self.run is not None and ("@" not in self.reference or self.reference.endswith("@latest"))

    def newer_step(self) -> int | None:
        """The step of a checkpoint that the run has saved since, where there is one; each is told of once."""
        if self.run is None:
            return None
        with contextlib.suppress(ValueError, OSError):
            step = int(self.engine.label.rpartition("@")[2])
            newest = max(checkpoints.steps(self.run), default=0)
            if newest > max(step, self._passed_over):
                self._passed_over = newest
                return newest
        return None

    def naming(self) -> dict[str, Any]:
        """`Told`'s fields that name these weights."""
        if self.run is not None:
            return {"model": self.engine.label, "runs_dir": str(self.root.absolute()), "numbers": self.numbers}
        folder = Path(self.reference).expanduser()
        is_folder = "/" in self.reference and folder.is_dir()
        return {"model": str(folder.absolute()) if is_folder else self.reference, "numbers": self.numbers}

    def _open(self, reference: str) -> Engine:
        from storyteller.engine import open_model

        options: dict[str, Any] = {} if self.numbers == "fp32" else {"numbers": self.numbers}
        return open_model(reference, self.root, self.threads, log=note, **options)


def default_model(root: Path) -> str:
    """The newest run that has a checkpoint, else the starter."""
    for run in list_runs(root):
        if checkpoints.steps(run):
            return run.name
    return STARTER

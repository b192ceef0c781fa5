"""The models that the child has open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storyteller.inference.engine import Engine

_KEPT_MODELS = 3
"""Models that stay open beside those in use."""


class ModelPool:
    """Open models: lent to one story at a time, a few kept for the next."""

    def __init__(self, runs_root: Path) -> None:
        self._runs_root = runs_root
        self._lock = threading.Lock()
        self._idle: OrderedDict[object, tuple[str, Engine]] = OrderedDict()

    def open(self, reference: str, numbers: str, log: Callable[[str], None]) -> tuple[str, Engine]:
        """A model that nobody uses, and what `give_back` wants with it. A run's newest checkpoint is found anew."""
        from storyteller.inference.engine import open_model
        from storyteller.system import cpu_priority
        from storyteller.tracking.run_index import any_trains

        threads = cpu_priority.THREADS if any_trains(self._runs_root) else 0
        identity = f"{numbers} {threads} {self._identity(reference)}"
        with self._lock:
            for key, (known, engine) in self._idle.items():
                if known == identity:
                    del self._idle[key]
                    return identity, engine
        return identity, open_model(reference, self._runs_root, threads, log, numbers)

    def give_back(self, identity: str, engine: Engine) -> None:
        with self._lock:
            self._idle[object()] = (identity, engine)
            extra = [self._idle.popitem(last=False)[1][1] for _ in range(len(self._idle) - _KEPT_MODELS)]
        for old in extra:
            old.close()

    def _identity(self, reference: str) -> str:
        """What stays the same for as long as the reference means the same model. Raises as `open_model` does."""
        from storyteller.inference.engine import newest_label
        from storyteller.tracking.run_index import find_checkpoint

        label = newest_label(reference, self._runs_root)
        path = Path(reference).expanduser() if label is None else find_checkpoint(self._runs_root, label)
        if label is None and ("/" not in reference or not path.is_dir()):
            return reference
        times = [file.stat().st_mtime_ns for file in sorted(path.iterdir()) if file.is_file()]
        return f"{path.resolve()} {times}"

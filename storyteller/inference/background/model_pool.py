"""The models that the background process keeps loaded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storyteller.inference.engine import Engine

_MAX_IDLE_MODELS = 3


class ModelPool:
    """Loads models, lends each to one story at a time, and keeps the few used last for the next stories."""

    def __init__(self, runs_root: Path) -> None:
        self._runs_root = runs_root
        self._lock = threading.Lock()
        self._idle: OrderedDict[object, tuple[str, Engine]] = OrderedDict()

    def acquire(self, reference: str, compute_type: str, log: Callable[[str], None]) -> tuple[str, Engine]:
        """Returns an idle or newly loaded model with its identity, both to be passed to `release`.

        A run without a step means its newest checkpoint at each call. Raises as `open_model` does.
        """
        from storyteller.inference.engine import open_model
        from storyteller.system import cpu_priority
        from storyteller.tracking.run_index import any_trains

        threads = cpu_priority.GENERATION_THREADS if any_trains(self._runs_root) else 0
        identity = f"{compute_type} {threads} {self._identity(reference)}"
        with self._lock:
            for key, (known, engine) in self._idle.items():
                if known == identity:
                    del self._idle[key]
                    return identity, engine
        return identity, open_model(reference, self._runs_root, threads, log, compute_type)

    def release(self, identity: str, engine: Engine) -> None:
        """Makes the model idle, and closes those that have been idle longest beyond `_MAX_IDLE_MODELS`."""
        with self._lock:
            self._idle[object()] = (identity, engine)
            extra = [self._idle.popitem(last=False)[1][1] for _ in range(len(self._idle) - _MAX_IDLE_MODELS)]
        for old in extra:
            old.close()

    def _identity(self, reference: str) -> str:
        """A string that changes when the reference comes to mean other weights, such as a newer checkpoint."""
        from storyteller.inference.engine import newest_label
        from storyteller.tracking.run_index import find_checkpoint

        label = newest_label(reference, self._runs_root)
        path = Path(reference).expanduser() if label is None else find_checkpoint(self._runs_root, label)
        if label is None and ("/" not in reference or not path.is_dir()):
            return reference
        times = [file.stat().st_mtime_ns for file in sorted(path.iterdir()) if file.is_file()]
        return f"{path.resolve()} {times}"

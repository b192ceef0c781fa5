"""Reading the logs of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from storyteller.tracking.metrics_log import iter_records


def read_records(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """All records from an offset on, and the offset behind the last one."""
    found = list(iter_records(path, offset))
    return [record for record, _ in found], found[-1][1] if found else offset

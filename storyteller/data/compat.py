"""Private or undocumented parts of the libraries that read data, one function each. Tests notice when they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

_RETRY_SETTINGS = {
    "STREAMING_READ_MAX_RETRIES": 1,
    "STREAMING_READ_RETRY_INTERVAL": 0,
    "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 0,
    "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL": 0,
    "STREAMING_OPEN_MAX_RETRIES": 1,
    "STREAMING_OPEN_RETRY_INTERVAL": 0,
}


def disable_streaming_retries() -> None:
    """Makes `datasets` fail at once when a stream breaks: on its own it retries silently for up to 28 minutes.

    Below it, `huggingface_hub` still tries a request 6 times within 23 s, or as the server's Retry-After says.
    """
    import datasets

    for name, value in _RETRY_SETTINGS.items():
        setattr(datasets.config, name, value)


def independent_stream(dataset: Any) -> Any:
    """Returns the same streaming dataset with a position of its own, so that two readers do not disturb each other."""
    return dataset.shard(num_shards=1, index=0)


def close_stream(rows: Iterator[Any]) -> None:
    """Closes the iterator of a streaming dataset: an abandoned parquet stream can abort the interpreter at its exit."""
    rows.close()  # type: ignore[attr-defined]


def http_error_types() -> tuple[type[Exception], ...]:
    """The errors of the HTTP client in use: `huggingface_hub` works with httpx2 or, before 2.0, with httpx."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)


def http_status(error: BaseException | None) -> int:
    """The HTTP status of the error or of one of its causes; 0 where there is none."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if status := getattr(getattr(error, "response", None), "status_code", 0):
            return int(status)
        seen.append(error)
        error = error.__cause__ or error.__context__
    return 0

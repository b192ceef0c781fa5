"""The private parts of other libraries that `data.compat` uses are still there and still do what it needs."""

from __future__ import annotations

import inspect
from pathlib import Path

import datasets
import httpx
import huggingface_hub.errors
import pytest
from datasets.utils import file_utils

from storyteller.data import compat


def test_the_retry_settings_exist_and_the_streaming_code_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    source = inspect.getsource(file_utils)
    for name, value in compat._RETRY_SETTINGS.items():
        assert f"config.{name}" in source, name
        monkeypatch.setattr(datasets.config, name, getattr(datasets.config, name))  # restored after the test
        assert type(getattr(datasets.config, name)) is type(value), name
    retry_settings = {name for name in dir(datasets.config) if name.startswith("STREAMING_") and "RETR" in name}
    assert retry_settings == set(compat._RETRY_SETTINGS)
    compat.disable_streaming_retries()
    assert datasets.config.STREAMING_READ_MAX_RETRIES == datasets.config.STREAMING_OPEN_MAX_RETRIES == 1


def test_two_independent_streams_of_one_dataset_keep_their_own_positions(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{n}"}}\n' for n in range(9)))
    dataset = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
    one, other = compat.independent_stream(dataset), compat.independent_stream(dataset)
    rows, others = iter(one), iter(other)
    assert [next(rows)["text"] for _ in range(4)] == ["0", "1", "2", "3"]
    state = one.state_dict()
    assert [next(others)["text"] for _ in range(2)] == ["0", "1"]
    assert one.state_dict() == state
    resumed = compat.independent_stream(dataset)
    resumed.load_state_dict(state)
    assert [row["text"] for row in resumed] == ["4", "5", "6", "7", "8"]
    compat.close_stream(rows)
    assert list(rows) == []
    compat.close_stream(others)


def test_http_errors_of_the_hub_s_client_are_known_with_their_status() -> None:
    assert issubclass(huggingface_hub.errors.HfHubHTTPError, compat.http_error_types())
    request = httpx.Request("GET", "http://127.0.0.1/")
    error = httpx.HTTPStatusError("no", request=request, response=httpx.Response(403, request=request))
    assert isinstance(error, compat.http_error_types())
    assert compat.http_status(error) == 403
    outer = OSError("outer")
    outer.__cause__ = error
    assert compat.http_status(outer) == 403
    assert compat.http_status(OSError()) == compat.http_status(None) == 0

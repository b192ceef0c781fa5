"""Every test lives in a folder of its own, with its own home and caches, and reaches no network but the loopback."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real stories and models for tests of quality; a checkout without them skips those tests."""


def pytest_configure() -> None:
    # A shell that starts the tests in the background has Ctrl-C ignored, and every process under it would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _hermetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HF_TOKEN", "WANDB_API_KEY", "STORYTELLER_RUNS", "STORYTELLER_DEBUG", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "XDG_DATA_HOME": home / "data",
        "XDG_CONFIG_HOME": home / "config",
        "HF_HOME": home / "hf",
        "HF_ENDPOINT": "http://127.0.0.1:9",  # the discard port: refused at once
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "WANDB_MODE": "disabled",
        "NO_PROXY": "127.0.0.1",
        "COLUMNS": "100",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

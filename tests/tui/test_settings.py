"""The app's settings file: what is written is read back, and a broken file gives the defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.config.configs import SamplingParams
from storyteller.tui import settings
from storyteller.tui.settings import Settings

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tui.json"
    chosen = Settings(theme="light", cells="blocks", x_axis="tokens", log_y=True, smoothing=0.5, sort="bits")
    settings.write(path, chosen)
    assert settings.read(path) == chosen
    assert settings.read(path).note == ""


def test_a_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    assert settings.read(tmp_path / "tui.json") == Settings()


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (b'{"theme": "li', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_file_gives_the_defaults_and_a_note(tmp_path: Path, contents: bytes, why: str) -> None:
    path = tmp_path / "tui.json"
    path.write_bytes(contents)
    read = settings.read(path)
    assert read == Settings()
    assert read.note == f"using the default settings: cannot read {path} ({why})"


@given(st.dictionaries(st.sampled_from([*Settings().to_json(), "unheard"]), ANY_JSON))
def test_whatever_the_file_contains_every_setting_is_valid(tmp_path_factory: object, kept: object) -> None:
    path = Path(tmp_path_factory.mktemp("s")) / "tui.json"  # type: ignore[attr-defined]
    path.write_text(json.dumps(kept))
    read = settings.read(path)
    assert read.theme in ("dark", "light", "ansi-dark", "ansi-light")
    assert read.cells in ("braille", "blocks", "ascii")
    assert read.x_axis in ("step", "tokens", "seconds")
    assert 0 <= read.smoothing < 1
    assert isinstance(read.sampling_params(), SamplingParams)
    settings.write(path, read)
    assert settings.read(path) == read


def test_invalid_sampling_settings_give_the_defaults() -> None:
    kept = Settings(sampling={"temperature": 0.3, "top_k": 5})
    assert kept.sampling_params() == SamplingParams(temperature=0.3, top_k=5)
    assert Settings(sampling={"temperature": -1}).sampling_params() == SamplingParams()
    assert Settings(sampling={"temperature": "hot", "unheard": 1}).sampling_params() == SamplingParams()


def test_a_folder_that_cannot_be_made_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        settings.write(tmp_path / "file" / "tui.json", Settings())

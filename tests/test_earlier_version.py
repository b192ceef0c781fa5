"""Files that an earlier version wrote: `tests/earlier_version` is listed, shown, resumed, retold and reported on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

FILES = Path(__file__).parent / "earlier_version"
PORTABLE_ARITHMETIC = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
WEIGHTS_SHA256 = "805ae07a033f78f2547b622d78833f0eb9a0d3e3dffd482d63b9ae8701a8c9d0"
STORY = "cfous awre  it medutSleleu\ufffd,gcheamAreitscxllaklyneOuBed. wasI"
TELL = ("--seed", "7", "--max-tokens", "40", "--json", "Once upon a time")


def storyteller(*words: str) -> str:
    """The standard output of a command, which must succeed; stories are kept under $XDG_DATA_HOME."""
    environment = {**os.environ, **PORTABLE_ARITHMETIC}
    done = subprocess.run(
        [sys.executable, "-m", "storyteller", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fingerprint(path: Path) -> str:
    """The fingerprint that a run keeps of the stories, if they stood in this file."""
    content = (FILES / "stories.txt").read_bytes()  # less than 64 KiB, so its first and last 64 KiB are the whole
    return hashlib.sha256(f"{path}\0{len(content)}\0".encode() + content + content).hexdigest()


@pytest.fixture(autouse=True)
def _earlier_files(_hermetic: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the earlier version in the current folder, under the paths that they name."""
    here = tmp_path / "earlier"
    shutil.copytree(FILES, here)
    before, after = Path("/home/reader/stories.txt"), here / "stories.txt"
    for path in (here / "runs/earlier/run.json", here / "told.jsonl"):
        text = path.read_text(encoding="utf-8").replace(str(before.parent), str(after.parent))
        text = text.replace(fingerprint(before), fingerprint(after))
        path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(here)


def test_a_run_of_an_earlier_version_is_listed_and_shown() -> None:
    [listed] = json.loads(storyteller("ps", "--json"))
    assert (listed["name"], listed["state"], listed["step"]) == ("earlier", "finished", 8)
    assert "earlier" in storyteller("show", "earlier")


def test_a_run_of_an_earlier_version_resumes_to_the_same_weights() -> None:
    weights = Path("runs/earlier/checkpoints/step-00000008/model.safetensors")
    expected = load_file(weights)
    shutil.rmtree(weights.parent)  # what is there afterwards was trained anew
    storyteller("resume", "earlier", "--from", "4", "--foreground")
    if torch.__version__.startswith("2.13") and platform.machine() == "x86_64":
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == WEIGHTS_SHA256
    else:
        for name, tensor in load_file(weights).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", ["earlier@4", "./model-folder"])
def test_a_seed_tells_the_story_that_it_told_in_an_earlier_version(model: str) -> None:
    [line] = storyteller("tell", "--model", model, *TELL).splitlines()
    assert json.loads(line)["text"] == "Once upon a time" + STORY


def test_a_story_kept_by_an_earlier_version_is_told_again() -> None:
    history = Path(os.environ["XDG_DATA_HOME"]) / "storyteller" / "stories.jsonl"
    history.parent.mkdir(parents=True)
    shutil.copy("told.jsonl", history)
    assert STORY in storyteller("tell", "--again", "a3hurwqb")


def test_a_report_is_made_of_a_run_of_an_earlier_version(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    storyteller("report", "earlier", "--out", str(page))
    assert "earlier" in page.read_text(encoding="utf-8")

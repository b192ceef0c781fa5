"""TinyStories from a Hub that speaks HTTP on the loopback, and what happens where there is none.

The Hub's libraries read their address when they are imported, so each test's client is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tests.support.hub_loopback import MAIN_SHA, LoopbackHub

STORIES = [f"Once upon a time, owl number {n} flew over the caf\u00e9.\nIt came home at {n}." for n in range(100)]
REPOSITORY = "datasets/roneneldan/TinyStories"

PRELUDE = """
import itertools, json, sys, time
import datasets, huggingface_hub  # before any clock runs
from storyteller.config.configs import DataConfig
from storyteller.data.sources import open_corpus
from storyteller.data.story_stream import StoryStream
from storyteller.errors import HubError

said = []
def opened(source, **options):
    data = DataConfig(source=source, shuffle_stories=8, hub_patience_minutes=0.05)
    return open_corpus(data, log=said.append, **options)
def tell(**what):
    print(json.dumps(what | {"said": said}))
"""


def client(script: str, address: str) -> dict[str, Any]:
    """What the script tells, run in a process whose Hub is at the address."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
        cwd=root,
        env={**os.environ, "HF_ENDPOINT": address},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    """The dataset as the Hub has it: two files of several row groups, and a validation split that is not read."""
    folder = tmp_path / "hub" / REPOSITORY / "data"
    folder.mkdir(parents=True)
    for index, stories in enumerate((STORIES[:60], STORIES[60:])):
        table = pyarrow.table({"text": stories})
        parquet.write_table(table, folder / f"train-0000{index}-of-00002.parquet", row_group_size=16)
    parquet.write_table(pyarrow.table({"text": ["never read"]}), folder / "validation-00000-of-00001.parquet")
    return tmp_path / "hub"


def test_auto_takes_the_hub_and_every_position_resumes_exactly(hub_root: Path) -> None:
    script = """
        source = opened("auto")
        whole = list(source.read(0, None))
        states = [json.loads(json.dumps(cursor)) for _, cursor in whole]
        again = opened("tinystories", revision=source.description["revision"])
        told = [story for story, _ in whole]
        rest = lambda at: [story for story, _ in again.read(1, states[at])]
        wrong = [at for at in range(0, len(whole), 7) if rest(at) != told[at + 1:]]
        one, other = source.read(0, None), source.read(0, states[49])
        both = [next(stream)[0] for _ in range(3) for stream in (one, other)]
        one.close(), other.close()

        def stream(count, position=None):
            stories = iter(StoryStream(source, DataConfig(shuffle_stories=8), seed=1, position=position))
            taken = list(itertools.islice(stories, count))
            stories.close()
            return taken
        uninterrupted, resumed = stream(250), []
        for count in (1, 7, 8, 50, 33, 100, 51):
            resumed += stream(count, json.loads(json.dumps(resumed[-1][1])) if resumed else None)
        where = [
            [(story, at["epoch"], at["block"], at["offset"]) for story, at in taken]
            for taken in (resumed, uninterrupted)
        ]
        tell(stories=told, description=source.description, notes=source.notes, wrong=wrong,
             both=both, same=where[0] == where[1], epochs=resumed[-1][1]["epoch"])
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub.url)
        paths = {request.path for request in hub.requests}
    assert told["said"] == [
        "data: TinyStories from the Hub, commit aaaaaaaa "
        "(--data bundled needs no network, --data PATH trains on your own)"
    ]
    assert told["stories"] == STORIES
    assert told["wrong"] == []
    assert told["both"] == [STORIES[n] for n in (0, 50, 1, 51, 2, 52)]
    assert told["same"] is True
    assert told["epochs"] == 2
    assert told["description"] == {
        "kind": "tinystories",
        "dataset": "roneneldan/TinyStories",
        "revision": MAIN_SHA,
        "formats": ["parquet"],
        "fingerprint": MAIN_SHA,
    }
    assert told["notes"] == [f"roneneldan/TinyStories from the Hub, at commit {MAIN_SHA}"]
    files = {path for path in paths if path.endswith(".parquet")}
    assert files == {f"/{REPOSITORY}/resolve/{MAIN_SHA}/data/train-0000{n}-of-00002.parquet" for n in (0, 1)}


@pytest.mark.slow
def test_a_connection_dropped_once_while_opening_does_no_harm(hub_root: Path) -> None:
    script = """
        source = opened("tinystories")
        tell(stories=[story for story, _ in source.read(0, None)])
    """
    with LoopbackHub(hub_root) as hub:
        hub.fault("drop", match="api/datasets", times=1)
        told = client(script, hub.url)
        assert any(request.fault == "drop" for request in hub.requests)
    assert told["stories"] == STORIES
    assert told["said"] == []


BUNDLED = (
    "data: the bundled stories, since the Hub does not answer "
    "(--data tinystories insists, --data PATH trains on your own)"
)


@pytest.mark.slow
def test_where_the_hub_refuses_auto_is_bundled_at_once_and_an_explicit_choice_is_an_error() -> None:
    script = """
        start = time.monotonic()
        source = opened("auto", seed=4)
        seconds = time.monotonic() - start
        try:
            opened("tinystories")
        except HubError as error:
            tell(description=source.description, seconds=seconds, error=str(error))
    """
    told = client(script, "http://127.0.0.1:9")
    assert told["said"][0] == BUNDLED
    assert told["said"][1].startswith("the Hub does not answer (Connect")
    assert told["description"]["kind"] == "bundled"
    assert told["description"]["seed"] == 4
    assert told["seconds"] < 3
    assert told["error"].startswith("TinyStories cannot be read from the Hub for 3 s (Connect")
    assert "--data bundled or --data PATH" in told["error"]
    assert "\n" not in told["error"]


def test_where_the_hub_hangs_auto_is_bundled_when_its_time_is_up(hub_root: Path) -> None:
    script = """
        start = time.monotonic()
        source = opened("auto", auto_seconds=1.0)
        tell(kind=source.description["kind"], seconds=time.monotonic() - start)
    """
    with LoopbackHub(hub_root) as hub:
        hub.fault("hang", arg=60)
        told = client(script, hub.url)
    assert told["said"] == [BUNDLED]
    assert told["kind"] == "bundled"
    assert 1 <= told["seconds"] < 4


@pytest.mark.slow
def test_a_hub_without_the_dataset_and_one_that_fails_while_reading_end_in_one_line(hub_root: Path) -> None:
    script = """
        import urllib.request
        errors = []
        def attempt(action):
            try:
                action()
            except HubError as error:
                errors.append(str(error))
        source = opened("tinystories")
        stories = source.read(0, None)
        begun = [next(stories)[0] for _ in range(3)]
        urllib.request.urlopen(huggingface_hub.constants.ENDPOINT + "/_ctl?mode=403&match=train-00001")
        attempt(lambda: begun.extend(story for story, _ in stories))
        urllib.request.urlopen(huggingface_hub.constants.ENDPOINT + "/_ctl?mode=404")
        attempt(lambda: opened("tinystories"))
        tell(errors=errors, begun=begun)
    """
    with LoopbackHub(hub_root) as hub:
        told = client(script, hub.url)
    assert told["begun"] == STORIES[:60]
    assert len(told["errors"]) == 2
    for error in told["errors"]:
        assert error.startswith("TinyStories cannot be read from the Hub (")
        assert "\n" not in error

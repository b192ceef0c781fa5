"""SIGTERM and SIGINT in each phase: what can be is saved, exit status 0 within 20 s; a second one ends at once."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from subprocess import Popen

import pyarrow
import pytest
from pyarrow import parquet

from storyteller.data import bundled
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status, seen_state
from storyteller.training import worker as body
from storyteller.training.status_reporter import StatusReporter, StoppedEarly
from tests.support.hub_loopback import LoopbackHub
from tests.support.living import last_step, saved, says, state, until, worker
from tests.support.training import make_run

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def message(folder: RunFolder) -> str:
    status = read_status(folder)
    return status.message if status is not None else ""


def ends_in_time(process: Popen[bytes], folder: RunFolder, number: signal.Signals, seconds: float = 20) -> None:
    """Signal the process, and see it end with status 0."""
    assert process.poll() is None, folder.log.read_text()
    process.send_signal(number)
    assert process.wait(timeout=seconds) == 0, folder.log.read_text()
    assert "Traceback" not in folder.log.read_text()


def is_saved(folder: RunFolder) -> None:
    """The run was stopped, and its last step is its newest checkpoint."""
    what, step = state(folder)
    assert what == "stopped" and says(folder, f"stopped at step {step:,}")
    assert last_step(folder) == step > 0
    assert saved(folder)[-1] == step


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_comes_before_the_process_can_hear_it_waits_until_it_can(
    tmp_path: Path, number: signal.Signals
) -> None:
    folder = make_run(tmp_path, "fox")
    with worker(folder) as process:
        ends_in_time(process, folder, number)
    assert state(folder) == ("stopped", 0)
    assert says(folder, "stopped before its first step")


@pytest.mark.slow
def test_a_signal_is_handled_while_the_tokenizer_is_trained(tmp_path: Path) -> None:
    draw = random.Random(0)
    stories = (" ".join("".join(draw.choices("abcdefghij", k=9)) for _ in range(40)) for _ in range(20_000))
    (tmp_path / "words.txt").write_text("\n\n".join(stories))
    source = (str(tmp_path / "words.txt"),)
    folder = make_run(tmp_path, "fox", data_source=source, data_vocab_size=60_000)
    with worker(folder) as process:
        # All is read: from here on the library merges pairs, for seconds, and does not come back meanwhile.
        until(lambda: message(folder) == "training the tokenizer, 100%")
        ends_in_time(process, folder, signal.SIGTERM, seconds=3)
    assert state(folder) == ("stopped", 0)


@pytest.mark.slow
def test_a_signal_is_handled_while_the_stories_are_read(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", data_tokenizer_mib=400)
    with worker(folder) as process:
        until(lambda: message(folder).startswith("training the tokenizer, "))
        ends_in_time(process, folder, signal.SIGINT, seconds=3)
    assert state(folder) == ("stopped", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "number"), [("evaluation", signal.SIGTERM), ("step", signal.SIGINT), ("save", signal.SIGTERM)]
)
def test_a_signal_lets_what_is_under_way_finish(tmp_path: Path, phase: str, number: signal.Signals) -> None:
    long = {"step": {"train_accumulate": 200}, "evaluation": {"train_eval_stories": 120}, "save": {}}[phase]
    every = {"train_checkpoint_every": "2"}
    folder = make_run(tmp_path, "fox", train_steps=100_000, model_n_embd=64, **(every | long))
    with worker(folder) as process:
        if phase == "evaluation":
            until(lambda: last_step(folder) == 2)  # step 2 is logged, and then scored before it is saved
        elif phase == "step":
            until(lambda: last_step(folder) == 1)
        else:
            until(lambda: any(folder.checkpoints.glob(".staging-*")), every=0)
        ends_in_time(process, folder, number)
    is_saved(folder)


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", train_accumulate=4096, model_n_embd=128)  # a step of minutes
    with worker(folder) as process:
        until(lambda: says(folder, "step 0: "))
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        until(lambda: seen_state(folder) == "stopping", seconds=3)
        assert process.poll() is None
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == 128 + signal.SIGINT
        assert time.monotonic() - begin < 1
    assert seen_state(folder) == "died"


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    """A Hub's folder with a small `roneneldan/TinyStories`."""
    folder = tmp_path / "hub" / "datasets" / "roneneldan" / "TinyStories" / "data"
    folder.mkdir(parents=True)
    for n in range(2):
        stories = pyarrow.table({"text": [bundled.story(i) for i in range(200 * n, 200 * n + 200)]})
        parquet.write_table(stories, folder / f"train-0000{n}-of-00002.parquet", row_group_size=100)
    return tmp_path / "hub"


FROM_HUB = {"data_source": "tinystories", "data_tokenizer_mib": 1, "data_shuffle_stories": 50}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "hang"])
def test_a_signal_is_handled_while_the_hub_is_tried_again_in_set_up(
    tmp_path: Path, hub_root: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackHub(hub_root) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.fault(fault, match="GET .*parquet", arg=60)  # the stories' files themselves
        folder = make_run(tmp_path, "fox", **FROM_HUB)
        with worker(folder) as process:
            until(lambda: any(request.fault for request in list(hub.requests)))
            time.sleep(0.5)
            ends_in_time(process, folder, signal.SIGTERM, seconds=5)
        hub.fault()
    assert state(folder) == ("stopped", 0)


@pytest.mark.slow
def test_a_signal_in_the_loop_saves_while_the_hub_is_tried_again(
    tmp_path: Path, hub_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackHub(hub_root) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        folder = make_run(tmp_path, "fox", train_steps=100_000, **FROM_HUB)
        with worker(folder) as process:
            until(lambda: last_step(folder) >= 3)
            hub.fault("503")
            until(lambda: seen_state(folder) == "waiting")
            ends_in_time(process, folder, signal.SIGTERM)
        hub.fault()
    is_saved(folder)


# --- the status reporter --------------------------------------------------------------------------------------------


def test_a_signal_in_set_up_raises_and_one_after_it_does_not(tmp_path: Path) -> None:
    reporter = StatusReporter(run_folder.create(tmp_path, "fox"))
    with reporter.running():
        with pytest.raises(StoppedEarly), reporter.setting_up():
            signal.raise_signal(signal.SIGTERM)
        assert reporter.stop_requested()
        with pytest.raises(StoppedEarly), reporter.setting_up():
            pass
        reporter.end("stopped", "", 0)
    assert seen_state(reporter.folder) == "stopped"


def test_a_signal_is_handled_while_something_is_waited_for_that_never_comes(tmp_path: Path) -> None:
    reporter = StatusReporter(run_folder.create(tmp_path, "fox"))
    with reporter.running():
        with pytest.raises(StoppedEarly), reporter.setting_up():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
            reporter.wait_for(lambda: time.sleep(30))
        reporter.end("stopped", "", 0)


def test_what_is_waited_for_gives_its_answer_or_raises(tmp_path: Path) -> None:
    reporter = StatusReporter(run_folder.create(tmp_path, "fox"))
    assert reporter.wait_for(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        reporter.wait_for(lambda: 1 // 0)


def test_a_resumed_run_that_is_stopped_in_set_up_keeps_its_step(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "fox", train_steps=3)
    assert body.run(folder) == 0
    with worker(folder) as process:
        ends_in_time(process, folder, signal.SIGTERM)
    assert state(folder) == ("stopped", 3)
    assert message(folder) == "stopped before it resumed from step 3"
    assert checkpoint_folders.steps(folder) == [3]

"""Stories generated in a child process: in order, several at once, stopped at once, whatever happens to the child."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed, GenerationClient, ModelOpened, TextPiece
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import own_status, write_status
from tests.support import tiny_models
from tests.support.living import until

LONG = SamplingParams(max_tokens=100_000, seed=3)
GREEDY = SamplingParams(temperature=0, max_tokens=40)


class EventRecorder:
    """Hears one story."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._queue: queue.Queue[Event] = queue.Queue()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._queue.put(event)

    def next(self, kind: type[Event] | tuple[type[Event], ...], seconds: float = 30) -> Event:
        """The next event of this kind; the others are passed over."""
        deadline = time.monotonic() + seconds
        while True:
            event = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            if isinstance(event, kind):
                return event

    def end(self, seconds: float = 30) -> Ended:
        last = self.next((Ended, Failed), seconds)
        assert isinstance(last, Ended), last
        return last

    def failure(self, seconds: float = 30) -> Failed:
        last = self.next((Ended, Failed), seconds)
        assert isinstance(last, Failed), last
        return last

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextPiece))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that babbles without end."""
    folder = tmp_path_factory.mktemp("model") / "babbler"
    return str(tiny_models.random_folder(folder, eos_token_id=None, bos_token_id=None))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def client(runs: Path) -> Iterator[GenerationClient]:
    """One for all the tests here: whatever happens to its child, it goes on."""
    made = GenerationClient(runs)
    yield made
    made.close()


def client_of(tmp_path: Path, script: str) -> GenerationClient:
    """A client whose child is a script of Python."""
    return GenerationClient(tmp_path, [sys.executable, "-c", script])


def checkpoint(folder: RunFolder, step: int, says: str) -> Path:
    """A sealed checkpoint that says one thing by heart."""
    staging = checkpoint_folders.stage(folder, step)
    shutil.rmtree(staging)
    return checkpoint_folders.seal(tiny_models.script_folder(staging, says), folder, step, {})


def child_of(process: int, runs: Path) -> psutil.Process:
    found = [each for each in psutil.Process(process).children() if each.cmdline()[-2:] == ["--runs-dir", str(runs)]]
    assert len(found) == 1
    return found[0]


def test_a_story_comes_in_pieces_that_are_its_text_and_once_more_the_same_with_the_same_seed(
    client: GenerationClient, model: str
) -> None:
    recorder = EventRecorder()
    ticket = client.generate(model, "Once", SamplingParams(max_tokens=60, seed=7), recorder)
    last = recorder.end()
    assert isinstance(recorder.events[0], ModelOpened) and recorder.events[0] == ModelOpened(
        ticket, model, 7, cut=False
    )
    assert [type(event) for event in recorder.events[1:-1]] == [TextPiece] * (len(recorder.events) - 2)
    assert {event.ticket for event in recorder.events} == {ticket}
    assert last.text == recorder.text != "" and last.tokens == 60 and last.seed == 7
    assert not last.finished and not last.stopped and last.seconds > 0
    again = EventRecorder()
    client.generate(model, "Once", SamplingParams(max_tokens=60, seed=7), again)
    assert again.end().text == last.text


def test_a_seed_is_drawn_where_there_is_none_and_told_of(client: GenerationClient, model: str) -> None:
    recorder = EventRecorder()
    client.generate(model, "Once", SamplingParams(max_tokens=5), recorder)
    last = recorder.end()
    opened = recorder.events[0]
    assert isinstance(opened, ModelOpened) and opened.seed == last.seed
    again = EventRecorder()
    client.generate(model, "Once", SamplingParams(max_tokens=5, seed=last.seed), again)
    assert again.end().text == last.text


def test_a_cancelled_story_ends_within_a_fifth_of_a_second_and_no_piece_comes_after(
    client: GenerationClient, model: str
) -> None:
    recorder = EventRecorder()
    ticket = client.generate(model, "Once", LONG, recorder)
    recorder.next(TextPiece)
    began = time.monotonic()
    client.cancel(ticket)
    last = recorder.end()
    assert time.monotonic() - began < 0.2
    assert last.stopped and not last.finished and last.text == recorder.text
    client.cancel(ticket)  # it is over: nothing happens
    heard = len(recorder.events)
    time.sleep(0.3)
    assert len(recorder.events) == heard


def test_three_stories_at_once_each_hear_their_own(client: GenerationClient, model: str, tmp_path: Path) -> None:
    scripts = [str(tiny_models.script_folder(tmp_path / name, f"Once {name}.")) for name in ("ann", "bob")]
    recorders = [EventRecorder() for _ in range(3)]
    long = client.generate(model, "Once", LONG, recorders[2])
    for recorder, script in zip(recorders, scripts, strict=False):
        client.generate(script, "Once", GREEDY, recorder)
    assert [recorder.end().text for recorder in recorders[:2]] == [" ann.", " bob."]
    recorders[2].next(TextPiece)
    client.cancel(long)
    assert recorders[2].end().stopped


def test_a_run_alone_means_its_newest_checkpoint_each_time(client: GenerationClient, runs: Path) -> None:
    folder = run_folder.create(runs, "fox")
    folder.write_run({"name": "fox", "created_at": "2026-01-01T00:00:00Z"})
    checkpoint(folder, 10, "Once ten.")
    for reference, step, expected in (("fox", 10, " ten."), ("fox", 20, " twenty."), ("fox@10", 10, " ten.")):
        if step == 20:
            checkpoint(folder, 20, "Once twenty.")
        recorder = EventRecorder()
        client.generate(reference, "Once", GREEDY, recorder)
        assert recorder.end().text == expected
        opened = recorder.events[0]
        assert isinstance(opened, ModelOpened) and opened.label == f"fox@{step}"


def test_a_model_that_changed_in_its_folder_is_opened_anew(client: GenerationClient, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for text in (" ann.", " bob."):
        shutil.rmtree(folder, ignore_errors=True)
        tiny_models.script_folder(folder, f"Once{text}")
        recorder = EventRecorder()
        client.generate(str(folder), "Once", GREEDY, recorder)
        assert recorder.end().text == text


def test_a_prompt_that_outgrows_the_model_is_told_from_its_newest_part(client: GenerationClient, model: str) -> None:
    recorder = EventRecorder()
    client.generate(model, "One day. " * 100, SamplingParams(max_tokens=5, seed=1), recorder)
    recorder.end()
    opened = recorder.events[0]
    assert isinstance(opened, ModelOpened) and opened.cut
    # A story so far is always given so; the model sees 64 tokens, and this one is 36.
    more, newest = EventRecorder(), EventRecorder()
    client.generate(model, "One day. " * 4, SamplingParams(max_tokens=5, seed=1), more, goes_on=True)
    client.generate(model, "One day. " * 3, SamplingParams(max_tokens=5, seed=1), newest)
    assert more.end().text == newest.end().text


def test_what_cannot_be_told_is_one_safe_line(client: GenerationClient, model: str, tmp_path: Path) -> None:
    for reference, problem in (
        ("nothing-here", "there is no run nothing-here"),
        ("owner/name", "the Hub does not answer for owner/name ("),
        (str(tmp_path / "gone"), "there is no folder "),
        ("\x1b]52;c;AAAA\x07", "there is no run \u241b]52;c;AAAA\u2407"),
        ("", "there is no run without a name"),
    ):
        recorder = EventRecorder()
        client.generate(reference, "Once", LONG, recorder)
        failed = recorder.failure()
        assert failed.problem.startswith(problem), failed
        assert (failed.problem + failed.remedy).isprintable() and failed.remedy
    recorder = EventRecorder()  # and the next one is told
    client.generate(model, "Once", SamplingParams(max_tokens=5, seed=1), recorder)
    assert recorder.end().tokens == 5


def test_a_killed_child_fails_its_stories_with_one_line_and_the_next_one_starts_another(
    client: GenerationClient, model: str, runs: Path
) -> None:
    recorders = [EventRecorder(), EventRecorder()]
    for recorder in recorders:
        client.generate(model, "Once", LONG, recorder)
    for recorder in recorders:
        recorder.next(TextPiece)
    first = child_of(os.getpid(), runs)
    first.kill()
    for recorder in recorders:
        failed = recorder.failure()
        assert failed.problem == "the generation process ended (signal 9)"
        assert failed.remedy == "try again: that starts a new process. Is there enough memory for the model?"
    recorder = EventRecorder()
    client.generate(model, "Once", SamplingParams(max_tokens=5, seed=1), recorder)
    assert recorder.end().tokens == 5
    assert child_of(os.getpid(), runs).pid != first.pid


def test_a_child_that_hangs_is_not_waited_for(client: GenerationClient, model: str, runs: Path) -> None:
    recorder = EventRecorder()
    ticket = client.generate(model, "Once", LONG, recorder)
    recorder.next(TextPiece)
    hung = child_of(os.getpid(), runs)
    hung.suspend()
    began = time.monotonic()
    client.cancel(ticket)
    last = recorder.end()
    assert time.monotonic() - began < 0.2
    assert last.stopped and last.text == recorder.text
    # The next story is asked of the hung one at first, and of another once it has not let go of its model for a while.
    recorder = EventRecorder()
    client.generate(model, "Once", SamplingParams(max_tokens=5, seed=1), recorder)
    assert recorder.end().tokens == 5
    until(lambda: not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE)


def test_a_story_is_cancelled_while_its_model_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A hub that takes calls and says nothing: opening the model takes as long as its patience lasts.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        client = GenerationClient(tmp_path)
        try:
            recorder = EventRecorder()
            ticket = client.generate("nobody/nothing", "Once", LONG, recorder)
            mute.settimeout(30)
            caller, _ = mute.accept()
            with caller:
                assert not any(isinstance(event, ModelOpened | TextPiece | Ended | Failed) for event in recorder.events)
                began = time.monotonic()
                client.cancel(ticket)
                assert recorder.end() == Ended(ticket, "", 0, 0.0, 0, finished=False, stopped=True)
                assert time.monotonic() - began < 0.2
        finally:
            client.close()


def test_closing_ends_the_child_also_one_that_hangs_and_nothing_is_heard_after(tmp_path: Path, model: str) -> None:
    client, recorder = GenerationClient(tmp_path), EventRecorder()
    client.generate(model, "Once", LONG, recorder)
    recorder.next(TextPiece)
    child = child_of(os.getpid(), tmp_path)
    child.suspend()
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 2
    assert not child.is_running()
    heard = len(recorder.events)
    late = EventRecorder()
    client.generate(model, "Once", LONG, late)
    time.sleep(0.2)
    assert len(recorder.events) == heard and late.events == []
    client.close()  # a second time is no matter


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path, model: str) -> None:
    script = f"""
import os, time
from pathlib import Path
from storyteller.inference.background import GenerationClient, TextPiece
from storyteller.config.configs import SamplingParams
told = []
client = GenerationClient(Path({str(tmp_path)!r}))
sampling = SamplingParams(max_tokens=100_000)
client.generate({model!r}, "Once", sampling, lambda event: isinstance(event, TextPiece) and told.append(1))
while not told:
    time.sleep(0.01)
print("telling", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "telling\n"
        child = child_of(parent.pid, tmp_path)
        parent.send_signal(signal.SIGKILL)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)


@pytest.mark.parametrize(
    "line",
    [
        "'no JSON'",
        "[1]",
        "{}",
        '\'{"event": "TextPiece", "ticket": [1], "text": "", "tokens": 1}\'',
        '\'{"event": "TextPiece", "ticket": 1, "tokens": 1}\'',
        '\'{"event": "Other", "ticket": 1}\'',
        "'a' * 3_000_000",
        "'[' * 99_999",
    ],
)
def test_a_child_that_speaks_gibberish_is_ended(tmp_path: Path, line: str) -> None:
    client = client_of(tmp_path, f"import time; print({line}, flush=True); time.sleep(60)")
    recorder = EventRecorder()
    client.generate("m", "Once", LONG, recorder)
    assert recorder.failure().problem == "the generation process ended (it sent an invalid message)"
    client.close()


def test_a_child_that_fails_is_heard_of_with_the_last_line_that_it_printed(tmp_path: Path) -> None:
    client = client_of(tmp_path, "import sys; print('x' * 100_000, file=sys.stderr); sys.exit('no \\x1b[31mmemory')")
    recorder = EventRecorder()
    client.generate("m", "Once", LONG, recorder)
    assert recorder.failure().problem == "the generation process ended (status 1: no \u241b[31mmemory)"
    client.close()


def test_a_child_that_cannot_be_started_is_heard_of(tmp_path: Path) -> None:
    client, recorder = GenerationClient(tmp_path, [str(tmp_path / "nothing")]), EventRecorder()
    client.generate("m", "Once", LONG, recorder)
    expected = "the generation process cannot be started (No such file or directory)"
    assert recorder.failure().problem == expected
    client.close()


def test_a_fast_model_is_heard_at_most_twenty_times_a_second(client: GenerationClient, tmp_path: Path) -> None:
    model = str(tiny_models.script_folder(tmp_path / "fast", "Once " + "abc " * 120, context=512))
    recorder = EventRecorder()
    began = time.monotonic()
    client.generate(model, "Once", SamplingParams(temperature=0, max_tokens=400), recorder)
    assert recorder.end().text.startswith(" abc abc")
    pieces = sum(isinstance(event, TextPiece) for event in recorder.events)
    assert pieces <= 2 + 20 * (time.monotonic() - began)


def test_the_parent_imports_nothing_heavy() -> None:
    code = "import storyteller.inference.background, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {
        "torch",
        "transformers",
        "ctranslate2",
        "numpy",
        "tokenizers",
        "textual",
        "storyteller.inference.engine",
        "psutil",
    }
    assert not loaded & heavy
    assert {name for name in loaded if name.startswith("storyteller.")} == {
        "storyteller.config",
        "storyteller.inference",
        "storyteller.system",
        "storyteller.inference.background",
        "storyteller.inference.background.events",
        "storyteller.inference.background.client",
        "storyteller.config.configs",
        "storyteller.errors",
        "storyteller.system.child_process",
        "storyteller.system.files",
        "storyteller.system.json_values",
        "storyteller.text",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_telling_steps_back_while_a_run_trains_and_opening_a_model_does_not(tmp_path: Path, model: str) -> None:
    def niceness() -> list[int]:
        return sorted(
            os.getpriority(os.PRIO_PROCESS, thread.id) for thread in child_of(os.getpid(), tmp_path).threads()
        )

    folder = run_folder.create(tmp_path, "fox")
    folder.write_run({"name": "fox", "created_at": "2026-01-01T00:00:00Z"})
    here = os.getpriority(os.PRIO_PROCESS, 0)
    client, recorder = GenerationClient(tmp_path), EventRecorder()
    try:
        idle = client.generate(model, "Once", LONG, recorder)
        recorder.next(TextPiece)
        time.sleep(0.2)
        assert set(niceness()) == {here}
        client.cancel(idle)
        recorder.end()
        write_status(folder, own_status("running"))
        ticket = client.generate(model, "Once", LONG, recorder)
        recorder.next(TextPiece)
        until(lambda: niceness()[-1] == 19)
        assert niceness()[0] == here  # who listens and answers stays awake
        client.cancel(ticket)
        recorder.end()
    finally:
        client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")
def test_a_story_rests_after_each_token_for_as_long_as_a_run_trains(tmp_path: Path, model: str) -> None:
    folder = run_folder.create(tmp_path, "fox")
    folder.write_run({"name": "fox", "created_at": "2026-01-01T00:00:00Z"})
    client = GenerationClient(tmp_path)

    def milliseconds_a_token() -> float:
        recorder = EventRecorder()
        client.generate(model, "Once", SamplingParams(max_tokens=100, seed=3), recorder)
        return 1000 * recorder.end().seconds / 100

    try:
        write_status(folder, own_status("running"))
        until(lambda: milliseconds_a_token() >= 7.9)
        write_status(folder, own_status("finished"))
        until(lambda: milliseconds_a_token() < 4)
    finally:
        client.close()

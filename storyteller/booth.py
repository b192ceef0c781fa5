"""Stories told in a child process, so that whoever shows them never waits and imports nothing heavy.

    booth = Booth(runs_root)
    ticket = booth.tell("latest", "Once upon a time", Sample(seed=7), hear)
    ...  # hear(Opened(...)), hear(Piece(...)), hear(Piece(...)), ..., hear(Ended(...))
    booth.cancel(ticket)

This module is both sides: `Booth` is the parent's; `python -m storyteller.booth --runs-dir RUNS` is the child, which
imports the engine. They speak in JSON, an object a line:

    {"tell": 1, "model": "latest", "prompt": "Once", "sample": {...}}    {"opened": 1, "label": "first@90", "seed": 7}
    {"cancel": 1}                                                        {"piece": 1, "text": " upon a", "tokens": 3}
    {"prepare": "latest"}                                                {"note": 1, ...} {"failed": 1, ...} {"free": 1}
                                                                         {"ended": 1, "tokens": 90, "seconds": 0.1, ...}

The child ends when its standard input does. While a run trains, telling leaves the processor to it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from storyteller.config import Sample
from storyteller.errors import StorytellerError, UsageError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.engine import Engine

_PACKAGE_PARENT = Path(__file__).resolve().parents[1]
_CANCEL_SECONDS = 0.12
"""A story whose cancel the child has not answered after so long is given up."""
_FREE_SECONDS = 2.0
"""A story that was cancelled may hold its model for so long; then a new child takes the place of this one."""
_LINE_BYTES = 1 << 20
_TAIL_BYTES = 4096
_PIECE_CHARS = 1 << 15
_WAVE_SECONDS = 0.05
"""Pieces told within it come as one: whoever draws them is not flooded by a fast model."""
_KEPT_MODELS = 3
"""Models that stay open beside those in use."""
_NICE = 17
"""How far the child steps back behind training while it tells."""
_LOOK_SECONDS = 2.0
"""How often it is looked whether a run trains."""


@dataclass(frozen=True)
class Opened:
    """The model is there, and the story begins."""

    ticket: int
    label: str
    """What the model is called: `run@step`, `starter`, a folder, or `owner/name`."""
    seed: int
    cut: bool = False
    """Whether the prompt outgrew what the model sees, and its newest part alone was given."""


@dataclass(frozen=True)
class Piece:
    """Text, as the model wrote it: to be made safe by whoever shows it."""

    ticket: int
    text: str
    tokens: int
    """Told so far, about: the end counts them."""


@dataclass(frozen=True)
class Note:
    """Something takes long, or was left out."""

    ticket: int
    text: str


@dataclass(frozen=True)
class Ended:
    """The story is over; `text` is all the pieces."""

    ticket: int
    text: str
    tokens: int
    seconds: float
    """From the prompt to the end, without opening the model."""
    seed: int
    finished: bool
    """Whether the model ended it, rather than a limit, a stop string or a cancel."""
    stopped: bool
    """Whether it was cancelled."""


@dataclass(frozen=True)
class Failed:
    """There is no story, or not all of it; each a line that is safe to show."""

    ticket: int
    problem: str
    remedy: str


Event = Opened | Piece | Note | Ended | Failed


# --- the parent -------------------------------------------------------------------------------------------------------


@dataclass
class _Ticket:
    """A story that was asked for and has not ended."""

    number: int
    hear: Callable[[Event], None]
    child: _Child
    asked: dict[str, Any]
    opened: bool = False
    pieces: list[str] = field(default_factory=list)
    tokens: int = 0
    seed: int = 0
    began: float = field(default_factory=time.monotonic)


class Booth:
    """A child process that tells stories, several at once; started by the first. Every method may be called anywhere.

    `hear` is called on the booth's own thread, a story's events in their order: Opened and Piece and Note as they come,
    and Ended or Failed as the last.
    """

    def __init__(self, runs_root: Path, command: Sequence[str] | None = None) -> None:
        """`runs_root` is where runs lie. `command` takes the place of the child's command line."""
        self._command = list(command or (sys.executable, "-m", "storyteller.booth", "--runs-dir", str(runs_root)))
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._open: dict[int, _Ticket] = {}
        self._child: _Child | None = None
        self._closed = False
        self._heard: queue.SimpleQueue[tuple[Callable[[Event], None], Event] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(
        self,
        model: str,
        prompt: str,
        sample: Sample,
        hear: Callable[[Event], None],
        *,
        goes_on: bool = False,
        numbers: str = "fp32",
    ) -> int:
        """Begin a story from `model`, named as everywhere; its ticket. Whatever goes wrong is heard as Failed.

        `goes_on`: the prompt is a story so far, of which the model is given the newest part, with room for more.
        `numbers` is what the model computes with, `fp32` or `int8`.
        """
        with self._lock:
            number = next(self._numbers)
            self._listen()
            try:
                child = self._begin()
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                problem = f"the process that tells stories cannot be started ({safe_line(why, 100)})"
                self._heard.put((hear, Failed(number, problem, "free some memory, and try again")))
                return number
            asked = {"tell": number, "model": model, "numbers": numbers, "prompt": prompt, "goes_on": goes_on}
            asked["sample"] = dataclasses.asdict(sample)
            self._open[number] = _Ticket(number, hear, child, asked)
            child.say(asked)
            return number

    def prepare(self, model: str, numbers: str = "fp32") -> None:
        """Start the child and open `model` ahead of its first story; nothing is heard of it."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._begin().say({"prepare": model, "numbers": numbers})

    def cancel(self, ticket: int) -> None:
        """Stop a story: its Ended comes within 0.2 s, whatever the child does. One that is over stays as it is."""
        with self._lock:
            story = self._open.get(ticket)
            if story is None:
                return
            story.child.cancelled.add(ticket)
            story.child.say({"cancel": ticket})
        _later(_CANCEL_SECONDS, lambda: self._give_up(ticket))
        _later(_FREE_SECONDS, lambda: self._replace(story.child, ticket))

    def close(self) -> None:
        """End the child, also one that hangs, and its stories; nothing is heard after."""
        with self._lock:
            self._closed = True
            children = {id(story.child): story.child for story in self._open.values()}
            if self._child is not None:
                children[id(self._child)] = self._child
            self._open.clear()
            self._child = None
            if self._thread is not None:
                self._heard.put(None)
        for child in children.values():
            child.kill()

    # Under the lock:

    def _begin(self) -> _Child:
        """The child that the next story is told by."""
        if self._closed:
            raise ValueError("it was closed")
        if self._child is None:
            self._child = _Child(self._command, self._said, self._ended)
        return self._child

    def _retire(self, child: _Child) -> None:
        """No new story for this child; once it has none open, it is ended."""
        if self._child is child:
            self._child = None
        if not any(story.child is child for story in self._open.values()):
            threading.Thread(target=child.kill, name="booth-kill", daemon=True).start()

    def _finish(self, story: _Ticket, last: Event) -> None:
        del self._open[story.number]
        self._heard.put((story.hear, last))
        if self._child is not story.child:
            self._retire(story.child)

    # From other threads:

    def _listen(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="booth", daemon=True)
            self._thread.start()

    def _deliver(self) -> None:
        while (heard := self._heard.get()) is not None:
            if not self._closed:
                hear, event = heard
                hear(event)

    def _give_up(self, ticket: int) -> None:
        """End a story whose cancel the child did not answer."""
        with self._lock:
            story = self._open.get(ticket)
            if story is not None:
                seconds = time.monotonic() - story.began if story.opened else 0.0
                self._finish(
                    story, Ended(ticket, "".join(story.pieces), story.tokens, seconds, story.seed, False, stopped=True)
                )

    def _replace(self, child: _Child, ticket: int) -> None:
        """Take a new child where the cancelled story still holds its model; what has not begun is asked of the new."""
        with self._lock:
            if ticket not in child.cancelled or self._child is not child:
                return
            self._child = None
            with contextlib.suppress(OSError, ValueError):
                for story in self._open.values():
                    if story.child is child and not story.opened:
                        story.child = self._begin()
                        story.child.say(story.asked)
            self._retire(child)

    def _said(self, child: _Child, line: dict[str, Any]) -> None:
        """Take one line of the child. Raises KeyError, TypeError, ValueError where it is not one of ours."""
        with self._lock:
            kind, value = next(iter(line.items()))
            if kind == "free":
                child.cancelled.discard(value)
                return
            story = self._open.get(value)
            if story is None or story.child is not child:
                return  # it was given up
            event = _event(kind, story, line)
            if isinstance(event, Ended | Failed):
                self._finish(story, event)
            else:
                self._heard.put((story.hear, event))

    def _ended(self, child: _Child, why: str) -> None:
        """The child is gone: fail what it was telling."""
        with self._lock:
            if self._child is child:
                self._child = None
            for story in [story for story in self._open.values() if story.child is child]:
                remedy = "tell it again: a new one starts then. Is there memory for the model?"
                self._finish(story, Failed(story.number, f"the process that tells stories ended ({why})", remedy))


def _later(seconds: float, work: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


def _event(kind: str, story: _Ticket, line: dict[str, Any]) -> Event:
    """A line of the child as an event; what it says of the story is kept. Raises KeyError, TypeError, ValueError."""
    if kind == "piece":
        story.pieces.append(_text(line["text"]))
        story.tokens = _whole(line["tokens"])
        return Piece(story.number, story.pieces[-1], story.tokens)
    if kind == "opened":
        story.opened, story.seed, story.began = True, _whole(line["seed"]), time.monotonic()
        return Opened(story.number, safe_line(_text(line["label"]), 200), story.seed, line["cut"] is True)
    if kind == "note":
        return Note(story.number, safe_line(_text(line["text"]), 300))
    if kind == "failed":
        return Failed(story.number, safe_line(_text(line["problem"]), 500), safe_line(_text(line["remedy"]), 300))
    if kind == "ended":
        seconds = float(line["seconds"])
        if not math.isfinite(seconds):
            raise ValueError("seconds")
        finished, stopped = line["finished"] is True, line["stopped"] is True
        text = "".join(story.pieces)
        return Ended(story.number, text, _whole(line["tokens"]), seconds, story.seed, finished, stopped)
    raise ValueError(kind)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    return value


class _Child:
    """The process, and the threads that read and write its pipes."""

    def __init__(
        self,
        command: Sequence[str],
        said: Callable[[_Child, dict[str, Any]], None],
        ended: Callable[[_Child, str], None],
    ) -> None:
        """Raises OSError where it cannot be started."""
        self.cancelled: set[int] = set()
        """Cancelled stories that still hold their model."""
        self._said = said
        self._ended = ended
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._tail = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                **os.environ,
                "TOKENIZERS_PARALLELISM": "false",
                # The child finds this very package, and nothing that happens to lie in the current folder.
                "PYTHONPATH": os.pathsep.join(filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")))),
                "PYTHONSAFEPATH": "1",
            },
            # Ctrl-C is the parent's; and the scheduler weighs sessions against each other, where it groups them.
            start_new_session=True,
        )
        for work in (self._write, self._read, self._read_errors):
            threading.Thread(target=work, name=f"booth{work.__name__}", daemon=True).start()

    def say(self, line: dict[str, Any]) -> None:
        """Send a line; never waits."""
        self._lines.put(json.dumps(line).encode("ascii") + b"\n")

    def kill(self) -> None:
        """End the process and those that it started."""
        import psutil

        self._lines.put(None)
        if self._process.poll() is None:  # else its number may be another's by now
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(self._process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        process.kill()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)

    def _write(self) -> None:
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101
        with contextlib.suppress(OSError):
            while (line := self._lines.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101
        why = ""
        while not why and (line := pipe.readline(_LINE_BYTES)):
            try:
                self._said(self, json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, StopIteration, RecursionError):
                why = "it said what cannot be understood"
        if why:
            self._process.kill()
        self._ended(self, why or self._last_words())
        self.kill()
        pipe.close()

    def _read_errors(self) -> None:
        pipe = self._process.stderr
        assert pipe is not None  # noqa: S101
        with pipe:
            while block := os.read(pipe.fileno(), _TAIL_BYTES):
                self._tail = (self._tail + block)[-_TAIL_BYTES:]

    def _last_words(self) -> str:
        """How it ended, and the last line of what it printed."""
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "it does not speak any more"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        time.sleep(0.02)  # for the thread that reads what it printed
        lines = [line for line in self._tail.decode("utf-8", "replace").splitlines() if line.strip()]
        return f"{how}: {safe_line(lines[-1].strip(), 200)}" if lines else how


# --- the child --------------------------------------------------------------------------------------------------------


class _Outbox:
    """What the parent is told, in order; written by a thread of its own, a wave at a time."""

    def __init__(self, pipe: BinaryIO, manners: _Manners) -> None:
        self._pipe = pipe
        self._manners = manners
        self._lock = threading.Lock()
        self._waiting: list[dict[str, Any]] = []
        self._any = threading.Event()
        threading.Thread(target=self._write, name="outbox", daemon=True).start()

    def put(self, line: dict[str, Any]) -> None:
        """Send `line`; pieces of one story that wait become one."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else {}
            if "piece" in line and last.get("piece") == line["piece"] and len(last["text"]) < _PIECE_CHARS:
                last["text"] += line["text"]
                last["tokens"] = line["tokens"]
            else:
                self._waiting.append(line)
            self._any.set()

    def _write(self) -> None:
        self._manners.keep()
        try:
            while self._any.wait():
                with self._lock:
                    wave, self._waiting = self._waiting, []
                    self._any.clear()
                self._pipe.write(b"".join(json.dumps(line).encode("ascii") + b"\n" for line in wave))
                if any("piece" in line for line in wave):
                    time.sleep(_WAVE_SECONDS)
        except OSError:  # nobody listens any more
            os._exit(0)


class _Manners:
    """Who goes first: opening a model is quick; telling leaves the processor to a run that trains.

    A thread that has stepped back can never come forward again, so it is the threads of one telling that do. Linux may
    weigh whole sessions against each other, whatever their threads say; ours is one of its own, and its weight can be
    changed again.
    """

    def __init__(self, trains: Callable[[], bool]) -> None:
        """`trains` says whether there is anything to step back for."""
        self._trains = trains
        self._lock = threading.Lock()
        self._hasty: set[int] = set()
        self._patient: set[int] = set()
        self._kept = {threading.get_native_id()}
        self._changed = threading.Event()
        self._group: Path | None = Path("/proc/self/autogroup")
        self._weight = 0
        threading.Thread(target=self._watch, name="manners", daemon=True).start()

    def start(self, work: Callable[[], None]) -> None:
        """`work` on a thread of its own, which goes at full speed until it calls `step_back`."""

        def do() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._hasty.discard(threading.get_native_id())
                    self._patient.discard(threading.get_native_id())
                self._changed.set()

        thread = threading.Thread(target=do, daemon=True)
        with self._lock:
            thread.start()
            self._hasty.add(thread.native_id or 0)
        self._changed.set()

    def keep(self) -> None:
        """The calling thread never steps back: it only listens or writes."""
        with self._lock:
            self._kept.add(threading.get_native_id())

    def step_back(self) -> None:
        """From here on the calling thread and what it started (a model's threads, a process) wait for training."""
        with self._lock:
            self._hasty.discard(threading.get_native_id())
            self._patient.add(threading.get_native_id())
        self._changed.set()

    def _watch(self) -> None:
        self.keep()
        while True:
            self._changed.wait(_LOOK_SECONDS if self._patient else None)
            self._changed.clear()
            if not self._patient or not self._trains():
                self._weigh(0)
            else:
                with self._lock:
                    self._step_back()
                self._weigh(0 if self._hasty else _NICE)

    def _step_back(self) -> None:
        if sys.platform != "linux":
            os.setpriority(os.PRIO_PROCESS, 0, _NICE)
            return
        # A process that another thread started may still be opening its model.
        for task in (Path("/proc/self/task"), *(() if self._hasty else _descendants())):
            with contextlib.suppress(OSError):
                for thread in map(int, os.listdir(task)):  # noqa: PTH208
                    if thread not in self._kept and thread not in self._hasty:
                        with contextlib.suppress(OSError):
                            os.setpriority(os.PRIO_PROCESS, thread, _NICE)

    def _weigh(self, weight: int) -> None:
        """Give the session this weight. The kernel takes few changes a second; then it is tried again."""
        if weight != self._weight and self._group is not None:
            try:
                self._group.write_text(str(weight))
                self._weight = weight
            except BlockingIOError:
                time.sleep(_WAVE_SECONDS)
                self._changed.set()
            except OSError:  # no such thing here
                self._group = None


def _any_trains(runs_root: Path) -> bool:
    from storyteller.runs.status import LIVING, seen_state
    from storyteller.runs.store import list_runs

    return any(seen_state(run) in LIVING for run in list_runs(runs_root))


def _descendants() -> list[Path]:
    """Where the threads of the processes are that this one started."""
    import psutil

    try:
        return [Path(f"/proc/{process.pid}/task") for process in psutil.Process().children(recursive=True)]
    except psutil.Error:
        return []


class _Models:
    """Open models: lent to one story at a time, a few kept for the next."""

    def __init__(self, runs_root: Path) -> None:
        self._runs_root = runs_root
        self._lock = threading.Lock()
        self._idle: OrderedDict[object, tuple[str, Engine]] = OrderedDict()

    def open(self, reference: str, numbers: str, log: Callable[[str], None]) -> tuple[str, Engine]:
        """A model that nobody uses, and what `give_back` wants with it. A run's newest checkpoint is found anew."""
        from storyteller.engine import open_model

        identity = f"{numbers} {self._identity(reference)}"
        with self._lock:
            for key, (known, engine) in self._idle.items():
                if known == identity:
                    del self._idle[key]
                    return identity, engine
        return identity, open_model(reference, self._runs_root, log=log, numbers=numbers)

    def give_back(self, identity: str, engine: Engine) -> None:
        with self._lock:
            self._idle[object()] = (identity, engine)
            extra = [self._idle.popitem(last=False)[1][1] for _ in range(len(self._idle) - _KEPT_MODELS)]
        for old in extra:
            old.close()

    def _identity(self, reference: str) -> str:
        """What stays the same for as long as the reference means the same model. Raises as `open_model` does."""
        from storyteller.engine import newest_label
        from storyteller.runs.store import find_checkpoint

        label = newest_label(reference, self._runs_root)
        path = Path(reference).expanduser() if label is None else find_checkpoint(self._runs_root, label)
        if label is None and ("/" not in reference or not path.is_dir()):
            return reference
        times = [file.stat().st_mtime_ns for file in sorted(path.iterdir()) if file.is_file()]
        return f"{path.resolve()} {times}"


@dataclass
class _Telling:
    """One story while it is told."""

    number: int
    engine: Engine | None = None
    sample: Sample = field(default_factory=Sample)
    pieces: list[str] = field(default_factory=list)
    began: float = 0.0
    over: bool = False


class _Teller:
    """Takes the parent's lines; each story is told on a thread of its own."""

    def __init__(self, runs_root: Path, outbox: _Outbox, manners: _Manners) -> None:
        self._outbox = outbox
        self._manners = manners
        self._models = _Models(runs_root)
        self._lock = threading.Lock()
        self._tellings: dict[int, _Telling] = {}

    def take(self, line: dict[str, Any]) -> None:
        if "tell" in line:
            story = self._tellings[line["tell"]] = _Telling(line["tell"])
            self._manners.start(lambda: self._tell(story, line))
        elif "cancel" in line:
            self._cancel(line["cancel"])
        elif "prepare" in line:
            self._manners.start(lambda: self._prepare(line["prepare"], line["numbers"]))

    def _prepare(self, model: str, numbers: str) -> None:
        with contextlib.suppress(Exception):
            self._models.give_back(*self._models.open(model, numbers, lambda _: None))

    def _cancel(self, number: int) -> None:
        """End a story at once; its thread lets go of the model when it can."""
        story = self._tellings.get(number)
        if story is None:
            return
        with self._lock:
            if story.over:
                return
            story.over = True
        self._say_ended(story, self._count(story), finished=False, stopped=True)

    def _count(self, story: _Telling) -> int:
        try:
            return story.engine.count("".join(story.pieces)) if story.engine is not None else 0
        except Exception:  # noqa: BLE001  a figure for the eye, of a story that is over
            return len(story.pieces)

    def _tell(self, story: _Telling, asked: dict[str, Any]) -> None:
        try:
            self._tell_from(story, asked)
        except StorytellerError as error:
            self._fail(story, error.problem, error.remedy)
        except Exception as error:  # noqa: BLE001  whatever it is, one line says it
            model = safe_line(str(asked["model"]), 100)
            why = safe_line(f"{type(error).__name__}: {error}", 200)
            self._fail(story, f"{model} cannot be told from ({why})", "take another model")
        finally:
            self._tellings.pop(story.number, None)
            self._outbox.put({"free": story.number})

    def _tell_from(self, story: _Telling, asked: dict[str, Any]) -> None:
        from storyteller.engine import with_seed

        story.sample = with_seed(Sample(**{**asked["sample"], "stop": tuple(asked["sample"]["stop"])}))
        identity, engine = self._models.open(asked["model"], asked["numbers"], lambda text: self._note(story, text))
        story.engine, sound = engine, False
        try:
            self._stream(story, engine, asked)
            sound = True
        except UsageError:
            sound = True
            raise
        finally:
            if sound:
                self._models.give_back(identity, engine)
            else:
                engine.close()

    def _stream(self, story: _Telling, engine: Engine, asked: dict[str, Any]) -> None:
        prompt = asked["prompt"]
        cut = engine.count(prompt) >= engine.context
        pieces = engine.stream(engine.recent(prompt) if cut or asked["goes_on"] else prompt, story.sample)
        try:
            opened = {"opened": story.number, "label": engine.label, "seed": story.sample.seed or 0, "cut": cut}
            self._say(story, opened)
            story.began = time.monotonic()
            while not story.over:
                piece = next(pieces)
                self._hear(story, piece)
                if len(story.pieces) == 1:
                    self._manners.step_back()
        except StopIteration as end:
            with self._lock:
                late, story.over = story.over, True
            if not late:
                self._say_ended(story, end.value.tokens, finished=end.value.finished, stopped=False)
        finally:
            pieces.close()

    def _hear(self, story: _Telling, piece: str) -> None:
        with self._lock:
            if story.over:
                return
            story.pieces.append(piece)
            for first in range(0, len(piece), _PIECE_CHARS):
                text = piece[first : first + _PIECE_CHARS]
                self._outbox.put({"piece": story.number, "text": text, "tokens": len(story.pieces)})

    def _note(self, story: _Telling, text: str) -> None:
        self._say(story, {"note": story.number, "text": text})

    def _fail(self, story: _Telling, problem: str, remedy: str) -> None:
        self._say(story, {"failed": story.number, "problem": problem, "remedy": remedy})

    def _say(self, story: _Telling, line: dict[str, Any]) -> None:
        """Send `line`, unless the story is over."""
        with self._lock:
            if not story.over:
                self._outbox.put(line)

    def _say_ended(self, story: _Telling, tokens: int, *, finished: bool, stopped: bool) -> None:
        seconds = time.monotonic() - story.began if story.began else 0.0
        self._outbox.put(
            {"ended": story.number, "tokens": tokens, "seconds": seconds, "finished": finished, "stopped": stopped}
        )


def main(arguments: Sequence[str]) -> None:
    """Take the parent's lines until they end; then the process ends at once, whatever it is telling."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m storyteller.booth")
    parser.add_argument("--runs-dir", type=Path, required=True)
    runs_root = parser.parse_args(arguments).runs_dir
    # Whatever a library prints must not fall among the lines.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    manners = _Manners(lambda: _any_trains(runs_root))
    teller = _Teller(runs_root, _Outbox(pipe, manners), manners)
    for line in sys.stdin.buffer:
        teller.take(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])

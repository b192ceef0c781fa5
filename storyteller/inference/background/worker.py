"""The child process of background generation: reads the parent's requests, and runs each story on its own thread."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError, UsageError
from storyteller.inference.background.cpu_yield import CpuYield
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, Released, TextPiece
from storyteller.inference.engine import Engine, newest_label, open_model
from storyteller.inference.generate import with_seed
from storyteller.system import cpu_priority
from storyteller.text import safe_line
from storyteller.tracking.run_index import any_trains, find_checkpoint

_MAX_IDLE_MODELS = 3
_PIECE_CHARS = 1 << 15
_BATCH_SECONDS = 0.05
"""Pieces generated within this time are sent as one, so that a fast model does not flood the screen that draws them."""


class OutputQueue:
    """Writes events to the parent in order, on a thread of its own, so that generation never waits for the pipe."""

    def __init__(self, pipe: BinaryIO, cpu_yield: CpuYield) -> None:
        self._pipe = pipe
        self._cpu_yield = cpu_yield
        self._lock = threading.Lock()
        self._waiting: list[Event | Released] = []
        self._any = threading.Event()
        threading.Thread(target=self._write, name="output-queue", daemon=True).start()

    def put(self, event: Event | Released) -> None:
        """Queues an event; a piece is appended to a waiting piece of the same story."""
        with self._lock:
            last = self._waiting[-1] if self._waiting else None
            if (
                isinstance(event, TextPiece)
                and isinstance(last, TextPiece)
                and last.ticket == event.ticket
                and len(last.text) < _PIECE_CHARS
            ):
                self._waiting[-1] = TextPiece(event.ticket, last.text + event.text, event.tokens)
            else:
                self._waiting.append(event)
            self._any.set()

    def _write(self) -> None:
        self._cpu_yield.exempt_this_thread()
        try:
            while self._any.wait():
                with self._lock:
                    batch, self._waiting = self._waiting, []
                    self._any.clear()
                messages = ({"event": type(event).__name__, **vars(event)} for event in batch)
                self._pipe.write(b"".join(json.dumps(message).encode("ascii") + b"\n" for message in messages))
                if any(isinstance(event, TextPiece) for event in batch):
                    time.sleep(_BATCH_SECONDS)
        except OSError:  # the parent is gone
            os._exit(0)


class ModelPool:
    """Loads models, lends each to one story at a time, and keeps the few used last for the next stories."""

    def __init__(self, runs_root: Path) -> None:
        self._runs_root = runs_root
        self._lock = threading.Lock()
        self._idle: list[tuple[str, Engine]] = []  # with their identities, the last used at the end

    def acquire(self, reference: str, compute_type: str, log: Callable[[str], None]) -> tuple[str, Engine]:
        """Returns an idle or newly loaded model with its identity, both to be passed to `release`.

        A run without a step means its newest checkpoint at each call. Raises as `open_model` does.
        """
        threads = cpu_priority.GENERATION_THREADS if any_trains(self._runs_root) else 0
        identity = f"{compute_type} {threads} {self._identity(reference)}"
        with self._lock:
            for index, (known, _) in enumerate(self._idle):
                if known == identity:
                    return self._idle.pop(index)
        return identity, open_model(reference, self._runs_root, threads, log, compute_type)

    def release(self, identity: str, engine: Engine) -> None:
        """Makes the model idle, and closes those that have been idle longest beyond `_MAX_IDLE_MODELS`."""
        with self._lock:
            self._idle.append((identity, engine))
            extra, self._idle = self._idle[:-_MAX_IDLE_MODELS], self._idle[-_MAX_IDLE_MODELS:]
        for _, old in extra:
            old.close()

    def _identity(self, reference: str) -> str:
        """A string that changes when the reference comes to mean other weights, such as a newer checkpoint."""
        label = newest_label(reference, self._runs_root)
        path = Path(reference).expanduser() if label is None else find_checkpoint(self._runs_root, label)
        if label is None and ("/" not in reference or not path.is_dir()):
            return reference
        times = [file.stat().st_mtime_ns for file in sorted(path.iterdir()) if file.is_file()]
        return f"{path.resolve()} {times}"


@dataclass
class _Request:
    """A story that is being generated."""

    ticket: int
    engine: Engine | None = None
    seed: int = 0
    pieces: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: bool = False  # True once its last event is queued; nothing is sent after it


class _Worker:
    """Handles the parent's messages."""

    def __init__(self, runs_root: Path, output: OutputQueue, cpu_yield: CpuYield) -> None:
        self._output = output
        self._cpu_yield = cpu_yield
        self._models = ModelPool(runs_root)
        self._lock = threading.Lock()
        self._requests: dict[int, _Request] = {}

    def handle(self, message: dict[str, Any]) -> None:
        if "generate" in message:
            request = self._requests[message["generate"]] = _Request(message["generate"])
            self._cpu_yield.start(lambda: self._run(request, message))
        elif "cancel" in message:
            self._cancel(message["cancel"])
        elif "prepare" in message:
            self._cpu_yield.start(lambda: self._prepare(message["prepare"]))

    def _prepare(self, model: str) -> None:
        with contextlib.suppress(Exception):
            self._models.release(*self._models.acquire(model, "fp32", lambda _: None))

    def _cancel(self, ticket: int) -> None:
        """Ends a story at once; its thread releases the model as soon as it can."""
        request = self._requests.get(ticket)
        with self._lock:
            if request is None or request.ended:
                return
            request.ended = True
        try:
            tokens = request.engine.count("".join(request.pieces)) if request.engine is not None else 0
        except Exception:  # noqa: BLE001  the count is only shown, and the story has ended
            tokens = len(request.pieces)
        self._send_ended(request, tokens, finished=False, stopped=True)

    def _run(self, request: _Request, message: dict[str, Any]) -> None:
        try:
            self._generate(request, message)
        except StorytellerError as error:
            self._send(request, Failed(request.ticket, error.problem, error.remedy))
        except Exception as error:  # noqa: BLE001  every failure is reported to the parent
            model = safe_line(str(message["model"]), 100)
            why = safe_line(f"{type(error).__name__}: {error}", 200)
            self._send(request, Failed(request.ticket, f"{model} cannot generate ({why})", "take another model"))
        finally:
            self._requests.pop(request.ticket, None)
            self._output.put(Released(request.ticket))

    def _generate(self, request: _Request, message: dict[str, Any]) -> None:
        plain = message["sampling"]
        params = with_seed(SamplingParams(**{**plain, "stop": tuple(plain["stop"])}))
        identity, engine = self._models.acquire(
            message["model"], message["compute_type"], lambda text: self._send(request, Note(request.ticket, text))
        )
        request.engine, request.seed = engine, params.seed or 0
        try:
            self._stream(request, engine, params, message)
        except UsageError:  # the request is to blame, not the model
            self._models.release(identity, engine)
            raise
        except BaseException:
            engine.close()
            raise
        self._models.release(identity, engine)

    def _stream(self, request: _Request, engine: Engine, params: SamplingParams, message: dict[str, Any]) -> None:
        prompt = message["prompt"]
        cut = engine.count(prompt) >= engine.context
        pieces = engine.stream(engine.recent(prompt) if cut or message["goes_on"] else prompt, params)
        try:
            self._send(request, ModelOpened(request.ticket, engine.label, request.seed, cut))
            request.began = time.monotonic()
            while not request.ended:
                self._send_piece(request, next(pieces))
                if len(request.pieces) == 1:  # now the user has something to read
                    self._cpu_yield.lower_priority()
        except StopIteration as end:
            with self._lock:
                cancelled, request.ended = request.ended, True
            if not cancelled:
                self._send_ended(request, end.value.tokens, finished=end.value.finished, stopped=False)
        finally:
            pieces.close()

    def _send_piece(self, request: _Request, piece: str) -> None:
        with self._lock:
            if request.ended:
                return
            request.pieces.append(piece)
            for first in range(0, len(piece), _PIECE_CHARS):
                text = piece[first : first + _PIECE_CHARS]
                self._output.put(TextPiece(request.ticket, text, len(request.pieces)))

    def _send(self, request: _Request, event: Event) -> None:
        """Sends `event` unless the story has ended."""
        with self._lock:
            if not request.ended:
                self._output.put(event)

    def _send_ended(self, request: _Request, tokens: int, *, finished: bool, stopped: bool) -> None:
        seconds = time.monotonic() - request.began if request.began else 0.0
        self._output.put(Ended(request.ticket, "", tokens, seconds, request.seed, finished, stopped))


def main() -> None:
    """Handles requests until standard input ends; then exits at once, whatever is being generated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs-dir", type=Path, required=True)
    runs_root = parser.parse_args().runs_dir
    # Messages get a descriptor of their own, and standard output becomes standard error: a library that prints cannot
    # break the protocol.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    cpu_yield = CpuYield(lambda: any_trains(runs_root))
    worker = _Worker(runs_root, OutputQueue(pipe, cpu_yield), cpu_yield)
    for line in sys.stdin.buffer:
        worker.handle(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()

"""The child process of background generation: reads the parent's requests, and runs each story on its own thread."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError, UsageError
from storyteller.inference.background.cpu_yield import CpuYield
from storyteller.inference.background.events import Ended, Event, Failed, ModelOpened, Note, Released, TextPiece
from storyteller.inference.background.model_pool import ModelPool
from storyteller.inference.background.output_queue import PIECE_CHARS, OutputQueue
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.inference.engine import Engine


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
            self._cpu_yield.start(lambda: self._prepare(message["prepare"], message["compute_type"]))

    def _prepare(self, model: str, compute_type: str) -> None:
        with contextlib.suppress(Exception):
            self._models.release(*self._models.acquire(model, compute_type, lambda _: None))

    def _cancel(self, ticket: int) -> None:
        """Ends a story at once; its thread releases the model as soon as it can."""
        request = self._requests.get(ticket)
        if request is None:
            return
        with self._lock:
            if request.ended:
                return
            request.ended = True
        self._send_ended(request, self._count_tokens(request), finished=False, stopped=True)

    def _count_tokens(self, request: _Request) -> int:
        try:
            return request.engine.count("".join(request.pieces)) if request.engine is not None else 0
        except Exception:  # noqa: BLE001  the count is only shown, and the story has ended
            return len(request.pieces)

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
        from storyteller.inference.engine import with_seed

        plain = message["sampling"]
        params = with_seed(SamplingParams(**{**plain, "stop": tuple(plain["stop"])}))

        def log(text: str) -> None:
            self._send(request, Note(request.ticket, text))

        identity, engine = self._models.acquire(message["model"], message["compute_type"], log)
        request.engine, request.seed, is_usable = engine, params.seed or 0, False
        try:
            self._stream(request, engine, params, message)
            is_usable = True
        except UsageError:  # the request is to blame, not the model
            is_usable = True
            raise
        finally:
            if is_usable:
                self._models.release(identity, engine)
            else:
                engine.close()

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
            for first in range(0, len(piece), PIECE_CHARS):
                text = piece[first : first + PIECE_CHARS]
                self._output.put(TextPiece(request.ticket, text, len(request.pieces)))

    def _send(self, request: _Request, event: Event) -> None:
        """Sends `event` unless the story has ended."""
        with self._lock:
            if not request.ended:
                self._output.put(event)

    def _send_ended(self, request: _Request, tokens: int, *, finished: bool, stopped: bool) -> None:
        seconds = time.monotonic() - request.began if request.began else 0.0
        self._output.put(Ended(request.ticket, "", tokens, seconds, request.seed, finished, stopped))


def main(arguments: Sequence[str]) -> None:
    """Handles requests until standard input ends; then exits at once, whatever is being generated."""
    import argparse

    from storyteller.tracking.run_index import any_trains

    parser = argparse.ArgumentParser(prog="python -m storyteller.inference.background")
    parser.add_argument("--runs-dir", type=Path, required=True)
    runs_root = parser.parse_args(arguments).runs_dir
    # Messages get a descriptor of their own, and standard output becomes standard error: a library that prints cannot
    # break the protocol.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    cpu_yield = CpuYield(lambda: any_trains(runs_root))
    worker = _Worker(runs_root, OutputQueue(pipe, cpu_yield), cpu_yield)
    for line in sys.stdin.buffer:
        worker.handle(json.loads(line))
    os._exit(0)

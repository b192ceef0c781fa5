"""The child's side: it takes the parent's lines, and tells each story on a thread of its own."""

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
from storyteller.inference.background.model_pool import ModelPool
from storyteller.inference.background.output_queue import PIECE_CHARS, OutputQueue
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.inference.engine import Engine


@dataclass
class _Request:
    """One story while it is told."""

    number: int
    engine: Engine | None = None
    sample: SamplingParams = field(default_factory=SamplingParams)
    pieces: list[str] = field(default_factory=list)
    began: float = 0.0
    over: bool = False


class _Worker:
    """Takes the parent's lines; each story is told on a thread of its own."""

    def __init__(self, runs_root: Path, outbox: OutputQueue, manners: CpuYield) -> None:
        self._outbox = outbox
        self._manners = manners
        self._models = ModelPool(runs_root)
        self._lock = threading.Lock()
        self._tellings: dict[int, _Request] = {}

    def take(self, line: dict[str, Any]) -> None:
        if "tell" in line:
            story = self._tellings[line["tell"]] = _Request(line["tell"])
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

    def _count(self, story: _Request) -> int:
        try:
            return story.engine.count("".join(story.pieces)) if story.engine is not None else 0
        except Exception:  # noqa: BLE001  a figure for the eye, of a story that is over
            return len(story.pieces)

    def _tell(self, story: _Request, asked: dict[str, Any]) -> None:
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

    def _tell_from(self, story: _Request, asked: dict[str, Any]) -> None:
        from storyteller.inference.engine import with_seed

        story.sample = with_seed(SamplingParams(**{**asked["sample"], "stop": tuple(asked["sample"]["stop"])}))
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

    def _stream(self, story: _Request, engine: Engine, asked: dict[str, Any]) -> None:
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

    def _hear(self, story: _Request, piece: str) -> None:
        with self._lock:
            if story.over:
                return
            story.pieces.append(piece)
            for first in range(0, len(piece), PIECE_CHARS):
                text = piece[first : first + PIECE_CHARS]
                self._outbox.put({"piece": story.number, "text": text, "tokens": len(story.pieces)})

    def _note(self, story: _Request, text: str) -> None:
        self._say(story, {"note": story.number, "text": text})

    def _fail(self, story: _Request, problem: str, remedy: str) -> None:
        self._say(story, {"failed": story.number, "problem": problem, "remedy": remedy})

    def _say(self, story: _Request, line: dict[str, Any]) -> None:
        """Send `line`, unless the story is over."""
        with self._lock:
            if not story.over:
                self._outbox.put(line)

    def _say_ended(self, story: _Request, tokens: int, *, finished: bool, stopped: bool) -> None:
        seconds = time.monotonic() - story.began if story.began else 0.0
        self._outbox.put(
            {"ended": story.number, "tokens": tokens, "seconds": seconds, "finished": finished, "stopped": stopped}
        )


def main(arguments: Sequence[str]) -> None:
    """Take the parent's lines until they end; then the process ends at once, whatever it is telling."""
    import argparse

    from storyteller.tracking.run_index import any_trains

    parser = argparse.ArgumentParser(prog="python -m storyteller.inference.background")
    parser.add_argument("--runs-dir", type=Path, required=True)
    runs_root = parser.parse_args(arguments).runs_dir
    # Whatever a library prints must not fall among the lines.
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    manners = CpuYield(lambda: any_trains(runs_root))
    teller = _Worker(runs_root, OutputQueue(pipe, manners), manners)
    for line in sys.stdin.buffer:
        teller.take(json.loads(line))
    os._exit(0)

"""Child process that makes a small card of each checkpoint of a run: `python -m <this module> RUN_FOLDER`.

Reads one JSON object per line from standard input, {"folder", "label", "step"}, and answers each with one line:
{"scores", "card", "line"} or {"error"}. Runs at the lowest CPU priority and ends with its parent process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from storyteller.errors import StorytellerError
from storyteller.evaluation.model_card import make_card, training_stories
from storyteller.evaluation.model_card.card import format_value
from storyteller.evaluation.model_card.generate_stories import generate_stories, sampling_params
from storyteller.evaluation.model_card.make_card import CardReferences
from storyteller.evaluation.prompts import load_prompts
from storyteller.inference.engine import open_model
from storyteller.tracking.run_folder import RunFolder

_TRAINING_STORIES = 4_000  # training stories in which copies are looked for; `storyteller card` reads more
_REAL_STORIES = 200
_LOGGED_KEYS = ("known_words_pct", "looped_pct", "copied_pct")  # the metrics in the line for the run's log


def main(arguments: Sequence[str] | None = None) -> None:
    """Answers requests until standard input ends."""
    parser = argparse.ArgumentParser(
        prog="storyteller.evaluation.model_card.card_worker", description="Makes cards (started by storyteller)."
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--completions", type=int, default=1, help="stories per prompt")
    parser.add_argument("--seed", type=int, default=0, help="seed of the stories")
    given = parser.parse_args(arguments)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), name="requests", daemon=True).start()
    maker = _CardMaker(RunFolder(given.folder), given.completions, given.seed)
    while True:
        request = json.loads(requests.get())
        try:
            answer = maker.answer(request)
        except StorytellerError as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001  the parent logs it
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(json.dumps(answer).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


def _read_requests(requests: queue.Queue[bytes]) -> None:
    """Queues requests. At the end of standard input, ends the process at once: its parent has ended."""
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)


class _CardMaker:
    """Makes cards of a run's checkpoints, each from the same prompts with the same seed."""

    def __init__(self, run: RunFolder, completions: int, seed: int) -> None:
        self._run = run
        self._completions = completions
        self._params = sampling_params(seed)
        self._notes: list[str] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Returns the scores, the card and a line for the log. Raises StorytellerError."""
        began = time.perf_counter()
        with open_model(str(request["folder"]), threads=1) as engine:
            generated = generate_stories(engine, load_prompts(), self._completions, self._params)
        card = make_card.assemble_card(str(request["label"]), generated, self._references, self._notes, began)
        logged = [figure for figure in card.figures if figure.key in _LOGGED_KEYS]
        return {
            "scores": {figure.key: figure.value.value for figure in card.figures},
            "card": card.to_json(),
            "line": ", ".join(f"{figure.title} {format_value(figure.unit, figure.value.value)}" for figure in logged),
        }

    @cached_property
    def _references(self) -> CardReferences:
        self._notes.clear()  # of an earlier request, at which this failed
        training = training_stories.find_training_stories(self._run, (), _TRAINING_STORIES, self._notes.append)
        return CardReferences(training, make_card.find_real_stories(self._run, (), _REAL_STORIES, self._notes.append))


if __name__ == "__main__":
    main()

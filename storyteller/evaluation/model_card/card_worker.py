"""The process that makes small cards beside a training run: `python -m storyteller.evaluation.model_card.card_worker RUN_FOLDER`.

It is given a JSON object a line ({"folder", "label", "step"}) and answers each with one: {"scores", "card", "line"}, or
{"error"}. It takes what the training leaves of the processor, and ends with whoever started it.
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
from pathlib import Path
from typing import Any

from storyteller.errors import StorytellerError
from storyteller.evaluation.model_card import generate_stories, make_card, training_stories, worst_examples
from storyteller.evaluation.model_card.card import form
from storyteller.evaluation.model_card.make_card import Bench
from storyteller.evaluation.prompts import load_prompts
from storyteller.inference.engine import open_model
from storyteller.tracking.run_folder import RunFolder

MOST_TRAINED = 4_000
"""Training stories that copies are looked for in: the whole card of a checkpoint looks in more."""
MOST_REAL = 200
_SAID = ("known_words_pct", "looped_pct", "copied_pct")
"""The figures of the line for the run's log."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer questions until there are no more."""
    parser = argparse.ArgumentParser(
        prog="storyteller.evaluation.model_card.card_worker", description="Make cards (started by storyteller)."
    )
    parser.add_argument("folder", type=Path, help="the run's folder")
    parser.add_argument("--completions", type=int, default=1, help="stories a prompt")
    parser.add_argument("--seed", type=int, default=0, help="of the stories")
    given = parser.parse_args(arguments)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(19)
    questions: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(questions,), name="lifeline", daemon=True).start()
    maker = Maker(RunFolder(given.folder), given.completions, given.seed)
    while True:
        question = json.loads(questions.get())
        try:
            answer = maker.answer(question)
        except StorytellerError as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001  the training's log says it
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(json.dumps(answer).encode("ascii") + b"\n")
        sys.stdout.buffer.flush()


def _listen(questions: queue.Queue[bytes]) -> None:
    """Take questions as they come; the end of them ends the process at once, whatever it is at."""
    for line in sys.stdin.buffer:
        questions.put(line)
    os._exit(0)


class Maker:
    """Cards of one run's weights, each told from the same prompts with the same seed."""

    def __init__(self, run: RunFolder, completions: int, seed: int) -> None:
        self._run = run
        self._completions = completions
        self._sample = generate_stories.recipe(seed)
        self._bench: Bench | None = None
        self._notes: list[str] = []

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """The scores and the card of the model in a folder. Raises StorytellerError."""
        began = time.perf_counter()
        with open_model(str(question["folder"]), threads=1) as engine:
            told = generate_stories.tell(engine, load_prompts(), self._completions, self._sample)
        bench = self._bench = self._bench or self._read()
        figures = bench.figures(told.stories)
        examples = worst_examples.examples(told.stories, bench.reference, bench.trained.stories)
        card = make_card.document(str(question["label"]), told, bench, figures, examples, self._notes, began)
        said = [f"{figure.title} {form(figure.unit, figure.value.value)}" for figure in figures if figure.key in _SAID]
        return {
            "scores": {figure.key: figure.value.value for figure in figures},
            "card": card.to_json(),
            "line": ", ".join(said),
        }

    def _read(self) -> Bench:
        self._notes.clear()
        trained = training_stories.find(self._run, (), MOST_TRAINED, self._notes.append)
        held = make_card.held_out_stories(self._run, (), MOST_REAL, self._notes.append)
        return Bench(trained, held.stories, held.source)


if __name__ == "__main__":
    main()

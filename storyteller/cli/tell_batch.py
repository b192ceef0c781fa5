"""Many stories at once: generates them in batches, writes them in order, and shows progress at a terminal."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from storyteller.cli.progress_line import ProgressLine, leave, run_interruptibly
from storyteller.cli.story_output import HistoryWriter, StoryWriter, story_json
from storyteller.cli.text_tables import warn
from storyteller.config.configs import SamplingParams
from storyteller.inference.generate_many import StoryBatch, generate_many

if TYPE_CHECKING:
    from storyteller.evaluation.prompts import PromptRequest
    from storyteller.inference.loaded_model import LoadedModel

BATCH_SIZE = 64


def generate_and_write(
    loaded: LoadedModel,
    requests: Iterable[PromptRequest],
    total: int | None,
    params: SamplingParams,
    writer: StoryWriter,
    history: HistoryWriter,
) -> int:
    """Generates a story for each prompt and writes them in order. Returns the exit status.

    Each batch has the next seed. Prompts of a file that the model refuses are reported and skipped, and the status is
    1. On Ctrl-C the stories written so far stay, and the process exits with 130. Raises UsageError if the model refuses
    a prompt of the command line.
    """
    done = failed = 0
    batches = generate_many(loaded.engine, requests, params, BATCH_SIZE, lambda request: request.prompt)
    with ProgressLine(total) as progress:
        while True:
            try:
                progress.show(done)
                batch = run_interruptibly(lambda: next(batches, None))
            except KeyboardInterrupt:
                progress.clear()
                warn(f"stopped after {done:,} stories" + (f" of {total:,}" if total is not None else ""))
                loaded.close()
                leave()
            progress.clear()
            if batch is None:
                break
            for request, error in batch.refused:
                if not request.line:
                    raise error
                warn(f"line {request.line:,}: {error.problem}")
            _write(loaded, batch, writer, history)
            done += len(batch.prompts) + len(batch.refused)
            failed += len(batch.refused)
            progress.tokens += sum(story.tokens for story in batch.stories)
    if failed:
        warn(f"{failed:,} of {done:,} prompts were refused")
    return 1 if failed else 0


def _write(loaded: LoadedModel, batch: StoryBatch[PromptRequest], writer: StoryWriter, history: HistoryWriter) -> None:
    batch_id, rows = secrets.token_hex(6), len(batch.stories)
    for row, (request, story) in enumerate(zip(batch.prompts, batch.stories, strict=True)):
        position: dict[str, Any] = {"batch": batch_id, "row": row, "rows": rows} if rows > 1 else {}
        record = history.keep(loaded, request.prompt, batch.params, story, **position)
        writer.put(story_json(record, loaded.engine.label, **({"line": request.line} if request.line else {})))

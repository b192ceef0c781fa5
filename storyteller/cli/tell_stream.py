"""Streaming one story to the terminal: stop it by Ctrl-C, describe it as JSON, add it to the history."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

from storyteller.cli.story_output import OutputStream, StoryWriter, WrappedWriter
from storyteller.cli.text_tables import note, warn
from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError
from storyteller.inference.generate import Engine, GeneratedStory

if TYPE_CHECKING:
    from storyteller.inference.loaded_model import LoadedModel
    from storyteller.inference.story_history import StoryRecord


def stream_story(
    engine: Engine, prompt: str, params: SamplingParams, stream: OutputStream | None, echo: str = ""
) -> tuple[GeneratedStory, bool]:
    """Streams a story to `stream` (None: nowhere), preceded by `echo`, and ends its line in any case.

    Returns the story and whether Ctrl-C stopped it, in which case it is the text so far. Raises UsageError if the
    prompt does not fit, ModelError if generation fails.
    """
    began = time.perf_counter()
    pieces = engine.stream(prompt, params)
    writer = WrappedWriter(stream) if stream is not None else None
    generated: list[str] = []
    try:
        if writer is not None and echo:
            writer.write(echo)
        while True:
            piece = next(pieces)
            generated.append(piece)
            if writer is not None:
                # A continuation starts on a new line, where the leading space of its first token is dropped.
                writer.write(piece if echo or len(generated) > 1 else piece.lstrip(" "))
    except StopIteration as end:
        story: GeneratedStory = end.value
        return story, False
    except KeyboardInterrupt:
        text, seconds = "".join(generated), time.perf_counter() - began
        return GeneratedStory(prompt, text, engine.count(text), seconds, params.seed or 0, finished=False), True
    finally:
        pieces.close()
        if writer is not None:
            writer.end()


class HistoryWriter:
    """Adds stories to the history. If that fails it warns once and generation goes on."""

    def __init__(self, is_enabled: bool) -> None:
        self._is_enabled = is_enabled
        self._has_failed = False

    def keep(
        self, loaded: LoadedModel, prompt: str, params: SamplingParams, story: GeneratedStory, **more: Any
    ) -> StoryRecord:
        """Returns the record from which the story can be repeated; its id is empty unless it was kept.

        `params.seed` must be set. `more` are further fields of StoryRecord.
        """
        from storyteller.inference import story_history

        record = story_history.StoryRecord(
            prompt=prompt,
            text=story.text,
            sample=params,
            tokens=story.tokens,
            seconds=round(story.seconds, 4),
            finished=story.finished,
            **loaded.record_fields(),
            **more,
        )
        if self._is_enabled:
            try:
                story_history.keep(record)
                return record
            except StorytellerError as error:
                if not self._has_failed:
                    warn(str(error))
                self._has_failed = True
        return dataclasses.replace(record, id="")


def story_json(record: StoryRecord, label: str, **more: Any) -> dict[str, Any]:
    """Returns a story as `--json` prints it."""
    plain = {
        "text": record.whole,
        "prompt": record.prompt,
        "story": record.text,
        "tokens": record.tokens,
        "seconds": record.seconds,
        "seed": record.seed,
        "model": label,
        "finished": record.finished,
    }
    if record.rows > 1:  # the whole batch has one seed
        plain |= {"row": record.row, "rows": record.rows}
    return {**plain, **more, **({"id": record.id} if record.id else {})}


def describe_story(record: StoryRecord, label: str) -> str:
    """Returns the line below a story: the model, seed, number of tokens, speed and id."""
    kept = f", kept as {record.id}" if record.id else ""
    speed = record.tokens / max(record.seconds, 1e-9)
    return f"({label}, seed {record.seed}, {record.tokens:,} tokens, {speed:,.0f} tokens/s{kept})"


def finish_story(record: StoryRecord, label: str, writer: StoryWriter) -> None:
    """Writes what follows a streamed story: its JSON record or, at a terminal, a line about it."""
    if writer.as_json:
        writer.put(story_json(record, label))
    elif writer.stream.is_terminal and sys.stderr.isatty():
        note(describe_story(record, label))

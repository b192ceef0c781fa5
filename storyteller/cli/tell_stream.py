"""Streaming one story to the terminal: stop it by Ctrl-C, describe it as JSON, add it to the history."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storyteller.cli.story_output import OutputStream, StoryWriter, WrappedWriter, warn
from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.cli.loaded_model import LoadedModel
    from storyteller.inference.engine import Engine, GeneratedStory
    from storyteller.inference.story_history import StoryRecord


@dataclass(frozen=True)
class StreamedStory:
    """The text generated, complete or stopped."""

    text: str
    tokens: int
    seconds: float
    finished: bool
    stopped: bool = False
    """By Ctrl-C."""

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.tokens / max(self.seconds, 1e-9)


def stream_story(
    engine: Engine, prompt: str, params: SamplingParams, stream: OutputStream | None, echo: str = ""
) -> StreamedStory:
    """Stream a story to `stream` (None: nowhere), preceded by `echo`, and end its line in any case.

    Ctrl-C stops it; the text so far is returned. Raises UsageError where the prompt does not fit, ModelError where
    generation fails.
    """
    began = time.perf_counter()
    pieces = engine.stream(prompt, params)
    page = WrappedWriter(stream) if stream is not None else None
    told: list[str] = []
    try:
        if page is not None and echo:
            page.write(echo)
        while True:
            piece = next(pieces)
            told.append(piece)
            if page is not None:
                # A continuation starts on a new line, where the leading space of its first token is dropped.
                page.write(piece if echo or len(told) > 1 else piece.lstrip(" "))
    except StopIteration as end:
        story: GeneratedStory = end.value
        return StreamedStory(story.text, story.tokens, story.seconds, story.finished)
    except KeyboardInterrupt:
        text = "".join(told)
        return StreamedStory(text, engine.count(text), time.perf_counter() - began, finished=False, stopped=True)
    finally:
        pieces.close()
        if page is not None:
            page.end()


class HistoryWriter:
    """Adds stories to the history. Where that fails it warns once and generation goes on."""

    def __init__(self, wanted: bool) -> None:
        """`wanted` is False with `--no-keep`: nothing is kept."""
        self._wanted = wanted
        self._failed = False

    def keep(
        self, loaded: LoadedModel, prompt: str, params: SamplingParams, story: StreamedStory, **more: Any
    ) -> StoryRecord:
        """Return the record from which the story can be repeated; its id is empty unless it was kept.

        `params.seed` must be set. `more` are further fields of StoryRecord.
        """
        import dataclasses

        from storyteller.inference import story_history

        told = story_history.StoryRecord(
            prompt=prompt,
            text=story.text,
            sample=params,
            tokens=story.tokens,
            seconds=round(story.seconds, 4),
            finished=story.finished,
            **loaded.record_fields(),
            **more,
        )
        if self._wanted:
            try:
                story_history.keep(told)
                return told
            except StorytellerError as error:
                if not self._failed:
                    warn(str(error))
                self._failed = True
        return dataclasses.replace(told, id="")


def story_json(told: StoryRecord, label: str, **more: Any) -> dict[str, Any]:
    """Return a story as `--json` prints it."""
    plain = {
        "text": told.whole,
        "prompt": told.prompt,
        "story": told.text,
        "tokens": told.tokens,
        "seconds": told.seconds,
        "seed": told.seed,
        "model": label,
        "finished": told.finished,
    }
    if told.rows > 1:  # the whole batch has one seed
        plain |= {"row": told.row, "rows": told.rows}
    return {**plain, **more, **({"id": told.id} if told.id else {})}


def finish_story(told: StoryRecord, label: str, story: StreamedStory, writer: StoryWriter) -> None:
    """Write what follows a streamed story: its JSON record or, at a terminal, a line with model, seed and speed."""
    if writer.as_json:
        writer.put(story_json(told, label))
    elif writer.stream.is_terminal and sys.stderr.isatty():
        kept = f", kept as {told.id}" if told.id else ""
        line = f"({label}, seed {told.seed}, {told.tokens:,} tokens, {story.speed:,.0f} tokens/s{kept})"
        print(safe_line(line), file=sys.stderr, flush=True)

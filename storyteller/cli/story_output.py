"""Writing stories as they are generated: wrapped between words, as numbered text, as JSON lines, and to the history.

The reader of the output may go away (`| head -1`) and the disk may fill up; both end the command from here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from storyteller.cli.text_tables import note, warn
from storyteller.config.configs import SamplingParams
from storyteller.errors import StorytellerError, write_error
from storyteller.inference.generate import Engine, GeneratedStory
from storyteller.text import safe

if TYPE_CHECKING:
    from storyteller.inference.loaded_model import LoadedModel
    from storyteller.inference.story_history import StoryRecord


class OutputStream:
    """A text stream that is flushed with every write.

    Raises BrokenPipeError if the reader has gone away, DiskError if the stream cannot be written.
    """

    def __init__(self, stream: TextIO, name: str = "standard output") -> None:
        self.stream = stream
        self._name = name
        # A character that the encoding lacks becomes a question mark instead of an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def write(self, text: str) -> None:
        """Writes `text` unchanged; the caller has made it safe."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError as error:
            self._drop()
            if isinstance(error, BrokenPipeError):  # `cli.main` ends the command with status 0
                raise
            raise write_error(self._name, error, "check the path") from error

    def _drop(self) -> None:
        """Sends what is still buffered to the null device; closing the stream would raise once more."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


def terminal_columns() -> int:
    """Returns the width of the terminal, asked each time: the user may have resized it."""
    return shutil.get_terminal_size().columns


class WrappedWriter:
    """Writes a story piece by piece, made safe; at a terminal, wrapped between words."""

    def __init__(self, stream: OutputStream, columns: Callable[[], int] = terminal_columns) -> None:
        self._stream = stream
        self._columns = columns if stream.is_terminal else lambda: 0
        self._column = 0
        self._space = ""
        self._word = ""
        self._empty = True

    def write(self, piece: str) -> None:
        """Writes `piece`. At a terminal its last word is held back until it is complete."""
        shown = safe(piece)
        self._empty = self._empty and not shown
        if not self._columns():
            self._stream.write(shown)
            return
        if ready := "".join(map(self._take, shown)):
            self._stream.write(ready)

    def end(self) -> None:
        """Writes what was held back and ends the line."""
        self._stream.write(self._whole_word() + ("" if self._empty else "\n"))

    def _take(self, character: str) -> str:
        """Takes one character and returns the text that can be written now."""
        if character == "\n":
            ready = self._whole_word() + "\n"
            self._column, self._space = 0, ""
            return ready
        if character in " \t":
            ready = self._whole_word()
            self._space += "    " if character == "\t" else " "
            return ready
        self._word += character
        # A word as long as a line is broken anyway, so it need not be held back until its end.
        return self._whole_word() if len(self._word) >= self._columns() else ""

    def _whole_word(self) -> str:
        """Returns the word held back, after a line break where it does not fit; one longer than a line is split."""
        width = max(self._columns() - 1, 1)
        if not self._word:
            return ""
        ready = ""
        if self._column and self._column + len(self._space) + cells(self._word) > width:
            ready = "\n"
            self._column, self._space = 0, ""
        ready += self._space
        self._column += len(self._space)
        for character in self._word:
            if self._column + cells(character) > width and self._column:
                ready += "\n"
                self._column = 0
            ready += character
            self._column += cells(character)
        self._word = self._space = ""
        return ready


def write_wrapped(text: str, stream: OutputStream, columns: Callable[[], int] = terminal_columns) -> None:
    """Writes a complete story."""
    writer = WrappedWriter(stream, columns)
    writer.write(text)
    writer.end()


class StoryWriter:
    """Writes several stories: as numbered text, or as a JSON object a line."""

    def __init__(self, stream: OutputStream, as_json: bool) -> None:
        self.stream = stream
        self.as_json = as_json
        self._number = 0

    def put(self, record: Mapping[str, Any], alone: bool = False) -> None:
        """Writes the story in `record["text"]`, without a number where it is the only one (`alone`)."""
        self._number += 1
        if self.as_json:
            self.stream.write(json.dumps(record) + "\n")
            return
        if not alone:
            self.stream.write("\n" * (self._number > 1) + f"{self._number}.\n")
        write_wrapped(record["text"], self.stream)


def cells(text: str) -> int:
    """Returns the width of `text` in terminal cells."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


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

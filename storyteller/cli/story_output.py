"""Writing stories: wrapped between words as they arrive, as numbered text, or as JSON lines.

The reader of the output may go away (`| head -1`) and the disk may fill up; both end the command from here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from storyteller.errors import write_error
from storyteller.text import safe


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

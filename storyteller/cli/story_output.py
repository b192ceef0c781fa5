"""Where stories are written: a page that wraps words as they come, and a sheet of many stories or JSON lines.

Whoever reads the output may leave (`| head -1`), and its disk may fill up: both end the command from here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import typer

from storyteller.errors import DiskError, is_disk_full
from storyteller.text import safe, safe_line


class Paper:
    """A text stream that is flushed with every write.

    Where its reader has left, the command ends with status 0 and without a word (`typer.Exit`); where it cannot be
    written, with a DiskError.
    """

    def __init__(self, stream: TextIO, name: str = "standard output") -> None:
        self.stream = stream
        self._name = name
        # A terminal that cannot show a character gets a question mark, not an error.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def write(self, text: str) -> None:
        """Write `text` as it stands: whoever calls has made it safe."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            self._drop()
            raise typer.Exit(0) from None
        except OSError as error:
            self._drop()
            if is_disk_full(error):
                raise DiskError(f"{self._name} cannot be written: no space is left", "free some, try again") from error
            reason = (error.strerror or type(error).__name__).lower()
            raise DiskError(f"{self._name} cannot be written: {reason}", "check the path") from error

    def _drop(self) -> None:
        """What is still held would fail once more when the stream is closed: let it go nowhere."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())
            os.close(nowhere)


class Page:
    """A story written as it comes, made safe; at a terminal, wrapped between words."""

    def __init__(self, paper: Paper, columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns) -> None:
        self._paper = paper
        self._columns = columns if paper.is_terminal else lambda: 0
        self._column = 0
        self._space = ""
        self._word = ""
        self._empty = True

    def write(self, piece: str) -> None:
        """Show `piece`; at a terminal, its last word waits for what follows."""
        shown = safe(piece)
        self._empty = self._empty and not shown
        if not self._columns():
            self._paper.write(shown)
            return
        ready = "".join(map(self._take, shown))
        if ready:
            self._paper.write(ready)

    def end(self) -> None:
        """Show what waits, and end the line."""
        self._paper.write(self._whole_word() + ("" if self._empty else "\n"))

    def _take(self, character: str) -> str:
        """What this character completes."""
        if character == "\n":
            ready = self._whole_word() + "\n"
            self._column, self._space = 0, ""
            return ready
        if character in " \t":
            ready = self._whole_word()
            self._space += "    " if character == "\t" else " "
            return ready
        self._word += character
        # What fills a line by itself is broken anyway: it need not wait for its end, which may never come.
        return self._whole_word() if len(self._word) >= self._columns() else ""

    def _whole_word(self) -> str:
        """The word, on a line where it fits; one longer than a line is broken."""
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


class Sheet:
    """Several stories, one after the other: numbered text, or a JSON object a line."""

    def __init__(self, paper: Paper, as_json: bool) -> None:
        self.paper = paper
        self.as_json = as_json
        self._number = 0

    def put(self, record: Mapping[str, Any], alone: bool = False) -> None:
        """Write one story, all of it in `record["text"]`; one that is `alone` has no number."""
        self._number += 1
        if self.as_json:
            self.paper.write(json.dumps(record) + "\n")
            return
        if not alone:
            self.paper.write("\n" * (self._number > 1) + f"{self._number}.\n")
        page = Page(self.paper)
        page.write(record["text"])
        page.end()


def note(line: str) -> None:
    """One line on standard error, for people, made safe; a standard error that cannot be written is no matter."""
    with contextlib.suppress(OSError):
        print(f"storyteller: {safe_line(line)}", file=sys.stderr, flush=True)


def cells(text: str) -> int:
    """Columns that a terminal gives `text`."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )

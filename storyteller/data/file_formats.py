"""File formats of stories: how a file is split into pieces, and how a piece is parsed into a story.

A splitter reads a stream from a byte offset on and yields pieces, each with the offset after it, from which reading can
be resumed. A piece over 1 MiB is skipped in small chunks and never held in memory.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

from storyteller.data.cleaning import END_OF_TEXT
from storyteller.errors import CorpusError
from storyteller.text import safe_line

STORY_BYTES = 1 << 20  # limit of a line, record or story in bytes. Longer ones are left out.
HEAD_BYTES = 1 << 20  # bytes at a file's beginning from which its format is detected
FIELDS = ("text", "story", "content", "document", "body", "completion", "output")
"""Names of the field or column that holds the story, in order of preference."""

_CHUNK_BYTES = 1 << 16
_MARK = END_OF_TEXT.encode()
_BOM = b"\xef\xbb\xbf"


class Piece(NamedTuple):
    """The bytes of one possible story, unparsed."""

    data: bytes | None  # None where they are more than STORY_BYTES
    end: int  # byte offset after the piece and the separator that follows it
    line: int  # line number of the beginning, from 1
    next_line: int  # line number at `end`


@dataclass(frozen=True)
class Format:
    """The format of a file, and the function that splits it into stories."""

    name: str  # description for the log and for run.json
    split: Callable[[BinaryIO, int, int], Iterator[Piece]]
    """Yields the pieces of a stream that is positioned at a byte offset, given that offset and its line number."""
    parse: Callable[[bytes], str]
    """Returns a piece's story. Raises ValueError or RecursionError where it has none."""
    begin: int = 0  # byte offset of the first piece
    begin_line: int = 1


# --- splitters --------------------------------------------------------------------------------------------------------


def records(
    stream: BinaryIO, at: int, line: int, *, quoted: bool = False, blank_separated: bool = False
) -> Iterator[Piece]:
    """Splits into lines, or with `blank_separated` into the paragraphs between blank lines.

    With `quoted` (CSV), a line goes on while a quotation mark is open.
    """
    held, first, too_long, odd_quotes, line_begins = bytearray(), line, False, False, True
    while chunk := stream.readline(_CHUNK_BYTES):
        at += len(chunk)
        line_ends = chunk.endswith(b"\n")
        line += line_ends
        is_separator = blank_separated and line_begins and line_ends and not chunk.strip()
        line_begins = line_ends
        odd_quotes ^= quoted and chunk.count(b'"') % 2 == 1
        if not is_separator:
            held += chunk
            if too_long or len(held) > STORY_BYTES:
                too_long = True
                held.clear()
        if is_separator or (line_ends and not odd_quotes and not blank_separated):
            if held or too_long:
                yield Piece(None if too_long else bytes(held), at, first, line)
            held, first, too_long = bytearray(), line, False
    if held or too_long:
        yield Piece(None if too_long else bytes(held), at, first, line)


def end_of_text_separated(stream: BinaryIO, at: int, line: int) -> Iterator[Piece]:
    """Splits at end-of-text marks."""
    held, first, too_long = bytearray(), line, False
    while chunk := stream.read(_CHUNK_BYTES):
        held += chunk
        while (hit := held.find(_MARK)) >= 0:
            at += hit + len(_MARK)
            line += held.count(b"\n", 0, hit)
            yield Piece(None if too_long or hit > STORY_BYTES else bytes(held[:hit]), at, first, line)
            del held[: hit + len(_MARK)]
            first, too_long = line, False
        if too_long or len(held) > STORY_BYTES:
            dropped = max(len(held) - len(_MARK) + 1, 0)  # a mark may straddle two chunks
            at, line, too_long = at + dropped, line + held.count(b"\n", 0, dropped), True
            del held[:dropped]
    if held or too_long:
        end_line = line + held.count(b"\n")
        yield Piece(None if too_long else bytes(held), at + len(held), first, end_line)


_IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_STRUCTURE = re.compile(rb'["\[\]{},]')


def array_elements(stream: BinaryIO, at: int, line: int) -> Iterator[Piece]:
    """Splits a JSON array into elements, from after its opening bracket or any comma between elements.

    Only strings and nesting are tracked, so that a broken element does not affect those after it and the array is never
    held in memory as a whole.
    """
    held, pos, depth, in_string, first, too_long = bytearray(), 0, 0, False, line, False
    while chunk := stream.read(_CHUNK_BYTES):
        held += chunk
        while pos < len(held):
            if in_string:
                if (text := _IN_STRING.match(held, pos)) is not None:
                    pos = text.end()
                if held[pos : pos + 1] != b'"':
                    break  # the string, or an escape sequence in it, continues in the next chunk
                pos, in_string = pos + 1, False
                continue
            hit = _STRUCTURE.search(held, pos)
            if hit is None:
                pos = len(held)
                break
            sign, pos = hit[0], hit.end()
            in_string = sign == b'"'
            if sign in b",]" and depth == 0:
                at, line = at + pos, line + held.count(b"\n", 0, pos)
                if sign == b"]":  # nothing after the array is read, so its last element ends with the file
                    at += len(held) - pos + sum(map(len, iter(partial(stream.read, _CHUNK_BYTES), b"")))
                yield Piece(None if too_long or pos > STORY_BYTES else bytes(held[: pos - 1]), at, first, line)
                if sign == b"]":
                    return
                del held[:pos]
                pos, first, too_long = 0, line, False
            else:
                depth += (sign in b"[{") - (sign in b"]}")
        if too_long or pos > STORY_BYTES:
            at, line, too_long = at + pos, line + held.count(b"\n", 0, pos), True
            del held[:pos]
            pos = 0
    if too_long or held.strip():  # without a closing bracket, the rest is an element too, if it can be parsed
        yield Piece(None if too_long else bytes(held), at + len(held), first, line + held.count(b"\n"))


# --- parsers ----------------------------------------------------------------------------------------------------------


def text_of(data: bytes) -> str:
    """Decodes a piece as UTF-8, with replacement characters for invalid bytes."""
    return data.decode("utf-8", "replace").removeprefix("\ufeff")


def json_story(data: bytes) -> str:
    """Parses a JSON value that is a string, or an object with a text field."""
    value, field = _json_field(data)
    return str(value[field] if field else value)


def _json_field(data: bytes) -> tuple[Any, str]:
    """Parses a JSON value, and returns it with the name of the field that holds its story; "" if it is the story.

    Raises ValueError where there is none, and RecursionError where the value is nested too deeply.
    """
    try:
        value = json.loads(text_of(data))
    except json.JSONDecodeError as error:
        raise ValueError(error.msg) from error  # without the position, which is relative to the piece
    if isinstance(value, str):
        return value, ""
    items = value.items() if isinstance(value, dict) else ()
    texts = [name for name, item in items if name and isinstance(item, str)]
    field = next((name for name in FIELDS if name in texts), texts[0] if len(texts) == 1 else None)
    if field is None:
        raise ValueError(f"no field named {', '.join(FIELDS[:3])}")
    return value, field


def csv_story(data: bytes, column: int, delimiter: str) -> str:
    """Returns one column of a CSV record."""
    row = _csv_row(data, delimiter)
    if column >= len(row):
        raise ValueError(f"it has {len(row)} columns")
    return row[column]


def _csv_row(data: bytes, delimiter: str) -> list[str]:
    csv.field_size_limit(max(csv.field_size_limit(), STORY_BYTES))  # the default is 128 KiB
    try:
        return next(csv.reader(io.StringIO(text_of(data), newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error


# --- detection --------------------------------------------------------------------------------------------------------


def find_format(kind: str, head: bytes, name: str) -> Format:
    """Detects the format of a file of `kind` (`.jsonl`, `.json`, `.txt`, `.csv`) from its first MiB.

    Raises CorpusError, with the file's name, where no column or element can be a story.
    """
    begin = len(_BOM) if head.startswith(_BOM) else 0
    if kind == ".txt":
        if _MARK in head:
            return Format(f"stories separated by {END_OF_TEXT}", end_of_text_separated, text_of, begin)
        return Format("stories separated by blank lines", partial(records, blank_separated=True), text_of, begin)
    if kind == ".csv":
        return _csv_format(head, begin, name)
    return _json_format(kind, head, begin, name)


def _json_format(kind: str, head: bytes, begin: int, name: str) -> Format:
    if kind == ".json":
        first_line, _, rest = head[begin:].partition(b"\n")
        array = _array_at(head)
        if len(head) < HEAD_BYTES and rest.strip() and _is_story(head):
            return Format("one JSON object", whole, json_story, begin)
        # Many .json files hold JSON lines: the first line is then a story of its own.
        if not _is_story(first_line) and array is not None:
            found = _field_found(array_elements(io.BytesIO(head[array:]), 0, 1))
            first = head.count(b"\n", 0, array) + 1
            return Format(f"a JSON array{found}", array_elements, json_story, array, first)
        if not _is_story(first_line):
            raise CorpusError(f"{name} holds no JSON array of stories", "write an array of objects with a text each")
    found = _field_found(records(io.BytesIO(head[begin:]), 0, 1))
    return Format(f"JSON lines{found}", records, json_story, begin)


def whole(stream: BinaryIO, at: int, line: int) -> Iterator[Piece]:
    """Yields the whole file as one piece."""
    if data := stream.read(STORY_BYTES):
        yield Piece(data, at + len(data), line, line + data.count(b"\n"))


def _is_story(data: bytes) -> bool:
    """True if the JSON value is one story, rather than an object around an array of stories."""
    try:
        value, field = _json_field(data)
    except (ValueError, RecursionError):
        return False
    return field in FIELDS or not (isinstance(value, dict) and any(isinstance(item, list) for item in value.values()))


def _field_found(pieces: Iterator[Piece]) -> str:
    """Describes where the first valid one of the first 100 pieces has its story."""
    for piece in islice(pieces, 100):
        with contextlib.suppress(ValueError, RecursionError):
            _, field = _json_field(piece.data or b"")
            return f', stories in the field "{safe_line(field, 40)}"' if field else ", each a string"
    return ""


_JSON_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def _array_at(head: bytes) -> int | None:
    """The offset after the bracket that opens the array of stories: the value itself, or an object's first array."""
    depth = 0
    for token in _JSON_TOKEN.finditer(head):
        if token[0] == b"[" and depth <= 1:
            return token.end()
        depth += (token[0] in b"[{") - (token[0] in b"]}")
    return None


def _csv_format(head: bytes, begin: int, name: str) -> Format:
    """Detects the column of stories: the one with a known name, or the only one."""
    header = next(records(io.BytesIO(head[begin:]), begin, 1, quoted=True), None)
    if header is None or header.data is None:
        raise CorpusError(f"{name} has no header row", "its first line must name the columns")
    try:
        rows = {delimiter: _csv_row(header.data, delimiter) for delimiter in ",;\t|"}
    except ValueError as error:
        raise CorpusError(f"{name} has a broken header row ({error})", "its first line must name the columns") from None
    split = partial(records, quoted=True)
    for delimiter, row in rows.items():
        names = [cell.strip().casefold() for cell in row]
        for field in FIELDS:
            if field in names:
                parse = partial(csv_story, column=names.index(field), delimiter=delimiter)
                return Format(f'CSV, stories in the column "{field}"', split, parse, header.end, header.next_line)
    if len(rows[","]) > 1:
        raise no_column(name, rows[","])
    parse = partial(csv_story, column=0, delimiter=",")
    title = (rows[","] or [""])[0].strip()
    if len(title) <= 40 and not title.endswith((".", "!", "?", '"')):
        words = f'CSV, stories in its only column "{safe_line(title)}"'
        return Format(words, split, parse, header.end, header.next_line)
    return Format("CSV, stories in its only column, which has no header", split, parse, begin)


def no_column(name: str, columns: Sequence[str]) -> CorpusError:
    """Returns the error for a table of which no column can hold the stories."""
    shown = safe_line(", ".join(columns), 80)
    return CorpusError(f"{name} has no column of stories, only {shown}", f"name one of them {FIELDS[0]}")

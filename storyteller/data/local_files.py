"""Local stories: files and folders of .jsonl, .json, .txt, .csv and .parquet, each also .gz, read in order.

A cursor is a byte offset (in the uncompressed data of a .gz), or a row group and row. A resume reads nothing before it,
except that a .gz is decompressed up to it and a row group is decoded from its beginning. Broken pieces are counted,
left out, and reported with file and line.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from storyteller.data.file_formats import FIELDS, HEAD_BYTES, STORY_BYTES, Format, find_format, no_column, text_of
from storyteller.errors import CorpusError
from storyteller.text import safe_line

_KINDS = (".jsonl", ".json", ".txt", ".csv", ".parquet")  # file extensions, which may be followed by `.gz`
Cursor = dict[str, Any]  # a position in a source, as JSON values

_FINGERPRINT_BYTES = 1 << 16
_NAMED_PER_FILE = 3
_NAMED_IN_ALL = 30
_BATCH_ROWS = 512
_KNOWN = ".jsonl, .json, .txt, .csv or .parquet, each also .gz"
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "parquet",
    b"%PDF": "PDF",
    b"\x89PNG": "a picture",
    b"\x7fELF": "a program",
    b"SQLite": "a database",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
_CONTROLS = bytes(code for code in range(0x20) if code not in b"\t\n\r\f")


@dataclass
class Faults:
    """Counts of pieces that were left out, over all passes of this process."""

    broken: int = 0  # cannot be parsed as a story
    too_long: int = 0  # over 1 MiB


@dataclass
class _File:
    path: Path
    name: str  # the path as the user gave it, or relative to the folder that the user gave; safe to show
    kind: str
    zipped: bool
    size_bytes: int = 0
    units: int = 0
    """Uncompressed bytes, or the row groups of a parquet file: the scale of a cursor's place in the file."""
    format: Format | None = None  # None for parquet
    column: str = ""
    found: str = ""
    named: set[str] = field(default_factory=set)  # places in this file that the notes mention


class Files:
    """The stories of files and folders in the given order; a folder's files are sorted by path.

    Raises CorpusError for a path that is missing, unreadable, empty, binary or of no known format.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self.notes: list[str] = []
        self.faults = Faults()
        self.patience_seconds = math.inf
        self._named = 0
        given = {file.path.resolve(): file for path in paths for file in _search(path)}
        digest = hashlib.sha256()
        self._files = [file for file in given.values() if self._take(file, digest)]
        if not self._files:
            empty = ", ".join(file.name for file in list(given.values())[:3])
            raise CorpusError(f"{empty} is empty", "give a file or folder with stories in it")
        for found in dict.fromkeys(file.found for file in self._files):
            names = [file.name for file in self._files if file.found == found]
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            self.notes.append(f"{names[0]}{more}: {found}")
        self.description: dict[str, Any] = {
            "kind": "files",
            "paths": [str(path) for path in paths],
            "files": len(self._files),
            "bytes": sum(file.size_bytes for file in self._files),
            "formats": sorted({file.found for file in self._files}),
            "fingerprint": digest.hexdigest(),
        }
        """`fingerprint` is the SHA-256 of each file's name, size, and first and last 64 KiB, in order."""

    def stamps(self) -> list[list[str | int]]:
        """Returns each file's path, size and modification time, as they are now. Raises OSError."""
        found = ((file.path.resolve(), file.path.stat()) for file in self._files)
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in found]

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """Yields the stories of a pass from `cursor` on, each with the cursor after it. Raises CorpusError."""
        del epoch  # every pass is the same
        start = 0 if cursor is None else int(cursor["file"])
        if not 0 <= start < len(self._files):
            raise CorpusError("the corpus has fewer files than when the run began", "put the missing ones back")
        for index in range(start, len(self._files)):
            file = self._files[index]
            inside = cursor if cursor is not None and index == start else None
            try:
                for story, position in self._read_file(file, inside):
                    yield story, {"file": index, **position}
            except OSError as error:
                raise _unreadable(file.name, error) from error

    def share(self, cursor: Cursor) -> float:
        """Estimates the share of a pass that lies before `cursor`, 0 to 1, from the files' sizes."""
        before = sum(file.size_bytes for file in self._files[: cursor["file"]])
        file = self._files[cursor["file"]]
        place = cursor["offset"] if file.format else cursor["group"]
        inside = min(place / max(file.units, 1), 1.0)
        return float((before + inside * file.size_bytes) / sum(file.size_bytes for file in self._files))

    def _read_file(self, file: _File, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        named_before = len(file.named)
        broken = self.faults.broken + self.faults.too_long
        yield from self._read_pieces(file, cursor) if file.format else self._read_rows(file, cursor)
        broken = self.faults.broken + self.faults.too_long - broken
        if broken > _NAMED_PER_FILE and len(file.named) > named_before:
            self.notes.append(f"{file.name}: {broken:,} pieces left out in all")

    def _read_pieces(self, file: _File, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        how = cast(Format, file.format)
        at, line = (how.begin, how.begin_line) if cursor is None else (int(cursor["offset"]), int(cursor["line"]))
        with _open(file) as stream:
            try:
                stream.seek(at)
                for piece in how.split(stream, at, line):
                    if piece.data is None:
                        self._leave_out(file, f"line {piece.line:,}", "over 1 MiB", too_long=True)
                    elif not piece.data.isspace() and piece.data:
                        try:
                            story = how.parse(piece.data)
                        except (ValueError, RecursionError) as error:
                            blank = piece.data[: len(piece.data) - len(piece.data.lstrip())]
                            self._leave_out(file, f"line {piece.line + blank.count(10):,}", f"broken: {error}")
                            continue
                        yield story, {"offset": piece.end, "line": piece.next_line}
            except (EOFError, zlib.error, gzip.BadGzipFile):
                self._leave_out(file, "its end", "not readable: the .gz is damaged or cut short")

    def _read_rows(self, file: _File, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        import pyarrow as arrow

        first_group, first_row = (0, 0) if cursor is None else (int(cursor["group"]), int(cursor["row"]))
        with _open_parquet(file) as table:
            for group in range(first_group, table.num_row_groups):
                row = 0
                # In small batches of the one column, since a row group may be as large as its file.
                batches = table.iter_batches(_BATCH_ROWS, row_groups=[group], columns=[file.column], use_threads=False)
                for batch in batches:
                    skipped = max(first_row - row, 0) if group == first_group else 0
                    row += min(skipped, batch.num_rows)
                    # As bytes: pyarrow fails on a string that is not valid UTF-8.
                    cells = batch.column(0).slice(skipped).cast(arrow.large_binary())
                    for cell in cells.to_pylist():
                        row += 1
                        if cell is not None and len(cell) <= STORY_BYTES:
                            yield text_of(cell), {"group": group, "row": row}
                            continue
                        why = "empty" if cell is None else "over 1 MiB"
                        self._leave_out(file, f"row {row:,} of group {group + 1}", why, too_long=cell is not None)

    def _leave_out(self, file: _File, place: str, why: str, *, too_long: bool = False) -> None:
        """Counts a piece that is left out; the first few of each file get a note."""
        self.faults.too_long += too_long
        self.faults.broken += not too_long
        if place not in file.named and len(file.named) < _NAMED_PER_FILE and self._named < _NAMED_IN_ALL:
            file.named.add(place)
            self._named += 1
            self.notes.append(f"{file.name}, {place}: left out ({safe_line(why, 100)})")

    def _take(self, file: _File, digest: Any) -> bool:
        """Detects the file's format and adds the file to the fingerprint. Returns False for an empty file."""
        try:
            file.size_bytes = file.path.stat().st_size
            with file.path.open("rb") as raw:
                digest.update(f"{file.name}\0{file.size_bytes}\0".encode("utf-8", "replace"))
                digest.update(raw.read(_FINGERPRINT_BYTES))
                raw.seek(max(file.size_bytes - _FINGERPRINT_BYTES, 0))
                digest.update(raw.read(_FINGERPRINT_BYTES))
                file.units = file.size_bytes
                if file.zipped and file.size_bytes >= 4:
                    raw.seek(-4, os.SEEK_END)  # gzip's last field: the unpacked size (RFC 1952)
                    file.units = int.from_bytes(raw.read(4), "little")
            if file.size_bytes and file.kind == ".parquet":
                return self._take_parquet(file)
            with _open(file) as stream:
                head = stream.read(HEAD_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise CorpusError(f"{file.name} is no readable .gz file", "compress it again, or decompress it") from error
        except OSError as error:
            raise _unreadable(file.name, error) from error
        if not head.strip():
            self.notes.append(f"{file.name}: empty")
            return False
        _refuse_binary(head, file.name)
        file.format = find_format(file.kind, head, file.name)
        file.found = file.format.name
        return True

    def _take_parquet(self, file: _File) -> bool:
        import pyarrow as arrow

        with _open_parquet(file) as table:
            kinds = (arrow.string(), arrow.large_string(), arrow.string_view())
            schema = table.schema_arrow
            texts = [name for name, kind in zip(schema.names, schema.types, strict=True) if kind in kinds]
            known = [name for name in FIELDS if name in texts]
            if not known and len(texts) != 1:
                raise no_column(file.name, schema.names)
            file.column = (known or texts)[0]
            file.found = f'parquet, stories in the column "{safe_line(file.column, 40)}"'
            file.units = table.num_row_groups
            return bool(table.metadata.num_rows)


def _search(given: str) -> list[_File]:
    """Returns the file at the path, or the files of known formats below the folder, sorted, without hidden ones."""
    path, shown = Path(given), safe_line(given, 200)
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            file = _known(path, shown)
            if file is None:
                raise CorpusError(f"{shown} is of no known format", f"its name must end in {_KNOWN}")
            return [file]
        if not stat.S_ISDIR(mode):
            raise CorpusError(f"{shown} is neither a file nor a folder", "give a path of either")
        next(path.iterdir(), None)  # os.walk silently skips a folder that it may not read
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise CorpusError(
            f"there is no {shown}", "--data takes a file, a folder, auto, tinystories or bundled"
        ) from None
    except OSError as error:
        raise _unreadable(shown, error) from error
    below: list[Path] = []
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below += [Path(folder, name) for name in names if not name.startswith(".")]
    files = [_known(file, safe_line(file.relative_to(path).as_posix(), 200)) for file in sorted(below)]
    known = [file for file in files if file is not None and file.path.is_file()]
    if not known:
        raise CorpusError(f"the folder {shown} holds no stories", f"put files in it that end in {_KNOWN}")
    return known


def _known(path: Path, shown: str) -> _File | None:
    name = path.name.lower()
    zipped = name.endswith(".gz")
    kind = Path(name.removesuffix(".gz")).suffix.replace(".ndjson", ".jsonl")
    return _File(path, shown, kind, zipped) if kind in _KINDS else None


def _open(file: _File) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file.path, "rb")) if file.zipped else file.path.open("rb")


@contextlib.contextmanager
def _open_parquet(file: _File) -> Iterator[Any]:
    """Opens a parquet file. A .gz is decompressed to a temporary file, since parquet is read from its end."""
    from pyarrow import ArrowException, parquet

    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(_open(file))
        if file.zipped:
            unpacked = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(stream, unpacked)
            stream = unpacked
        try:
            table = stack.enter_context(parquet.ParquetFile(stream, pre_buffer=False))
            yield table
        except (ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = safe_line(str(error), 80)
            raise CorpusError(f"{file.name} is no readable parquet file ({why})", "write it again") from error


def _refuse_binary(head: bytes, name: str) -> None:
    """Raises CorpusError for a known binary format, or where over a tenth is control characters or invalid UTF-8."""
    remedy = f"--data takes text, in files that end in {_KNOWN}"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise CorpusError(f"{name} is a binary file ({kind}), whatever its name says", remedy)
    block = head[:_FINGERPRINT_BYTES]
    odd = len(block) - len(block.translate(None, _CONTROLS))
    odd += block.decode("utf-8", "replace").count("\ufffd")
    if odd > len(block) / 10:
        raise CorpusError(f"{name} is a binary file, or text that is not UTF-8", remedy)


def _unreadable(name: str, error: OSError) -> CorpusError:
    return CorpusError(f"{name} cannot be read ({error.strerror or type(error).__name__})", "look at its permissions")

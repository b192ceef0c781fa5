"""safetensors files and JSON files, read without trusting them.

What a file claims is checked against what it is before anything of the size that it claims is made. Format:
https://huggingface.co/docs/safetensors (8 bytes of header length, little endian; a JSON header; the data).
"""

from __future__ import annotations

import json
import math
import mmap
import stat
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from storyteller.errors import CheckpointError
from storyteller.system.json_values import is_natural
from storyteller.text import safe_line

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_HEADER_LIMIT = 10 * 2**20
"""Bytes: more than this is no header of a model that anyone tells stories from."""
_JSON_LIMIT = 200 * 2**20
_ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""numpy has no bfloat16: its raw bits travel as 16-bit integers."""


_UNSIGNED = {8: "Q", 4: "I", 2: "H"}
"""Bits of so many bytes, as `array` calls them: values are moved about, and never rounded."""
_TOP_EXPONENTS = {
    **{kind: bytes([0x7F, 0xFF]) for kind in ("F64", "F32", "BF16")},
    "F16": bytes(byte for byte in range(256) if byte & 0x7C == 0x7C),
}
"""First bytes of the numbers among which infinities and what is no number are found (and, but for F16, huge ones)."""


@dataclass(frozen=True)
class Tensor:
    """One tensor, as its bytes: numpy alone would take longer to import than all of a small model to read."""

    kind: str
    """As safetensors names it: `F64`, `F32`, `F16`, `BF16`."""
    shape: tuple[int, ...]
    raw: memoryview
    """The values, little endian, the last axis running fastest."""

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.kind]

    def finite(self) -> bool:
        """Whether every value is a number."""
        raw, size = self.raw.tobytes(), self.item_bytes
        first = raw[size - 1 :: size]
        if not any(byte in first for byte in _TOP_EXPONENTS[self.kind]):
            return True
        if self.kind == "F16":
            return False
        # The exponent's last bits are in the byte below: one in F32 and BF16, four in F64.
        full = 0xF0 if self.kind == "F64" else 0x80
        return not any(
            high in (0x7F, 0xFF) and low & full == full for high, low in zip(first, raw[size - 2 :: size], strict=True)
        )

    def transposed(self) -> Tensor:
        """A matrix the other way round. Raises ValueError where it is none."""
        rows, columns = self.shape
        values = array(_UNSIGNED[self.item_bytes], self.raw.tobytes())
        raw = b"".join(values[column::columns].tobytes() for column in range(columns))
        return Tensor(self.kind, (columns, rows), memoryview(raw))

    def single(self) -> Tensor:
        """An F64 tensor as F32; any other as it is."""
        if self.kind != "F64":
            return self
        return Tensor("F32", self.shape, memoryview(array("f", array("d", self.raw.tobytes())).tobytes()))


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of one kind on top of each other. Raises ValueError where kinds or other axes differ."""
    if len({(tensor.kind, tensor.shape[1:]) for tensor in tensors}) != 1:
        raise ValueError("tensors of different kinds or widths")
    first, rows = tensors[0], sum(tensor.shape[0] for tensor in tensors)
    return Tensor(first.kind, (rows, *first.shape[1:]), memoryview(b"".join(tensor.raw for tensor in tensors)))


class TensorEntry(NamedTuple):
    """What a header says of one tensor: its type, shape, and place in the data, in bytes."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def shown(path: Path) -> str:
    """The path as messages show it."""
    return safe_line(str(path), 200)


def read_bytes(path: Path, limit: int = _JSON_LIMIT) -> bytes:
    """The file's bytes, `limit` at most. Raises CheckpointError."""
    try:
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):  # it might never open, or never end
            raise CheckpointError(f"{shown(path)} is no file", "take another checkpoint, or save this one anew")
        if found.st_size > limit:
            raise CheckpointError(f"{shown(path)} is too large to be true", "take another checkpoint")
        return path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read ({error.strerror})", "check its permissions") from error


def _missing(path: Path) -> CheckpointError:
    return CheckpointError(f"{shown(path.parent)} has no {path.name}", "take another checkpoint, or save this one anew")


def read_json(path: Path, limit: int = _JSON_LIMIT) -> dict[str, Any]:
    """The JSON object in a file of at most `limit` bytes. Raises CheckpointError."""
    try:
        values = json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{shown(path)} is no JSON object", "take another checkpoint, or save this one anew")
    return values


def read_header(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """What a safetensors file says it holds, by name, and the offset in bytes of its data.

    The header is checked whole: its length, each type, shape and place, so that all it names together is no more than
    the file itself. Raises CheckpointError.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or header_bytes > min(_HEADER_LIMIT, size - 8):
                raise _damaged(path, "its header does not fit")
            header = json.loads(file.read(header_bytes))
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read ({error.strerror})", "check its permissions") from error
    except (ValueError, RecursionError):
        raise _damaged(path, "its header is no JSON") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    return dict(_entries(path, header, size - 8 - header_bytes)), 8 + header_bytes


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The floating-point tensors of a safetensors file, by name, mapped and not yet read. Raises CheckpointError."""
    entries, offset = read_header(path)
    if not entries:
        return {}
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return {
        name: Tensor(entry.kind, entry.shape, data[offset + entry.begin : offset + entry.end])
        for name, entry in entries.items()
        if entry.kind in FLOATS
    }


def _entries(path: Path, header: Mapping[str, Any], data_bytes: int) -> Iterator[tuple[str, TensorEntry]]:
    """Each tensor's name and entry; CheckpointError where one cannot be."""
    used = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, offsets = (
            (entry.get(key) for key in ("dtype", "shape", "data_offsets")) if isinstance(entry, dict) else (None,) * 3
        )
        if not (
            isinstance(kind, str)
            and isinstance(shape, list)
            and len(shape) <= 8
            and all(is_natural(extent) for extent in shape)
            and isinstance(offsets, list)
            and len(offsets) == 2
            and all(is_natural(offset) for offset in offsets)
        ):
            raise _damaged(path, f"its header says nothing sensible of {safe_line(name, 60)}")
        begin, end = offsets
        if kind in _ITEM_BYTES and end - begin != math.prod(shape) * _ITEM_BYTES[kind]:
            raise _damaged(path, f"{safe_line(name, 60)} is not as long as its shape says")
        used += end - begin
        # Tensors that share their bytes would let a small file claim any amount of memory.
        if not begin <= end <= data_bytes or used > data_bytes:
            raise _damaged(path, f"{safe_line(name, 60)} lies outside the file")
        yield name, TensorEntry(kind, tuple(shape), begin, end)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{shown(path)} is damaged ({why})", "take another checkpoint, or fetch the model again")

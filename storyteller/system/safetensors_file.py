"""Reads untrusted safetensors and JSON files.

Sizes in the header are checked against the file before any memory is allocated for them. Format (see
https://huggingface.co/docs/safetensors): 8 bytes of header length, little endian; a JSON header; the data.
"""

from __future__ import annotations

import contextlib
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

_HEADER_LIMIT = 10 * 2**20  # bytes, far more than the header of any story model
_JSON_LIMIT = 200 * 2**20
_OTHER_CHECKPOINT = "take another checkpoint, or save this one again"
_ITEM_BYTES = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4},
    **{"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
"""The numpy dtypes. numpy has no bfloat16, so its bits are read as 16-bit integers."""

_UNSIGNED = {8: "Q", 4: "I", 2: "H"}
"""Type codes of `array` by size: values are copied as unsigned integers, never rounded."""
_TOP_EXPONENTS = {
    **{kind: bytes([0x7F, 0xFF]) for kind in ("F64", "F32", "BF16")},
    "F16": bytes(byte for byte in range(256) if byte & 0x7C == 0x7C),
}
"""Top bytes of infinities and NaNs (and, except for F16, of some very large numbers)."""


@dataclass(frozen=True)
class Tensor:
    """A tensor as raw bytes. numpy is not used: its import would take longer than reading a small model."""

    kind: str  # the dtype as safetensors names it: `F64`, `F32`, `F16` or `BF16`
    shape: tuple[int, ...]
    raw: memoryview  # the values, little endian, in row-major order

    @property
    def item_bytes(self) -> int:
        return _ITEM_BYTES[self.kind]

    def finite(self) -> bool:
        """True if no value is NaN or infinite."""
        # A float is not finite if all bits of its exponent are set. Most tensors hold no value whose top byte could be
        # such an exponent: searching for these bytes is much faster than looking at every value.
        raw, size = self.raw.tobytes(), self.item_bytes
        first = raw[size - 1 :: size]
        if not any(byte in first for byte in _TOP_EXPONENTS[self.kind]):
            return True
        if self.kind == "F16":
            return False
        # The rest of the exponent is in the byte below: 1 bit in F32 and BF16, 4 bits in F64.
        full = 0xF0 if self.kind == "F64" else 0x80
        return not any(
            high in (0x7F, 0xFF) and low & full == full for high, low in zip(first, raw[size - 2 :: size], strict=True)
        )

    def transposed(self) -> Tensor:
        """The transpose. Raises ValueError unless this is a matrix."""
        rows, columns = self.shape
        values = array(_UNSIGNED[self.item_bytes], self.raw.tobytes())
        raw = b"".join(values[column::columns].tobytes() for column in range(columns))
        return Tensor(self.kind, (columns, rows), memoryview(raw))

    def single(self) -> Tensor:
        """Converts F64 to F32; returns any other tensor unchanged."""
        if self.kind != "F64":
            return self
        return Tensor("F32", self.shape, memoryview(array("f", array("d", self.raw.tobytes())).tobytes()))


def concatenate(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenates tensors along the first axis. Raises ValueError if their dtypes or other axes differ."""
    if len({(tensor.kind, tensor.shape[1:]) for tensor in tensors}) != 1:
        raise ValueError("tensors of different kinds or widths")
    first, rows = tensors[0], sum(tensor.shape[0] for tensor in tensors)
    return Tensor(first.kind, (rows, *first.shape[1:]), memoryview(b"".join(tensor.raw for tensor in tensors)))


class TensorEntry(NamedTuple):
    """The header entry of a tensor: dtype, shape, and position in the data in bytes."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int


def shown(path: Path) -> str:
    """The path, safe to show in messages."""
    return safe_line(str(path), 200)


def read_bytes(path: Path, limit: int = _JSON_LIMIT) -> bytes:
    """Returns the contents of a file of at most `limit` bytes. Raises CheckpointError."""
    with _reading(path):
        found = path.stat()
        if stat.S_ISFIFO(found.st_mode):  # could block forever
            raise CheckpointError(f"{shown(path)} is not a file", _OTHER_CHECKPOINT)
        if found.st_size > limit:
            raise CheckpointError(f"{shown(path)} is too large", _OTHER_CHECKPOINT)
        return path.read_bytes()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns OSError into CheckpointError."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{shown(path.parent)} has no {path.name}", _OTHER_CHECKPOINT) from None
    except OSError as error:
        raise CheckpointError(f"{shown(path)} cannot be read ({error.strerror})", "check its permissions") from error


def read_json(path: Path, limit: int = _JSON_LIMIT) -> dict[str, Any]:
    """Returns the JSON object in a file of at most `limit` bytes. Raises CheckpointError."""
    try:
        values = json.loads(read_bytes(path, limit))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{shown(path)} is not a JSON object", _OTHER_CHECKPOINT)
    return values


def read_header(path: Path) -> tuple[dict[str, TensorEntry], int]:
    """Returns the entries of a safetensors header by tensor name, and the offset of the data in bytes.

    The length of the header and the dtype, shape and position of each tensor are checked: together, the tensors are no
    larger than the file. Raises CheckpointError.
    """
    with _reading(path), path.open("rb") as file:
        size = path.stat().st_size
        header_bytes = int.from_bytes(file.read(8), "little")
        if size < 8 or header_bytes > min(_HEADER_LIMIT, size - 8):
            raise _damaged(path, "its header does not fit")
        try:
            header = json.loads(file.read(header_bytes))
        except (ValueError, RecursionError):
            header = None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    return dict(_entries(path, header, size - 8 - header_bytes)), 8 + header_bytes


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Returns the floating-point tensors of a safetensors file by name, memory-mapped. Raises CheckpointError."""
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
    """Yields the name and entry of each tensor. Raises CheckpointError for one that is impossible."""
    used = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        fields = entry if isinstance(entry, dict) else {}
        kind, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
        if not (
            isinstance(kind, str)
            and isinstance(shape, list)
            and len(shape) <= 8
            and all(is_natural(extent) for extent in shape)
            and isinstance(offsets, list)
            and len(offsets) == 2
            and all(is_natural(offset) for offset in offsets)
        ):
            raise _damaged(path, f"its header has an invalid entry for {safe_line(name, 60)}")
        begin, end = offsets
        if kind in _ITEM_BYTES and end - begin != math.prod(shape) * _ITEM_BYTES[kind]:
            raise _damaged(path, f"the size of {safe_line(name, 60)} does not match its shape")
        used += end - begin
        # Tensors that share their bytes would let a small file claim any amount of memory.
        if not begin <= end <= data_bytes or used > data_bytes:
            raise _damaged(path, f"{safe_line(name, 60)} is outside the file")
        yield name, TensorEntry(kind, tuple(shape), begin, end)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{shown(path)} is damaged ({why})", "take another checkpoint, or download the model again")

"""Reads typed values from untrusted JSON.

`read_dataclass(Status, json.loads(text))` checks every field against its type hint, so that a file that was edited, cut
off or written by another program is refused with the name of the field that is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar

from storyteller.system.files import read_regular

T = TypeVar("T")


def finite(value: object) -> float | None:
    """Returns `value` as a float, or None unless it is a finite number. Booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer of hundreds of digits
        return None


def is_natural(value: object, below: float = math.inf) -> TypeGuard[int]:
    """True for an integer from 0 up to, but not including, `below`. Booleans are not integers."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def read_dataclass(kind: type[T], plain: object, name: str = "value") -> T:
    """Returns a `kind`, which is a dataclass, from a JSON object.

    Unknown keys are ignored: a later version may have added them. Missing keys take the field's default. Raises
    ValueError, which names the field, for a missing value or one of another type.
    """
    if not isinstance(plain, Mapping):
        raise ValueError(f"{name}: expected an object")
    values = {}
    for key, (hint, required) in _fields(typing.cast(Any, kind)).items():
        if key in plain:
            values[key] = read_as(plain[key], hint, key)
        elif required:
            raise ValueError(f"{key}: missing")
    return kind(**values)


def read_dataclass_file(kind: type[T], path: Path) -> T | None:
    """Returns the `kind`, which is a dataclass, in a JSON file; None if the file is missing or broken."""
    try:
        return read_dataclass(kind, json.loads(read_regular(path)))
    except (OSError, ValueError, RecursionError):
        return None


def read_as(value: Any, hint: Any, name: str = "value") -> Any:
    """Returns `value` as the type that `hint` describes. Raises ValueError, which begins with `name`.

    Supports str, bool, int, float (finite; integers are converted), None, Any, Literal, unions, list, tuple, dict with
    string keys, and dataclasses of these. Tuples are read from JSON lists.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if hint is float and (number := finite(value)) is not None:
        return number
    # The exact type, because a bool is an int, too.
    if hint in (str, bool, int, type(None)) and type(value) is hint:
        return value
    if origin is Literal and type(value) in map(type, arguments) and value in arguments:
        return value
    if origin in (types.UnionType, typing.Union):
        for each in arguments:
            with contextlib.suppress(ValueError):
                return read_as(value, each, name)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        hints = arguments if origin is tuple and arguments[-1] is not Ellipsis else arguments[:1] * len(value)
        if len(hints) == len(value):
            return origin(read_as(each, hint, name) for each, hint in zip(value, hints, strict=True))
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {str(key): read_as(each, arguments[1], str(key)) for key, each in value.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return read_dataclass(hint, value, name)
    raise ValueError(f"{name}: expected {hint.__name__ if isinstance(hint, type) else hint}")


@cache
def _fields(kind: type) -> dict[str, tuple[Any, bool]]:
    """The type hint of each field of a dataclass, and whether a value is required. Hints are slow to evaluate."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    }

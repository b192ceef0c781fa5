"""The held-out stories of a run, kept in its folder: a resume scores the same ones, and reads nothing again for them.

JSON lines: first how many follow, then a line a story with its text, then one a key that training leaves out. Without
the keys a resumed run could train on stories that `--valid` once held.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from storyteller.system.files import write_text

HeldOut = tuple[list[str], frozenset[bytes]]


def keep(path: Path, stories: Sequence[str], keys: frozenset[bytes]) -> None:
    """Write them, whole or not at all. Raises OSError."""
    write_text(path, written(stories, keys))


def written(stories: Sequence[str], keys: frozenset[bytes]) -> str:
    """They as text, of ASCII alone."""
    lines: list[dict[str, object]] = [{"stories": len(stories), "keys": len(keys)}]
    lines += [{"text": story} for story in stories]
    lines += [{"key": key.hex()} for key in sorted(keys)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def kept(path: Path) -> HeldOut | None:
    """What `keep` wrote; None where it is missing or not as it was written."""
    try:
        with path.open(encoding="utf-8") as file:
            return read(file)
    except (OSError, ValueError):
        return None


def read(lines: Iterable[str]) -> HeldOut | None:
    """What the lines of `written` say; None where they are others."""
    try:
        records = _records(lines)
        counts = next(records)
        stories = [str(next(records)["text"]) for _ in range(_count(counts["stories"]))]
        keys = [bytes.fromhex(str(next(records)["key"])) for _ in range(_count(counts["keys"]))]
        whole = next(records, None) is None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, StopIteration):
        return None
    return (stories, frozenset(keys)) if whole and stories and keys and all(len(key) == 16 for key in keys) else None


def _records(file: Iterable[str]) -> Iterator[dict[str, object]]:
    for line in file:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(line)
        yield record


def _count(number: object) -> int:
    if not isinstance(number, int):
        raise ValueError(number)
    return number

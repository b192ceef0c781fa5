"""The file in a run's folder that keeps its held-out stories, so that a resume scores the same ones without a search.

JSON lines: the two counts, then one line per story (`text`), then one per hash of a story that training leaves out
(`key`). Without the hashes a resumed run could train on stories that `--valid` held when it began.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from storyteller.system.files import write_text

HeldOut = tuple[list[str], frozenset[bytes]]
"""The held-out stories, and the hashes of all stories that training leaves out."""


def save(path: Path, stories: Sequence[str], held_out_hashes: frozenset[bytes]) -> None:
    """Writes the file atomically. Raises OSError."""
    write_text(path, to_text(stories, held_out_hashes))


def to_text(stories: Sequence[str], held_out_hashes: frozenset[bytes]) -> str:
    """Returns the contents of the file, in ASCII."""
    lines: list[dict[str, object]] = [{"stories": len(stories), "keys": len(held_out_hashes)}]
    lines += [{"text": story} for story in stories]
    lines += [{"key": key.hex()} for key in sorted(held_out_hashes)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def load(path: Path) -> HeldOut | None:
    """Reads what `save` wrote; None where the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
        return from_lines(file)
    return None


def from_lines(lines: Iterable[str]) -> HeldOut | None:
    """Parses the lines of `to_text`; None where they are damaged or incomplete."""
    try:
        counts, *records = map(json.loads, lines)
        n_stories, n_hashes = counts["stories"], counts["keys"]
        stories = [str(record["text"]) for record in records[:n_stories]]
        hashes = [bytes.fromhex(record["key"]) for record in records[n_stories:]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_whole = len(stories) == n_stories > 0 and len(hashes) == n_hashes > 0
    return (stories, frozenset(hashes)) if is_whole and all(len(each) == 16 for each in hashes) else None

"""`storyteller stories`: list the history of generated stories, newest first."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Annotated

from storyteller.cli.options import argument, option
from storyteller.cli.story_output import OutputStream, terminal_columns, write_wrapped
from storyteller.cli.text_tables import note, out, out_json, table
from storyteller.errors import invalid_value
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.inference.story_history import StoryRecord


def stories(
    text: Annotated[
        str | None, argument("List only stories with this text, of this model, or with this id.", metavar="TEXT")
    ] = None,
    limit: Annotated[int, option("Most stories to list.")] = 20,
    full: Annotated[bool, option("Print whole stories.", "--full")] = False,
    as_json: Annotated[bool, option("Print a JSON list with every field.", "--json")] = False,
) -> None:
    """List the stories told so far, newest first. `storyteller tell --again ID` repeats one.

    Example: storyteller stories dragon --limit 5
    """
    from storyteller.inference import story_history

    if limit < 1:
        raise invalid_value("--limit", limit, "1 or more")
    found = story_history.recent(limit, text or "")
    if as_json:
        out_json([record.to_json() for record in found])
    elif not found:
        what = f"no story has {safe_line(text, 60)} in it" if text else "no story is kept yet"
        note(f'{what}: storyteller tell "Once there was a little boy"')
    elif full:
        _show_whole(found)
    else:
        for line in story_table(found):
            out(line)


def story_table(found: list[StoryRecord], columns: int | None = None) -> list[str]:
    """Returns a table of stories (id, time, model, beginning), cut to the width of the terminal."""
    columns = columns or (terminal_columns() if sys.stdout.isatty() else 0)
    rows = [(one.id, _when(one.time), safe_line(one.model, 24), " ".join(one.whole.split()[:40])) for one in found]
    if 0 < columns < 72:
        lines = table(("ID", "STORY"), [(row[0], row[3]) for row in rows])
    else:
        lines = table(("ID", "TOLD", "MODEL", "STORY"), rows, left=4)
    width = columns or 160
    return [line if len(line) < width else line[: width - 2] + "\u2026" for line in lines]


def _show_whole(found: list[StoryRecord]) -> None:
    stream = OutputStream(sys.stdout)
    for number, record in enumerate(found):
        seed = f"seed {record.seed}" if record.sample.draws else "no sampling"
        head = f"{record.id}  {_when(record.time)}  {record.model}  {seed}  {record.tokens:,} tokens"
        stream.write("\n" * (number > 0) + safe_line(head) + "\n")
        write_wrapped(record.whole, stream)


def _when(time: str) -> str:
    """Formats an ISO time as local time to the minute; anything else is returned unchanged."""
    try:
        return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return safe_line(time, 16)

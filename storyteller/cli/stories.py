"""`storyteller stories`: the stories that were told, the newest first."""

from __future__ import annotations

import datetime
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from storyteller.cli.story_output import Page, Paper
from storyteller.cli.text_tables import note, out, out_json, table
from storyteller.errors import UsageError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.inference.story_history import StoryRecord


def stories(
    text: Annotated[
        str | None, typer.Argument(help="Only stories with this in them, or told by this model, or of this id.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most stories listed.")] = 20,
    full: Annotated[bool, typer.Option("--full", help="Whole stories, not their beginnings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a list of objects with all that is known.")] = False,
) -> None:
    """The stories told so far, the newest first. `storyteller tell --again ID` tells one again.

    Example: storyteller stories dragon --limit 5
    """
    from storyteller.inference import story_history

    if limit < 1:
        raise UsageError(f"--limit {limit} is off", "it wants 1 or more")
    found = story_history.recent(limit, text or "")
    if as_json:
        out_json([told.to_json() for told in found])
    elif not found:
        what = f"no story has {safe_line(text, 60)} in it" if text else "no story is kept yet"
        note(f'{what}: storyteller tell "Once there was a little boy"')
    elif full:
        _show_whole(found)
    else:
        for line in listed(found):
            out(line)


def listed(found: list[StoryRecord], columns: int | None = None) -> list[str]:
    """A table of stories: id, when, by which model, how it begins; cut to a terminal's width."""
    columns = columns or (shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
    narrow = 0 < columns < 72
    rows = [(told.id, _when(told.time), safe_line(told.model, 24), " ".join(told.whole.split()[:40])) for told in found]
    if narrow:
        lines = table(("ID", "STORY"), [(row[0], row[3]) for row in rows])
    else:
        lines = table(("ID", "TOLD", "MODEL", "STORY"), rows, left=4)
    width = columns or 160
    return [line if len(line) < width else line[: width - 2] + "\u2026" for line in lines]


def _show_whole(found: list[StoryRecord]) -> None:
    paper = Paper(sys.stdout)
    for number, told in enumerate(found):
        seed = f"seed {told.seed}" if told.sample.draws else "nothing drawn"
        head = f"{told.id}  {_when(told.time)}  {told.model}  {seed}  {told.tokens:,} tokens"
        paper.write("\n" * (number > 0) + safe_line(head) + "\n")
        page = Page(paper)
        page.write(told.whole)
        page.end()


def _when(time: str) -> str:
    """The local time, to the minute; what is no time as it stands."""
    try:
        return datetime.datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return safe_line(time, 16)

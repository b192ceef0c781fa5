"""The command line: a thin module for each command or family of commands.

They parse and print, and compute nothing. `main` is the only place where an error becomes a line and an exit status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from storyteller.errors import StorytellerError, is_disk_full
from storyteller.text import safe_line


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and exits with its status. `--debug` anywhere shows the traceback of an error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("STORYTELLER_DEBUG"))
    sys.exit(_run([word for word in words if word != "--debug"], debug))


def _run(words: list[str], debug: bool) -> int:
    try:
        if not words and sys.stdout.isatty():
            from storyteller.cli.welcome import welcome

            welcome()
            return 0
        if words[:1] == ["tui"] and (plain := _plain_tui(words[1:])) is not None:
            # Without Typer, whose import alone takes a third of the time to the first frame.
            from storyteller import tui

            tui.run(*plain)
            return 0
        from storyteller.cli import commands

        return commands.run(words or ["--help"])
    except StorytellerError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone (a pager, `head`): no error. Without this, Python would report it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _fail(_explain(error), 1)


def _plain_tui(words: list[str]) -> tuple[str | None, str | None] | None:
    """The run and the runs folder given to `tui`; None for arguments that Typer has to parse, such as `--help`."""
    given, left = {}, list(words)
    while left:
        word = left.pop(0)
        if word == "--runs-dir" and left and "dir" not in given:
            given["dir"] = left.pop(0)
        elif not word.startswith("-") and "run" not in given:
            given["run"] = word
        else:
            return None
    return given.get("run"), given.get("dir")


def _explain(error: Exception) -> str:
    """Returns the line to print for an error that is none of ours."""
    if is_disk_full(error):
        return "no space is left on the disk: free some and try again"
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror.lower()}{where}: check the path and its permissions"
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def _fail(line: str, status: int) -> int:
    print(f"storyteller: {safe_line(line)}", file=sys.stderr)
    return status

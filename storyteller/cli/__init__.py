"""The commands: one thin module a family. They print and never compute; every error leaves by `main`'s one door."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from storyteller.errors import StorytellerError, UsageError, is_disk_full
from storyteller.text import safe_line

app = typer.Typer(
    name="storyteller",
    help="Train a tiny story model in minutes, and let it tell stories.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
    from storyteller.cli import doctor, mirror, runs, tell, train, tui

    app.command()(train.train)
    app.command()(train.resume)
    app.command()(runs.ps)
    app.command()(runs.logs)
    app.command()(runs.stop)
    app.command()(mirror.sync)
    app.command()(mirror.dashboard)
    app.command()(runs.wait)
    app.command()(tell.tell)
    app.command()(tui.tui)
    app.command()(doctor.doctor)


_register()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status; `--debug` anywhere shows the traceback of an error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or bool(os.environ.get("STORYTELLER_DEBUG"))
    words = [word for word in words if word != "--debug"] or ["--help"]
    sys.exit(_run(words, debug))


def _run(words: list[str], debug: bool) -> int:
    try:
        status = app(words, prog_name="storyteller", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except StorytellerError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_status)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        return _fail(_words_off(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has gone (a pager, head): not an error of ours, and not to be reported at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _unexpected(error)


def _words_off(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "storyteller"
    return str(UsageError(error.format_message().rstrip("."), f"see {command} --help"))


def _unexpected(error: Exception) -> int:
    if is_disk_full(error):
        return _fail("no space is left on the disk: free some and try again", 1)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror.lower()}{where}: check the path and its permissions", 1)
    return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", 1)


def _fail(line: str, status: int) -> int:
    print(f"storyteller: {safe_line(line)}", file=sys.stderr)
    return status

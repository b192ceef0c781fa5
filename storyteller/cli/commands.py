"""The commands there are, and how their words are read."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from storyteller.cli import doctor, mirror, runs, tell, train, tui
from storyteller.errors import UsageError

app = typer.Typer(
    name="storyteller",
    help="Train a tiny story model in minutes, and let it tell stories.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
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


def run(words: Sequence[str]) -> int:
    """Run the command that the words name; its exit status. Raises UsageError where they are off."""
    try:
        status = app(list(words), prog_name="storyteller", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "storyteller"
        raise UsageError(error.format_message().rstrip("."), f"see {command} --help") from error

"""The table of commands, and running one of them.

Only the module of the command that was asked for is imported: each of the others costs tens of milliseconds, and `tell`
shows its first word within a few hundred.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import typer

from storyteller.cli.help_format import SectionedCommand, SectionedGroup
from storyteller.errors import UsageError


class Command(NamedTuple):
    """Where a command is defined, its heading in `--help`, and the first line of its help."""

    module: str
    panel: str
    line: str


_TRAIN, _RUNS, _STORIES, _EVALUATE, _SHARE, _HELP = "Train", "Runs", "Stories", "Evaluation", "Sharing", "Help"

COMMANDS = {
    "train": Command("train", _TRAIN, "Train a model in the background and follow it."),
    "resume": Command("train", _TRAIN, "Continue a run that was stopped, failed, died or finished."),
    "ps": Command("runs", _RUNS, "List the runs: state, step, loss, speed, time left."),
    "show": Command("show", _RUNS, "Show one run: state, settings, charts, latest stories."),
    "logs": Command("runs", _RUNS, "Print a run's log; -f follows it."),
    "stop": Command("runs", _RUNS, "Stop a run after its current step and save a checkpoint."),
    "wait": Command("runs", _RUNS, "Wait until a run has ended; exit with its status."),
    "rename": Command("runs", _RUNS, "Rename a run that is not training."),
    "delete": Command("runs", _RUNS, "Delete a run that is not training, with its checkpoints."),
    "tell": Command("tell", _STORIES, "Tell a story; without a prompt, an interactive session."),
    "tui": Command("tui", _STORIES, "Open the terminal app: live runs, charts and stories."),
    "stories": Command("stories", _STORIES, "List the stories told so far, newest first."),
    "eval": Command("eval", _EVALUATE, "Score a model on held-out stories (bits per byte)."),
    "compare": Command("compare", _EVALUATE, "Compare models and runs: curves, scores, stories."),
    "card": Command("card", _EVALUATE, "Measure a model's stories beside real ones."),
    "timeline": Command("timeline", _EVALUATE, "One prompt and seed at every checkpoint of a run."),
    "report": Command("report", _EVALUATE, "Write runs as one HTML page."),
    "export": Command("export", _SHARE, "Write a model as a Hugging Face folder."),
    "sync": Command("wandb_sync", _SHARE, "Send to Weights & Biases what it does not have yet."),
    "dashboard": Command("wandb_sync", _SHARE, "Open a run's Weights & Biases page."),
    "guide": Command("guide", _HELP, "Read the handbook, a topic at a time."),
    "doctor": Command("doctor", _HELP, "Check this machine, and that training works on it."),
}
"""Every command by its name, which is also the name of its function, in the order of the help."""


def make_app(names: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """The command line. Only the commands in `names` can be run; the others are listed in the help."""
    app = typer.Typer(
        name="storyteller",
        cls=SectionedGroup,
        help="Train a tiny story model in minutes, and let it tell stories.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in COMMANDS.items():
        function = _function(name) if name in names else _not_loaded
        app.command(name, cls=SectionedCommand, short_help=command.line, rich_help_panel=command.panel)(function)
    return app


def _function(name: str) -> Callable[..., object]:
    function: Callable[..., object] = getattr(importlib.import_module(f"storyteller.cli.{COMMANDS[name].module}"), name)
    return function


def _not_loaded() -> None:
    """Stands for a command that this call does not run."""


def run(words: Sequence[str]) -> int:
    """Runs the command that `words` name and returns its exit status. Raises UsageError for wrong use."""
    # A shell that completes words asks for any command's options.
    names = tuple(COMMANDS) if "_STORYTELLER_COMPLETE" in os.environ else [words[0]] if words else []
    try:
        status = make_app(names)(list(words), prog_name="storyteller", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except SystemExit as end:
        # Typer exits with status 1 where the reader of our output has gone (`| head`): `main` decides about that.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "storyteller"
        raise UsageError(error.format_message().rstrip("."), f"see {command} --help") from error

"""The commands there are, and how their words are read.

Only the module of the command that was asked for is imported: each of the others costs tens of milliseconds, and `tell`
has its first word on the screen in a few hundred.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import typer

from storyteller.errors import UsageError


class Command(NamedTuple):
    """Where a command lies, and the first line of its help."""

    module: str
    line: str


COMMANDS = {
    "train": Command("train", "Train a model: starts a process that outlives this terminal, and follows it."),
    "resume": Command("train", "Go on with a run that was stopped, failed, died or finished."),
    "ps": Command("runs", "The runs: state, step, loss, speed, time left; the newest first."),
    "show": Command("show", "A run at a glance: its state, settings, charts of its metrics, and its last stories."),
    "compare": Command("compare", "Models and runs side by side: charts and settings, scores, the same prompts told."),
    "eval": Command("eval", "Score a model on held-out stories: bits per byte, nats a token, perplexity."),
    "report": Command("report", "Runs as one page for a browser: curves, stories by step, settings."),
    "timeline": Command("timeline", "One prompt and one seed over all checkpoints of a run."),
    "logs": Command("runs", "The run's log, and with -f what is to come."),
    "stop": Command("runs", "Stop a run: it finishes its step, saves a checkpoint and exits."),
    "rename": Command("runs", "Give a run that is not training another name."),
    "delete": Command("runs", "Delete a run that is not training, with all its checkpoints."),
    "sync": Command("wandb_sync", "Send what Weights & Biases does not have of a run yet."),
    "dashboard": Command("wandb_sync", "Open a run's Weights & Biases page, or show an offline run here."),
    "wait": Command("runs", "Wait until a run has ended, and end with its exit status."),
    "tell": Command("tell", "Tell a story, or without a prompt many of them, in a session."),
    "stories": Command("stories", "The stories told so far, the newest first."),
    "tui": Command("tui", "The terminal app: the runs live, their charts and stories."),
    "export": Command("export", "Write a model as a folder to give away, with a card."),
    "card": Command("card", "How good a model is: many stories told, measured, and held against real ones."),
    "doctor": Command("doctor", "What this machine has, and a check that training works on it."),
}
"""Every command by its name, which is its function's name too, in the order of the help."""


def make_app(names: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """The command line, of which the commands in `names` can be run; the others are there by name alone."""
    app = typer.Typer(
        name="storyteller",
        help="Train a tiny story model in minutes, and let it tell stories.",
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in COMMANDS.items():
        app.command(name, short_help=command.line)(_function(name) if name in names else _nothing)
    return app


def _function(name: str) -> Callable[..., object]:
    function: Callable[..., object] = getattr(importlib.import_module(f"storyteller.cli.{COMMANDS[name].module}"), name)
    return function


def _nothing() -> None:
    """A command that this call does not run."""


def run(words: Sequence[str]) -> int:
    """Run the command that the words name; its exit status. Raises UsageError where they are off."""
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
        # The library ends the process, as failed, where whoever read our output has gone: that is `main`'s to judge.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "storyteller"
        raise UsageError(error.format_message().rstrip("."), f"see {command} --help") from error

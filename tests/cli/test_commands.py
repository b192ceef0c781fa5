"""The commands' table: complete, true, and cheap to list."""

from __future__ import annotations

import subprocess
import sys

import pytest

from storyteller.cli import commands


def said(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"from storyteller.cli import main; main({list(words)!r})"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_of_the_table_is_a_function_with_an_example(name: str) -> None:
    assert f"Example: storyteller {name}" in (commands._function(name).__doc__ or "")


def test_the_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import contextlib, sys; from storyteller.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "print('|', *(name for name in sys.modules if name.startswith('storyteller.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    listed, _, modules = done.stdout.partition("|")
    assert modules.split() == ["storyteller.cli.help_format", "storyteller.cli.commands"]
    for name, command in commands.COMMANDS.items():
        assert f"\n  {name} " in listed
        assert command.line.split(maxsplit=1)[0] in listed


def test_a_command_alone_is_imported() -> None:
    code = (
        "import contextlib, sys; from storyteller.cli import main\n"
        "with contextlib.suppress(SystemExit): main(['tell', '--help'])\n"
        "print('|', *({'train', 'runs', 'mirror', 'tui', 'doctor'} & {n.rpartition('.')[2] for n in sys.modules"
        " if n.startswith('storyteller.cli.')}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rpartition("|")[2].split() == []
    assert "--temperature" in done.stdout


def test_a_command_that_is_misspelt_is_guessed() -> None:
    assert said("tel") == "storyteller: No such command 'tel'. Did you mean 'tell'?: see storyteller --help\n"

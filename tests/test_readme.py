"""The README is true: each of its commands works as it is typed there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from storyteller.cli import commands
from storyteller.tracking.run_folder import RunFolder
from tests.cli.test_train import TINY, storyteller, wait_for_step
from tests.support.terminal import Terminal

README = Path(__file__).resolve().parents[1] / "README.md"


def section(heading: str) -> str:
    """The text under a heading, up to the next."""
    _, found, rest = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def block(heading: str) -> list[str]:
    """The lines of the first shell block under a heading."""
    found = re.search(r"```sh\n(.*?)```", section(heading), re.DOTALL)
    assert found is not None, heading
    return [line for line in found[1].splitlines() if line.strip()]


def brief(line: str) -> list[str]:
    """A command's arguments, with a tiny model and a budget of steps so that it takes seconds."""
    words = shlex.split(line.partition("  #")[0])[1:]
    if words[0] == "train" and "--attach" not in words:
        words += [word for word in TINY if word not in ("--data", "bundled") or "--data" not in words]
    for budget, steps in (("--minutes 5", "3"), ("--minutes 10", "5"), ("--steps 2000", "100000")):
        option, value = budget.split()
        if option in words and words[words.index(option) + 1] == value:
            words[words.index(option) : words.index(option) + 2] = ["--steps", steps]
    if words[0] == "train" and "--steps" not in words and "--attach" not in words:
        words += ["--steps", "3"]
    if words[0] == "card":
        words += ["--completions", "1"]
    return words


@pytest.mark.slow
def test_every_command_of_the_readme_works_in_the_order_in_which_it_stands() -> None:
    stories = [f"A cat sat on the mat with number {n} and was very happy about it all." for n in range(60)]
    Path("my-stories.jsonl").write_text("".join(f'{{"text": "{story}"}}\n' for story in stories))
    Path("held-out.txt").write_text("A dog ran over the long green hill.\n\nA bird flew up to the tall old tree.")
    lines = re.findall(r"`(storyteller [^`]+)`", section("What you can do"))
    assert len(lines) >= 20
    for line in lines:
        if "roneneldan" in line:
            continue  # test_tell uses that name with a Hub on the loopback
        words = brief(line)
        if words == ["tui"]:
            with Terminal([sys.executable, "-m", "storyteller", "tui"]) as terminal:
                terminal.wait_for("first")
                terminal.send("q")
                assert terminal.ended() == 0
            continue
        if words == ["stop", "wide"]:
            wait_for_step(RunFolder(Path("runs").resolve() / "wide"), 2)
        if words[:2] == ["resume", "wide"]:
            words += ["--steps", str(_reached("wide") + 2)]
        done = storyteller(*words)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr


def _reached(name: str) -> int:
    from storyteller.tracking.run_status import read_status

    status = read_status(RunFolder(Path("runs").resolve() / name))
    assert status is not None
    return status.step


def test_the_setup_commands_name_what_there_is() -> None:
    install, first = block("Start")
    (tests,) = block("Tests")
    for command in (install, tests):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert [shlex.split(part) for part in first.split("&&")] == [
        [".venv/bin/storyteller", "train"],
        [".venv/bin/storyteller", "tell", "Once there was a little boy"],
    ]
    assert tests.endswith('.venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest')


def test_the_readme_is_at_most_150_lines_and_links_to_files_there_are() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) >= 12
    for link in links:
        assert (README.parent / link).is_file(), link


def test_every_command_has_help_with_an_example_under_a_heading() -> None:
    listed = subprocess.run([sys.executable, "-m", "storyteller", "--help"], capture_output=True, text=True).stdout
    named = re.findall(r"^  ([a-z]+)  ", listed.partition("\nOptions:")[0], re.MULTILINE)
    assert named == list(commands.COMMANDS)
    assert re.findall(r"^(\w+):$", listed, re.MULTILINE) == [
        *dict.fromkeys(command.panel for command in commands.COMMANDS.values()),
        "Options",
    ]
    for command in named:
        shown = storyteller(command, "--help")
        assert shown.returncode == 0
        assert f"Example: storyteller {command}" in " ".join(shown.stdout.split()), command
        assert not re.search(r"<(str|int|float|path|list\[)", shown.stdout), command

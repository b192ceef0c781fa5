"""The README is true: each of its commands works as it is typed there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from storyteller.config import presets
from storyteller.tracking.run_folder import RunFolder
from tests.cli.test_train import TINY, storyteller, wait_for_step
from tests.support.terminal import Terminal

README = Path(__file__).resolve().parents[1] / "README.md"


def block(heading: str) -> list[str]:
    """The lines of the first shell block under a heading, comments left out."""
    _, _, section = README.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return [line.partition("  #")[0].rstrip() for line in found[1].splitlines() if line.strip()]


def brief(line: str) -> list[str]:
    """A README command, with the words that make it a matter of seconds: a tiny model and a budget of steps."""
    words = shlex.split(line)[1:]
    if words[0] == "train" and "--attach" not in words:
        tiny = [word for word in TINY if word not in ("--data", "bundled") or "--data" not in words]
        words += tiny
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
    commands = block("Commands")
    assert len(commands) >= 13
    for line in commands:
        if "roneneldan" in line:
            continue  # test_tell tells from that name over a Hub on the loopback
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
    (start,), (tests,) = block("Start"), block("Tests")
    for command in (start, tests):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    parts = [shlex.split(part) for part in start.split("&&")[2:]]
    assert parts == [
        [".venv/bin/storyteller", "train"],
        [".venv/bin/storyteller", "tell", "Once there was a little boy"],
    ]
    assert tests.endswith('.venv/bin/pip install -e ".[test]" && .venv/bin/python -m pytest')


def test_the_presets_of_the_readme_are_those_there_are() -> None:
    _, _, section = README.read_text(encoding="utf-8").partition("\n## Presets\n")
    named = re.findall(r"^\| `(\w+)`", section.partition("\n## ")[0], re.MULTILINE)
    assert named == list(presets.PRESETS)


def test_every_command_has_help_with_an_example() -> None:
    listed = subprocess.run([sys.executable, "-m", "storyteller", "--help"], capture_output=True, text=True).stdout
    commands = re.findall(r"^  ([a-z]+)  ", listed.partition("Commands:")[2], re.MULTILINE)
    assert {"train", "resume", "ps", "logs", "stop", "tell", "doctor"} <= set(commands)
    for command in commands:
        shown = storyteller(command, "--help")
        assert shown.returncode == 0
        assert f"Example: storyteller {command}" in " ".join(shown.stdout.split()), command

"""The handbook: every page is shown, names only what exists, and its commands work as typed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

import storyteller as package
from storyteller.cli import commands
from storyteller.cli.guide import TOPICS
from storyteller.tracking.run_folder import RunFolder
from tests.cli.test_train import TINY, storyteller, wait_for_step
from tests.support.terminal import Terminal
from tests.test_readme import brief

PAGES = Path(package.__file__).parent / "guide"
NOT_RUN = ("roneneldan", "storyteller tui", "printf")
"""Commands that need the Hub or a terminal, and the shell's own."""


def page(topic: str) -> str:
    return (PAGES / f"{topic}.md").read_text(encoding="utf-8")


def shell_lines(topic: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", page(topic), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_pages_are_the_topics() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(TOPICS)
    for topic in TOPICS:
        assert page(topic).startswith("# ")


def test_without_a_topic_all_are_listed() -> None:
    listed = storyteller("guide")
    assert listed.returncode == 0
    for topic, title in TOPICS.items():
        assert re.search(rf"^{topic} +{re.escape(title)}$", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("topic", ["start", "internals"])
def test_a_page_in_a_pipe_is_its_markdown(topic: str) -> None:
    assert storyteller("guide", topic).stdout == page(topic)


def test_a_page_at_a_terminal_is_rendered() -> None:
    with Terminal([sys.executable, "-m", "storyteller", "guide", "gpus"], rows=120) as terminal:
        terminal.wait_for("several machines")
        terminal.send("q")
        assert terminal.ended() == 0
        shown = terminal.text()
    assert "```" not in shown and "## " not in shown


def test_an_unknown_topic_is_refused_with_the_topics_there_are() -> None:
    refused = storyteller("guide", "gpu")
    assert refused.returncode == 2
    assert refused.stderr == f"storyteller: there is no topic gpu: choose one of {', '.join(TOPICS)}\n"


def test_every_command_and_option_that_the_pages_name_exists() -> None:
    options = {name: {"--debug", "--help"} for name in commands.COMMANDS}
    for name, command in typer.main.get_command(commands.make_app()).commands.items():  # type: ignore[attr-defined]
        options[name] |= {option for param in command.params for option in param.opts}
    known = set().union({"--snapshot-update"}, *options.values())
    for topic in TOPICS:
        text = page(topic)
        code = "\n".join(
            block or span for block, span in re.findall(r"^```\w*\n(.*?)^```|`([^`]+)`", text, re.M | re.S)
        )
        for name, rest in re.findall(r"^(?:srun )?storyteller ([a-z]+)(.*)", code, re.MULTILINE):
            assert name in options, f"{topic}: storyteller {name}"
            for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
                assert option in options[name], f"{topic}: storyteller {name} {option}"
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in known, f"{topic}: {option}"


def test_the_walks_are_short_and_of_files_that_exist() -> None:
    for heading, most in (("A story's way to the loss", 10), ("A prompt's way to the screen", 8)):
        section = page("internals").partition(f"## {heading}\n")[2].partition("\n## ")[0]
        files = re.findall(r"^\| `([^`]+)`", section, re.MULTILINE)
        assert 5 <= len(files) <= most
        assert all((PAGES.parent / file).is_file() for file in files), files


@pytest.mark.slow
@pytest.mark.parametrize("topic", [topic for topic in TOPICS if shell_lines(topic)])
def test_the_commands_of_a_page_work_in_the_order_in_which_they_stand(topic: str) -> None:
    stories = [f"A cat sat on the mat with number {n} and was very happy about it all." for n in range(60)]
    Path("my-stories.jsonl").write_text("".join(f'{{"text": "{story}"}}\n' for story in stories))
    Path("held-out.txt").write_text("A dog ran over the long green hill.\n\nA bird flew up to the tall old tree.")
    Path("prompts.txt").write_text("The cat\nThe dog\n")
    if topic not in ("start", "contributing"):
        assert storyteller("train", "--name", "first", "--steps", "3", *TINY).returncode == 0
    for line in shell_lines(topic):
        if line.startswith(NOT_RUN[2]) or any(words in line for words in NOT_RUN) or "storyteller" not in line:
            continue
        words = brief(line)
        if words[0] == "stop":
            wait_for_step(RunFolder(Path("runs").resolve() / words[1]), 2)
        if words[0] == "resume" and "--detach" in words:
            words[words.index("--steps") + 1] = "100000"
        if words[0] == "wait":
            subprocess.run([sys.executable, "-m", "storyteller", "stop", words[1]], check=False, capture_output=True)
        done = storyteller(*words)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr


def test_brief_keeps_what_a_command_asks_for() -> None:
    assert brief("storyteller ps --json") == ["ps", "--json"]
    assert shlex.join(brief("storyteller train --name x --minutes 5")[:4]) == "train --name x --steps"

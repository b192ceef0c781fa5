"""`storyteller guide`: the handbook, rendered at a terminal and as plain Markdown elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import storyteller
from storyteller.cli.options import argument
from storyteller.cli.text_tables import out, print_table
from storyteller.errors import UsageError
from storyteller.text import safe_line

TOPICS = {
    "start": "First steps: install, train, tell, watch",
    "training": "Training: presets, budgets, resuming, checkpoints",
    "data": "Stories: formats, cleaning, held-out stories, the cache",
    "telling": "Telling stories: sampling, sessions, many at once",
    "app": "The terminal app: views and keys",
    "evaluation": "Evaluation: bits per byte, cards, comparisons",
    "experiments": "Experiments and Weights & Biases",
    "troubleshooting": "When something fails",
    "gpus": "GPUs, several processes, several machines",
    "scripting": "The run folder, --json and exit statuses",
    "internals": "How it works inside",
    "contributing": "Contributing to storyteller",
}
"""The topics in reading order. Each is `storyteller/guide/TOPIC.md`."""


def guide(topic: Annotated[str | None, argument("A topic; without one, the topics.", metavar="TOPIC")] = None) -> None:
    """Read the handbook. Without a topic, list the topics.

    Example: storyteller guide training
    """
    if topic is None:
        print_table(("TOPIC", ""), list(TOPICS.items()))
        out()
        out("storyteller guide TOPIC shows one")
        return
    if topic not in TOPICS:
        raise UsageError(f"there is no topic {safe_line(topic, 40)}", f"choose one of {', '.join(TOPICS)}")
    text = (Path(storyteller.__file__).parent / "guide" / f"{topic}.md").read_text(encoding="utf-8")
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        _page(text)
    else:
        print(text, end="", flush=True)


def _page(text: str) -> None:
    """Renders Markdown in the user's pager; a text that fits on the screen is printed."""
    from rich.console import Console
    from rich.markdown import Markdown

    os.environ.setdefault("LESS", "-FRX")  # quit where all fits, pass colours, leave the text on the screen
    console = Console(no_color=bool(os.environ.get("NO_COLOR")))
    with console.pager(styles=not os.environ.get("NO_COLOR")):
        console.print(Markdown(text), width=min(console.width, 100))

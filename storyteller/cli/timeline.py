"""`storyteller timeline`: one prompt and one seed over all checkpoints of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyteller.cli.story_output import OutputStream, cells
from storyteller.cli.text_tables import note, out_json, writes
from storyteller.cli.train import RunsDir
from storyteller.config.configs import PROMPTS
from storyteller.errors import RunError, UsageError
from storyteller.text import safe, safe_line
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.config.configs import SamplingParams
    from storyteller.evaluation.checkpoint_timeline import DiffPart, TimelineStory
    from storyteller.tracking.sample_history import SampleHistory

_WIDEST = 100
"""Columns of a story: longer lines are hard to read."""
_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def timeline(
    run: Annotated[str, typer.Argument(help="The run: its name, the beginning of it, or latest.")] = "latest",
    prompt: Annotated[str, typer.Option(help="What the stories begin with.")] = PROMPTS[0],
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1, help="Default: the run's own.")] = None,
    most: Annotated[int, typer.Option(min=0, help="Steps at most, evenly; 0: all.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page for a browser, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """How a run learned to speak: one prompt and one seed over all its checkpoints, what is missing told now.

    What a story has from the one before it is dim; where that is much, a bar stands beside the lines that have news.

    Example: storyteller timeline latest --prompt "The dragon" --seed 7 --html dragon.html
    """
    from storyteller.evaluation.checkpoint_timeline import timeline_steps, timeline_stories
    from storyteller.reports.html import check_writable, write
    from storyteller.reports.timeline_page import timeline_page
    from storyteller.tracking.compare_runs import read_curves
    from storyteller.tracking.sample_history import SampleHistory, sampling_params_of

    if not prompt.strip():
        raise UsageError("--prompt is empty", 'give it some words, such as --prompt "The dragon"')
    if html is not None:
        check_writable(html)
    root = run_folder.runs_root(runs_dir)
    folder = run_index.find_run(root, run)
    sample = sampling_params_of(_config(folder))
    if seed is not None:
        sample = dataclasses.replace(sample, seed=seed)
    growth = SampleHistory(folder)
    growth.catch_up()
    curves = read_curves(folder)
    steps = timeline_steps(growth, prompt, sample, run_index.readable_steps(folder), most)
    if not steps:
        raise RunError(
            f"{folder.name} has neither a story from this prompt nor a checkpoint to tell one from",
            f"wait for its first (storyteller logs {folder.name} -f)",
        )
    scored = curves.line("eval/bpb", points=10_000)
    bpb = dict(zip(scored.x, scored.mean, strict=True))
    found: list[TimelineStory] = []
    sheet = None if as_json else _Sheet(prompt, folder.name, sample, len(steps))
    with _progress(growth, prompt, steps) as show:
        for moment in timeline_stories(root, folder.name, growth, prompt, sample, steps, bpb.get):
            show(None)
            found.append(moment)
            if sheet is not None:
                sheet.put(moment)
            show(len(found))
    if html is not None:
        write(html, timeline_page(folder.name, prompt, sample, found, curves))
        note(f"{html} has the page")
    if as_json:
        told = [moment.to_json() for moment in found]
        out_json({"run": folder.name, "prompt": prompt, "seed": sample.seed, "moments": told})
    if all(moment.told is None for moment in found):
        raise RunError(f"nothing could be told: {found[-1].problem}", "storyteller show tells of the checkpoints")


def _config(folder: run_folder.RunFolder) -> object:
    try:
        return folder.read_run().get("config")
    except RunError:
        return None


class _Sheet:
    """Moments as text: at a terminal, what is kept of the story before is dim; everywhere, what is new has a bar."""

    def __init__(self, prompt: str, run: str, sample: SamplingParams, steps: int) -> None:
        self._paper = OutputStream(sys.stdout)
        self._prompt = prompt
        terminal = self._paper.is_terminal
        self._styled = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._bar = "\u258e " if writes("\u258e") else "| "
        self._paper.write(
            f"{safe_line(run)}, {steps} step{'s' if steps > 1 else ''}, seed {sample.seed}: {safe_line(prompt, 200)}\n"
        )

    def put(self, moment: TimelineStory) -> None:
        from storyteller.reports.timeline_page import describe

        heading = f"step {moment.step:,}"
        beside = describe(moment) if moment.told is not None else safe_line(moment.problem)
        bold, dim, plain = (_BOLD, _DIM, _PLAIN) if self._styled else ("", "", "")
        lines = [f"\n{bold}{heading}{plain}  {dim}{beside}{plain}\n"]
        if moment.told is not None:
            first = moment.kept is None
            parts = [(self._prompt, first), *((text, is_new or first) for text, is_new in moment.parts)]
            width = max(8, min(shutil.get_terminal_size().columns - 1, _WIDEST) - 2)
            lines += [self._line(line, moment.is_alike) for line in wrapped(parts, width)]
        self._paper.write("".join(lines))

    def _line(self, line: Sequence[DiffPart], alike: bool) -> str:
        gutter = self._bar if alike and any(is_new for _, is_new in line) else "  "
        shown = ""
        for is_new, pieces in itertools.groupby(line, key=lambda part: part[1]):
            text = "".join(text for text, _ in pieces)
            shown += f"{_DIM}{text}{_PLAIN}" if self._styled and not is_new else text
        return (gutter + shown).rstrip() + "\n"


def wrapped(parts: Sequence[DiffPart], width: int) -> Iterator[list[DiffPart]]:
    """Pieces of text as lines of at most so many columns, broken between words; made safe."""
    line: list[DiffPart] = []
    column = 0
    for text, is_new in _words(parts):
        if text == "\n":
            yield line
            line, column = [], 0
            continue
        word = text if column else text.lstrip(" ")
        if column and column + cells(word.rstrip(" ")) > width and word.strip(" "):
            yield line
            line, column, word = [], 0, text.lstrip(" ")
        while cells(word) > width:
            fits = _that_fit(word, width)
            yield [(word[:fits], is_new)]
            word = word[fits:]
        if word:
            line.append((word, is_new))
            column += cells(word)
    if line:
        yield line


def _words(parts: Sequence[DiffPart]) -> Iterator[DiffPart]:
    """Each word with the space before it, each end of a line by itself; a word of several pieces is new if one is."""
    waiting, waiting_new = "", False
    for text, is_new in parts:
        for character in safe(text).replace("\t", "    "):
            if character in " \n" and waiting.strip(" "):
                yield waiting, waiting_new
                waiting, waiting_new = "", False
            if character == "\n":
                yield "\n", False
                waiting = ""
                continue
            waiting += character
            waiting_new |= is_new and character != " "
    if waiting.strip(" "):
        yield waiting, waiting_new


def _that_fit(word: str, width: int) -> int:
    """How many characters of a word fill a line; one at least."""
    column = 0
    for i, character in enumerate(word):
        column += cells(character)
        if column > width:
            return max(1, i)
    return len(word)


@contextlib.contextmanager
def _progress(growth: SampleHistory, prompt: str, steps: Sequence[int]) -> Iterator[Callable[[int | None], None]]:
    """A line at the end of a terminal's standard error while stories are told."""
    missing = [step for step in steps if growth.at(prompt, step) is None]
    on = sys.stderr.isatty() and bool(missing)
    shown = 0

    def show(done: int | None) -> None:
        """`done` of the steps are there; None takes the line away."""
        nonlocal shown
        if not on or done == len(steps):
            done = None
        words = f"{done} of {len(steps)} steps ..." if done is not None else ""
        if not on or (not words and not shown):
            return
        with contextlib.suppress(OSError):
            sys.stderr.write("\r" + words.ljust(shown) + ("\r" if not words else ""))
            sys.stderr.flush()
        shown = len(words)

    show(0)
    try:
        yield show
    finally:
        show(None)

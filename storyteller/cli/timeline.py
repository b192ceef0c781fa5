"""`storyteller timeline`: the story of one prompt and one seed at every checkpoint of a run."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from storyteller.cli.options import AsJson, Run, RunsDir, option
from storyteller.cli.progress_line import ProgressLine
from storyteller.cli.story_output import OutputStream, terminal_columns
from storyteller.cli.text_tables import has_styles, note, out_json, writes
from storyteller.cli.wrapped_text import Part, wrap_parts
from storyteller.config.configs import PROMPTS
from storyteller.errors import RunError, invalid_value
from storyteller.text import safe_line
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.evaluation.checkpoint_timeline import Timeline, TimelineStory

_MAX_COLUMNS = 100
"""Longer lines are hard to read."""
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def timeline(
    run: Run = "latest",
    prompt: Annotated[str, option("Prompt of the stories.")] = PROMPTS[0],
    seed: Annotated[int | None, option("Random seed.  [default: the run's own]", min=0, max=2**32 - 1)] = None,
    most: Annotated[int, option("At most N steps, evenly spaced; 0: all.", min=0)] = 0,
    html: Annotated[Path | None, option("Write an HTML page, too.")] = None,
    as_json: AsJson = False,
    runs_dir: RunsDir = None,
) -> None:
    """Show how a run's stories change during training: one prompt and one seed at every checkpoint.

    Missing stories are generated from the checkpoints. Text kept from the previous story is dim; if most of it is kept,
    lines with new text are marked with a bar.

    Example: storyteller timeline latest --prompt "The dragon" --seed 7 --html dragon.html
    """
    from storyteller.evaluation.checkpoint_timeline import open_timeline
    from storyteller.reports.html import check_writable, write
    from storyteller.reports.timeline_page import timeline_page
    from storyteller.tracking.compare_runs import read_curves

    if not prompt.strip():
        raise invalid_value("--prompt", prompt, 'some words, such as "The dragon"')
    if html is not None:
        check_writable(html)  # before minutes of work
    found = open_timeline(run_index.find_run(run_folder.runs_root(runs_dir), run), prompt, seed, most)
    name, params, n_steps = found.folder.name, found.params, len(found.steps)
    printer = None if as_json else _Printer(found)
    stories: list[TimelineStory] = []
    with ProgressLine(n_steps, "generating") as progress:
        if not found.is_complete:
            progress.show(0)
        for story in found.stories():
            progress.clear()
            stories.append(story)
            if printer is not None:
                printer.print(story)
            if len(stories) < n_steps and not found.is_complete:
                progress.show(len(stories))
    if html is not None:
        write(html, timeline_page(name, prompt, params, stories, read_curves(found.folder)))
        note(f"{html}: the page")
    if as_json:
        moments = [story.to_json() for story in stories]
        out_json({"run": name, "prompt": prompt, "seed": params.seed, "moments": moments})
    if all(story.story is None for story in stories):
        raise RunError(f"no story could be generated: {stories[-1].problem}", f"see storyteller show {name}")


class _Printer:
    """Prints stories: text kept from the previous story is dim at a terminal; new text has a bar everywhere."""

    def __init__(self, timeline: Timeline) -> None:
        self._stream = OutputStream(sys.stdout)
        self._prompt = timeline.prompt
        self._styled = has_styles()
        self._bar = "\u258e " if writes("\u258e") else "| "
        n_steps, run, prompt = len(timeline.steps), safe_line(timeline.folder.name), safe_line(timeline.prompt, 200)
        steps = f"{n_steps} step{'s' if n_steps > 1 else ''}"
        self._stream.write(f"{run}, {steps}, seed {timeline.params.seed}: {prompt}\n")

    def print(self, story: TimelineStory) -> None:
        from storyteller.reports.timeline_page import describe

        details = describe(story) if story.story is not None else safe_line(story.problem)
        bold, dim, reset = (_BOLD, _DIM, _RESET) if self._styled else ("", "", "")
        lines = [f"\n{bold}step {story.step:,}{reset}  {dim}{details}{reset}\n"]
        if story.story is not None:
            # The first story has no previous one: nothing in it is dim.
            is_first = story.kept is None
            parts = [(self._prompt, is_first), *((text, is_new or is_first) for text, is_new in story.parts)]
            width = max(8, min(terminal_columns() - 1, _MAX_COLUMNS) - 2)
            lines += [self._line(line, story.is_similar) for line in wrap_parts(parts, width)]
        self._stream.write("".join(lines))

    def _line(self, line: Sequence[Part], is_similar: bool) -> str:
        text = self._bar if is_similar and any(is_new for _, is_new in line) else "  "
        for is_new, pieces in itertools.groupby(line, key=lambda part: part[1]):
            piece = "".join(text for text, _ in pieces)
            text += f"{_DIM}{piece}{_RESET}" if self._styled and not is_new else piece
        return text.rstrip() + "\n"

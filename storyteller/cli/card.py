"""`storyteller card`: how good a model is, measured on the stories that it tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storyteller.cli.progress_line import ProgressLine, leave, run_interruptibly
from storyteller.cli.story_output import warn
from storyteller.cli.text_tables import out, out_json, table
from storyteller.errors import DiskError, UsageError, is_disk_full
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.evaluation.llm_judge.client import Judge
    from storyteller.evaluation.model_card.card import Card, Example

_FILES = ("card.html", "card.md", "card.json")
_EXCERPT_CHARS = 400


def card(
    model: Annotated[
        str,
        typer.Argument(help="RUN, RUN@STEP, RUN@best, latest, starter, a folder, or an id on the Hugging Face Hub."),
    ],
    prompts: Annotated[
        Path | None, typer.Option(help="A file of prompts, one a line.  [44 of the package's own]")
    ] = None,
    completions: Annotated[int, typer.Option(help="Stories told from each prompt.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed tells the same stories.")] = 0,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of a story.")] = 400,
    temperature: Annotated[float, typer.Option(help="1 draws as the model thinks, nothing cut off.")] = 1.0,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Real stories to compare with.  [the run's held-out ones, else bundled stories]"),
    ] = None,
    train_data: Annotated[
        list[str] | None, typer.Option(help="What the model was trained on, to look for copies.  [what its run says]")
    ] = None,
    train_stories: Annotated[int, typer.Option(help="Most training stories that copies are looked for in.")] = 20_000,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="A .html, .md or .json file, or a folder for all three.  [with the run alone]"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Ask a judge for grades: an OpenAI-compatible address. Stories are sent there."
        ),
    ] = None,
    judge_model: Annotated[str, typer.Option(help="The judge's model, as its server calls it.")] = "",
    judge_stories: Annotated[int, typer.Option(help="Told stories that are sent, and as many real ones.")] = 44,
    threads: Annotated[int, typer.Option(help="Threads of the CPU.  [as many as are best]")] = 0,
    runs_dir: Annotated[Path | None, typer.Option(help="Where runs lie.  [STORYTELLER_RUNS, else runs/]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The card as JSON, all stories included.")] = False,
) -> int:
    """Tell many stories and measure them: spelling, slips, repetition, consistency, copies, beside real stories.

    A run's card is kept in its folder. Nothing is sent anywhere, unless --judge names an address; its key is taken from
    STORYTELLER_JUDGE_KEY.

    Example: storyteller card latest --out first-card.html
    """
    from storyteller.evaluation.model_card import generate_stories, make_card
    from storyteller.evaluation.prompts import load_prompts
    from storyteller.tracking.run_folder import runs_root
    from storyteller.tracking.run_index import any_trains

    _check_ranges(completions=completions, train_stories=train_stories, judge_stories=judge_stories)
    _check_paths(data, "--data")
    _check_paths(train_data, "--train-data")
    generate_stories.sampling_params(seed, max_tokens, temperature)  # raises where one of them is off
    if output is not None:
        check_target(output)
    asked = _judge(judge, judge_model)
    wish = make_card.CardOptions(
        model=model,
        prompts=tuple(load_prompts(prompts)),
        completions=completions,
        seed=seed,
        max_tokens=max_tokens,
        temperature=temperature,
        data=tuple(data or ()),
        train_data=tuple(train_data or ()),
        most_trained=train_stories,
        threads=threads,
        judged=judge_stories,
    )
    root = runs_root(runs_dir)
    if any_trains(root):
        from storyteller.system import cpu_priority

        warn("a run is training and goes first: the card takes longer")
        cpu_priority.lower_generation_priority()
    shown = Phases()
    try:
        made = run_interruptibly(lambda: make_card.make_card(wish, root, asked, shown.say, warn))
    except KeyboardInterrupt:
        shown.clear()
        warn("stopped: no card was made")
        leave()
    finally:
        shown.clear()
    kept = _keep(made, model, root)
    if output is not None:
        write(made, output)
    if as_json:
        out_json(made.to_json())
    else:
        _show(made, [*([output] if output is not None else []), *([kept] if kept is not None else [])])
    problem = made.judge.problem if made.judge is not None else ""
    if problem:
        warn(problem)
    return 1 if problem else 0


def _check_ranges(**counts: int) -> None:
    for name, count in counts.items():
        if not 1 <= count <= 10_000_000:
            raise UsageError(f"--{name.replace('_', '-')} {count} is off", "it wants 1 or more")


def _check_paths(paths: Sequence[str] | None, option: str) -> None:
    for path in paths or ():
        if not Path(path).exists():
            raise UsageError(f"there is no {safe_line(path, 200)}", f"{option} takes files and folders of stories")


def _judge(address: str | None, model: str) -> Judge | None:
    if address is None:
        if model:
            raise UsageError("--judge-model is given without --judge", "give the judge's address, too")
        return None
    from storyteller.evaluation.llm_judge.client import Judge

    return Judge(address, model)


class Phases:
    """One line at a terminal: what is being done, and how far it is."""

    def __init__(self) -> None:
        self._what = ""
        self._line: ProgressLine | None = None
        self._drawn_at = 0.0

    def say(self, what: str, done: int, of: int) -> None:
        if what != self._what:
            self.clear()
            self._what, self._line = what, ProgressLine(of, what)
        elif time.monotonic() - self._drawn_at < 0.1:
            return
        self._drawn_at = time.monotonic()
        if self._line is not None:
            self._line.show(done)

    def clear(self) -> None:
        if self._line is not None:
            self._line.clear()
        self._line = None


# --- where it goes ----------------------------------------------------------------------------------------------------


def check_target(path: Path) -> None:
    """Raise UsageError where a card cannot be written to `path`, before minutes of work."""
    shown = safe_line(str(path), 200)
    if path.suffix in ("", ".") or path.is_dir():
        if path.exists() and not path.is_dir():
            raise UsageError(f"{shown} is a file without an ending", "name a folder, or a .html, .md or .json file")
        targets = [path / name for name in _FILES]
    elif path.suffix not in (".html", ".md", ".json"):
        raise UsageError(f"--out {shown} is off", "it wants a .html, .md or .json file, or a folder")
    else:
        targets = [path]
    parent = path.parent
    if not parent.is_dir():
        raise UsageError(f"{safe_line(str(parent), 200)} is no folder", "make it, or name another file")
    for target in targets:
        if target.exists() and not _is_card(target):
            raise UsageError(f"{safe_line(str(target), 200)} is there already and is no card", "name another file")


def _is_card(path: Path) -> bool:
    """Whether what is there is of this command's making: nothing else is written over."""
    from storyteller.evaluation.model_card.card import read_card

    if path.suffix == ".json":
        return read_card(path) is not None
    beginning = "# The card of" if path.suffix == ".md" else "<!doctype html>"
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(len(beginning)).lower() == beginning.lower()
    except OSError:
        return False


def write(made: Card, path: Path) -> None:
    """Write the card as the name says, or into a folder in every form. Raises UsageError, DiskError."""
    from storyteller.reports import write as write_page
    from storyteller.reports.card_markdown import markdown
    from storyteller.reports.card_page import card_page
    from storyteller.system.files import write_json, write_text

    check_target(path)
    try:
        if path.suffix in ("", ".") or path.is_dir():
            path.mkdir(exist_ok=True)
            for name in _FILES:
                write(made, path / name)
        elif path.suffix == ".html":
            write_page(path, card_page(made))
        elif path.suffix == ".md":
            write_text(path, markdown(made))
        else:
            write_json(path, made.to_json())
    except OSError as error:
        reason = "no space is left" if is_disk_full(error) else (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{safe_line(str(path), 200)} cannot be written: {reason}", "name another place") from error


def _keep(made: Card, model: str, root: Path) -> Path | None:
    """Put a run's card into its folder, where `report` finds it; the file, or None where it is of no run."""
    from storyteller.evaluation.model_card.training_stories import run_of_model
    from storyteller.system.files import write_json

    run, step = run_of_model(model, made.model, root), made.model.rpartition("@")[2]
    if run is None:
        return None
    if not step.isdecimal():  # a checkpoint's folder
        step = Path(model).expanduser().resolve().name.rpartition("-")[2]
    try:
        run.cards.mkdir(exist_ok=True)
        write_json(run.card(int(step)), made.to_json())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it names no step"
        warn(f"the card is not kept in {run.name}: {reason}")
        return None
    return run.card(int(step))


# --- at the terminal --------------------------------------------------------------------------------------------------


def _show(made: Card, places: Sequence[Path]) -> None:
    from storyteller.reports.card_page import card_facts, figure_row

    for line in made.notes:
        warn(line)
    for name, words in card_facts(made):
        out(f"{name:20} {safe_line(words)}")
    out()
    rows = [figure_row(figure)[:4] for figure in made.figures]
    for line in table(("MEASURE", "THIS MODEL", "REAL STORIES", "SO IT IS"), rows, left=4):
        out(line)
    seen: set[str] = set()
    for example in made.examples:
        if example.kind not in seen:
            seen.add(example.kind)
            _show_example(example)
    if places:
        out()
    for path in places:
        out(f"written: {safe_line(str(path), 300)}")


def _show_example(example: Example) -> None:
    """The worst of a kind: what is wrong, and the story around the first place of it."""
    whole = example.prompt + example.text
    at = example.marks[0][0] if example.marks else 0
    begin = max(0, at - _EXCERPT_CHARS // 4)
    excerpt = " ".join(whole[begin : begin + _EXCERPT_CHARS].split())
    before, after = "..." if begin else "", "..." if begin + _EXCERPT_CHARS < len(whole) else ""
    out()
    out(f"{example.title}:")
    out(f"  {before}{excerpt}{after}")
    if example.source:
        out(f"  in training: {' '.join(example.source.split())}")

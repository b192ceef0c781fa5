"""`storyteller card`: metrics of a model's stories, compared with real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from storyteller.cli.eval import yield_to_training
from storyteller.cli.options import RunsDir
from storyteller.cli.progress_line import run_with_progress
from storyteller.cli.text_tables import out, out_json, table, warn
from storyteller.errors import DiskError, UsageError, invalid_value, is_disk_full
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.evaluation.llm_judge.client import Judge
    from storyteller.evaluation.model_card.card import Card, Example

_FILES = ("card.html", "card.md", "card.json")
_EXCERPT_CHARS = 400
_MODEL_HELP = "RUN, RUN@STEP, RUN@best, latest, starter, a folder, or owner/name on the Hub."


def _stories(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel="Stories")


def _comparison(help: str, metavar: str | None = None) -> Any:
    return typer.Option(help=help, metavar=metavar, rich_help_panel="Comparison")


def _judging(help: str, metavar: str | None = None) -> Any:
    return typer.Option(help=help, metavar=metavar, rich_help_panel="LLM judge")


def card(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL_HELP)],
    prompts: Annotated[Path | None, _stories("File of prompts, one per line.  [default: 44 bundled prompts]")] = None,
    completions: Annotated[int, _stories("Stories per prompt.")] = 10,
    seed: Annotated[int, _stories("Random seed.")] = 0,
    max_tokens: Annotated[int, _stories("Longest story in tokens.")] = 400,
    temperature: Annotated[float, _stories("Sampling temperature; top-k and top-p are disabled.")] = 1.0,
    data: Annotated[
        list[str] | None,
        _comparison("Real stories, repeatable.  [default: the run's held-out stories, else bundled ones]", "PATH"),
    ] = None,
    train_data: Annotated[
        list[str] | None,
        _comparison("Training stories, to detect copies; repeatable.  [default: those of the run]", "PATH"),
    ] = None,
    train_stories: Annotated[int, _comparison("Look for copies in at most N training stories.")] = 20_000,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="A .html, .md or .json file, or a folder for all three.  [default: only the run's]"),
    ] = None,
    judge: Annotated[
        str | None, _judging("OpenAI-compatible address of an LLM judge. Stories are sent to it.", "URL")
    ] = None,
    judge_model: Annotated[str, _judging("The judge's model, as its server calls it.", "NAME")] = "",
    judge_stories: Annotated[int, _judging("Generated stories to judge, and as many real ones.")] = 44,
    threads: Annotated[int, typer.Option(help="CPU threads for generation; 0: chosen by the model.")] = 0,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all stories.")] = False,
) -> int:
    """Generate many stories and measure them: spelling, grammar, repetition, consistency, copies from training.

    The same metrics of real stories are the baseline. The card of a run is kept in its folder. Nothing leaves this
    machine unless --judge is given; the judge's key is read from STORYTELLER_JUDGE_KEY.

    Example: storyteller card latest --out first-card.html
    """
    from storyteller.evaluation.model_card.generate_stories import sampling_params
    from storyteller.evaluation.model_card.make_card import CardOptions, keep_card, make_card
    from storyteller.evaluation.prompts import load_prompts
    from storyteller.tracking.run_folder import runs_root

    _check_counts(completions=completions, train_stories=train_stories, judge_stories=judge_stories)
    _check_paths(data, "--data")
    _check_paths(train_data, "--train-data")
    sampling_params(seed, max_tokens, temperature)  # raises UsageError for invalid values
    if output is not None:
        _targets(output)  # raises before minutes of work
    options = CardOptions(
        model=model,
        prompts=tuple(load_prompts(prompts)),
        completions=completions,
        seed=seed,
        max_tokens=max_tokens,
        temperature=temperature,
        data=tuple(data or ()),
        train_data=tuple(train_data or ()),
        train_stories=train_stories,
        threads=threads,
        judge_stories=judge_stories,
    )
    root, llm_judge = runs_root(runs_dir), _judge(judge, judge_model)
    yield_to_training(root)
    made = run_with_progress(lambda on_progress: make_card(options, root, llm_judge, on_progress, warn))
    kept = keep_card(made, model, root, warn)
    if output is not None:
        _write(made, output)
    if as_json:
        out_json(made.to_json())
    else:
        _print_card(made, [path for path in (output, kept) if path is not None])
    problem = made.judge.problem if made.judge is not None else ""
    if problem:
        warn(problem)
    return 1 if problem else 0


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if not 1 <= count <= 10_000_000:
            raise invalid_value(f"--{name.replace('_', '-')}", count, "1 to 10,000,000")


def _check_paths(paths: Sequence[str] | None, option: str) -> None:
    for path in paths or ():
        if not Path(path).exists():
            raise invalid_value(option, path, "an existing file or folder of stories")


def _judge(address: str | None, model: str) -> Judge | None:
    if address is None:
        if model:
            raise UsageError("--judge-model needs --judge", "add the judge's address")
        return None
    from storyteller.evaluation.llm_judge.client import Judge

    return Judge(address, model)


def _targets(path: Path) -> list[Path]:
    """The files to write for `--out path`. Raises UsageError if one cannot be written or exists and is not a card."""
    shown = safe_line(str(path), 200)
    if path.suffix in ("", ".") or path.is_dir():
        if path.exists() and not path.is_dir():
            raise UsageError(f"{shown} is a file without an extension", "name a folder, or a .html, .md or .json file")
        targets = [path / name for name in _FILES]
    elif path.suffix not in (".html", ".md", ".json"):
        raise invalid_value("--out", shown, "a .html, .md or .json file, or a folder")
    else:
        targets = [path]
    if not path.parent.is_dir():
        raise UsageError(f"{safe_line(str(path.parent), 200)} is not a folder", "create it, or name another file")
    for target in targets:
        if target.exists() and not _is_card(target):
            raise UsageError(f"{safe_line(str(target), 200)} exists and is not a card", "name another file")
    return targets


def _is_card(path: Path) -> bool:
    """True if this command may have written the file; nothing else is overwritten."""
    from storyteller.evaluation.model_card.card import read_card

    if path.suffix == ".json":
        return read_card(path) is not None
    beginnings = ("# model card of", "# the card of") if path.suffix == ".md" else ("<!doctype html>",)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(20).lower().startswith(beginnings)
    except OSError:
        return False


def _write(made: Card, path: Path) -> None:
    """Writes the card in the format of the file's extension, or in all formats to a folder."""
    from storyteller.reports import write as write_page
    from storyteller.reports.card_markdown import markdown
    from storyteller.reports.card_page import card_page
    from storyteller.system.files import write_json, write_text

    try:
        for target in _targets(path):
            if target != path:
                path.mkdir(exist_ok=True)
            if target.suffix == ".html":
                write_page(target, card_page(made))
            elif target.suffix == ".md":
                write_text(target, markdown(made))
            else:
                write_json(target, made.to_json())
    except OSError as error:
        reason = "no space is left" if is_disk_full(error) else (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{safe_line(str(path), 200)} cannot be written: {reason}", "name another place") from error


def _print_card(made: Card, files: Sequence[Path]) -> None:
    """Prints the card's facts, its metrics, one example of each failure, and the files written."""
    from storyteller.reports.card_page import card_facts, figure_row

    for line in made.notes:
        warn(line)
    for name, words in card_facts(made):
        out(f"{name:20} {safe_line(words)}")
    out()
    rows = [figure_row(figure)[:4] for figure in made.figures]
    for line in table(("METRIC", "THIS MODEL", "REAL STORIES", "VERDICT"), rows, left=4):
        out(line)
    kinds: set[str] = set()
    for example in made.examples:
        if example.kind not in kinds:
            kinds.add(example.kind)
            _print_example(example)
    if files:
        out()
    for path in files:
        out(f"written: {safe_line(str(path), 300)}")


def _print_example(example: Example) -> None:
    """Prints what is wrong and the text around its first place."""
    text = example.prompt + example.text
    at = example.marks[0][0] if example.marks else 0
    begin = max(0, at - _EXCERPT_CHARS // 4)
    excerpt = " ".join(text[begin : begin + _EXCERPT_CHARS].split())
    before, after = "..." if begin else "", "..." if begin + _EXCERPT_CHARS < len(text) else ""
    out()
    out(f"{example.title}:")
    out(f"  {before}{excerpt}{after}")
    if example.source:
        out(f"  in training: {' '.join(example.source.split())}")

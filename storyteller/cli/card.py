"""`storyteller card`: metrics of a model's stories, compared with real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from storyteller.cli.eval import yield_to_training
from storyteller.cli.options import MODEL_HELP, RunsDir, argument, check_range, option, panel
from storyteller.cli.progress_line import run_with_progress
from storyteller.cli.text_tables import out, out_json, print_table, warn
from storyteller.errors import UsageError, invalid_value
from storyteller.text import safe_line

if TYPE_CHECKING:
    from storyteller.evaluation.model_card.card import Card, Example

_EXCERPT_CHARS = 400
_stories, _comparison, _judging = map(panel, ("Stories", "Comparison", "LLM judge"))


def card(
    model: Annotated[str, argument(MODEL_HELP, metavar="MODEL")],
    prompts: Annotated[Path | None, _stories("File of prompts, one per line.  [default: 44 bundled prompts]")] = None,
    completions: Annotated[int, _stories("Stories per prompt.")] = 10,
    seed: Annotated[int, _stories("Random seed.")] = 0,
    max_tokens: Annotated[int, _stories("Longest story in tokens.")] = 400,
    temperature: Annotated[float, _stories("Sampling temperature; top-k and top-p are disabled.")] = 1.0,
    data: Annotated[
        list[str] | None,
        _comparison(
            "Real stories, repeatable.  [default: the run's held-out stories, else bundled ones]", metavar="PATH"
        ),
    ] = None,
    train_data: Annotated[
        list[str] | None,
        _comparison("Training stories, to detect copies; repeatable.  [default: those of the run]", metavar="PATH"),
    ] = None,
    train_stories: Annotated[int, _comparison("Look for copies in at most N training stories.")] = 20_000,
    output: Annotated[
        Path | None,
        option("A .html, .md or .json file, or a folder for all three.  [default: only the run's]", "--out"),
    ] = None,
    judge: Annotated[
        str | None, _judging("OpenAI-compatible address of an LLM judge. Stories are sent to it.", metavar="URL")
    ] = None,
    judge_model: Annotated[str, _judging("The judge's model, as its server calls it.", metavar="NAME")] = "",
    judge_stories: Annotated[int, _judging("Generated stories to judge, and as many real ones.")] = 44,
    threads: Annotated[int, option("CPU threads for generation; 0: chosen by the model.")] = 0,
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, option("Print JSON, with all stories.", "--json")] = False,
) -> int:
    """Generate many stories and measure them: spelling, grammar, repetition, consistency, copies from training.

    The same metrics of real stories are the baseline. The card of a run is kept in its folder. Nothing leaves this
    machine unless --judge is given; the judge's key is read from STORYTELLER_JUDGE_KEY.

    Example: storyteller card latest --out first-card.html
    """
    from storyteller.evaluation.llm_judge.client import Judge
    from storyteller.evaluation.model_card.generate_stories import sampling_params
    from storyteller.evaluation.model_card.make_card import CardOptions, keep_card, make_card
    from storyteller.evaluation.prompts import load_prompts
    from storyteller.reports.card_files import target_files, write_card
    from storyteller.tracking.run_folder import runs_root

    # Invalid values are reported before minutes of work.
    counts = {"--completions": completions, "--train-stories": train_stories, "--judge-stories": judge_stories}
    for name, count in counts.items():
        check_range(name, count, 1, 10_000_000)
    for name, paths in (("--data", data), ("--train-data", train_data)):
        for path in paths or ():
            if not Path(path).exists():
                raise invalid_value(name, path, "an existing file or folder of stories")
    params = sampling_params(seed, max_tokens, temperature)
    if output is not None:
        target_files(output)
    options = CardOptions(
        model=model,
        prompts=tuple(load_prompts(prompts)),
        completions=completions,
        params=params,
        data=tuple(data or ()),
        train_data=tuple(train_data or ()),
        train_stories=train_stories,
        threads=threads,
        judge_stories=judge_stories,
    )
    if judge_model and judge is None:
        raise UsageError("--judge-model needs --judge", "add the judge's address")
    llm_judge = Judge(judge, judge_model) if judge is not None else None
    root = runs_root(runs_dir)
    yield_to_training(root)
    made = run_with_progress(lambda on_progress: make_card(options, root, llm_judge, on_progress, warn))
    kept = keep_card(made, model, root, warn)
    if output is not None:
        write_card(output, made)
    if as_json:
        out_json(made.to_json())
    else:
        _print_card(made, [path for path in (output, kept) if path is not None])
    problem = made.judge.problem if made.judge is not None else ""
    if problem:
        warn(problem)
    return 1 if problem else 0


def _print_card(made: Card, files: Sequence[Path]) -> None:
    """Prints the card's facts, its metrics, one example of each failure, and the files written."""
    from storyteller.reports.card_page import card_facts, figure_row

    for line in made.notes:
        warn(line)
    for name, words in card_facts(made):
        out(f"{name:20} {safe_line(words)}")
    out()
    rows = [figure_row(figure)[:4] for figure in made.figures]
    print_table(("METRIC", "THIS MODEL", "REAL STORIES", "VERDICT"), rows, left=4)
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

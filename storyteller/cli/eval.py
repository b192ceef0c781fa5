"""`storyteller eval`: the bits per byte of a model on held-out stories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from storyteller.cli import options
from storyteller.cli.options import argument
from storyteller.cli.progress_line import run_with_progress
from storyteller.cli.text_tables import note, number, out, out_json, print_table, span
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.evaluation.bits_per_byte import ModelScores
    from storyteller.evaluation.bootstrap import Interval


def eval(
    model: Annotated[
        str | None,
        argument(f"{options.MODEL_HELP}  [default: the newest run with a checkpoint, else starter]", metavar="MODEL"),
    ] = None,
    data: options.ScoringData = None,
    stories: options.MaxStories = None,
    clean: options.Cleaning = "light",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = 0,
    as_json: options.AsJson = False,
    runs_dir: options.RunsDir = None,
) -> None:
    """Score a model on held-out stories: bits per byte, nats per token and perplexity, with 95 % intervals.

    Bits per byte are comparable between all models; nats per token and perplexity only between models with the same
    tokenizer. The intervals come from a bootstrap over the stories.

    Example: storyteller eval first@best --data valid.jsonl --stories 1000
    """
    from storyteller.config.configs import TrainConfig
    from storyteller.evaluation import bits_per_byte

    root = run_folder.runs_root(runs_dir)
    name = model if model is not None else run_index.default_model(root)
    eval_set = bits_per_byte.held_out([name], root, data=data or (), limit=stories, cleaning=clean)
    settings = TrainConfig(device=device, precision=precision, threads=threads)
    n_stories = len(eval_set.stories)
    yield_to_training(root)
    scores = run_with_progress(
        lambda show: bits_per_byte.score_model(
            name,
            eval_set.stories,
            root,
            settings=settings,
            on_progress=lambda share: show("scoring", round(share * n_stories), n_stories),
            log=note,
        )
    )
    if as_json:
        out_json({**scores.to_json(), "data": eval_set.source})
        return
    out(f"{scores.model}: {scores.parameters:,} parameters, on {n_stories:,} stories: {eval_set.source}")
    _print_scores(scores)
    for remark in score_remarks([scores]):
        note(remark)


def yield_to_training(root: Path) -> None:
    """Lowers the CPU priority of this process if a run is training, and prints a note."""
    if run_index.any_trains(root):
        from storyteller.system import cpu_priority

        note("a run is training and takes precedence: this takes longer")
        cpu_priority.lower_generation_priority()


def _print_scores(scores: ModelScores) -> None:
    """Prints a table of the scores with their intervals, and a line on how they were computed."""
    rows = [
        ("bits per byte", *interval_cells(scores.bits_per_byte, ".4f")),
        ("nats per token", *interval_cells(scores.nats_per_token, ".4f")),
        ("perplexity", *interval_cells(scores.perplexity, ".3f")),
    ]
    print_table(("", "", "95 %: FROM", "TO"), rows, left=1)
    how = scores.precision
    if scores.bf16_bits is not None:
        how += ", which differs from fp32" if how == "bf16" else ", because bf16 differs"
        how += f" by {scores.bf16_bits:.4f} bits per byte on a sample"
    counts = f"{sum(scores.n_tokens):,} tokens, {sum(scores.n_bytes):,} bytes"
    out(f"{counts} in {span(scores.seconds)} on {scores.device}, {how}")


def interval_cells(interval: Interval, form: str) -> tuple[str, str, str]:
    """The value and the two bounds as table cells."""
    return number(interval.value, form), number(interval.low, form), number(interval.high, form)


def score_remarks(all_scores: Sequence[ModelScores]) -> list[str]:
    """Warnings about scores that are too good because the tokenizer loses text."""
    return [
        f"{scores.model}: its tokenizer changes {scores.changed_stories:,} of {len(scores.nats):,} stories, and the "
        "model need not predict what is lost: the score is too good"
        for scores in all_scores
        if scores.changed_stories
    ]

"""`storyteller eval`: how well a model foretells held-out stories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from storyteller.cli.progress_line import ProgressLine
from storyteller.cli.text_tables import note, number, out, out_json, span, table
from storyteller.cli.train import RunsDir
from storyteller.tracking import run_folder, run_index

if TYPE_CHECKING:
    from storyteller.config.configs import TrainConfig
    from storyteller.evaluation.bits_per_byte import EvalSet, ModelScores
    from storyteller.evaluation.bootstrap import Interval

Cleaning = Literal["light", "classic", "none"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]

DataPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="Stories to score on: .jsonl, .json, .txt, .csv or .parquet, each also .gz; may be given again.  "
        "[the run's own held-out stories; of another model the bundled stories' held-out ones]",
    ),
]
Stories = Annotated[
    int | None, typer.Option(min=1, max=1_000_000, help="Most stories to score on.  [1000; of the bundled stories 100]")
]
Clean = Annotated[
    Cleaning, typer.Option("--clean", help="How the stories of --data are cleaned; none: as the file has them.")
]
OnDevice = Annotated[Device, typer.Option("--device", help="What scores; auto: a GPU where torch sees one.")]
AtPrecision = Annotated[
    Precision,
    typer.Option(
        "--precision", help="auto: bf16 where the processor has it and it agrees with fp32 to 0.001 bits per byte."
    ),
]
Threads = Annotated[int, typer.Option(min=0, max=1024, help="Threads of the CPU; 0: all cores.")]


def eval(
    model: Annotated[
        str | None,
        typer.Argument(
            help="RUN, RUN@STEP, RUN@best, latest, starter, a folder or owner/name on the Hub.  "
            "[the newest run that has a checkpoint, else starter]"
        ),
    ] = None,
    data: DataPaths = None,
    stories: Stories = None,
    clean: Clean = "light",
    device: OnDevice = "auto",
    precision: AtPrecision = "auto",
    threads: Threads = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The scores, and what they are of, as JSON.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Score a model on held-out stories: bits per byte, nats a token, perplexity, each with its 95 % interval.

    Bits per byte compares models of any tokenizer; the other two compare models of one tokenizer alone. The interval
    is by bootstrap over the stories: where the figure would lie for other stories of the same kind.

    Example: storyteller eval first@best --data valid.jsonl --stories 1000
    """
    from storyteller.config.configs import TrainConfig
    from storyteller.evaluation import bits_per_byte

    root = run_folder.runs_root(runs_dir)
    named = model if model is not None else run_index.default_model(root)
    held = bits_per_byte.held_out([named], root, data=data or (), limit=stories, cleaning=clean)
    settings = TrainConfig(device=device, precision=precision, threads=threads)
    step_back(root)
    scores = scored(named, held, root, settings)
    if as_json:
        out_json({**scores.to_json(), "data": held.source})
        return
    out(f"{scores.model}: {scores.parameters:,} parameters, on {len(held.stories):,} stories: {held.source}")
    for line in figures(scores):
        out(line)
    for remark in remarks([scores]):
        note(remark)


def scored(model: str, held: EvalSet, root: Path, settings: TrainConfig) -> ModelScores:
    """The model's scores on the stories, with a line of progress at a terminal."""
    from storyteller.evaluation import bits_per_byte

    with ProgressLine(len(held.stories), "scored") as progress:
        say: Callable[[float], None] = lambda share: progress.show(round(share * len(held.stories)))  # noqa: E731
        say(0.0)
        return bits_per_byte.score_model(model, held.stories, root, settings=settings, say=say, log=note)


def step_back(root: Path) -> None:
    """Let a run that trains go first: what this process computes from here on waits for it."""
    if run_index.any_trains(root):
        from storyteller.system import cpu_priority

        note("a run trains: this takes longer, since it goes first")
        cpu_priority.lower_generation_priority()


def figures(scores: ModelScores) -> list[str]:
    """The figures with their intervals, and what they were computed on."""
    rows = [
        ("bits per byte", *bounds(scores.bits_per_byte, ".4f")),
        ("nats a token", *bounds(scores.nats_per_token, ".4f")),
        ("perplexity", *bounds(scores.perplexity, ".3f")),
    ]
    lines = table(("", "", "95 %: FROM", "TO"), rows, left=1)
    how = scores.precision
    if scores.bf16_bits is not None and scores.precision == "bf16":
        how += f", which differs from fp32 by {scores.bf16_bits:.4f} bits per byte on a sample"
    elif scores.bf16_bits is not None:
        how += f", as bf16 differs by {scores.bf16_bits:.4f} bits per byte on a sample"
    counts = f"{sum(scores.n_tokens):,} tokens, {sum(scores.n_bytes):,} bytes"
    return [*lines, f"{counts} in {span(scores.seconds)} on {scores.device}, {how}"]


def bounds(interval: Interval, form: str) -> tuple[str, str, str]:
    """A figure and between which two it lies."""
    return number(interval.value, form), number(interval.low, form), number(interval.high, form)


def remarks(all_scores: Sequence[ModelScores]) -> list[str]:
    """What a reader of the scores should know of them."""
    return [
        f"{scores.model}: its tokenizer does not give back {scores.changed_stories:,} of {len(scores.nats):,} stories "
        "as they were, and what it loses it need not foretell: the score flatters it"
        for scores in all_scores
        if scores.changed_stories
    ]

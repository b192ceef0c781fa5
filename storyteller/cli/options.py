"""The options that several commands share, and the means to declare and check one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from storyteller.errors import invalid_value

MODEL_HELP = "RUN, RUN@STEP, RUN@best, latest, starter, a folder, or owner/name on the Hub."


def panel(heading: str) -> Callable[..., Any]:
    """Returns `option(help, *names, **settings)`, which declares an option of one section of `--help`."""

    def option(help: str, *names: str, **settings: Any) -> Any:
        return typer.Option(*names, help=help, rich_help_panel=heading, **settings)

    return option


def check_range(option: str, value: int, least: int, most: int) -> None:
    """Raises UsageError unless `least <= value <= most`."""
    if not least <= value <= most:
        raise invalid_value(option, value, f"{least:,} to {most:,}")


RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder of the runs.  [default: $STORYTELLER_RUNS, else runs/]"),
]
Run = Annotated[str, typer.Argument(help="Name of the run, a unique prefix of it, or latest.")]
Models = Annotated[list[str], typer.Argument(metavar="MODEL", help=MODEL_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ComputeType = Literal["fp32", "int8"]

# --- scoring: `eval`, `compare` ---------------------------------------------------------------------------------------

_scoring = panel("Scoring")
ScoringData = Annotated[
    list[str] | None,
    _scoring(
        "Stories to score on: a .jsonl, .json, .txt, .csv or .parquet file, each also .gz; repeatable.  "
        "[default: the held-out stories of the run, for other models held-out bundled stories]",
        "--data",
        metavar="PATH",
    ),
]
MaxStories = Annotated[
    int | None,
    _scoring("Score on at most N stories.  [default: 1000; 100 bundled ones]", "--stories", min=1, max=1_000_000),
]
Cleaning = Annotated[
    Literal["light", "classic", "none"], _scoring("Text cleaning of --data.", metavar="light|classic|none")
]
Device = Annotated[
    Literal["auto", "cpu", "cuda", "mps"],
    _scoring("Device; auto: a GPU if there is one.", metavar="auto|cpu|cuda|mps"),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    _scoring(
        "auto: bf16 if the processor supports it and a sample agrees with fp32 to 0.001 bits per byte.",
        metavar="auto|fp32|bf16",
    ),
]
Threads = Annotated[int, _scoring("CPU threads; 0: all cores.", min=0, max=1024)]

# --- charts: `show`, `compare` ----------------------------------------------------------------------------------------

Axis = Literal["step", "tokens", "seconds"]
Width = Annotated[
    int | None, typer.Option(min=20, max=1000, help="Width of the charts in columns.  [default: the terminal's]")
]
Height = Annotated[int, typer.Option(min=3, max=500, help="Height of each chart in rows.")]
LogY = Annotated[bool, typer.Option("--log-y", help="Logarithmic y axis.")]
Smoothing = Annotated[
    float, typer.Option(min=0, max=1, help="Smoothing window as a share of the chart's width; 0: none.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters, for fonts without braille.")]
AsJsonWithCurves = Annotated[bool, typer.Option("--json", help="Print JSON, with the points of the curves.")]

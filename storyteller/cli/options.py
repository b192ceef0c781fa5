"""The options that several commands share, and the means to declare and check one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from storyteller.errors import invalid_value

MODEL_HELP = "RUN, RUN@STEP, RUN@best, latest, starter, a folder, or owner/name on the Hub."


def option(help: str, *names: str, **settings: Any) -> Any:
    """Declares an option; its names are by default that of the parameter. `settings` are those of `typer.Option`."""
    return typer.Option(*names, help=help, **settings)


def argument(help: str, **settings: Any) -> Any:
    """Declares an argument. `settings` are those of `typer.Argument`."""
    return typer.Argument(help=help, **settings)


def panel(heading: str) -> Callable[..., Any]:
    """Returns `option` for options that are listed under `heading` in `--help`."""
    return partial(option, rich_help_panel=heading)


def check_range(option: str, value: int, least: int, most: int) -> None:
    """Raises UsageError unless `least <= value <= most`."""
    if not least <= value <= most:
        raise invalid_value(option, value, f"{least:,} to {most:,}")


RunsDir = Annotated[
    Path | None, option("Folder of the runs.  [default: $STORYTELLER_RUNS, else runs/]", "--runs-dir", metavar="DIR")
]
Run = Annotated[str, argument("Name of the run, a unique prefix of it, or latest.", metavar="RUN")]
AsJson = Annotated[bool, option("Print JSON.", "--json")]
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
    Literal["auto", "cpu", "cuda", "mps"], _scoring("Device; auto: a GPU if there is one.", metavar="auto|cpu|cuda|mps")
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
Width = Annotated[int | None, option("Width of the charts in columns.  [default: the terminal's]", min=20, max=1000)]
Height = Annotated[int, option("Height of each chart in rows.", min=3, max=500)]
LogY = Annotated[bool, option("Logarithmic y axis.", "--log-y")]
Smoothing = Annotated[float, option("Smoothing window as a share of the chart's width; 0: none.", min=0, max=1)]
Ascii = Annotated[bool, option("Draw with ASCII characters, for fonts without braille.", "--ascii")]
AsJsonWithCurves = Annotated[bool, option("Print JSON, with the points of the curves.", "--json")]

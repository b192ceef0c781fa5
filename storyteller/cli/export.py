"""`storyteller export`: write a checkpoint as a Hugging Face model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from storyteller.cli.options import RunsDir
from storyteller.cli.text_tables import note, out, out_json
from storyteller.text import safe_line


def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="RUN, RUN@STEP, RUN@best, latest or a checkpoint folder.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to create.")],
    precision: Annotated[str, typer.Option(metavar="fp32|fp16|bf16", help="Data type of the weights.")] = "fp32",
    name: Annotated[
        str, typer.Option(help="Name of the model in its README.  [default: the folder's name]", show_default=False)
    ] = "",
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the folder and its size as JSON.")] = False,
) -> None:
    """Write a model as a Hugging Face folder: weights, tokenizer, and a README of how it was trained.

    Example: storyteller export first@best first-model --precision bf16
    """
    from storyteller.inference import export as exporting
    from storyteller.tracking.run_folder import runs_root
    from storyteller.tracking.run_index import find_checkpoint

    path = (
        Path(model).expanduser()
        if "/" in model
        else find_checkpoint(runs_root(runs_dir), model, lambda error: note(f"skipped: {error.problem}"))
    )
    size = exporting.export(path, folder, cast(exporting.Precision, precision), name)
    if as_json:
        out_json({"folder": str(folder), "bytes": size, "checkpoint": str(path), "precision": precision})
    else:
        out(f"{safe_line(str(folder), 200)}: {size / 1e6:.2f} MB, {precision}")

"""`storyteller export`: write a checkpoint as a Hugging Face model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from storyteller.cli.options import RunsDir, argument, option
from storyteller.cli.text_tables import note, out, out_json
from storyteller.text import safe_line


def export(
    model: Annotated[str, argument("RUN, RUN@STEP, RUN@best, latest or a checkpoint folder.", metavar="MODEL")],
    folder: Annotated[Path, argument("Folder to create.", metavar="FOLDER")],
    precision: Annotated[str, option("Data type of the weights.", metavar="fp32|fp16|bf16")] = "fp32",
    name: Annotated[
        str, option("Name of the model in its README.  [default: the folder's name]", show_default=False)
    ] = "",
    runs_dir: RunsDir = None,
    as_json: Annotated[bool, option("Print the folder and its size as JSON.", "--json")] = False,
) -> None:
    """Write a model as a Hugging Face folder: weights, tokenizer, and a README of how it was trained.

    Example: storyteller export first@best first-model --precision bf16
    """
    from storyteller.inference import export as exporting
    from storyteller.tracking.run_folder import runs_root
    from storyteller.tracking.run_index import find_checkpoint

    if "/" in model:
        path = Path(model).expanduser()
    else:
        path = find_checkpoint(runs_root(runs_dir), model, lambda error: note(f"skipped: {error.problem}"))
    size = exporting.export(path, folder, precision, name)
    if as_json:
        out_json({"folder": str(folder), "bytes": size, "checkpoint": str(path), "precision": precision})
    else:
        out(f"{safe_line(str(folder), 200)}: {size / 1e6:.2f} MB, {precision}")

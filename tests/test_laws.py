"""The laws of the house: who may import what, and what starting a command may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import storyteller

ROOT = Path(storyteller.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py"))

FLOORS = {
    "text": 0,
    "errors": 1,
    "system": 2,
    "charts": 2,
    "config": 3,
    "tracking": 4,
    "data": 4,
    "launch": 5,
    "model": 5,
    "inference": 5,
    "training": 6,
    "evaluation": 6,
    "tui": 6,
    "reports": 7,
    "cli": 8,
    "__main__": 9,
}
"""What stands on what: a room imports from lower floors and from itself alone."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that the file imports, anywhere in it, but for type checkers."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_from_the_floors_below(path: Path) -> None:
    own = room(name_of(path))
    if not own:
        return
    for module in imports(path):
        if module.startswith("storyteller.") and room(module) in FLOORS and room(module) != own:
            assert FLOORS[room(module)] < FLOORS[own], f"{name_of(path)} imports {module}"


def test_every_room_has_its_floor() -> None:
    rooms = {room(name_of(path)) for path in MODULES} - {""}
    assert rooms == set(FLOORS)


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("torch", ("model", "training")),
        ("transformers", ("model",)),
        ("wandb", ("tracking",)),
        ("datasets", ("data",)),
        ("ctranslate2", ("inference",)),
        ("textual", ("tui",)),
    ],
)
def test_a_heavy_package_has_one_home(package: str, homes: tuple[str, ...]) -> None:
    for path in MODULES:
        if any(module.split(".")[0] == package for module in imports(path)):
            assert room(name_of(path)) in homes, f"{name_of(path)} imports {package}"


def test_only_the_runs_room_knows_the_file_names_of_a_run_folder() -> None:
    for path in MODULES:
        if room(name_of(path)) == "tracking":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for file in ("run.json", "status.json", "metrics.jsonl", "samples.jsonl", "train.log", "manifest.json"):
                    assert node.value != file, f"{name_of(path)} knows {file}"


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


HEAVY = {"torch", "transformers", "datasets", "wandb", "ctranslate2", "numpy", "textual", "huggingface_hub", "pyarrow"}


@pytest.mark.parametrize(
    "statement",
    [
        "import storyteller.cli",
        "from storyteller.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "from storyteller.cli import main\ntry: main(['ps'])\nexcept SystemExit: pass",
        "import storyteller.data.story_stream, storyteller.data.batches, storyteller.inference.engine",
        "import storyteller.tracking.run_index, storyteller.tracking.run_process, storyteller.launch.start",
    ],
)
def test_what_does_not_train_or_tell_loads_nothing_heavy(statement: str) -> None:
    assert not modules_after(statement) & HEAVY

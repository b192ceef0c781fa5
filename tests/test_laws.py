"""Architecture tests: which package may import which, sizes, and what starting a command may load."""

from __future__ import annotations

import ast
import graphlib
import re
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
"""A package imports only from packages of a lower floor and from itself."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that the file imports, also inside functions, except under TYPE_CHECKING."""
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


def test_the_first_level_is_small() -> None:
    entries = {path.name for path in ROOT.iterdir() if path.name not in ("py.typed", "__pycache__")}
    assert len(entries) <= 18, sorted(entries)
    modules = {name for name in entries if name.endswith(".py")}
    assert modules == {"__init__.py", "__main__.py", "errors.py", "text.py"}


def test_the_files_of_a_room_do_not_import_each_other_in_circles() -> None:
    names = {name_of(path) for path in MODULES}
    graph: dict[str, set[str]] = {}
    for path in MODULES:
        found = {module for module in imports(path) & names if room(module) == room(name_of(path))}
        # `from package import module` names both; what it imports is the module.
        graph[name_of(path)] = {one for one in found if not any(other.startswith(f"{one}.") for other in found)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


def test_no_class_name_is_defined_in_two_files() -> None:
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for name in {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}:
            homes.setdefault(name, []).append(name_of(path))
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_no_file_is_longer_than_450_lines() -> None:
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in MODULES
        if ROOT / "data/bundled" not in path.parents
    }
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def test_every_pattern_of_the_sources_that_key_the_cache_matches_a_file() -> None:
    tree = ast.parse((ROOT / "data/disk_cache.py").read_text(encoding="utf-8"))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    patterns = [text for text in strings if re.fullmatch(r"[\w/*]+\.py", text)]
    assert len(patterns) >= 3
    for pattern in patterns:
        assert list(ROOT.glob(pattern)), f"{pattern} matches no file"


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

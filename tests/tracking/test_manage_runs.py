"""Runs are deleted and renamed whole, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from storyteller.cli import main
from storyteller.errors import RunBusyError, RunError, UsageError
from storyteller.tracking import manage_runs, run_folder
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_index import list_runs
from storyteller.tracking.run_status import State, Status, own_status, write_status


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make(root: Path, name: str, state: State = "finished") -> RunFolder:
    folder = run_folder.create(root, name)
    folder.write_run({"name": name, "created_at": "2026-01-01T00:00:00Z", "config": {"preset": "quick"}})
    write_status(folder, Status(state, 2**22 + 5, 1.0))  # a pid that no process has
    (folder.checkpoint(10)).mkdir(parents=True)
    (folder.checkpoint(10) / "model.safetensors").write_bytes(b"weights")
    return folder


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_deleted_run_is_gone_with_everything_in_it_and_the_others_stay(root: Path) -> None:
    fox, owl = make(root, "fox"), make(root, "owl")
    manage_runs.delete(fox)
    assert names(root) == ["owl"]
    assert [run.name for run in list_runs(root)] == [owl.name]


def test_a_run_that_died_can_be_deleted(root: Path) -> None:
    manage_runs.delete(make(root, "fox", "running"))
    assert names(root) == []


def test_a_living_run_is_neither_deleted_nor_renamed(root: Path) -> None:
    fox = make(root, "fox")
    write_status(fox, own_status("running"))
    with pytest.raises(RunBusyError, match=r"^fox is running: storyteller stop fox first$"):
        manage_runs.delete(fox)
    with pytest.raises(RunBusyError, match=r"^fox is running: storyteller stop fox first$"):
        manage_runs.rename(fox, "owl")
    assert names(root) == ["fox"]


def test_a_run_whose_lock_is_held_is_not_touched(root: Path) -> None:
    fox = make(root, "fox")
    code = "import sys, filelock; f = filelock.FileLock(sys.argv[1]); f.acquire(); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(fox.lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunBusyError, match=r"^fox is being trained: storyteller stop fox first$"):
            manage_runs.delete(fox)
        holder.stdin.write("\n")
    assert names(root) == ["fox"]
    manage_runs.delete(fox)
    assert names(root) == []


def test_what_a_link_leads_to_is_never_deleted(root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    fox = make(root, "fox")
    (fox.path / "stories").symlink_to(elsewhere)
    with pytest.raises(RunError, match="is a link that leads out of the runs folder"):
        manage_runs.delete(fox)
    (fox.path / "stories").unlink()
    (fox.checkpoints / "deep").symlink_to(elsewhere)
    manage_runs.delete(fox)
    assert (elsewhere / "precious").read_text() == "mine"
    assert names(root) == []


def test_a_run_that_is_a_link_itself_is_refused(root: Path) -> None:
    make(root, "fox")
    (root / "alias").symlink_to(root / "fox")
    alias = RunFolder(root / "alias")
    with pytest.raises(RunError, match=r"^alias is a link"):
        manage_runs.delete(alias)
    with pytest.raises(RunError, match=r"^alias is a link"):
        manage_runs.rename(alias, "other")
    assert names(root) == ["alias", "fox"]


def test_a_folder_that_is_no_run_is_not_deleted(root: Path) -> None:
    (root / "thesis").mkdir(parents=True)
    with pytest.raises(RunError, match=r"^there is no run thesis"):
        manage_runs.delete(RunFolder(root / "thesis"))
    with pytest.raises(RunError, match=r"^there is no run ghost"):
        manage_runs.delete(RunFolder(root / "ghost"))
    assert names(root) == ["thesis"]


def test_the_next_deletion_removes_what_a_killed_one_left(root: Path) -> None:
    left = root / f".removed-{2**22 + 5}-{'ab' * 6}"
    other = root / f".removed-{os.getppid()}-{'cd' * 6}"
    fox = make(root, "fox")
    left.mkdir()
    (left / "half").write_text("")
    other.mkdir()
    assert [run.name for run in list_runs(root)] == ["fox"]
    manage_runs.delete(fox)
    assert names(root) == [other.name]  # its process lives


def test_a_renamed_run_has_its_new_name_everywhere_and_all_that_it_had(root: Path) -> None:
    renamed = manage_runs.rename(make(root, "fox"), "best-fox")
    assert renamed == RunFolder(root / "best-fox")
    assert names(root) == ["best-fox"]
    assert renamed.read_run()["name"] == "best-fox"
    assert (renamed.checkpoint(10) / "model.safetensors").read_bytes() == b"weights"
    with FileLock(renamed.lock, timeout=0):
        pass  # given back


def test_a_name_that_is_taken_or_cannot_be_one_is_refused(root: Path) -> None:
    fox = make(root, "fox")
    make(root, "owl")
    (root / "empty").mkdir()
    with pytest.raises(RunError, match=r"^a run named owl exists"):
        manage_runs.rename(fox, "owl")
    with pytest.raises(RunError, match=r"^a run named empty exists"):
        manage_runs.rename(fox, "empty")
    for name in ("../away", "Fox", "", "latest", "a/b", "[/end]"):
        with pytest.raises(UsageError):
            manage_runs.rename(fox, name)
    assert manage_runs.rename(fox, "fox") == fox
    assert names(root) == ["empty", "fox", "owl"]
    assert fox.read_run()["name"] == "fox"


def test_a_disk_that_takes_nothing_leaves_the_run_under_its_old_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fox = make(root, "fox")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunFolder, "write_run", full)
    with pytest.raises(RunError, match=r"^fox cannot be renamed \(No space left on device\)"):
        manage_runs.rename(fox, "owl")
    monkeypatch.undo()
    assert names(root) == ["fox"]
    assert fox.read_run()["name"] == "fox"


def says(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    said = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, said.out, said.err


def test_the_commands_delete_and_rename(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(root, "little-fox")
    where = ("--runs-dir", str(root))
    assert says(capsys, "rename", "little", "owl", *where) == (0, "little-fox was renamed to owl\n", "")
    assert says(capsys, "delete", "owl", *where) == (
        2,
        "",
        "storyteller: no terminal to ask for confirmation: storyteller delete owl --yes\n",
    )
    code, _, err = says(capsys, "delete", "ow", "--yes", *where)
    assert (code, err) == (2, "storyteller: --yes requires the full name of the run: storyteller delete owl --yes\n")
    assert names(root) == ["owl"]
    assert says(capsys, "delete", "owl", "--yes", *where) == (0, "owl was deleted\n", "")
    assert names(root) == []

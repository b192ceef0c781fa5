from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.errors import RunError, UsageError
from storyteller.system import files
from storyteller.tracking import run_folder
from storyteller.tracking.run_folder import RunFolder


def test_every_path_of_a_run_folder_is_the_contract_s() -> None:
    folder = RunFolder(Path("/runs/little-fox"))
    assert folder.name == "little-fox"
    paths = {
        "run.json": folder.run_json,
        "status.json": folder.status_json,
        "metrics.jsonl": folder.metrics,
        "samples.jsonl": folder.samples,
        "train.log": folder.log,
        "tokenizer": folder.tokenizer,
        "checkpoints": folder.checkpoints,
        "wandb.json": folder.wandb_json,
        "checkpoints/step-00000500": folder.checkpoint(500),
        "checkpoints/step-123456789": folder.checkpoint(123456789),
    }
    assert {str(path.relative_to("/runs/little-fox")) for path in paths.values()} == set(paths)
    assert folder.lock.parent == folder.path


def test_the_runs_root_is_the_option_then_the_environment_then_runs_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_folder.runs_root(None) == Path.cwd() / "runs"
    monkeypatch.setenv("STORYTELLER_RUNS", str(tmp_path / "elsewhere"))
    assert run_folder.runs_root(None) == tmp_path / "elsewhere"
    assert run_folder.runs_root("mine") == Path.cwd() / "mine"
    assert run_folder.runs_root(Path("~/stories")) == Path.home() / "stories"


@pytest.mark.parametrize("name", ["a", "7", "brave-little-fox-1122", "a.b_c-d", "x" * 64])
def test_a_name_of_the_contract_is_taken_as_it_is(name: str) -> None:
    assert run_folder.check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "../a", "/etc", "A", "a b", "-a", ".a", "_a", "a\n", "a\0", "\u00e4", "x" * 65, "a\\b"],
)
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        run_folder.check_name(name)


def test_a_refused_name_is_shown_without_its_controls() -> None:
    with pytest.raises(UsageError) as caught:
        run_folder.check_name("a\x1b[2Jb\n")
    assert str(caught.value) == (
        "invalid run name a\u241b[2Jb\u240a: expected 1 to 64 of a-z 0-9 . _ - starting with a letter or digit, "
        "such as --name little-fox"
    )


@pytest.mark.parametrize("name", ["latest", "starter"])
def test_a_word_that_names_a_model_cannot_name_a_run(name: str) -> None:
    with pytest.raises(UsageError, match="is a reserved name"):
        run_folder.check_name(name)


@given(st.text(max_size=70))
def test_a_name_is_taken_only_if_it_stays_one_entry_of_the_root(name: str) -> None:
    try:
        run_folder.check_name(name)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name)
        assert Path(os.path.normpath(Path("/runs") / name)).parent == Path("/runs")


def test_a_default_name_is_three_words_and_the_date_and_free(tmp_path: Path) -> None:
    names = {run_folder.default_name(tmp_path, datetime.date(2025, 11, 2)) for _ in range(50)}
    assert len(names) > 40
    for name in names:
        assert re.fullmatch(r"[a-z]+-[a-z]+-[a-z]+-1102", name)
        assert run_folder.check_name(name) == name


def test_the_word_lists_hold_thirty_different_words_each() -> None:
    for words in (run_folder._MOODS, run_folder._LOOKS, run_folder._WHO):
        assert len(set(words.split())) == len(words.split()) >= 30


def test_a_default_name_is_never_one_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("_MOODS", "_LOOKS"):
        monkeypatch.setattr(run_folder, words, "brave")
    monkeypatch.setattr(run_folder, "_WHO", "fox owl")
    today = datetime.date(2025, 11, 22)
    run_folder.create(tmp_path, "brave-brave-fox-1122")
    assert run_folder.default_name(tmp_path, today) == "brave-brave-owl-1122"
    run_folder.create(tmp_path, "brave-brave-owl-1122")
    assert re.fullmatch(r"brave-brave-(fox|owl)-1122-[0-9a-f]{6}", run_folder.default_name(tmp_path, today))


def test_a_run_is_created_once(tmp_path: Path) -> None:
    folder = run_folder.create(tmp_path / "new" / "runs", "fox")
    assert folder.path.is_dir()
    with pytest.raises(RunError) as caught:
        run_folder.create(tmp_path / "new" / "runs", "fox")
    assert str(caught.value) == "a run named fox exists: choose another --name, or `storyteller resume fox`"


def test_a_runs_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match=r"runs is not a folder: choose another --runs-dir$"):
        run_folder.create(tmp_path / "runs", "fox")
    with pytest.raises(RunError, match="choose another --runs-dir"):
        run_folder.create(tmp_path / "runs" / "below", "fox")


def test_run_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = run_folder.create(tmp_path, "fox")
    folder.write_run({"name": "fox", "command": "train \udcff \u2028"})
    assert folder.read_run() == {"schema": 1, "name": "fox", "command": "train \udcff \u2028"}
    assert sorted(path.name for path in folder.path.iterdir()) == ["run.json"]


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (None, "fox is not a run: it has no run.json: storyteller ps lists the runs"),
        ("", "the run.json of fox is broken: repair it by hand, or train again"),
        ("[1]", "the run.json of fox is broken: repair it by hand, or train again"),
        ("[" * 100_000, "the run.json of fox is broken: repair it by hand, or train again"),
        ("\xff", "the run.json of fox is broken: repair it by hand, or train again"),
        ("{}", "the run.json of fox has no schema: repair it by hand, or train again"),
        (
            '{"schema": 2}',
            "fox was written by a newer storyteller (schema 2, this one reads 1): update storyteller",
        ),
    ],
    ids=["missing", "empty", "list", "deep", "bytes", "bare", "newer"],
)
def test_a_run_json_that_cannot_be_read_is_one_line(tmp_path: Path, contents: str | None, says: str) -> None:
    folder = run_folder.create(tmp_path, "fox")
    if contents is not None:
        folder.run_json.write_bytes(contents.encode("latin-1"))
    with pytest.raises(RunError) as caught:
        folder.read_run()
    assert str(caught.value) == says


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    files.write_json(path, {"step": 1})
    for bad in ({"loss": float("nan")}, {"path": object()}):
        with pytest.raises((ValueError, TypeError)):
            files.write_json(path, bad)
    assert json.loads(path.read_text()) == {"step": 1}
    before = sorted(entry.name for entry in tmp_path.iterdir())
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in-the-way").touch()
    with pytest.raises(OSError, match="folder"):
        files.write_json(tmp_path / "folder", {})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*before, "folder"])


def test_a_file_is_written_only_where_there_is_none_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    files.write_json(path, {"step": 1}, only_new=True)
    with pytest.raises(FileExistsError):
        files.write_json(path, {"step": 2}, only_new=True)
    assert json.loads(path.read_text()) == {"step": 1}
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_writer_left_is_swept_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".status.json.{dead.pid}-abcdef.tmp"
    under_way = tmp_path / f".status.json.{os.getpid()}-abcdef.tmp"
    someone_else_s = tmp_path / ".notes.tmp"
    for path in (left, under_way, someone_else_s):
        path.touch()
    files.sweep_temporaries(tmp_path)
    assert not left.exists()
    assert under_way.exists()
    assert someone_else_s.exists()


def test_a_link_that_leads_out_of_the_runs_folder_is_refused_and_one_that_stays_is_not(tmp_path: Path) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    folder = run_folder.create(root, "fox")
    (root / "owl").symlink_to(folder.path)
    run_folder.check_links(RunFolder(root / "owl"))
    (root / "bear").symlink_to(outside)
    with pytest.raises(RunError, match="bear is a link that leads out of the runs folder"):
        run_folder.check_links(RunFolder(root / "bear"))
    folder.checkpoints.symlink_to(outside)
    with pytest.raises(RunError, match="checkpoints is a link that leads out of the runs folder"):
        run_folder.check_links(folder)
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(RunError, match="loop"):
        run_folder.check_links(RunFolder(root / "loop"))

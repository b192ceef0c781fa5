from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storyteller.errors import CheckpointError, RunError
from storyteller.system import files
from storyteller.tracking import checkpoint_folders, run_folder
from storyteller.tracking.run_folder import RunFolder

ROOT = Path(checkpoint_folders.__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return run_folder.create(tmp_path / "runs", "fox")


def save(folder: RunFolder, step: int, text: str = "weights", facts: Mapping[str, object] | None = None) -> Path:
    staging = checkpoint_folders.stage(folder, step)
    (staging / "model.safetensors").write_text(text)
    (staging / "training_state").mkdir()
    (staging / "training_state" / "state.json").write_text("{}")
    return checkpoint_folders.seal(staging, folder, step, facts or {})


def entries(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.checkpoints.iterdir())


def test_a_sealed_checkpoint_has_its_name_and_a_manifest_of_its_files(folder: RunFolder) -> None:
    path = save(folder, 500, facts={"eval/bpb": 1.25, "eval/loss": float("nan"), "tokens": 4096})
    assert path == folder.checkpoints / "step-00000500"
    contents = json.loads((path / "manifest.json").read_text())
    assert len(contents.pop("manifest_sha256")) == 64
    assert contents == {
        "schema": 1,
        "step": 500,
        "eval/bpb": 1.25,
        "tokens": 4096,
        "files": {
            "model.safetensors": {
                "bytes": 7,
                "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
            },
            "training_state/state.json": {
                "bytes": 2,
                "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            },
        },
    }
    assert checkpoint_folders.verify(path)["step"] == 500
    assert entries(folder) == ["step-00000500"]


def test_a_staging_folder_is_fresh_and_hidden_and_names_its_process(folder: RunFolder) -> None:
    staging = checkpoint_folders.stage(folder, 7)
    assert staging == folder.checkpoints / f".staging-step-00000007-{os.getpid()}"
    (staging / "half").write_text("")
    assert list(checkpoint_folders.stage(folder, 7).iterdir()) == []
    later = checkpoint_folders.stage(folder, 8)
    assert entries(folder) == [later.name]
    assert checkpoint_folders.steps(folder) == []


def test_a_step_saved_again_replaces_the_old_one(folder: RunFolder) -> None:
    save(folder, 500, "old")
    path = save(folder, 500, "new")
    assert (path / "model.safetensors").read_text() == "new"
    checkpoint_folders.verify(path)
    assert entries(folder) == ["step-00000500"]


def test_extra_files_are_no_matter(folder: RunFolder) -> None:
    path = save(folder, 500)
    (path / "notes.txt").write_text("mine")
    assert checkpoint_folders.verify(path)["step"] == 500


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    path.write_bytes(raw)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def _to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_text("weight"), "is 6 bytes, not 7"),
        (lambda path: path.write_text("x" * 1024), "is 1,024 bytes, not 7"),
        (lambda path: path.write_bytes(bytes(7)), "does not match its checksum"),
        (_flip, "does not match its checksum"),
        (_to_folder, "is not a file"),
        (_to_pipe, "is not a file"),
        (_to_link, "is a link that leads out of the folder"),
    ],
    ids=["missing", "shorter", "longer", "zeroed", "flipped", "folder", "pipe", "link"],
)
def test_a_damaged_file_is_named_with_what_is_off(
    folder: RunFolder, damage: Callable[[Path], object], how: str
) -> None:
    path = save(folder, 500)
    damage(path / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        checkpoint_folders.verify(path)
    assert str(caught.value) == (
        f"checkpoint fox@500 is damaged: model.safetensors {how}: "
        "use another: RUN@STEP, or RUN for the newest intact one"
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_bit_flipped_anywhere_is_noticed_or_changes_nothing(folder: RunFolder, data: st.DataObject) -> None:
    path = save(folder, 500, facts={"eval/bpb": 1.25})
    whole = checkpoint_folders.verify(path)
    name = data.draw(st.sampled_from(["manifest.json", "model.safetensors", "training_state/state.json"]))
    raw = bytearray((path / name).read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (path / name).write_bytes(raw)
    try:
        assert checkpoint_folders.verify(path) == whole
        assert name == "manifest.json"  # white space between its values alone
    except CheckpointError as error:
        newer = name == "manifest.json" and "newer storyteller" in str(error)  # its schema's digit, say
        assert newer or Path(name).name in str(error)


def test_a_missing_broken_or_newer_manifest_is_named(folder: RunFolder) -> None:
    path = save(folder, 500)
    manifest = path / "manifest.json"
    contents = json.loads(manifest.read_text())
    for broken in ("", "[]", "{}", '{"schema": 1, "step": 1, "files": []}', json.dumps({**contents, "step": 501})):
        manifest.write_text(broken)
        with pytest.raises(CheckpointError, match=r"^the manifest.json of checkpoint fox@500 is broken"):
            checkpoint_folders.manifest(path)
    manifest.write_text('{"schema": 2}')
    with pytest.raises(CheckpointError, match=r"written by a newer storyteller \(schema 2, this one reads 1\): update"):
        checkpoint_folders.manifest(path)
    manifest.unlink()
    with pytest.raises(CheckpointError, match=r"^checkpoint fox@500 has no manifest.json"):
        checkpoint_folders.manifest(path)
    with pytest.raises(CheckpointError, match=r"^checkpoint .*/nowhere is missing"):
        checkpoint_folders.manifest(folder.path / "nowhere")


@pytest.mark.parametrize("name", ["../../run.json", "/etc/hostname", "a/../../../b", "a\0b"])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(folder: RunFolder, name: str) -> None:
    path = save(folder, 500)
    contents = {"schema": 1, "step": 500, "files": {name: {"bytes": 1, "sha256": "0"}}}
    files.write_json(path / "manifest.json", {**contents, "manifest_sha256": checkpoint_folders._digest_of(contents)})
    with pytest.raises(CheckpointError, match="is outside the folder"):
        checkpoint_folders.verify(path)


def test_a_failed_seal_leaves_the_checkpoint_of_that_step_as_it_was(folder: RunFolder) -> None:
    path = save(folder, 500, "old")
    staging = checkpoint_folders.stage(folder, 500)
    (staging / "dangling").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        checkpoint_folders.seal(staging, folder, 500, {})
    checkpoint_folders.verify(path)
    assert (path / "model.safetensors").read_text() == "old"
    assert entries(folder) == ["step-00000500"]


def test_a_checkpoint_that_stepped_aside_comes_back_where_the_new_one_cannot_take_its_name(folder: RunFolder) -> None:
    path = save(folder, 500, "old")
    with pytest.raises(FileNotFoundError):
        checkpoint_folders._name(folder.checkpoints / "gone", path)
    assert (path / "model.safetensors").read_text() == "old"
    assert entries(folder) == ["step-00000500"]


def test_steps_are_ascending_and_anything_else_is_passed_over(folder: RunFolder) -> None:
    assert checkpoint_folders.steps(folder) == []
    for step in (100, 20, 123456789):
        save(folder, step)
    for name in ("step-1", "step-000000020", "step-00000030.bak", "best", ".removed-step-00000040-1"):
        (folder.checkpoints / name).mkdir()
    (folder.checkpoints / "step-00000050").write_text("a file")
    assert checkpoint_folders.steps(folder) == [20, 100, 123456789]


def test_the_newest_good_checkpoint_is_found_and_the_skipped_are_named(folder: RunFolder) -> None:
    for step in (100, 200, 300, 400):
        save(folder, step)
    _flip(folder.checkpoint(400) / "model.safetensors")
    (folder.checkpoint(300) / "manifest.json").unlink()
    path, skipped = checkpoint_folders.newest_good(folder)
    assert path == folder.checkpoint(200)
    assert [error.problem for error in skipped] == [
        "checkpoint fox@400 is damaged: model.safetensors does not match its checksum",
        "checkpoint fox@300 has no manifest.json",
    ]


def test_without_a_good_checkpoint_the_error_says_why(folder: RunFolder) -> None:
    with pytest.raises(CheckpointError, match=r"^fox has no checkpoint yet: "):
        checkpoint_folders.newest_good(folder)
    for step in (100, 200):
        _flip(save(folder, step) / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        checkpoint_folders.newest_good(folder)
    assert str(caught.value) == (
        "none of the 2 checkpoints of fox is intact; the newest: checkpoint fox@200 is damaged: model.safetensors does "
        "not match its checksum: restore the folder from a copy, or train again"
    )


def test_the_best_is_the_lowest_and_the_newer_of_equals(folder: RunFolder) -> None:
    assert checkpoint_folders.best(folder) is None
    save(folder, 100)
    assert checkpoint_folders.best(folder) is None
    for step, bits in ((200, 1.5), (300, 1.25), (400, 1.25), (500, 1.75)):
        save(folder, step, facts={"eval/bpb": bits})
    assert checkpoint_folders.best(folder) == folder.checkpoint(400)
    (folder.checkpoint(400) / "model.safetensors").unlink()
    assert checkpoint_folders.best(folder) == folder.checkpoint(300)


def test_pruning_keeps_the_newest_and_the_best(folder: RunFolder) -> None:
    for step, bits in ((100, 2.0), (200, 1.0), (300, 1.5), (400, 1.5), (500, 1.5)):
        save(folder, step, facts={"eval/bpb": bits})
    assert checkpoint_folders.prune(folder, 2) == [folder.checkpoint(100), folder.checkpoint(300)]
    assert entries(folder) == ["step-00000200", "step-00000400", "step-00000500"]
    assert checkpoint_folders.prune(folder, 5) == []


def test_pruning_never_lets_damaged_checkpoints_push_out_the_last_whole_one(folder: RunFolder) -> None:
    for step in (100, 200, 300, 400):
        save(folder, step)
    for step in (300, 400):
        (folder.checkpoint(step) / "model.safetensors").unlink()
    assert checkpoint_folders.prune(folder, 1) == [folder.checkpoint(100)]
    assert checkpoint_folders.newest_good(folder)[0] == folder.checkpoint(200)


def test_the_checkpoints_past_a_step_can_be_given_up(folder: RunFolder) -> None:
    for step in (100, 200, 300):
        save(folder, step)
    assert checkpoint_folders.forget_after(folder, 150) == [folder.checkpoint(200), folder.checkpoint(300)]
    assert entries(folder) == ["step-00000100"]


def test_a_sweep_removes_what_a_kill_left_and_brings_back_what_had_stepped_aside(folder: RunFolder) -> None:
    assert checkpoint_folders.sweep(folder) == []
    save(folder, 100, "old")
    save(folder, 200, "old")
    left = [".staging-step-00000300-17", ".removed-step-00000050-17-abcdef", ".aside-step-00000200-17-abcdef"]
    for name in left:
        (folder.checkpoints / name).mkdir()
    folder.checkpoint(100).rename(folder.checkpoints / ".aside-step-00000100-17-abcdef")
    (folder.checkpoints / ".mine").mkdir()
    assert sorted(path.name for path in checkpoint_folders.sweep(folder)) == sorted(left)
    assert entries(folder) == [".mine", "step-00000100", "step-00000200"]
    checkpoint_folders.verify(folder.checkpoint(100))


def test_checkpoints_that_lead_out_of_the_runs_folder_are_refused(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    folder.checkpoints.symlink_to(tmp_path / "outside")
    with pytest.raises(RunError, match="leads out of the runs folder"):
        checkpoint_folders.stage(folder, 1)
    with pytest.raises(RunError, match="leads out of the runs folder"):
        checkpoint_folders.sweep(folder)


SAVER = """
import sys
from pathlib import Path
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
folder = RunFolder(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    n += 1
    for step in (100, 200):
        staging = checkpoint_folders.stage(folder, step)
        (staging / "weights").write_bytes(b"%09d" % n * 5000)
        (staging / "state").write_bytes(b"%09d" % n * 100)
        checkpoint_folders.seal(staging, folder, step, {"n": n})
    checkpoint_folders.prune(folder, 1)
"""


def test_a_kill_at_any_moment_leaves_a_newest_checkpoint_that_is_whole(folder: RunFolder) -> None:
    save(folder, 100)
    for delay_ms in range(0, 60, 6):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(folder.path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay_ms / 1000)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        checkpoint_folders.sweep(folder)
        assert all(not name.startswith(".") for name in entries(folder))
        path, skipped = checkpoint_folders.newest_good(folder)
        assert skipped == []
        if (path / "weights").exists():
            written = {(path / name).read_bytes()[:9] for name in ("weights", "state")}
            assert written == {b"%09d" % checkpoint_folders.manifest(path)["n"]}

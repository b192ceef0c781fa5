"""Hostile checkpoints: each refused by name in one line, before anything large is made and before anything is run.

Each has a manifest that fits it, as someone who means harm would write: its checksums prove nothing.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import shutil
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from storyteller.config.configs import TrainConfig
from storyteller.data import held_out_file
from storyteller.errors import CheckpointError
from storyteller.model import weights
from storyteller.model.gpt2 import Shape, seeded
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status
from storyteller.training import checkpoint, worker
from storyteller.training.optimizers import Optimizers
from tests.support.training import losses, trained_run

WEIGHTS = "model.safetensors"
STATE = "training_state/state.safetensors"
SHAPE = Shape(1, 32, 2, 64, 400)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a tiny run, and its run folder two above it."""
    return trained_run(tmp_path_factory.mktemp("runs"), "tiny", train_steps=4).checkpoint(4)


@pytest.fixture
def hurt(good: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(good, tmp_path / good.name))


def load(path: Path) -> Any:
    """All that a resume loads."""
    model = seeded(SHAPE, 0)
    return checkpoint.load_training(path, model, Optimizers(model, TrainConfig(optimizer="muon")))


def refused(action: Callable[[], object], peak_mib: float = 8) -> str:
    """The one line with which it is refused, having taken no more memory than so much."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            action()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < peak_mib * 2**20, f"{peak / 2**20:.1f} MiB"
    line = str(caught.value)
    assert "\n" not in line and caught.value.remedy
    return line


def tensors(path: Path, file: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    held = load_file(path / file)
    change(held)
    save_file(held, path / file)


def header(path: Path, contents: object, data: bytes = b"") -> None:
    """A safetensors file with this header."""
    text = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def of_json(path: Path, **changed: Any) -> None:
    """The JSON file with these fields, and without those that are `...`."""
    fields = json.loads(path.read_text(encoding="utf-8")) | changed
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not ...}), encoding="utf-8")


def of_json_in(name: Path, path: Path, **changed: Any) -> None:
    of_json(path / name, **changed)


class Marks:
    """Unpickling it makes a file: the proof that code was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", [WEIGHTS, STATE])
@pytest.mark.parametrize("writer", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_under_a_good_name_is_refused_and_not_run(hurt: Path, file: str, writer: Any) -> None:
    ran = hurt / "ran"
    with (hurt / file).open("wb") as out:
        writer(Marks(ran), out)
    line = refused(lambda: load(hurt))
    assert f"{file} is damaged (its header does not fit)" in line
    assert not ran.exists()


@pytest.mark.parametrize("file", [WEIGHTS, STATE])
def test_a_header_of_90_mib_is_refused_unread(hurt: Path, file: str) -> None:
    header(hurt / file, b'{"a": "' + b"x" * (90 << 20) + b'"}')
    assert f"{file} is damaged (its header does not fit)" in refused(lambda: load(hurt))
    if file == WEIGHTS:
        assert "its header does not fit" in refused(lambda: weights.load_model(hurt))


F32 = {"dtype": "F32", "shape": [400, 32], "data_offsets": [0, 51200]}


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (F32 | {"data_offsets": [0, 1 << 40], "shape": [1 << 38]}, "is outside the file"),
        (F32 | {"data_offsets": [1 << 40, (1 << 40) + 51200]}, "is outside the file"),
        (F32 | {"data_offsets": [-4, 51196]}, "has an invalid entry for"),
        (F32 | {"shape": [1 << 60, 1 << 60]}, "does not match its shape"),
        (F32 | {"shape": [1] * 100000}, "has an invalid entry for"),
        (F32 | {"shape": "400"}, "has an invalid entry for"),
        ([], "has an invalid entry for"),
    ],
)
@pytest.mark.parametrize("file", [WEIGHTS, STATE])
def test_a_tensor_that_lies_about_its_place_or_size_is_refused(hurt: Path, file: str, entry: Any, why: str) -> None:
    header(hurt / file, {"transformer.wte.weight": entry}, bytes(51200))
    line = refused(lambda: load(hurt))
    assert why in line and "wte.weight" in line and file in line


def test_tensors_that_share_their_bytes_are_refused(hurt: Path) -> None:
    header(hurt / WEIGHTS, {f"transformer.h.{n}": F32 for n in range(1000)}, bytes(51200))
    assert "is outside the file" in refused(lambda: weights.load_model(hurt))


def test_whole_numbers_for_weights_are_refused(hurt: Path) -> None:
    tensors(hurt, WEIGHTS, lambda held: held.update({"transformer.ln_f.bias": torch.zeros(32, dtype=torch.int64)}))
    assert "ln_f.bias has type I64, which is not a float type" in refused(lambda: load(hurt))


def test_an_output_layer_of_its_own_is_refused(hurt: Path) -> None:
    tensors(hurt, WEIGHTS, lambda held: held.update({"lm_head.weight": torch.zeros(400, 32)}))
    assert "its output layer is not its token embedding" in refused(lambda: load(hurt))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"n_layer": 10**9}, "invalid value 1000000000 for --layers"),
        ({"n_embd": 10**9}, "invalid value 1000000000 for --width"),
        ({"n_positions": 10**12}, "invalid value 1000000000000 for --context"),
        ({"vocab_size": 10**12}, "invalid value 1000000000000 for --vocab-size"),
        ({"n_layer": 2}, "lacks h.1.ln_1.weight"),
        ({"n_embd": 16384, "n_head": 8}, "wte.weight is (400, 32), not (400, 16384)"),
        ({"n_layer": -1}, "no valid n_layer"),
        ({"n_layer": "4"}, "no valid n_layer"),
        ({"n_layer": True}, "no valid n_layer"),
        ({"n_layer": math.nan}, "no valid n_layer"),
        ({"n_layer": math.inf}, "no valid n_layer"),
        ({"n_head": ...}, "no valid n_head"),
        ({"n_head": 0}, "invalid value 0 for --heads"),
        ({"n_head": 5}, "--width 32 cannot be shared evenly by --heads 5"),
        ({"model_type": "llama"}, "model_type is llama, not gpt2"),
        ({"activation_function": "relu\x1b[31m"}, "invalid value relu\u241b[31m for --set activation"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False, not True"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "brings its own code, which is not run"),
    ],
)
def test_an_absurd_config_is_refused_before_a_model_is_built(hurt: Path, changed: dict[str, Any], why: str) -> None:
    of_json(hurt / "config.json", **changed)
    (hurt / "evil.py").write_text("raise SystemExit('ran')")
    line = refused(lambda: weights.load_model(hurt), peak_mib=32)
    assert why in line and line.startswith("step-00000004")


@pytest.mark.parametrize("file", ["config.json", "training_state/state.json"])
@pytest.mark.parametrize(
    "contents", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"step": ' + b"9" * 5000 + b"}"], ids=range(6)
)
def test_what_is_no_json_object_is_refused(hurt: Path, file: str, contents: bytes) -> None:
    (hurt / file).write_bytes(contents)
    line = refused(lambda: weights.load_model(hurt) if file == "config.json" else load(hurt), peak_mib=16)
    assert f"{file} is not a JSON object" in line


def test_a_huge_state_is_refused_unread(hurt: Path) -> None:
    with (hurt / "training_state" / "state.json").open("wb") as file:
        file.truncate(1 << 31)  # a hole: it takes no space
    assert "state.json is too large" in refused(lambda: load(hurt))


POSITION = {"stories": {"epoch": 0, "block": 0, "offset": 1, "cursor": None}, "carry": [1]}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"step": ...}, "of another version (no step)"),
        ({"position": ...}, "of another version (no position)"),
        ({"mood": "good"}, "of another version (an unknown mood)"),
        ({"step": "4"}, "the step of its training state is invalid ('4')"),
        ({"step": -4}, "the step of its training state is invalid (-4)"),
        ({"step": 5}, "is that of step 5"),
        ({"step": True}, "the step of its training state is invalid (True)"),
        ({"tokens": 10**30}, "the tokens of its training state is invalid"),
        ({"seconds": math.nan}, "the seconds of its training state is invalid (nan)"),
        ({"passes": math.inf}, "the passes of its training state is invalid (inf)"),
        ({"best_bpb": "low"}, "the best_bpb of its training state is invalid"),
        ({"skipped_steps": -1}, "the skipped_steps of its training state is invalid (-1)"),
        ({"happened": [1]}, "the happened of its training state is invalid"),
        ({"happened": {"save": "now"}}, "the happened of its training state is invalid"),
        ({"scaler": {"scale": 1}}, "the scaler of its training state is invalid"),
        ({"position": [0]}, "the position of its training state is invalid ([0])"),
        ({"position": {"stories": POSITION["stories"]}}, "the position of its training state is invalid"),
        ({"position": POSITION | {"carry": [400]}}, "the position of its training state is invalid"),
        ({"position": POSITION | {"carry": ["a"]}}, "the position of its training state is invalid"),
        ({"position": POSITION | {"stories": {"epoch": 0}}}, "the position of its training state is invalid"),
        (
            {"position": POSITION | {"stories": {"epoch": 0, "block": -1, "offset": 0, "cursor": None}}},
            "the position of its training state is invalid",
        ),
    ],
)
def test_a_training_state_of_wrong_types_is_refused(hurt: Path, changed: dict[str, Any], why: str) -> None:
    of_json(hurt / "training_state" / "state.json", **changed)
    line = refused(lambda: load(hurt))
    assert why in line and line.startswith("step-00000004: ")


def set_to(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda held: held.update({name: value})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda held: held.pop("rng/cpu"), "lacks torch's generator"),
        (set_to("rng/cpu", torch.zeros(8, dtype=torch.uint8)), "the state of torch's generator is invalid"),
        (set_to("rng/cpu", torch.zeros(5056)), "the state of torch's generator is invalid"),
        (lambda held: held.pop("wte.weight/exp_avg_sq"), "lacks exp_avg_sq of wte.weight"),
        (lambda held: held.pop("h.0.mlp.c_fc.weight/momentum_buffer"), "lacks momentum_buffer of h.0.mlp.c_fc.weight"),
        (
            lambda held: [held.pop(name) for name in list(held) if not name.startswith("rng/")],
            "its training state lacks the optimizer's",
        ),
        (set_to("wte.weight/exp_avg", torch.zeros(7)), "exp_avg of wte.weight has another shape than the weights"),
        (set_to("evil/exp_avg", torch.zeros(7)), "has evil/exp_avg, which the model lacks"),
        (
            set_to("wte.weight/exp_avg", torch.full((400, 32), math.nan)),
            "exp_avg of wte.weight has values that are not finite",
        ),
        (set_to("wte.weight/step", torch.tensor(math.inf)), "step of wte.weight has values that are not finite"),
    ],
)
def test_an_optimizer_state_that_does_not_fit_is_refused(hurt: Path, change: Any, why: str) -> None:
    tensors(hurt, STATE, change)
    line = refused(lambda: load(hurt))
    assert why in line and line.startswith("step-00000004: ")


def test_the_good_one_loads(hurt: Path) -> None:
    progress = load(hurt)
    assert (progress.step, progress.skipped_steps) == (4, 0)
    assert weights.load_model(hurt).shape == dataclasses.replace(SHAPE, activation="gelu")


# --- through a resume -------------------------------------------------------------------------------------------------


def resealed(folder: RunFolder, step: int, spoil: Callable[[Path], object]) -> None:
    """Spoil a run's checkpoint and give it a manifest that fits."""
    staging = checkpoint_folders.stage(folder, step)
    shutil.copytree(folder.checkpoint(step), staging, dirs_exist_ok=True)
    (staging / checkpoint_folders.MANIFEST).unlink()
    spoil(staging)
    checkpoint_folders.seal(staging, folder, step, {})


def message(folder: RunFolder) -> str:
    status = read_status(folder)
    assert status is not None
    return status.message


def test_a_resume_from_a_hostile_checkpoint_fails_with_one_line(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "harm", train_steps=4, train_checkpoint_every="2")
    marks = tmp_path / "ran"
    resealed(folder, 4, lambda path: (path / WEIGHTS).write_bytes(pickle.dumps(Marks(marks))))
    assert worker.run(folder) == 1
    assert "model.safetensors is damaged (its header does not fit): take another checkpoint" in message(folder)
    assert not marks.exists()
    assert "Traceback" not in folder.log.read_text(encoding="utf-8")
    assert worker.run(folder, from_step=2) == 0
    assert max(losses(folder)) == 4


def test_a_position_that_no_source_gave_is_refused(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "lost", train_steps=4)
    run = folder.read_run()
    run["config"]["train"]["steps"] = 8
    folder.write_run(run)
    state = Path("training_state") / "state.json"
    for cursor in ({}, {"index": "x"}, {"index": None}, {"file": 0, "offset": 1}):
        stories = {"epoch": 0, "block": 1, "offset": 0, "cursor": cursor, "passes": 0.0}
        resealed(folder, 4, partial(of_json_in, state, position=POSITION | {"stories": stories}))
        assert worker.run(folder) == 1
        assert message(folder).startswith("the checkpoint's position does not fit these stories"), cursor
    assert "Traceback" not in folder.log.read_text(encoding="utf-8")


# --- the held-out stories ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_held_out_stories_are_kept_and_read_from_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_run(tmp_path, "whole", train_eval_every="2")
    cut = trained_run(tmp_path, "cut", train_steps=3, train_eval_every="2")
    stories, keys = held_out_file.load(cut.held_out) or ([], frozenset())
    assert len(stories) == 4 and len(keys) == 4
    run = cut.read_run()
    run["config"]["train"]["steps"] = 6
    cut.write_run(run)
    monkeypatch.setattr(
        "storyteller.data.held_out_stories.held_out_stories", lambda *_, **__: pytest.fail("read again")
    )
    assert worker.run(cut) == 0
    assert held_out_file.load(cut.held_out) == held_out_file.load(whole.held_out) == (stories, keys)


SPOILT: tuple[Callable[[bytes], bytes], ...] = (
    lambda whole: whole[:-30],
    lambda whole: b"\n".join(whole.splitlines()[:-1]) + b"\n",
    lambda _: b"\xff\x00",
    lambda _: b'{"stories": 1e9, "keys": 1}\n',
    lambda _: b"[1]\n",
    lambda whole: whole + b'{"text": "one more"}\n',
)


def test_held_out_stories_that_were_hurt_are_chosen_again_and_are_the_same(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "hurt", train_steps=2)
    before, whole = held_out_file.load(folder.held_out), folder.held_out.read_bytes()
    assert before is not None
    for spoil in SPOILT:
        folder.held_out.write_bytes(spoil(whole))
        assert held_out_file.load(folder.held_out) is None
    run = folder.read_run()
    run["config"]["train"]["steps"] = 3
    folder.write_run(run)
    assert worker.run(folder) == 0
    assert held_out_file.load(folder.held_out) == before
    assert folder.held_out.read_bytes() == whole

"""An exported checkpoint: the same model, smaller, with a card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from storyteller.cli import main
from storyteller.config.configs import SamplingParams
from storyteller.errors import CheckpointError, UsageError
from storyteller.inference import export as exporting
from storyteller.inference.engine import open_model
from storyteller.system.safetensors_file import Tensor
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from tests.support.training import trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    yield trained_run(tmp_path_factory.mktemp("runs"), "giver", train_steps=3)


@pytest.fixture
def path(run: RunFolder) -> Path:
    return checkpoint_folders.newest_good(run)[0]


def fp32(values: npt.ArrayLike) -> Tensor:
    array = np.asarray(values, np.float32)
    return Tensor("F32", array.shape, memoryview(array.tobytes()))


def test_in_fp32_every_story_is_told_the_same(path: Path, tmp_path: Path) -> None:
    exporting.export(path, tmp_path / "gift")
    sample = SamplingParams(max_tokens=40, seed=3)
    with open_model(str(path)) as ours, open_model(str(tmp_path / "gift")) as theirs:
        assert ours.batch(["Once"], sample)[0].text == theirs.batch(["Once"], sample)[0].text


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_in_half_precision_transformers_loads_the_nearest_weights(path: Path, tmp_path: Path, precision: str) -> None:
    from transformers import GPT2LMHeadModel

    size = exporting.export(path, tmp_path / "gift", precision)
    whole = GPT2LMHeadModel.from_pretrained(path).state_dict()
    half = GPT2LMHeadModel.from_pretrained(tmp_path / "gift", dtype="auto")
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    assert all(torch.equal(value, whole[name].to(kind)) for name, value in half.state_dict().items())
    assert size < 0.6 * sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def test_bf16_rounds_to_the_nearest_and_ties_to_even() -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**32, 20_000, dtype=np.uint32)
    ties = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)]
    ours = np.frombuffer(exporting._data("w", fp32(values), "bf16"), "<i2")
    assert np.array_equal(ours, torch.from_numpy(values).bfloat16().view(torch.int16).numpy())


def test_the_card_says_how_the_model_was_made_and_no_place_on_this_machine(path: Path, tmp_path: Path) -> None:
    run_json = path.parent.parent / "run.json"
    facts = json.loads(run_json.read_text(encoding="utf-8"))
    command = "storyteller train --data /secret/place/train.jsonl --seed 42"
    run_json.write_text(json.dumps(facts | {"command": command, "seed": 42}), encoding="utf-8")
    exporting.export(path, tmp_path / "gift", name="evil\x1b[31m model")
    card = (tmp_path / "gift" / "README.md").read_text(encoding="utf-8")
    assert "# evil\u241b[31m model" in card
    assert "`storyteller train --data train.jsonl --seed 42`" in card and "/secret" not in card
    assert "seed: 42" in card and "layers 1, width 32, heads 2, context 64" in card
    assert f"{checkpoint_folders.manifest(path)['eval/bpb']:.4f} bits per byte" in card


def test_a_folder_that_is_there_is_left_alone(path: Path, tmp_path: Path) -> None:
    mine = tmp_path / "gifts" / "mine"
    mine.mkdir(parents=True)
    (mine / "poem").write_text("old")
    with pytest.raises(UsageError, match="exists already"):
        exporting.export(path, mine)
    assert list(mine.parent.iterdir()) == [mine] and [file.name for file in mine.iterdir()] == ["poem"]


def test_what_fails_half_way_leaves_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "fsync_files", full)
    with pytest.raises(OSError, match="No space"):
        exporting.export(path, tmp_path / "gifts" / "gift")
    assert list((tmp_path / "gifts").iterdir()) == []


def test_weights_too_large_for_fp16_and_no_numbers_are_refused() -> None:
    with pytest.raises(UsageError, match="too large for fp16: take --precision bf16"):
        exporting._data("w", fp32([1e6]), "fp16")
    with pytest.raises(CheckpointError, match="non-finite"):
        exporting._data("w", fp32([np.nan]), "fp32")


def test_the_command_exports_a_run_by_name(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "giver@best", str(tmp_path / "gift"), "--precision", "bf16", "--json"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--runs-dir", str(run.path.parent)])
    assert end.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["precision"] == "bf16" and said["bytes"] > 10_000
    assert sorted(file.name for file in (tmp_path / "gift").iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]

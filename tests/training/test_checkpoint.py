"""Checkpoints: what they hold, that transformers agrees with them, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from storyteller.config.configs import DataConfig, TrainConfig
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.sources import open_corpus
from storyteller.errors import CheckpointError
from storyteller.model import weights
from storyteller.model.gpt2 import Shape, seeded
from storyteller.model.loss_eval import windows
from storyteller.training import checkpoint, train_state
from storyteller.training.optimizers import Optimizers
from tests.support.records import read_records
from tests.support.training import trained_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a tiny run, and its run folder two above it."""
    return trained_run(tmp_path_factory.mktemp("runs"), "tiny", train_steps=8).checkpoint(8)


def test_a_checkpoint_is_a_hugging_face_folder_and_the_state_of_training(trained: Path) -> None:
    files = sorted(path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file())
    assert files == [
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_state/state.json",
        "training_state/state.safetensors",
    ]
    modes = {path.stat().st_mode & 0o777 for path in trained.rglob("*") if path.is_file() and path.suffix != ".json"}
    assert modes == {(trained / "config.json").stat().st_mode & 0o777}


def test_transformers_gives_the_held_out_stories_the_same_bits_per_byte(trained: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logged = [r["eval/bpb"] for r in read_records(trained.parents[1] / "metrics.jsonl")[0] if "eval/bpb" in r][-1]
    stories, _ = held_out_stories(open_corpus(DataConfig(source="bundled")), DataConfig(source="bundled"), limit=4)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(trained).eval(), AutoTokenizer.from_pretrained(trained)
    context, nats = model.config.n_positions, 0.0
    for story in stories:
        ids = [tokenizer.bos_token_id, *tokenizer(story)["input_ids"]]
        for start, end, first in windows(len(ids) - 1, context):
            seen = torch.tensor([ids[start:end]])
            with torch.no_grad():
                logp = model(seen, attention_mask=torch.ones_like(seen)).logits[0].log_softmax(-1)
            nats -= float(sum(logp[t - start, ids[t + 1]] for t in range(first, end)))
    theirs = nats / math.log(2) / sum(len(story.encode()) for story in stories)
    assert logged == pytest.approx(theirs, abs=2e-4)


def test_transformers_tells_from_it_until_the_end_of_text(trained: Path) -> None:
    from transformers import GenerationConfig

    settings = GenerationConfig.from_pretrained(trained)
    assert (settings.eos_token_id, settings.bos_token_id, settings.do_sample) == (0, 0, True)


def test_a_model_saved_and_loaded_has_the_same_weights(trained: Path) -> None:
    model = weights.load_model(trained)
    assert all(torch.equal(tensor, weights.to_hf(model)[name]) for name, tensor in _tensors(trained).items())


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _changed(trained: Path, tmp_path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path


def test_a_missing_weight_is_named(trained: Path, tmp_path: Path) -> None:
    tensors = _tensors(trained)
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    with pytest.raises(CheckpointError, match=r"lacks h\.0\.mlp\.c_fc\.weight"):
        weights.load_model(_changed(trained, tmp_path, tensors))


def test_a_weight_too_many_is_named(trained: Path, tmp_path: Path) -> None:
    tensors = _tensors(trained) | {"transformer.extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="extra is not a weight of a GPT-2"):
        weights.load_model(_changed(trained, tmp_path, tensors))


def test_a_weight_of_another_shape_is_named(trained: Path, tmp_path: Path) -> None:
    tensors = _tensors(trained) | {"transformer.ln_f.weight": torch.ones(7)}
    with pytest.raises(CheckpointError, match=r"ln_f\.weight is \(7,\), not \(32,\)"):
        weights.load_model(_changed(trained, tmp_path, tensors))


def test_a_weight_that_is_no_number_is_named(trained: Path, tmp_path: Path) -> None:
    tensors = _tensors(trained)
    tensors["transformer.wpe.weight"][3, 3] = math.nan
    with pytest.raises(CheckpointError, match=r"wpe\.weight has values that are not finite"):
        weights.load_model(_changed(trained, tmp_path, tensors))


def test_a_training_state_of_another_version_is_refused(trained: Path, tmp_path: Path) -> None:
    folder = _changed(trained, tmp_path, _tensors(trained))
    (folder / "training_state").mkdir()
    (folder / "training_state" / "state.safetensors").write_bytes(
        (trained / "training_state" / "state.safetensors").read_bytes()
    )
    state = json.loads((trained / "training_state" / "state.json").read_text())
    (folder / "training_state" / "state.json").write_text(json.dumps(state | {"mood": "good"}))
    model = seeded(Shape(1, 32, 2, 64, 400), 0)
    with pytest.raises(CheckpointError, match="of another version"):
        checkpoint.load_training(folder, model, Optimizers(model, TrainConfig(optimizer="muon")))


def test_the_gradient_scaler_still_has_the_state_that_a_checkpoint_may_hold() -> None:
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    scaler.scale(torch.ones(()))  # creates its tensors
    assert scaler.state_dict().keys() == train_state._SCALER

"""The model: the same mathematics as transformers' GPT-2, and the beginning it should have."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from storyteller.config.configs import ModelConfig
from storyteller.data.batches import IGNORED, collate
from storyteller.model import weights
from storyteller.model.cross_entropy import cross_entropy_sum
from storyteller.model.gpt2 import GPT, Shape, seeded
from storyteller.training import checkpoint

SHAPE = Shape(n_layer=2, n_embd=32, n_head=4, context=24, vocab_size=300)


@pytest.fixture
def model() -> GPT:
    made = seeded(SHAPE, 1)
    # Away from GPT-2's small beginning, so that a difference would show.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def hugging_face(model: GPT, folder: Path) -> torch.nn.Module:
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    save_file(weights.to_hf(model), folder / "model.safetensors", metadata={"format": "pt"})
    checkpoint._write_json(folder / "config.json", weights.hf_config(model.shape, 0))
    loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert type(loaded).__name__ == "GPT2LMHeadModel"
    return loaded.eval()  # type: ignore[no-any-return]


def test_logits_equal_those_of_transformers(model: GPT, tmp_path: Path) -> None:
    theirs = hugging_face(model, tmp_path)
    ids = torch.randint(300, (3, 24))
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(ids).logits, atol=1e-4, rtol=0)


def test_logits_with_the_exact_gelu_equal_those_of_transformers_too(tmp_path: Path) -> None:
    model = seeded(dataclasses.replace(SHAPE, activation="gelu"), 1).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    theirs = hugging_face(model, tmp_path)
    ids = torch.randint(300, (3, 24))
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(ids).logits, atol=1e-4, rtol=0)
        assert not torch.allclose(model(ids), seeded_like(model)(ids), atol=1e-4, rtol=0)


def seeded_like(model: GPT) -> GPT:
    """The same weights under the tanh approximation."""
    twin = GPT(dataclasses.replace(model.shape, activation="gelu_new"))
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def test_padded_rows_have_the_logits_that_transformers_gives_them_under_a_mask(model: GPT, tmp_path: Path) -> None:
    theirs = hugging_face(model, tmp_path)
    rows = [[0, 5, 9, 250, 3, 7], [0, 8, 4], [0, 299, 1, 2, 6]]
    batch = collate(rows, pad_id=0)
    ids, real = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets != IGNORED)
    with torch.no_grad():
        ours = model(ids)
        masked = theirs(ids, attention_mask=real.long()).logits
    assert torch.allclose(ours[real], masked[real], atol=1e-4, rtol=0)


def test_the_loss_equals_transformers_own_on_the_same_labels(model: GPT, tmp_path: Path) -> None:
    theirs = hugging_face(model, tmp_path)
    row = torch.randint(1, 300, (1, 20))
    with torch.no_grad():
        ours = model.loss_sum(row[:, :-1], row[:, 1:]) / 19
        assert float(ours) == pytest.approx(float(theirs(row, labels=row).loss), abs=1e-5)


@pytest.mark.parametrize("leaves_out", [False, True])
@pytest.mark.parametrize("chunk", [1, 40 * 16, 40 * 17, 1 << 22])
def test_the_chunked_loss_and_its_gradients_equal_torchs_own(
    chunk: int, leaves_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storyteller.model.cross_entropy._CHUNK_LOGITS", chunk)
    ours, theirs = seeded(Shape(1, 16, 2, 24, 40), 0).double(), seeded(Shape(1, 16, 2, 24, 40), 0).double()
    ids, targets = torch.randint(40, (3, 24)), torch.randint(40, (3, 24))
    targets[1, 5:] = IGNORED
    places = (targets.flatten() != IGNORED).nonzero()[:, 0] if leaves_out else None
    loss = ours.loss_sum(ids, targets, loss_fn=partial(cross_entropy_sum, target_places=places))
    wanted = torch.nn.functional.cross_entropy(theirs(ids).flatten(0, 1), targets.flatten(), reduction="sum")
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), abs=1e-10)
    torch.autograd.backward(3 * loss)
    torch.autograd.backward(3 * wanted)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-10)


def test_the_output_layers_operations_are_those_of_the_targets() -> None:
    model = seeded(Shape(1, 16, 2, 24, 40), 0)
    of_block = 12 * 16 * 16 + 13 * 16 + 2 * 16
    assert model.flops(72, 55, 24) == 72 * (6 * of_block + 12 * 16 * 24) + 55 * 6 * 40 * 16


def test_a_fresh_model_knows_nothing() -> None:
    model = seeded(Shape(2, 64, 4, 32, 500), 3)
    ids = torch.randint(500, (8, 33))
    loss = float(model.loss_sum(ids[:, :-1], ids[:, 1:]).detach()) / (8 * 32)
    assert loss == pytest.approx(math.log(500), abs=0.1)


def test_no_token_sees_what_comes_after_it(model: GPT) -> None:
    ids = torch.randint(300, (1, 20))
    changed = ids.clone()
    changed[0, 12:] = (changed[0, 12:] + 1) % 300
    with torch.no_grad():
        assert torch.allclose(model(ids)[0, :12], model(changed)[0, :12], atol=1e-5)
        assert not torch.allclose(model(ids)[0, 12:], model(changed)[0, 12:], atol=1e-2)


def test_one_seed_makes_one_model() -> None:
    one, same, other = seeded(SHAPE, 1), seeded(SHAPE, 1), seeded(SHAPE, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.wte.weight, other.wte.weight)


def test_the_well_known_small_shape_has_its_parameters() -> None:
    model = GPT(Shape.of(ModelConfig(), 50257))
    assert model.n_parameters(embeddings=False) == 3_159_552
    assert model.n_parameters() == 3_159_552 + 50257 * 256 + 512 * 256


def test_the_shapes_that_a_file_must_have_are_those_of_the_model() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in GPT(SHAPE).state_dict().items()}
    assert weights._weight_shapes(SHAPE) == shapes

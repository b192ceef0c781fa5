"""Parameter groups and the learning rate's course."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from storyteller.config.configs import TrainConfig
from storyteller.errors import CheckpointError
from storyteller.model.gpt2 import Shape, seeded
from storyteller.training.muon import Muon, orthogonalise
from storyteller.training.optimizers import Optimizers, clip, lr_scale

SHAPE = Shape(n_layer=2, n_embd=16, n_head=2, context=8, vocab_size=40)


def test_only_matrices_decay() -> None:
    model = seeded(SHAPE, 0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizers = Optimizers(model, TrainConfig(lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizers.all[0].step()
    for name, p in model.named_parameters():
        wanted = before[name] * (1 - 0.1 * 0.5) if p.ndim == 2 else before[name]
        assert torch.allclose(p, wanted), name


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = seeded(SHAPE, 0)
    adamw, muon = Optimizers(model, TrainConfig(optimizer="muon")).all
    names = {p: name for name, p in model.named_parameters()}
    hidden = {names[p] for group in muon.param_groups for p in group["params"]}
    rest = {names[p] for group in adamw.param_groups for p in group["params"]}
    assert hidden == {f"h.{i}.{part}.weight" for i in (0, 1) for part in PARTS}
    assert hidden | rest == set(names.values()) and not hidden & rest


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-3), (torch.float32, 2e-2)])
def test_side_by_side_muon_takes_the_steps_of_torchs(dtype: torch.dtype, tolerance: float) -> None:
    draw = torch.Generator().manual_seed(0)
    shapes = [(48, 16), (16, 16), (64, 16), (16, 64)] * 2
    ours = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    mine = Muon(ours, lr=0.03, weight_decay=0.1, momentum=0.95, dtype=dtype)
    torchs = torch.optim.Muon(theirs, lr=0.03, weight_decay=0.1, momentum=0.95, nesterov=True)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=draw)
            b.grad = a.grad.clone()
        ours[1].grad = theirs[1].grad = None  # a matrix without a gradient keeps its place
        mine.step()
        torchs.step()  # type: ignore[no-untyped-call]
    for a, b in zip(ours, theirs, strict=True):
        assert float((a - b).detach().norm() / b.detach().norm()) < tolerance


def test_what_muon_takes_as_its_update_is_near_orthogonal() -> None:
    x = orthogonalise(torch.randn(3, 20, 50, generator=torch.Generator().manual_seed(1)))
    values = torch.linalg.svdvals(x)
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


PARTS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_given_to_a_fresh_optimizer_makes_the_same_next_step(optimizer: str) -> None:
    train = TrainConfig(lr=0.01, optimizer=optimizer)  # type: ignore[arg-type]
    ids = torch.randint(40, (2, 9), generator=torch.Generator().manual_seed(0))

    def take_step(model: torch.nn.Module, optimizers: Optimizers) -> None:
        model.loss_sum(ids[:, :-1], ids[:, 1:]).backward()  # type: ignore[operator]
        for one in optimizers.all:
            one.step()
        optimizers.zero_grad()

    model = seeded(SHAPE, 0)
    optimizers = Optimizers(model, train)
    take_step(model, optimizers)
    twin = seeded(SHAPE, 9)
    twin.load_state_dict(model.state_dict())
    fresh = Optimizers(twin, train)
    fresh.load_state({name: tensor.clone() for name, tensor in optimizers.state().items()})
    take_step(model, optimizers)
    take_step(twin, fresh)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_state_of_another_shape_is_refused() -> None:
    model = seeded(SHAPE, 0)
    optimizers = Optimizers(model, TrainConfig())
    with pytest.raises(CheckpointError, match=r"exp_avg of wte\.weight has another shape"):
        optimizers.load_state({"wte.weight/exp_avg": torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match="which the model lacks"):
        optimizers.load_state({"h.7.ln_1.weight/exp_avg": torch.zeros(16)})


def test_the_learning_rate_rises_and_falls_exactly_so() -> None:
    train = TrainConfig(warmup_pct=10, decay="linear", final_lr_pct=0)
    assert [lr_scale(p, train) for p in (0, 0.05, 0.1, 0.55, 1)] == [0, 0.5, 1.0, pytest.approx(0.5), 0.0]
    cosine = TrainConfig(warmup_pct=0, decay="cosine", final_lr_pct=10)
    assert [lr_scale(p, cosine) for p in (0, 0.5, 1)] == [1.0, pytest.approx(0.55), pytest.approx(0.1)]
    assert lr_scale(0.7, TrainConfig(warmup_pct=1, decay="constant")) == 1.0


@given(st.floats(-1, 2), st.floats(0, 100), st.floats(0, 100), st.sampled_from(["linear", "cosine", "constant"]))
def test_the_learning_rate_stays_between_nothing_and_its_peak(
    progress: float, warmup: float, final: float, decay: str
) -> None:
    train = TrainConfig(warmup_pct=warmup, final_lr_pct=final, decay=decay)  # type: ignore[arg-type]
    assert -1e-9 <= lr_scale(progress, train) <= 1 + 1e-9


def test_a_long_gradient_is_scaled_down_and_its_length_told() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    assert float(clip([weight], 1.0)) == 5.0
    assert torch.allclose(weight.grad, torch.tensor([0.6, 0.8]), atol=1e-5)

"""The loop: what it learns, what it logs, and that stopping and going on changes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from storyteller.data.batches import StepBatches, collate
from storyteller.data.tokenizer import load
from storyteller.model import loss_eval, weights
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import Shape, seeded
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status
from storyteller.training import gradients, worker
from storyteller.training.status_reporter import StatusReporter
from tests.support.records import read_records
from tests.support.training import losses, make_run, trained_run

CPU = ComputeDevice(torch.device("cpu"), "fp32", 1)
NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def weights_of(folder: RunFolder, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder.checkpoint(step) / "model.safetensors")


def assert_equal_weights(one: RunFolder, other: RunFolder, step: int) -> None:
    theirs = weights_of(other, step)
    for name, tensor in weights_of(one, step).items():
        assert torch.equal(tensor, theirs[name]), name


# --- learning ---------------------------------------------------------------------------------------------------------


def test_eight_batches_of_one_give_the_gradient_of_one_batch_of_eight() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [3, 17, 9, 24, 5, 12, 2, 20]
    rows = [[0, *torch.randint(1, 40, (n - 1,), generator=generator).tolist(), 0] for n in lengths]
    dealt = {"one": (collate(rows, 0),), "eight": tuple(collate([row], 0) for row in rows)}
    of_each: dict[str, list[torch.Tensor]] = {}
    told: dict[str, float] = {}
    for name, batches in dealt.items():
        model = seeded(Shape(2, 16, 2, 24, 40), 5).double()
        step = StepBatches(batches, sum(b.n_targets for b in batches), 0.0, {})
        told[name] = float(gradients.accumulate(model, step, CPU, NO_SCALER))
        of_each[name] = [p.grad for p in model.parameters() if p.grad is not None]
    assert told["one"] == pytest.approx(told["eight"], abs=1e-12)
    assert len(of_each["one"]) == len(of_each["eight"]) == len(list(model.parameters()))
    for one, eight in zip(of_each["one"], of_each["eight"], strict=True):
        assert torch.allclose(one, eight, rtol=0, atol=1e-12)


def test_the_model_learns_the_next_token_and_not_the_one_after_it(tmp_path: Path) -> None:
    letters = "abcdefghijklmnop"
    stories = [(letters * 4)[i : i + 40] for i in range(16) for _ in range(8)]
    corpus = tmp_path / "letters.jsonl"
    corpus.write_text("".join(json.dumps({"text": f"{i} {s}"}) + "\n" for i, s in enumerate(stories)), encoding="utf-8")
    folder = trained_run(
        tmp_path / "runs",
        "letters",
        data_source=(str(corpus),),
        data_vocab_size=257,  # no merges: a token is a letter
        train_steps=60,
        train_lr=1e-2,
    )
    model = weights.load_model(folder.checkpoint(60)).eval()
    tokenizer = load(folder.tokenizer)
    ids = tokenizer.encode([letters])[0]
    with torch.no_grad():
        guesses = model(torch.tensor([[tokenizer.end_id, *ids[:8]]]))[0].argmax(-1).tolist()[3:]
    assert guesses == ids[3:9]


def test_the_end_of_a_story_is_learned(tmp_path: Path) -> None:
    corpus = tmp_path / "same.txt"
    corpus.write_text("\n\n".join(f"{i} cats sat on the very same mat, and that was all." for i in range(60)))
    folder = trained_run(tmp_path / "runs", "ends", data_source=(str(corpus),), data_batching="pad", train_steps=80)
    model, tokenizer = weights.load_model(folder.checkpoint(80)).eval(), load(folder.tokenizer)
    ids = tokenizer.encode(["7 cats sat on the very same mat, and that was all."])[0]
    with torch.no_grad():
        chances = model(torch.tensor([[tokenizer.end_id, *ids]]))[0, -1].softmax(-1)
    assert float(chances[tokenizer.end_id]) > 0.5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precisions_learn_too(tmp_path: Path, precision: str) -> None:
    folder = trained_run(tmp_path, "low", train_precision=precision, train_steps=25)
    told = losses(folder)
    assert told[25] < told[1] - 0.5
    state = json.loads((folder.checkpoint(25) / "training_state" / "state.json").read_text())
    assert bool(state["scaler"]) == (precision == "fp16")


# --- stopping and going on --------------------------------------------------------------------------------------------


def stop_after(folder: RunFolder, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the run in this process until `step` is done, then ask it to stop as a signal would."""
    real = StatusReporter.stop_requested
    with monkeypatch.context() as patch:
        patch.setattr(StatusReporter, "stop_requested", lambda reporter: reporter.step >= step or real(reporter))
        assert worker.run(folder) == 0


@pytest.mark.parametrize(
    ("batching", "optimizer", "stops"),
    [("pack", "muon", [1, 4, 7]), ("pad", "adamw", [2, 3]), ("begin", "adamw", [5])],
)
def test_losses_after_a_resume_equal_those_of_a_run_never_stopped_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batching: str, optimizer: str, stops: list[int]
) -> None:
    how: dict[str, Any] = {
        "data_batching": batching,
        "train_optimizer": optimizer,
        "train_steps": 9,
        "train_accumulate": 2,
        "model_dropout": 0.1,
    }
    whole = trained_run(tmp_path, "whole", **how)
    cut = make_run(tmp_path, "cut", **how)
    for step in stops:
        stop_after(cut, step, monkeypatch)
        assert read_status(cut).state == "stopped"  # type: ignore[union-attr]
    assert worker.run(cut) == 0
    assert losses(cut) == losses(whole)
    assert len(losses(whole)) == 9
    assert_equal_weights(whole, cut, 9)


def test_a_resume_over_the_end_of_an_epoch_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = tmp_path / "few.txt"
    corpus.write_text("\n\n".join(f"Story number {i} is about a cat that has {i * 7} toys." for i in range(40)))
    how: dict[str, Any] = {"data_source": (str(corpus),), "data_shuffle_stories": 8, "train_steps": 30}
    whole = trained_run(tmp_path / "runs", "whole", **how)
    cut = make_run(tmp_path / "runs", "cut", **how)
    for step in (3, 11, 12, 23):
        stop_after(cut, step, monkeypatch)
    assert worker.run(cut) == 0
    state = json.loads((whole.checkpoint(30) / "training_state" / "state.json").read_text())
    assert state["position"]["stories"]["epoch"] >= 2
    assert losses(cut) == losses(whole)
    assert_equal_weights(whole, cut, 30)


def test_going_back_to_an_earlier_step_gives_the_same_end(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "back", train_steps=6, train_checkpoint_every="2", train_keep=9)
    before, told = weights_of(folder, 6), losses(folder)
    assert worker.run(folder, from_step=2) == 0
    assert losses(folder) == told
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(folder, 6).items())


@pytest.mark.slow
def test_two_runs_of_one_seed_are_one_run(tmp_path: Path) -> None:
    one, same = trained_run(tmp_path, "one"), trained_run(tmp_path, "same")
    assert losses(one) == losses(same)
    assert_equal_weights(one, same, 6)
    other = trained_run(tmp_path, "other", train_seed=7)
    assert losses(other) != losses(one)


# --- what is logged and kept ------------------------------------------------------------------------------------------


def test_the_log_has_a_line_a_step_and_the_evaluations_between(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "logged", train_steps=4, train_eval_every="2")
    records = read_records(folder.metrics)[0]
    assert [r["step"] for r in records if "train/loss" in r] == [1, 2, 3, 4]
    assert [r["step"] for r in records if "eval/bpb" in r] == [0, 2, 4]
    for record in records:
        assert {"step", "tokens", "seconds", "time"} <= record.keys()
    assert records[-1]["tokens"] == 4 * 4 * 64
    first = records[0]
    assert first["eval/loss"] == pytest.approx(math.log(400), abs=0.15)
    assert first["eval/perplexity"] == pytest.approx(math.exp(first["eval/loss"]))
    line = next(r for r in records if "train/loss" in r)
    for key in ("grad_norm", "lr", "tokens_per_second", "mfu_pct", "padding_pct", "data_wait_pct"):
        assert math.isfinite(line[f"train/{key}"])
    assert line["train/padding_pct"] == 0


def test_padding_shows_in_the_log(tmp_path: Path) -> None:
    folder = trained_run(
        tmp_path, "padded", data_batching="pad", model_context=512, train_steps=2, train_eval_every="1"
    )
    line = next(r for r in read_records(folder.metrics)[0] if "train/loss" in r)
    assert 0 < line["train/padding_pct"] < 90
    assert f"{line['train/padding_pct']:.1f} % padding" in folder.log.read_text(encoding="utf-8")


def test_the_newest_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = trained_run(
        tmp_path, "kept", train_steps=8, train_checkpoint_every="1", train_keep=2, train_lr=1e-2, train_decay="constant"
    )
    there = checkpoint_folders.steps(folder)
    assert there[-2:] == [7, 8]
    best = checkpoint_folders.best(folder)
    assert best is not None and int(best.name.removeprefix("step-")) in there
    assert len(there) <= 3
    for step in there:
        checkpoint_folders.verify(folder.checkpoint(step))


def test_run_json_says_all_there_is_to_know(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "told")
    run = folder.read_run()
    assert run["schema"] == 1
    assert run["data"]["kind"] == "bundled"
    assert run["tokenizer"]["vocab_size"] == 400 and len(run["tokenizer"]["sha256"]) == 64
    assert run["model"]["n_layer"] == 1 and run["model"]["parameters"] > run["model"]["parameters_without_embeddings"]
    assert run["host"]["device"] == "cpu" and run["host"]["precision"] == "fp32" and run["host"]["threads"] == 1


def test_stories_are_told_while_it_trains_from_the_same_prompts_and_seed(tmp_path: Path) -> None:
    folder = trained_run(tmp_path, "told", train_steps=4)
    records = read_records(folder.samples)[0]
    by_step = {step: [r["prompt"] for r in records if r["step"] == step] for step in {r["step"] for r in records}}
    prompts = ["Once upon a time", "Once there was a little boy", "Once there was a cute little animal"]
    assert by_step[4] == prompts
    assert {r["seed"] for r in records} == {42}
    assert all(isinstance(r["text"], str) for r in records)


def test_a_budget_of_epochs_ends_with_the_last_story_of_the_last_pass(tmp_path: Path) -> None:
    corpus = tmp_path / "few.txt"
    corpus.write_text("\n\n".join(f"Story number {i} is about a cat that has {i * 7} toys." for i in range(43)))
    folder = trained_run(
        tmp_path / "runs",
        "epochs",
        data_source=(str(corpus),),
        data_valid=(str(_valid_file(tmp_path)),),
        data_batching="pad",
        train_epochs=2.0,
        train_batch_size=1,
        **{"train_steps": None},
    )
    assert max(losses(folder)) == 86
    assert read_status(folder).state == "finished"  # type: ignore[union-attr]


def _valid_file(tmp_path: Path) -> Path:
    path = tmp_path / "valid.txt"
    path.write_text("A dog ran over the long green hill.\n\nA bird flew up to the tall old tree.")
    return path


def test_a_loss_that_is_no_number_stops_before_the_step_and_saves_nothing_poisoned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = gradients.accumulate, []

    def poisoned(*given: Any) -> torch.Tensor:
        calls.append(1)
        loss = real(*given)
        if len(calls) == 3:
            next(given[0].parameters()).grad.fill_(math.nan)
        return loss

    monkeypatch.setattr(gradients, "accumulate", poisoned)
    folder = make_run(tmp_path, "nan", train_checkpoint_every="1")
    assert worker.run(folder) == 1
    status = read_status(folder)
    assert status is not None and status.state == "failed"
    assert status.message.startswith("the gradient of step 3 is not a number, so the step was not taken: resume with")
    assert checkpoint_folders.steps(folder) == [1, 2]
    for name, tensor in weights_of(folder, 2).items():
        assert bool(torch.isfinite(tensor).all()), name
    assert "NaN" not in folder.metrics.read_text()
    monkeypatch.setattr(gradients, "accumulate", real)
    assert worker.run(folder) == 0
    whole = trained_run(tmp_path, "whole", train_checkpoint_every="1")
    assert losses(folder) == losses(whole)


def test_weights_that_know_nothing_are_scored_on_16_stories_and_all_later_ones_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, counts = loss_eval.score, []

    def counted(nats_of: Any, stories: Any, *rest: Any, **more: Any) -> loss_eval.Score:
        counts.append(len(stories))
        return real(nats_of, stories, *rest, **more)

    monkeypatch.setattr(loss_eval, "score", counted)
    trained_run(tmp_path, "scored", train_steps=2, train_eval_stories=20, train_eval_every="1")
    assert counts == [16, 20, 20]

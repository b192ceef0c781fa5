"""Losses that are no numbers, and memory that runs out: what is skipped, what is said, and what is never saved."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from storyteller.config.presets import resolve
from storyteller.data.batches import prefetch_steps
from storyteller.errors import OutOfMemoryError, UsageError
from storyteller.model import memory
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import Shape, seeded
from storyteller.tracking import checkpoint_folders
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status, seen_state
from storyteller.training import gradients, optimizers, trainer, worker
from tests.cli.test_train import TINY, run_of, storyteller, wait_for_step
from tests.support.records import read_records
from tests.support.training import losses, make_run, trained_run

Poison = Callable[[Any, torch.Tensor], torch.Tensor]


def nan_gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    next(model.parameters()).grad.fill_(math.nan)
    return loss


def infinite_gradient(model: Any, loss: torch.Tensor) -> torch.Tensor:
    next(model.parameters()).grad.view(-1)[0] = math.inf
    return loss


def nan_loss(_model: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss * math.nan


def infinite_loss(_model: Any, loss: torch.Tensor) -> torch.Tensor:
    return loss * math.inf


REAL = gradients.accumulate


def poison(monkeypatch: pytest.MonkeyPatch, calls: set[int], how: Poison) -> None:
    """From now on, let the step go bad at each of these calls, from 1."""
    called: list[int] = []

    def poisoned(*given: Any) -> torch.Tensor:
        called.append(1)
        loss = REAL(*given)
        return how(given[0], loss) if len(called) in calls else loss

    monkeypatch.setattr(gradients, "accumulate", poisoned)


def message(folder: RunFolder) -> str:
    status = read_status(folder)
    assert status is not None
    return status.message


def skipped(folder: RunFolder) -> dict[int, int]:
    """The count of skipped steps that each step's line tells."""
    records = read_records(folder.metrics)[0]
    return {r["step"]: r.get("train/skipped_steps", 0) for r in records if "train/lr" in r}


def all_finite(folder: RunFolder) -> bool:
    return all(
        bool(torch.isfinite(tensor).all())
        for step in checkpoint_folders.steps(folder)
        for file in folder.checkpoint(step).rglob("*.safetensors")
        for tensor in load_file(file).values()
    )


# --- not a number -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "what"),
    [(nan_gradient, "gradient"), (infinite_gradient, "gradient"), (nan_loss, "loss"), (infinite_loss, "loss")],
)
def test_a_bad_step_is_not_taken_and_the_message_says_which_and_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Poison, what: str
) -> None:
    poison(monkeypatch, {4}, how)
    folder = make_run(tmp_path, "bad", train_checkpoint_every="1", train_keep=9)
    assert worker.run(folder) == 1
    assert message(folder) == (
        f"the {what} of step 4 is not a number, so the step was not taken: resume with --skip-bad-steps 1 to skip "
        "it, or train anew with a lower --lr or --precision fp32"
    )
    assert checkpoint_folders.steps(folder) == [1, 2, 3]
    assert all_finite(folder)
    for line in folder.metrics.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_skipped_steps_are_counted_logged_and_pass_over_their_stories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2, 4}, nan_gradient)
    folder = trained_run(tmp_path, "skips", train_skip_bad_steps=2, train_decay="constant", train_warmup_pct=0)
    told = losses(folder)
    assert sorted(told) == [1, 3, 5, 6]
    assert skipped(folder) == {1: 0, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2}
    log = folder.log.read_text(encoding="utf-8")
    assert log.count("step 2 skipped: its gradient is not a number (1 of 2 to skip)\n") == 1
    assert log.count("step 4 skipped: its gradient is not a number (2 of 2 to skip)\n") == 1
    assert all_finite(folder)
    state = json.loads((folder.checkpoint(6) / "training_state" / "state.json").read_text(encoding="utf-8"))
    assert (state["step"], state["skipped_steps"], state["tokens"]) == (6, 2, 4 * 4 * 64)
    # Step 1 is that of a run without faults, and step 3 begins from its weights with the third step's stories.
    monkeypatch.setattr(gradients, "accumulate", REAL)
    whole = trained_run(tmp_path, "whole", train_decay="constant", train_warmup_pct=0)
    assert told[1] == losses(whole)[1] and told[3] != losses(whole)[3]
    whole_state = json.loads((whole.checkpoint(6) / "training_state" / "state.json").read_text(encoding="utf-8"))
    assert state["position"] == whole_state["position"]


def test_a_skipped_step_leaves_weights_and_optimizer_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {3}, infinite_gradient)
    folder = trained_run(
        tmp_path, "skips", train_skip_bad_steps=1, train_steps=3, train_checkpoint_every="1", train_keep=9
    )
    for file in ("model.safetensors", "training_state/state.safetensors"):
        before, after = (load_file(folder.checkpoint(step) / file) for step in (2, 3))
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            assert torch.equal(tensor, after[name]), name


@pytest.mark.slow
def test_one_bad_step_too_many_stops_the_run_and_resumes_know_how_many_there_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"train_skip_bad_steps": 1, "train_checkpoint_every": "1", "train_keep": 9}
    poison(monkeypatch, {2, 5}, nan_loss)
    folder = make_run(tmp_path, "bad", **options)
    assert worker.run(folder) == 1
    assert message(folder).startswith(
        "the loss of step 5 is not a number, so the step was not taken (1 were skipped before): "
        "resume with --skip-bad-steps 2 to skip it"
    )
    assert checkpoint_folders.steps(folder) == [1, 2, 3, 4]
    poison(monkeypatch, {1}, nan_loss)  # step 5 again
    assert worker.run(folder) == 1
    assert "(1 were skipped before)" in message(folder)
    run = folder.read_run()
    run["config"]["train"]["skip_bad_steps"] = 2
    folder.write_run(run)
    poison(monkeypatch, {1}, nan_loss)
    assert worker.run(folder) == 0
    poison(monkeypatch, {2, 5}, nan_loss)
    whole = trained_run(tmp_path, "whole", **(options | {"train_skip_bad_steps": 2}))
    assert losses(folder) == losses(whole)
    assert skipped(folder) == skipped(whole) == {1: 0, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2}


@pytest.mark.slow
def test_a_first_step_that_is_skipped_resumes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"train_skip_bad_steps": 1, "train_checkpoint_every": "1", "train_keep": 9}
    poison(monkeypatch, {1}, nan_gradient)
    folder = trained_run(tmp_path, "first", **options)
    told = losses(folder)
    monkeypatch.setattr(gradients, "accumulate", REAL)
    assert worker.run(folder, from_step=1) == 0
    assert losses(folder) == told and sorted(told) == [2, 3, 4, 5, 6]


@pytest.mark.slow
def test_fp16_scales_down_where_a_gradient_overflows_and_stops_where_it_stays_bad(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {2}, infinite_gradient)
    assert max(losses(trained_run(tmp_path, "once", train_precision="fp16"))) == 6
    poison(monkeypatch, set(range(2, 100)), nan_gradient)
    folder = make_run(tmp_path, "always", train_precision="fp16", train_steps=60)
    assert worker.run(folder) == 1
    # 65,536 is halved at each of the steps 2 to 18, and is below 1 then.
    assert message(folder).startswith("the gradient of step 19 is not a number")


def test_fp16_skips_a_loss_that_is_no_number_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, {2}, nan_loss)
    folder = trained_run(tmp_path, "half", train_precision="fp16", train_skip_bad_steps=1)
    assert sorted(losses(folder)) == [1, 3, 4, 5, 6]


def test_weights_that_a_step_made_infinite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = optimizers.Optimizers.zero_grad, []

    def poisons_the_weights(self: optimizers.Optimizers) -> None:
        calls.append(1)
        if len(calls) == 3:
            with torch.no_grad():
                self.all[0].param_groups[0]["params"][0].view(-1)[0] = math.inf
        real(self)

    monkeypatch.setattr(optimizers.Optimizers, "zero_grad", poisons_the_weights)
    folder = make_run(tmp_path, "poisoned", train_steps=3, train_checkpoint_every="1", train_keep=9)
    monkeypatch.setattr(trainer.Trainer, "_evaluate", lambda *_: None)  # it would see it first
    assert worker.run(folder) == 1
    assert re.match(
        r"\S+ has values that are not finite after step 3, so no checkpoint of it was saved", message(folder)
    )
    assert checkpoint_folders.steps(folder) == [1, 2] and all_finite(folder)
    assert not list(folder.checkpoints.glob(".*"))


@pytest.mark.slow
def test_skip_bad_steps_is_an_option_of_train_and_of_resume() -> None:
    first = storyteller("train", "--foreground", "--name", "skip", "--steps", "2", "--skip-bad-steps", "3", *TINY)
    assert first.returncode == 0, first.stderr
    folder = run_of("skip")
    assert folder.read_run()["config"]["train"]["skip_bad_steps"] == 3
    done = storyteller("resume", "skip", "--steps", "3", "--skip-bad-steps", "7", "--foreground")
    assert done.returncode == 0, done.stderr
    train_now = folder.read_run()["config"]["train"]
    assert (train_now["skip_bad_steps"], train_now["steps"], max(losses(folder))) == (7, 3, 3)
    off = storyteller("train", "--skip-bad-steps", "-1", *TINY)
    assert (off.returncode, off.stderr.count("\n")) == (2, 1)
    assert "invalid value -1 for --skip-bad-steps: expected 0 to 1,000,000 steps" in off.stderr


def test_the_patience_with_the_hub_is_a_setting_that_is_validated() -> None:
    assert resolve("quick", {}).data.hub_patience_minutes == 10
    assert resolve("quick", {}, ["hub_patience_minutes=0.5"]).data.hub_patience_minutes == 0.5
    problem = r"invalid value -1\.0 for --set hub_patience_minutes: expected 0 to 10,080 minutes"
    with pytest.raises(UsageError, match=problem):
        resolve("quick", {}, ["hub_patience_minutes=-1"])


# --- out of memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried "
                "to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
            ),
            "4,096.0 GiB",
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 139.80 GiB of which"
            ),
            "20.00 GiB",
        ),
        (MemoryError("Unable to allocate 1.00 TiB for an array with shape (65536, 2097152)"), "1.00 TiB"),
    ],
)
def test_what_an_allocator_says_is_told_with_its_size(error: BaseException, asked: str) -> None:
    assert memory.is_out_of_memory(error)
    what = "a batch of 8 x 512 tokens"
    with pytest.raises(OutOfMemoryError) as caught, memory.explain_out_of_memory(what, "lower --context"):
        raise error
    assert str(caught.value) == (
        f"a batch of 8 x 512 tokens does not fit into memory ({asked} asked for at once): lower --context"
    )
    assert caught.value.__cause__ is error


def test_an_error_of_another_kind_stays_what_it_is() -> None:
    assert memory.is_out_of_memory(MemoryError())
    assert not memory.is_out_of_memory(RuntimeError("mat1 and mat2 shapes do not fit"))
    with pytest.raises(RuntimeError, match="mat1"), memory.explain_out_of_memory("a batch"):
        raise RuntimeError("mat1 and mat2 shapes do not fit")


def test_parameters_are_counted_without_building_the_model() -> None:
    for shape in (Shape(1, 32, 2, 64, 400), Shape(3, 48, 4, 100, 517)):
        assert shape.n_parameters() == seeded(shape, 0).n_parameters()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            {"model_n_layer": 256, "model_n_embd": 16384, "model_n_head": 8},
            r"a model of 824,\d\d\d,\d\d\d,\d\d\d parameters takes 9,\d\d\d\.\d GiB at least, and there are "
            r"\d+\.\d GiB: train with a lower --width, --layers or --vocab-size",
        ),
        (
            {"model_context": 32768, "train_batch_size": 65536},
            r"a batch of 65,536 x 32,768 tokens takes 1,664\.0 GiB at least, and there are \d+\.\d GiB: train anew "
            r"with --batch-size 32768 --set accumulate=2, which learns the same, or with a lower --context",
        ),
    ],
)
def test_what_cannot_fit_is_refused_before_it_is_tried(tmp_path: Path, options: dict[str, int], line: str) -> None:
    folder = make_run(tmp_path, "large", **options)
    assert worker.run(folder) == 1
    assert re.fullmatch(line, message(folder)), message(folder)


def test_what_fits_is_not_refused() -> None:
    config = resolve("quick", {})
    memory.check_fits(Shape.of(config.model, 4096), config, ComputeDevice(torch.device("cpu"), "fp32", 1))


@pytest.mark.parametrize(
    ("preset", "free_gib", "processes", "rows"),
    [
        ("classic", 80, 1, 32),  # 8 rows, 4 times, in one pass
        ("classic", 80, 8, 4),
        ("classic", 5.2, 1, 16),  # in two of a like size rather than one of 20 and one of 12
        ("classic", 1, 1, 1),  # where nothing seems to fit it is tried row by row
        ("quick", 80, 1, 256),
        ("quick", 8, 1, 128),
    ],
)
def test_on_a_gpu_as_much_of_a_step_is_taken_at_once_as_there_is_memory(
    preset: str, free_gib: float, processes: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_free_bytes", lambda _: int(free_gib * 2**30))
    config = resolve(preset, {"train.device": "cuda"})
    shape, cuda = Shape.of(config.model, config.data.vocab_size), ComputeDevice(torch.device("cuda"), "bf16", 1)
    assert memory.rows_at_once(shape, config, cuda, processes) == rows
    cpu = ComputeDevice(torch.device("cpu"), "fp32", 2)
    assert memory.rows_at_once(shape, config, cpu, processes) == config.train.batch_size


def test_fewer_steps_are_read_ahead_where_a_step_is_large() -> None:
    assert [prefetch_steps(tokens) for tokens in (1, 16 * 256, 1 << 20, 3 << 20, 1 << 30)] == [32, 32, 4, 1, 1]


@pytest.mark.slow
def test_an_allocation_that_really_fails_names_the_batch_its_bytes_and_the_option(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        import psutil
        from storyteller.training import worker
        from storyteller.training import gradients
        from storyteller.tracking.run_folder import RunFolder

        real = gradients.accumulate
        def in_little_memory(*given):
            here = psutil.Process().memory_info().vms + (256 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (here, here))
            return real(*given)
        gradients.accumulate = in_little_memory
        sys.exit(worker.run(RunFolder(Path(sys.argv[1]))))
    """
    folder = make_run(tmp_path, "large", train_batch_size=8192)
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder.path)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(
        r"a batch of 8,192 x 64 tokens does not fit into memory \(\d+\.\d MiB asked for at once\): "
        r"train anew with --batch-size 4096 --set accumulate=2, which learns the same, or with a lower --context",
        message(folder),
    ), message(folder)
    assert "Traceback" not in folder.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_that_the_kernel_kills_has_died_and_resumes_to_the_same_end() -> None:
    words = [*TINY, "--context", "256", "--batch-size", "8", "--steps", "25", "--set", "checkpoint_every=2"]
    whole = storyteller("train", "--foreground", "--name", "whole", *words)
    assert whole.returncode == 0, whole.stderr
    assert storyteller("train", "--detach", "--name", "killed", *words).returncode == 0
    folder = run_of("killed")
    wait_for_step(folder, 5)
    status = read_status(folder)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)  # as the kernel does where memory is out
    for _ in range(100):
        if seen_state(folder) == "died":
            break
        time.sleep(0.05)
    assert seen_state(folder) == "died"
    assert checkpoint_folders.steps(folder), "a checkpoint was there to go on from"
    again = storyteller("resume", "killed", "--foreground")
    assert again.returncode == 0, again.stderr
    assert losses(folder) == losses(run_of("whole"))

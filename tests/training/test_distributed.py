"""Several processes train one run: they learn what one learns, decide alike, and none outlives another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import pytest

from storyteller.data.batches import Batches, StepBatches
from storyteller.data.tokenizer import Tokenizer, train_bpe
from storyteller.errors import UsageError
from storyteller.launch import start, torchrun
from storyteller.launch.torchrun import TorchrunSpec, spec_from_options
from storyteller.tracking import run_process
from storyteller.tracking.run_folder import RunFolder
from storyteller.tracking.run_status import read_status
from storyteller.training import worker
from tests.support import living
from tests.support.records import read_records
from tests.support.training import losses, make_run

pytestmark = pytest.mark.timeout(900)  # several Pythons and as many imports of torch, on a machine that may be busy
STORIES = [f"Story {i} is of a cat with {i * 7} toys, and of {'a very long ' * (i % 5)}day." for i in range(60)]
TWO = ["--nproc", "2"]


def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "few.txt"
    path.write_text("\n\n".join(STORIES), encoding="utf-8")
    return path


def run(tmp_path: Path, name: str, **options: Any) -> RunFolder:
    """A run of few stories, whose learning rate does not hang on its budget."""
    how: dict[str, Any] = {
        "data_source": (str(corpus(tmp_path)),),
        "data_vocab_size": 280,
        "train_optimizer": "adamw",
        "train_lr": 1e-3,
        "train_decay": "constant",
        "train_warmup_pct": 0.0,
        "train_batch_size": 5,
    }
    return make_run(tmp_path / "runs", name, **(how | options))


def rebudget(folder: RunFolder, steps: int) -> None:
    plan = folder.read_run()
    plan["config"]["train"]["steps"] = steps
    folder.write_run(plan)


def trained(folder: RunFolder, nproc: int) -> None:
    """Train the run in so many processes, started as a user's are; one trains in this one."""
    if nproc == 1:
        assert worker.run(folder) == 0, folder.log.read_text(encoding="utf-8")
        return
    process = start.start(folder, ["--nproc", str(nproc)])
    try:
        assert process.wait(timeout=600) == 0, folder.log.read_text(encoding="utf-8")
    finally:
        process.kill()
        process.wait()


def assert_equal_losses(one: RunFolder, other: RunFolder, steps: int) -> None:
    mine, theirs = losses(one), losses(other)
    assert list(mine) == list(theirs) == list(range(1, steps + 1))
    for step, loss in mine.items():
        assert theirs[step] == pytest.approx(loss, rel=0, abs=1e-5), step


# --- steps dealt out --------------------------------------------------------------------------------------------------


def steps_of(tokenizer: Tokenizer, batching: str, rank: int, processes: int) -> list[StepBatches]:
    stories = [(story, {"offset": i, "passes": i / 60}) for i, story in enumerate(STORIES)]
    batches = Batches(
        stories, tokenizer, batching=batching, context=16, batch_size=3, accumulate=2, rank=rank, processes=processes
    )
    return [step for step, _ in zip(iter(batches), range(4), strict=False)]


def rows(step: StepBatches) -> list[tuple[int, ...]]:
    """The targets of each row, without padding."""
    return [tuple(int(t) for t in row if t != -100) for batch in step.batches for row in batch.targets]


@pytest.mark.parametrize("batching", ["pack", "pad"])
@pytest.mark.parametrize("processes", [2, 3, 4, 7])
def test_the_shares_of_a_step_are_its_rows_each_once_and_the_position_is_the_whole_steps(
    batching: str, processes: int
) -> None:
    tokenizer = train_bpe(STORIES, 280, 10_000, lambda _: None)
    whole = steps_of(tokenizer, batching, 0, 1)
    dealt = [steps_of(tokenizer, batching, rank, processes) for rank in range(processes)]
    for i, step in enumerate(whole):
        shares = [steps[i] for steps in dealt]
        assert sorted(chain.from_iterable(map(rows, shares))) == sorted(rows(step))
        assert all(len(batch.targets) <= 3 for share in shares for batch in share.batches)
        computed = sum(batch.targets.size for share in shares for batch in share.batches)
        for share in shares:
            assert (share.n_targets, share.passes, share.position) == (step.n_targets, step.passes, step.position)
            assert share.n_positions == computed
            assert share.padding_pct == pytest.approx(100 * (1 - step.n_targets / computed))
    assert [len(rows(steps[0])) for steps in dealt] == [len(range(rank, 6, processes)) for rank in range(processes)]


# --- the command's words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"nproc": 0}, "invalid value 0 for --nproc: expected 1 to 4096 processes on each machine"),
        ({"nnodes": 0}, "invalid value 0 for --nnodes: expected 1 to 4096 machines"),
        ({"nnodes": 2}, "--nnodes 2 needs --rendezvous: HOST:PORT of the first machine"),
        ({"nnodes": 2, "rendezvous": "node1"}, "invalid value node1 for --rendezvous: expected HOST:PORT"),
        ({"nnodes": 2, "rendezvous": "node1:70000"}, "invalid value node1:70000 for --rendezvous: expected HOST:PORT"),
        (
            {"nnodes": 2, "node_rank": 2, "rendezvous": "node1:29500"},
            "invalid value 2 for --node-rank: expected 0 .the first machine. to 1",
        ),
    ],
)
def test_an_impossible_torchrun_spec_is_refused_by_the_options_name(words: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=f"^{problem}"):
        TorchrunSpec(**words)


def test_under_slurm_a_machine_knows_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NODEID", "3")
    assert spec_from_options(8, 4, None, "a:1") == TorchrunSpec(8, 4, 3, "a:1")
    assert spec_from_options(8, 4, 0, "a:1") == TorchrunSpec(8, 4, 0, "a:1")
    assert spec_from_options(8, 1, None, None) == TorchrunSpec(8)


FAILURES = """
Failures:
[1]:
  time      : 2026-11-22_17:13:19
  host      : node1
  rank      : {other} (local_rank: {other})
  exitcode  : {other_code} (pid: {other_pid})
Root Cause (first observed failure):
[0]:
  time      : 2026-11-22_17:13:09
  host      : node1
  rank      : {rank} (local_rank: {rank})
  exitcode  : {code} (pid: 41)
"""


@pytest.mark.parametrize(
    ("code", "other_code", "other_pid", "problem"),
    [
        (-9, 1, 42, "process 1 of 2 was killed by SIGKILL, as the system does when memory runs out"),
        (1, -9, 42, "process 2 of 2 was killed by SIGKILL, as the system does when memory runs out"),
        (1, -9, 43, "process 1 of 2 ended with exit status 1"),
        (-11, -15, 42, "process 1 of 2 was killed by SIGSEGV"),
    ],
)
def test_of_processes_that_ended_the_one_that_nobody_ended_is_named(
    tmp_path: Path, code: int, other_code: int, other_pid: int, problem: str
) -> None:
    said = FAILURES.format(rank=0, code=code, other=1, other_code=other_code, other_pid=other_pid)
    (tmp_path / "torchrun.log").write_text(said, encoding="utf-8")
    leader = torchrun._Leader(None, TorchrunSpec(2), _killed={43})
    assert leader._failure(tmp_path, 1, "look").problem == problem


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_learn_what_one_learns_and_one_goes_on_from_their_checkpoint(tmp_path: Path) -> None:
    whole, shared = run(tmp_path, "whole", train_steps=8), run(tmp_path, "shared", train_steps=5)
    trained(whole, 1)
    trained(shared, 2)
    status = read_status(shared)
    assert status is not None and (status.state, status.step, status.exit_code) == ("finished", 5, 0)
    assert shared.read_run()["host"]["processes"] == 2
    rebudget(shared, 8)
    trained(shared, 1)
    assert_equal_losses(whole, shared, 8)
    scores = [
        {r["step"]: r["eval/loss"] for r in read_records(folder.metrics)[0] if "eval/loss" in r}
        for folder in (whole, shared)
    ]
    assert scores[1][0] == pytest.approx(scores[0][0], rel=0, abs=1e-5)
    assert scores[1][8] == pytest.approx(scores[0][8], rel=0, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batching", "optimizer", "batch_size", "within"),
    [("pad", "adamw", 4, 1e-5), ("pack", "adamw", 1, 1e-5), ("pack", "muon", 4, 1e-4)],
)
def test_a_run_may_go_on_with_another_number_of_processes(
    tmp_path: Path, batching: str, optimizer: str, batch_size: int, within: float
) -> None:
    how: dict[str, Any] = {
        "data_batching": batching,
        "train_optimizer": optimizer,
        "train_batch_size": batch_size,
        "train_accumulate": 2,
    }
    whole, dealt = run(tmp_path, "whole", train_steps=9, **how), run(tmp_path, "dealt", train_steps=3, **how)
    trained(whole, 1)
    for nproc, steps in ((1, 3), (3, 6), (2, 9)):
        rebudget(dealt, steps)
        trained(dealt, nproc)
    told = losses(dealt)
    assert list(told) == list(range(1, 10))
    # Muon's products in bf16 make more of how sums are rounded than a plain step does.
    assert all(told[step] == pytest.approx(loss, rel=0, abs=within) for step, loss in losses(whole).items())


@pytest.mark.slow
def test_a_stop_ends_all_processes_at_one_step_and_a_resume_with_dropout_goes_on_exactly(tmp_path: Path) -> None:
    how: dict[str, Any] = {"train_steps": 100_000, "model_dropout": 0.1}
    cut = run(tmp_path, "cut", **how)
    with living.worker(cut, *TWO) as process:
        living.until(lambda: living.last_step(cut) >= 3, seconds=400)
        assert run_process.stop(cut, timeout_seconds=200) == "stopped"
        assert process.wait(timeout=200) == 0
    step = max(living.saved(cut))
    status = read_status(cut)
    assert status is not None and (status.state, status.step, status.exit_code) == ("stopped", step, 0)
    assert max(losses(cut)) == step
    whole = run(tmp_path, "whole", **(how | {"train_steps": step + 3}))
    rebudget(cut, step + 3)
    trained(cut, 2)
    trained(whole, 2)
    assert losses(cut) == losses(whole)


@pytest.mark.slow
def test_a_budget_in_minutes_ends_every_process_at_one_step(tmp_path: Path) -> None:
    timed = run(tmp_path, "timed", train_steps=None, train_minutes=0.05, train_eval_every="1s")
    trained(timed, 2)
    status = read_status(timed)
    assert status is not None and status.state == "finished"
    assert living.saved(timed) == [status.step]
    # Not the log's last line: it is of the last step's end, and what is done after that step takes of the budget too.
    state = json.loads((timed.checkpoint(status.step) / "training_state" / "state.json").read_text())
    assert state["seconds"] >= 3


# --- what goes wrong --------------------------------------------------------------------------------------------------


def members(pid: int) -> list[psutil.Process]:
    """The processes that train under this leader, the first of them first."""
    children = psutil.Process(pid).children()
    found = children[0].children() if children else []
    return sorted(found, key=lambda member: int(member.environ()["RANK"]))


def gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_run_as_failed_with_one_line(tmp_path: Path, rank: int) -> None:
    folder = run(tmp_path, "killed", train_steps=100_000, train_checkpoint_every="2")
    with living.worker(folder, *TWO) as process:
        living.until(lambda: living.saved(folder), seconds=400)
        there = members(process.pid)
        there[rank].kill()
        assert process.wait(timeout=200) == 1
        assert gone(there)
    status = read_status(folder)
    assert status is not None and status.state == "failed"
    assert status.message == (
        f"process {rank + 1} of 2 was killed by SIGKILL, as the system does when memory runs out: "
        "storyteller resume killed goes on from the newest checkpoint"
    )
    assert folder.log.read_text(encoding="utf-8").rstrip().endswith(f"failed: {status.message}")
    rebudget(folder, status.step + 2)
    trained(folder, 1)


@pytest.mark.slow
def test_no_process_outlives_a_leader_that_is_killed(tmp_path: Path) -> None:
    folder = run(tmp_path, "orphans", train_steps=100_000)
    with living.worker(folder, *TWO) as process:
        living.until(lambda: living.last_step(folder) >= 2, seconds=400)
        there = [*members(process.pid), *psutil.Process(process.pid).children()]
        assert len(there) == 3
        assert run_process.stop(folder, now=True) == "died"
        living.until(lambda: gone(there), seconds=60)


def meddling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """In every process below torchrun, `accumulate` becomes what `body` makes of `real`, `rank` and `calls`."""
    code = f"""
    import os
    if "RANK" in os.environ:
        import torch
        from storyteller.training import gradients
        real, rank, calls = gradients.accumulate, int(os.environ["RANK"]), []
        def accumulate(model, *given):
            calls.append(1)
            loss = real(model, *given)
            {body}
            return loss
        gradients.accumulate = accumulate
    """
    place = tmp_path / "meddling"
    place.mkdir()
    (place / "sitecustomize.py").write_text(textwrap.dedent(code), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(place))


@pytest.mark.slow
def test_a_bad_gradient_of_one_process_is_skipped_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meddling(tmp_path, monkeypatch, "if rank == 1 and len(calls) == 3: model.wpe.weight.grad.fill_(float('nan'))")
    skipping = run(tmp_path, "skipping", train_steps=5, train_skip_bad_steps=1)
    trained(skipping, 2)
    assert list(losses(skipping)) == [1, 2, 4, 5]
    folder = run(tmp_path, "bad", train_steps=5, train_checkpoint_every="1")
    with living.worker(folder, *TWO) as process:
        assert process.wait(timeout=400) == 1
    status = read_status(folder)
    assert status is not None and status.state == "failed"
    assert status.message.startswith("the gradient of step 3 is not a number, so the step was not taken")
    assert living.saved(folder) == [1, 2]


@pytest.mark.slow
def test_what_fails_in_one_process_alone_is_the_runs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meddling(tmp_path, monkeypatch, "if rank == 1 and len(calls) == 3: raise torch.OutOfMemoryError('no memory')")
    folder = run(tmp_path, "lacking", train_steps=5)
    with living.worker(folder, *TWO) as process:
        assert process.wait(timeout=400) == 1
    status = read_status(folder)
    assert status is not None and status.state == "failed"
    assert status.message.startswith("what training needs does not fit into memory: train anew with a lower")


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.mark.slow
def test_two_machines_train_one_run_and_the_second_needs_no_run_folder(tmp_path: Path) -> None:
    root, stories = tmp_path / "runs", corpus(tmp_path)
    words = ["--nnodes", "2", "--rendezvous", f"127.0.0.1:{free_port()}", "--data", str(stories), "--steps", "4"]
    words += ["--width", "32", "--heads", "2", "--layers", "1", "--context", "64", "--vocab-size", "280"]
    words += ["--precision", "fp32", "--batch-size", "4", "--name", "far", "--set", "log_every=1", "--wandb", "off"]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo"}
    machines = []
    for rank in ("0", "1"):
        place = ["--runs-dir", str(root if rank == "0" else tmp_path / "elsewhere")]
        command = [sys.executable, "-m", "storyteller", "train", *words, "--node-rank", rank, *place]
        machines.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    said = [machine.communicate(timeout=600)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert "far has finished: 4 steps" in said[0]
    assert said[1].strip().endswith("storyteller: the run has finished")
    assert not (tmp_path / "elsewhere").exists()
    assert list(losses(RunFolder(root / "far"))) == [1, 2, 3, 4]

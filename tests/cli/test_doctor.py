"""`storyteller doctor` sees what there is, and its training check can fail."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from storyteller.model.gpt2 import GPT
from storyteller.training import selfcheck


@pytest.mark.slow
def test_doctor_says_in_json_what_there_is_and_that_training_works() -> None:
    words = [sys.executable, "-m", "storyteller", "doctor", "--json", "--wait", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert [check["ok"] for check in facts["checks"]] == [True, True, True]
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["host"]["precision"] in ("fp32", "bf16", "fp16")
    assert facts["host"]["largest_matrix_product_gflops"] > 1
    assert facts["disk"]["free_gib"] > 0
    hub = facts["servers"]["hub"]
    assert (hub["url"], hub["answers"]) == ("http://127.0.0.1:9", False)
    assert hub["problem"]


@pytest.mark.slow
def test_doctor_in_words_ends_with_its_verdict() -> None:
    words = [sys.executable, "-m", "storyteller", "doctor", "--wait", "2"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "ok    the next token is learned, not the one after it" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("training works here (")


@pytest.mark.slow
def test_labels_shifted_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted_again(model: GPT, ids: Tensor, targets: Tensor, *_functions: object) -> Tensor:
        logits = model(ids)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), reduction="sum")
        return loss * targets.numel() / (targets.numel() - targets.shape[0])

    monkeypatch.setattr(GPT, "loss_sum", shifted_again)
    begins, learns, aligned = selfcheck.run()
    assert begins.ok and learns.ok and not aligned.ok
    assert "0 % right as the next token" in aligned.seen


def test_a_model_that_cannot_learn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: None)
    begins, learns, aligned = selfcheck.run(steps=5)
    assert begins.ok and not learns.ok and not aligned.ok


def test_the_check_leaves_torchs_generator_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    selfcheck.run(steps=2)
    assert torch.equal(torch.get_rng_state(), before)

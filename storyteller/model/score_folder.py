"""Scores encoded stories with the model of a folder: our own GPT-2, or any causal model that transformers knows.

Matrix products are computed in bf16 if the processor has instructions for it and a sample of the stories scores the
same in fp32, to within 0.001 bits per byte. Code and pickles that come with a model are never executed.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.config.configs import TrainConfig
from storyteller.data.batches import IGNORED
from storyteller.errors import CheckpointError, ModelError
from storyteller.model import cpu_block, device, memory, transformers_server, weights
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.model.loss_eval import score_each
from storyteller.text import safe_line

AGREEMENT_BITS = 1e-3
"""Largest difference between bf16 and fp32 on the sample with which bf16 is used, in bits per byte."""
_SAMPLE_SHARE = 0.04
"""Share of the stories in the sample, which is scored in both precisions."""
_MIN_SAMPLE_STORIES = 8
_BATCH_TOKENS = {"cpu": 4096, "cuda": 1 << 16, "mps": 1 << 14}
_MAX_BATCH_LOGITS = 1 << 28
"""Logits of a batch: 1 GiB in fp32."""
_CHUNK_LOGITS = 1 << 22
_MODEL_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, AttributeError)
"""How models fail on ids or lengths that they do not support."""

RowNats = Callable[[Tensor, Tensor], Tensor]
"""Ids (B, T) and targets (B, T), where -100 does not count, to the nats of each row (B,)."""


@dataclass(frozen=True)
class StoryNats:
    """The nats of each story under a model, and how they were computed."""

    nats: list[float]
    parameters: int
    device: str
    precision: str
    bf16_bits: float | None
    """Difference between bf16 and fp32 on the sample, in bits per byte; None if bf16 was not tried."""


def score_folder(
    folder: Path,
    label: str,
    encoded: Sequence[Sequence[int]],
    n_bytes: Sequence[int],
    *,
    beginning_id: int,
    context: int,
    settings: TrainConfig,
    on_progress: Callable[[float], None] | None = None,
) -> StoryNats:
    """Score stories, whose token ids (no beginning, no end) are `encoded` and whose sizes are `n_bytes`.

    `settings` names device, precision (`auto`, `fp32` or `bf16`) and threads; `on_progress` is called with the share
    that is done. Raises CheckpointError or ModelError if the model cannot be loaded or is not causal, UsageError if
    the device is missing, OutOfMemoryError.
    """
    wanted = settings.precision
    machine = device.choose(replace(settings, precision="fp32" if wanted == "auto" else wanted))
    model, row_nats, n_logits = _open(folder, label, machine)
    batch_tokens = max(1, min(_BATCH_TOKENS[machine.device.type], _MAX_BATCH_LOGITS // n_logits))

    score = partial(
        score_each,
        row_nats,
        beginning_id=beginning_id,
        context=context,
        device=machine.device,
        batch_tokens=batch_tokens,
    )
    try:
        with memory.explain_out_of_memory(f"scoring {label}", "close other programs, or use a smaller model"):
            _check_causal(row_nats, label, encoded, beginning_id, machine)
            difference = None
            if wanted == "auto" and device.has_bf16(machine.device.type):
                bf16 = replace(machine, precision="bf16")
                stride = max(1, min(round(1 / _SAMPLE_SHARE), len(encoded) // _MIN_SAMPLE_STORIES))
                sample, size = encoded[::stride], sum(n_bytes[::stride])
                fp32_nats = sum(score(sample))
                with bf16.autocast():
                    bf16_nats = sum(score(sample))
                difference = abs(fp32_nats - bf16_nats) / math.log(2) / size
                machine = bf16 if difference <= AGREEMENT_BITS else machine
            with machine.autocast():
                found = score(encoded, on_progress=on_progress)
    except _MODEL_ERRORS as error:
        raise _unfit(label, error) from error
    if not all(map(math.isfinite, found)):
        raise ModelError(f"{label} gives probabilities that are not finite", "use another checkpoint")
    parameters = sum(p.numel() for p in model.parameters())
    return StoryNats(found, parameters, machine.device.type, machine.precision, difference)


def _unfit(label: str, error: Exception) -> ModelError:
    why = safe_line(str(error).partition("\n")[0], 100) or type(error).__name__
    return ModelError(f"{label} cannot be scored ({why})", "use another model")


def _open(folder: Path, label: str, machine: ComputeDevice) -> tuple[nn.Module, RowNats, int]:
    """Load the model; returns it, its function for nats, and the floats of a token that are in memory at once."""
    try:
        # A GPT-2 as this package makes them: loaded and scored much faster than by transformers.
        ours = weights.load_model(folder).to(machine.device).eval()
    except CheckpointError:
        pass
    else:
        return ours, _gpt_row_nats(ours), ours.shape.n_embd
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = transformers_server.load(str(folder)).to(machine.device)
    except (*_MODEL_ERRORS, OSError, KeyError, ImportError) as error:
        raise _unfit(label, error) from error
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 1))

    def row_nats(ids: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED
        logits = model(input_ids=ids, use_cache=False).logits[counted].float()
        each = F.cross_entropy(logits, targets[counted], reduction="none")
        return _sum_rows(each, counted)

    return model, row_nats, vocabulary


def _gpt_row_nats(model: GPT) -> RowNats:
    """The nats of rows by our own model: the output layer is computed in chunks, and only for targets that count."""
    weight = model.wte.weight
    n_rows = max(_CHUNK_LOGITS // weight.shape[0], 16)

    def row_nats(ids: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED
        x, wanted = model.hidden(ids, cpu_block.fastest_block_fn(ids.device))[counted], targets[counted]
        parts = [
            F.cross_entropy(F.linear(x[at : at + n_rows], weight).float(), wanted[at : at + n_rows], reduction="none")
            for at in range(0, len(x), n_rows)
        ]
        return _sum_rows(torch.cat(parts), counted)

    return row_nats


def _sum_rows(nats: Tensor, counted: Tensor) -> Tensor:
    """Sum `nats` (N,), of the positions where `counted` (B, T) is true, for each row (B,), in double precision."""
    wide = nats.double() if nats.device.type != "mps" else nats
    rows = counted.nonzero()[:, 0]
    return torch.zeros(len(counted), dtype=wide.dtype, device=nats.device).index_add_(0, rows, wide)


@torch.no_grad()
def _check_causal(
    row_nats: RowNats, label: str, encoded: Sequence[Sequence[int]], beginning_id: int, machine: ComputeDevice
) -> None:
    """Raise ModelError if the probability of a token depends on later tokens, which makes a score meaningless."""
    # Two inputs that differ in their last token only must give the tokens before it the same probabilities.
    ids: list[int] = next((list(ids[:4]) for ids in encoded if len(ids) > 3), [])
    if not ids:
        return
    other = next((token for story in encoded for token in story if token != ids[2]), ids[2])
    inputs = torch.tensor([[beginning_id, *ids[:3]], [beginning_id, *ids[:2], other]])
    targets = torch.tensor([[*ids[:2], IGNORED, IGNORED]] * 2)
    one, two = row_nats(inputs.to(machine.device), targets.to(machine.device)).tolist()
    # Values that are not finite are reported after scoring.
    if math.isfinite(one + two) and not math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-3):
        raise ModelError(f"{label} sees the tokens that it has to predict", "use a causal language model")

"""A model's folder and encoded stories in, the nats of each story out: our own GPT-2, or whatever transformers knows.

Matrix products are computed in bf16 where the processor does so natively, but only after a sample of the very stories
came out the same in fp32 to within 0.001 bits per byte. No code and no pickle of a model's is ever run.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.config.configs import TrainConfig
from storyteller.data.batches import IGNORED
from storyteller.errors import CheckpointError, ModelError
from storyteller.model import device, memory, transformers_server, weights
from storyteller.model.device import ComputeDevice
from storyteller.model.gpt2 import GPT
from storyteller.model.loss_eval import score_each
from storyteller.text import safe_line

AGREEMENT_BITS = 1e-3
"""bf16 is taken where it is so close to fp32, in bits per byte."""
_SAMPLE_SHARE = 0.04
"""Of the stories, scored twice to know that."""
_SAMPLE_STORIES = 8
_BATCH_TOKENS = {"cpu": 4096, "cuda": 1 << 16, "mps": 1 << 14}
_BATCH_LOGITS = 1 << 28
"""Of a batch: 1 GiB in fp32."""
_CHUNK_LOGITS = 1 << 22

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StoryNats:
    """What a model gave each story, and how it was computed."""

    nats: list[float]
    parameters: int
    device: str
    precision: str
    bf16_bits: float | None
    """By how much bf16 differs from fp32 on a sample, in bits per byte; None where it was not tried."""


def score_folder(
    folder: Path,
    label: str,
    encoded: Sequence[Sequence[int]],
    n_bytes: Sequence[int],
    *,
    beginning_id: int,
    context: int,
    settings: TrainConfig,
    say: Callable[[float], None] | None = None,
) -> StoryNats:
    """Score stories, whose token ids (no beginning, no end) are `encoded` and whose sizes are `n_bytes`.

    `settings` names device, precision (`auto`, `fp32` or `bf16`) and threads; `say` hears the share that is done.
    Raises CheckpointError or ModelError where the model cannot be had or sees what is to come, UsageError where the
    device is not there, OutOfMemoryError.
    """
    wished = settings.precision
    machine = device.choose(replace(settings, precision="fp32" if wished == "auto" else wished))
    model, row_nats, n_logits = _open(folder, label, machine)
    batch_tokens = max(1, min(_BATCH_TOKENS[machine.device.type], _BATCH_LOGITS // n_logits))

    def nats(
        which: Sequence[Sequence[int]], machine: ComputeDevice, say: Callable[[float], None] | None
    ) -> list[float]:
        with machine.autocast():
            return score_each(
                row_nats,
                which,
                beginning_id=beginning_id,
                context=context,
                device=machine.device,
                batch_tokens=batch_tokens,
                say=say,
            )

    try:
        with memory.explain_out_of_memory(f"scoring {label}", "close what else runs, or take a smaller model"):
            _refuse_foresight(row_nats, label, encoded, beginning_id, machine)
            off = None
            if wished == "auto" and device.has_bf16(machine.device.type):
                quick = replace(machine, precision="bf16")
                every = max(1, min(round(1 / _SAMPLE_SHARE), len(encoded) // _SAMPLE_STORIES))
                sample, size = encoded[::every], sum(n_bytes[::every])
                exact, rough = (sum(nats(sample, each, None)) for each in (machine, quick))
                off = abs(exact - rough) / math.log(2) / size
                machine = quick if off <= AGREEMENT_BITS else machine
            found = nats(encoded, machine, say)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:  # what a model makes of odd ids
        raise _unfit(label, error) from error
    if not all(map(math.isfinite, found)):
        raise ModelError(f"{label} gives probabilities that are no numbers", "take another checkpoint")
    parameters = sum(p.numel() for p in model.parameters())
    return StoryNats(found, parameters, machine.device.type, machine.precision, off)


def _unfit(label: str, error: Exception) -> ModelError:
    why = safe_line(str(error).partition("\n")[0], 100) or type(error).__name__
    return ModelError(f"{label} cannot be scored ({why})", "take another model")


def _open(
    folder: Path, label: str, machine: ComputeDevice
) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor], int]:
    """The model, what gives each row's nats, and how many logits of a token stand in memory at once."""
    if ours := _ours(folder):
        ours = ours.to(machine.device).eval()
        return ours, _nats_of_hidden(ours.hidden, ours.wte.weight), ours.shape.n_embd
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = transformers_server.load(str(folder)).to(machine.device)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise _unfit(label, error) from error
    vocabulary = int(getattr(model.config.get_text_config(), "vocab_size", 1))

    def row_nats(ids: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED
        logits = model(input_ids=ids, use_cache=False).logits[counted].float()
        each = F.cross_entropy(logits, targets[counted], reduction="none")
        return _summed(each, counted)

    return model, row_nats, vocabulary


def _ours(folder: Path) -> GPT | None:
    """The model where it is a GPT-2 as this package makes them: loaded and scored much sooner than by transformers."""
    try:
        return weights.load_model(folder)
    except CheckpointError:
        return None


def _nats_of_hidden(hidden: Logits, weight: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Each row's nats from the residual stream: only targets that count meet the output layer, some at a time."""
    n_rows = max(_CHUNK_LOGITS // weight.shape[0], 16)

    def row_nats(ids: Tensor, targets: Tensor) -> Tensor:
        counted = targets != IGNORED
        x, wanted = hidden(ids)[counted], targets[counted]
        parts = [
            F.cross_entropy(F.linear(x[at : at + n_rows], weight).float(), wanted[at : at + n_rows], reduction="none")
            for at in range(0, len(x), n_rows)
        ]
        return _summed(torch.cat(parts), counted)

    return row_nats


def _summed(nats: Tensor, counted: Tensor) -> Tensor:
    """`nats` (N,) of the places where `counted` (B, T) is true, added up for each row (B,) in double precision."""
    wide = nats.double() if nats.device.type != "mps" else nats
    rows = counted.nonzero()[:, 0]
    return torch.zeros(len(counted), dtype=wide.dtype, device=nats.device).index_add_(0, rows, wide)


@torch.no_grad()
def _refuse_foresight(
    row_nats: Callable[[Tensor, Tensor], Tensor],
    label: str,
    encoded: Sequence[Sequence[int]],
    beginning_id: int,
    machine: ComputeDevice,
) -> None:
    """Raise ModelError where what a token is given depends on those after it: its score would mean nothing."""
    ids: list[int] = next((list(ids[:4]) for ids in encoded if len(ids) > 3), [])
    if not ids:
        return
    other = next((token for story in encoded for token in story if token != ids[2]), ids[2])
    inputs = torch.tensor([[beginning_id, *ids[:3]], [beginning_id, *ids[:2], other]])
    targets = torch.tensor([[*ids[:2], IGNORED, IGNORED]] * 2)
    one, two = row_nats(inputs.to(machine.device), targets.to(machine.device)).tolist()
    # What is no number is found among the scores.
    if math.isfinite(one + two) and not math.isclose(one, two, rel_tol=1e-3, abs_tol=1e-3):
        raise ModelError(f"{label} sees the words that it is to foretell", "take a model that tells from left to right")

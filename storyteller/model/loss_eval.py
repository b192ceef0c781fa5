"""Scores on held-out stories: nats, perplexity, bits per byte.

Bits per byte are nats over ln 2 and over the stories' UTF-8 bytes, summed: one number that compares any tokenizer and
any model. Each story is scored on its own, from the beginning token on; the end-of-text after it is left out, since
models differ in it; what lies past the context is scored in windows that overlap by half, never dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from storyteller.data.batches import IGNORED
from storyteller.model.cpu_threads import SINGLE_THREAD, CpuThreads


@dataclass(frozen=True)
class Score:
    """Sums over the stories scored."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """e to the nats a token."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Nats over ln 2, over UTF-8 bytes."""
        return self.nats / math.log(2) / self.n_bytes


def windows(n_targets: int, context: int) -> Iterator[tuple[int, int, int]]:
    """How a story of `n_targets` tokens is scored: (start, end, first), each at most `context` long.

    Inputs are positions `start` to `end` of the story with its beginning token in front; their targets are one
    further on; those before `first` were scored already by the window before.
    """
    start, scored = 0, 0
    while scored < n_targets:
        end = min(start + context, n_targets)
        yield start, end, scored
        scored = end
        start += max(context // 2, 1)


def score(
    nats_of: Callable[[Tensor, Tensor], Tensor],
    stories: Sequence[str],
    encoded: Sequence[Sequence[int]],
    *,
    beginning_id: int,
    context: int,
    device: torch.device,
    batch_tokens: int = 4096,
    cpu_threads: CpuThreads = SINGLE_THREAD,
) -> Score:
    """Score `stories`, whose token ids (no beginning, no end) are `encoded`.

    `nats_of` maps ids (B, T) and targets (B, T), of which -100 do not count, to their summed nats, such as
    `GPT.loss_sum`; it is called on the threads that are `cpu_threads` the lanes, each of which has rows of its own, about as
    many tokens as the others. Rows of about equal length are scored together, at most `batch_tokens` positions at once
    in all lanes.
    """
    pieces = _pieces(encoded, beginning_id, context)

    @torch.no_grad()  # each thread's own
    def nats_of_share(lane: int) -> float:
        batches = _batches(pieces[lane :: cpu_threads.size], beginning_id, batch_tokens // cpu_threads.size)
        return sum(float(nats_of(inputs.to(device), targets.to(device))) for _, inputs, targets, _ in batches)

    nats = sum(cpu_threads.map(nats_of_share, range(cpu_threads.size)))
    return Score(nats, sum(len(ids) for ids in encoded), sum(len(story.encode()) for story in stories))


@torch.no_grad()
def score_each(
    row_nats: Callable[[Tensor, Tensor], Tensor],
    encoded: Sequence[Sequence[int]],
    *,
    beginning_id: int,
    context: int,
    device: torch.device,
    batch_tokens: int = 4096,
    say: Callable[[float], None] | None = None,
) -> list[float]:
    """The nats of each story, in the order of `encoded`; what `score` gives, before it is summed.

    `row_nats` maps ids (B, T) and targets (B, T), of which -100 do not count, to the nats of each row (B,).
    """
    nats = [0.0] * len(encoded)
    for owners, inputs, targets, share in _batches(_pieces(encoded, beginning_id, context), beginning_id, batch_tokens):
        rows = row_nats(inputs.to(device), targets.to(device)).tolist()
        for owner, row in zip(owners, rows, strict=True):
            nats[owner] += row
        if say is not None:
            say(share)
    return nats


@dataclass(frozen=True)
class _Piece:
    """A window of a story: whose it is, its tokens, and what each of them is to be followed by."""

    owner: int
    inputs: list[int]
    targets: list[int]


def _pieces(encoded: Sequence[Sequence[int]], beginning_id: int, context: int) -> list[_Piece]:
    """The stories' windows, the shortest first."""
    pieces: list[_Piece] = []
    for owner, ids in enumerate(encoded):
        full = [beginning_id, *ids]
        for start, end, first in windows(len(ids), context):
            skipped = first - start
            pieces.append(_Piece(owner, full[start:end], [IGNORED] * skipped + full[first + 1 : end + 1]))
    return sorted(pieces, key=lambda piece: len(piece.inputs))


def _batches(
    pieces: Sequence[_Piece], beginning_id: int, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor, Tensor, float]]:
    """Those of about equal length together: whose each row is, inputs (B, T), targets (B, T).

    The fourth is the share of all positions that is done once this batch is.
    """
    positions, done, seen = sum(len(piece.inputs) for piece in pieces), 0, 0
    while done < len(pieces):
        taken = _taken(pieces, done, batch_tokens)
        seen += sum(len(piece.inputs) for piece in taken)
        done += len(taken)
        inputs = _padded([piece.inputs for piece in taken], beginning_id)
        targets = _padded([piece.targets for piece in taken], IGNORED)
        yield [piece.owner for piece in taken], inputs, targets, seen / positions


def _taken(pieces: Sequence[_Piece], begin: int, batch_tokens: int) -> Sequence[_Piece]:
    """As many pieces from `begin` on as fit, padded to the longest of them, which is the last."""
    end = begin + 1
    while end < len(pieces) and (end + 1 - begin) * len(pieces[end].inputs) <= batch_tokens:
        end += 1
    return pieces[begin:end]


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)

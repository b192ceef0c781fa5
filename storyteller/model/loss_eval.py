"""Scores on held-out stories: nats, perplexity, bits per byte.

Bits per byte are the summed nats over ln 2 and over the summed UTF-8 bytes of the stories: one number that compares
models with any tokenizers. Each story is scored on its own, after a beginning-of-text token. The end-of-text after it
is left out, since models differ in it. Stories longer than the context are scored in windows that overlap by half.
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
    """Sums over the scored stories."""

    nats: float
    n_tokens: int
    n_bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.n_tokens

    @property
    def perplexity(self) -> float:
        """exp(nats per token)."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Nats over ln 2, per UTF-8 byte."""
        return self.nats / math.log(2) / self.n_bytes


def windows(n_targets: int, context: int) -> Iterator[tuple[int, int, int]]:
    """The windows in which a story of `n_targets` tokens is scored: (start, end, first), each at most `context` long.

    Inputs are positions `start` to `end` of the story with its beginning-of-text token; targets are one position later.
    Targets before `first` were scored by the window before.
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
    """Score `stories`, whose token ids (without beginning and end) are `encoded`.

    `nats_of` maps ids (B, T) and targets (B, T), where -100 does not count, to their summed nats, like
    `GPT.loss_sum`. It is called in each of `cpu_threads`, which have about equal numbers of tokens. Rows of similar
    length share a batch, of at most `batch_tokens` positions in all threads together.
    """
    pieces = _pieces(encoded, beginning_id, context)

    @torch.no_grad()  # inside, since the mode is thread-local
    def nats_of_share(thread: int) -> float:
        batches = _batches(pieces[thread :: cpu_threads.size], beginning_id, batch_tokens // cpu_threads.size)
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
    on_progress: Callable[[float], None] | None = None,
) -> list[float]:
    """The nats of each story, in the order of `encoded`: what `score` sums.

    `row_nats` maps ids (B, T) and targets (B, T), where -100 does not count, to the nats of each row (B,).
    `on_progress` is called with the share of positions that is done.
    """
    nats = [0.0] * len(encoded)
    for owners, inputs, targets, share in _batches(_pieces(encoded, beginning_id, context), beginning_id, batch_tokens):
        rows = row_nats(inputs.to(device), targets.to(device)).tolist()
        for owner, row in zip(owners, rows, strict=True):
            nats[owner] += row
        if on_progress is not None:
            on_progress(share)
    return nats


@dataclass(frozen=True)
class _Piece:
    """A window of story number `owner`: its input tokens and their targets."""

    owner: int
    inputs: list[int]
    targets: list[int]


def _pieces(encoded: Sequence[Sequence[int]], beginning_id: int, context: int) -> list[_Piece]:
    """All windows of all stories, sorted by length."""
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
    """Batches of windows of similar length: the owner of each row, inputs (B, T), targets (B, T), and the share of all
    positions that is done after the batch."""
    positions, done, seen = sum(len(piece.inputs) for piece in pieces), 0, 0
    while done < len(pieces):
        taken = _taken(pieces, done, batch_tokens)
        seen += sum(len(piece.inputs) for piece in taken)
        done += len(taken)
        inputs = _padded([piece.inputs for piece in taken], beginning_id)
        targets = _padded([piece.targets for piece in taken], IGNORED)
        yield [piece.owner for piece in taken], inputs, targets, seen / positions


def _taken(pieces: Sequence[_Piece], begin: int, batch_tokens: int) -> Sequence[_Piece]:
    """The pieces from `begin` on that fit into a batch, padded to the longest, which is the last."""
    end = begin + 1
    while end < len(pieces) and (end + 1 - begin) * len(pieces[end].inputs) <= batch_tokens:
        end += 1
    return pieces[begin:end]


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)

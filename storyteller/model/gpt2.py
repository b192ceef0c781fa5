"""GPT-2, top to bottom.

The architecture of Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": learned positions,
LayerNorm before each half of a block, GELU (exact, or by GPT-2's tanh approximation), output tied to the token
embedding. Parameters bear the names that `transformers.GPT2LMHeadModel` gives them, so that checkpoints are the same
files.

Letters on the lines that reshape: B batch, T time, C width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.config.configs import ModelConfig
from storyteller.model import attention, cpu_block


@dataclass(frozen=True)
class Shape:
    """What the weights' shapes follow from."""

    n_layer: int
    n_embd: int
    n_head: int
    context: int
    vocab_size: int
    dropout: float = 0.0
    activation: str = "gelu_new"

    @classmethod
    def of(cls, model: ModelConfig, vocab_size: int) -> Shape:
        """The configured model over a tokenizer's vocabulary."""
        return cls(
            model.n_layer, model.n_embd, model.n_head, model.context, vocab_size, model.dropout, model.activation
        )

    def n_parameters(self) -> int:
        """Parameters of the model, embeddings included, without building it."""
        C = self.n_embd
        return (self.vocab_size + self.context) * C + self.n_layer * (12 * C * C + 13 * C) + 2 * C


class Attention(nn.Module):
    """Causal self-attention over all heads at once."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.dropout = shape.dropout
        self.c_attn = nn.Linear(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = nn.Linear(shape.n_embd, shape.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        y = attention.causal(self.c_attn(x), self.n_head, self.dropout if self.training else 0.0)
        out: Tensor = self.c_proj(y)
        return out


class MLP(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = nn.Linear(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = nn.Linear(4 * shape.n_embd, shape.n_embd)
        self.approximate = "tanh" if shape.activation == "gelu_new" else "none"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))
        return out


class Block(nn.Module):
    """Attention, then MLP, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = MLP(shape)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, linears: cpu_block.BlockWeights | None = None) -> Tensor:
        if self.is_by_hand(x.device):
            return cpu_block.block(self, x, linears)
        x = x + self.drop(self.attn(self.ln_1(x)))
        out: Tensor = x + self.drop(self.mlp(self.ln_2(x)))
        return out

    def is_by_hand(self, device: torch.device) -> bool:
        """Whether it is taken by hand there, as things stand, and may be given its layers, `by_hand.linears`."""
        return cpu_block.pays(device.type) and not (self.training and self.drop.p)


ChunkLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Some rows of logits and their targets to nats and gradient: `loss_of_chunk`."""


class GPT(nn.Module):
    """Token ids to logits. Weights begin as GPT-2's do, drawn from torch's global generator."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.context, shape.n_embd)
        self.drop = nn.Dropout(shape.dropout)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        self.compiled_block: Callable[[nn.Module, Tensor], Tensor] | None = None
        """What takes the residual stream through a block, compiled (`lm.compiled`): for training steps alone."""
        self.compiled_chunk: ChunkLoss | None = None
        """`loss_of_chunk`, compiled, likewise."""
        self.apply(self._begin)

    def _begin(self, module: nn.Module) -> None:
        """GPT-2's beginning: normal with deviation 0.02, less on the way into the residual stream; biases at 0."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            nn.init.normal_(module.c_proj.weight, std=0.02 / math.sqrt(2 * self.shape.n_layer))

    def hidden(self, ids: Tensor, linears: Sequence[cpu_block.BlockWeights] | None = None) -> Tensor:
        """`ids` (B, T) to the normed residual stream (B, T, C); `linears` of each block, where they were made."""
        T = ids.shape[1]
        x = self.drop(self.wte(ids) + self.wpe.weight[:T])
        compiled = self.compiled_block if self.training else None
        for block, of_block in zip(self.h, linears or repeat(None), strict=False):
            x = compiled(block, x) if compiled else block(x, of_block)
        # In the weights' own type: in bf16 the gradients of its weight and bias lose most of their digits.
        out: Tensor = self.ln_f(x.to(self.ln_f.weight.dtype))
        return out

    def forward(self, ids: Tensor) -> Tensor:
        """`ids` (B, T), T at most the context, to logits (B, T, vocabulary) of each next token."""
        return F.linear(self.hidden(ids), self.wte.weight)

    def loss_sum(
        self,
        ids: Tensor,
        targets: Tensor,
        linears: Sequence[cpu_block.BlockWeights] | None = None,
        counted: Tensor | None = None,
    ) -> Tensor:
        """Cross entropy in nats, summed over the targets that are not -100. `targets[b, t]` follows `ids[b, t]`;
        `linears` as `hidden` takes them.

        `counted` are the places of those targets, counted through all rows, where there are others: nothing of the
        output layer is then computed for padding.
        """
        hidden, weight, wanted = self.hidden(ids, linears).flatten(0, 1), self.wte.weight, targets.flatten()
        if counted is not None:
            hidden, wanted = hidden.index_select(0, counted), wanted.index_select(0, counted)
        if not torch.is_grad_enabled():
            hidden, weight = hidden.detach(), weight.detach()  # else its gradient is taken, though none is asked for
        of_chunk = self.compiled_chunk if self.training and self.compiled_chunk else loss_of_chunk
        loss: Tensor = _CrossEntropySum.apply(hidden, weight, wanted, of_chunk)  # type: ignore[no-untyped-call]
        return loss

    def blocks(self) -> list[Block]:
        """The modules of `h`, as what they are."""
        return [cast(Block, block) for block in self.h]

    def n_parameters(self, embeddings: bool = True) -> int:
        """Parameters, with or without the two embeddings (the output layer is the token embedding)."""
        total = sum(p.numel() for p in self.parameters())
        return total if embeddings else total - self.wte.weight.numel() - self.wpe.weight.numel()

    def flops(self, n_positions: int, n_targets: int, width: float) -> float:
        """Floating-point operations of training, forward and backward, on `n_positions` in rows of `width` tokens, of
        which `n_targets` are no padding.

        6 for each weight of a matrix product and 12 L C T for attention, as in Chowdhery et al. 2022 (PaLM), appendix
        B; the output layer's are those of the targets alone. Causality halves the attention but not what is computed
        densely.
        """
        of_blocks = 6.0 * self.n_parameters(embeddings=False) + 12.0 * self.shape.n_layer * self.shape.n_embd * width
        return of_blocks * n_positions + 6.0 * self.wte.weight.numel() * n_targets


class _CrossEntropySum(torch.autograd.Function):
    """Summed cross entropy of `hidden @ weight.T`, some rows at a time: all the logits never stand in memory at once.

    The loss is the graph's end, so its gradient (softmax minus one-hot) is taken on the way forward, while a chunk's
    logits are still in the processor's cache: a third off the output layer's time on a CPU, and with a vocabulary of
    50,257 most of the memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, of_chunk: ChunkLoss) -> Tensor:
        """`hidden` (N, C), `weight` (V, C), `targets` (N); a scalar in at least fp32."""
        kind = hidden.device.type
        low = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        x, w = hidden.to(low), weight.to(low)
        wants = any(ctx.needs_input_grad[:2])
        d_hidden = torch.empty_like(hidden) if wants else None
        d_weight = torch.zeros_like(weight.T, memory_format=torch.contiguous_format) if wants else None  # (C, V)
        total = torch.zeros((), dtype=torch.promote_types(low, torch.float32), device=hidden.device)
        n_logits = _CHUNK_LOGITS_CUDA if kind == "cuda" else _CHUNK_LOGITS
        n_rows = min(max(n_logits // len(weight), _CHUNK_ROWS), len(x))
        chunk = torch.empty(n_rows, len(weight), dtype=low, device=hidden.device)
        for begin in range(0, len(x), n_rows):
            part = slice(begin, begin + n_rows)
            some, wanted = x[part], targets[part]
            logits = torch.mm(some, w.T, out=chunk[: len(some)])
            if d_hidden is None or d_weight is None:
                total += _nats(logits, wanted)[0]
                continue
            nats, d_logits = of_chunk(logits, wanted)
            total += nats
            d_hidden[part] = d_logits @ w
            # Turned around in memory first: a fifth quicker; this product's transpose is slower than either.
            d_weight += some.T.contiguous() @ d_logits
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Both gradients, scaled by what follows the sum."""
        d_hidden, d_weight = ctx.saved_tensors
        # In the weight's own order: to add the embedding's gradient to a transposed one takes six times as long.
        in_order = d_weight.mul_(grad.to(d_weight.dtype)).T.contiguous()
        return d_hidden * grad.to(d_hidden.dtype), in_order, None, None


def loss_of_chunk(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The nats, summed, of some rows of `logits` (N, V) whose targets are `wanted` (N), and their gradient (N, V).

    The logits may be written over.
    """
    nats, p = _nats(logits, wanted)
    # By index: on a CPU `scatter_add_` takes as long as three matrix products of this size.
    p[torch.arange(len(p), device=p.device), wanted.clamp(min=0)] -= 1
    counts = wanted != -100
    if p.device.type != "cpu" or not bool(counts.all()):  # elsewhere to look is to wait for the device
        p.mul_(counts[:, None])
    return nats, p.to(logits.dtype)


def _nats(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The nats, summed, and all the probabilities (N, V).

    On a CPU they take the logits' place. In bf16 they are taken and given in bf16, every step inside being in fp32:
    half the time. Which rounds the loss that is shown to within 0.002 nats a token, in either direction.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    at = wanted.clamp(min=0)[:, None]
    here = logits.device.type == "cpu"
    if here and logits.dtype == torch.bfloat16:
        p = torch.softmax(logits, -1, out=logits)
        logp = p.gather(1, at).to(wide).clamp_(min=torch.finfo(wide).tiny).log_()
    else:
        all_logp = (
            torch.log_softmax(logits, -1, out=logits)
            if here and logits.dtype == wide
            else logits.to(wide).log_softmax(-1)
        )
        logp = all_logp.gather(1, at)
        p = all_logp.exp_()
    return -(logp[:, 0] * (wanted != -100)).sum(), p


_CHUNK_LOGITS = 1 << 21
"""Logits that stand at once in a lane of a CPU: 4 MiB in bf16, which its caches hold."""
_CHUNK_ROWS = 512
"""Rows of a chunk at least: each costs one pass over the gradient of the whole vocabulary."""
_CHUNK_LOGITS_CUDA = 1 << 27
"""256 MiB in bf16, and 1.5 GiB with what is made of them where nothing is compiled."""


def seeded(shape: Shape, seed: int) -> GPT:
    """A model with the beginning that `seed` fixes; leaves torch's generator seeded for what follows."""
    torch.manual_seed(seed)
    return GPT(shape)

"""GPT-2, top to bottom.

The architecture of Radford et al. 2019, "Language Models are Unsupervised Multitask Learners": learned positions,
LayerNorm before each half of a block, GELU (exact or tanh approximation), output layer tied to the token embedding.
Parameters have the names of `transformers.GPT2LMHeadModel`, so that checkpoints are interchangeable.

Shapes: B batch, T time, C width, H heads, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from storyteller.config.configs import ModelConfig
from storyteller.model.cross_entropy import cross_entropy_sum


@dataclass(frozen=True)
class Shape:
    """The dimensions of a model, from which the shapes of its weights follow."""

    n_layer: int
    n_embd: int
    n_head: int
    context: int
    vocab_size: int
    dropout: float = 0.0
    activation: str = "gelu_new"

    @classmethod
    def of(cls, model: ModelConfig, vocab_size: int) -> Shape:
        """The shape of a configured model with a tokenizer of `vocab_size` entries."""
        return cls(
            model.n_layer, model.n_embd, model.n_head, model.context, vocab_size, model.dropout, model.activation
        )

    def n_parameters(self) -> int:
        """Number of parameters, embeddings included, computed without building the model."""
        C = self.n_embd
        return (self.vocab_size + self.context) * C + self.n_layer * (12 * C * C + 13 * C) + 2 * C


class Attention(nn.Module):
    """Causal multi-head self-attention. Vaswani et al. 2017, "Attention Is All You Need", section 3.2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.n_head = shape.n_head
        self.dropout = shape.dropout
        self.c_attn = nn.Linear(shape.n_embd, 3 * shape.n_embd)
        self.c_proj = nn.Linear(shape.n_embd, shape.n_embd)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, C/H)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, C/H)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))  # heads side by side again
        return out


class MLP(nn.Module):
    """Two linear layers with a GELU between them, at four times the width."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = nn.Linear(shape.n_embd, 4 * shape.n_embd)
        self.c_proj = nn.Linear(4 * shape.n_embd, shape.n_embd)
        self.approximate = "tanh" if shape.activation == "gelu_new" else "none"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))
        return out


class Block(nn.Module):
    """A transformer block: attention, then MLP, each added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.n_embd)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.n_embd)
        self.mlp = MLP(shape)
        self.drop = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attn(self.ln_1(x)))
        out: Tensor = x + self.drop(self.mlp(self.ln_2(x)))
        return out


BlockFn = Callable[[Block, Tensor], Tensor]
"""Computes a block: residual stream (B, T, C) in, residual stream out. `cpu_block` and `compile_step` have faster ones
than the block itself."""
LossFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Hidden states (N, C), output weights (V, C) and targets (N) to their summed cross entropy."""


class GPT(nn.Module):
    """Token ids to logits. The weights are initialised from torch's global generator."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.context, shape.n_embd)
        self.drop = nn.Dropout(shape.dropout)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln_f = nn.LayerNorm(shape.n_embd)
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            # The residual stream sums 2 n_layer outputs. Scaling each down keeps its variance independent of the depth.
            nn.init.normal_(module.c_proj.weight, std=0.02 / math.sqrt(2 * self.shape.n_layer))

    def hidden(self, ids: Tensor, block_fn: BlockFn = Block.__call__) -> Tensor:
        """`ids` (B, T) to the final, normalised hidden states (B, T, C); `block_fn` computes each block."""
        T = ids.shape[1]
        x = self.drop(self.wte(ids) + self.wpe.weight[:T])  # (B, T, C)
        for block in self.h:
            x = block_fn(block, x)  # type: ignore[arg-type]  # a ModuleList does not know what it holds
        # Normalised in fp32: in bf16 the gradients of its weight and bias would lose most of their digits.
        out: Tensor = self.ln_f(x.to(self.ln_f.weight.dtype))
        return out

    def forward(self, ids: Tensor) -> Tensor:
        """`ids` (B, T), T at most the context, to the logits (B, T, V) of each next token."""
        return F.linear(self.hidden(ids), self.wte.weight)

    def loss_sum(
        self,
        ids: Tensor,
        targets: Tensor,
        block_fn: BlockFn = Block.__call__,
        loss_fn: LossFn = cross_entropy_sum,
    ) -> Tensor:
        """Cross entropy in nats, summed over the targets that are not -100. `targets[b, t]` follows `ids[b, t]`."""
        return loss_fn(self.hidden(ids, block_fn).flatten(0, 1), self.wte.weight, targets.flatten())

    def n_parameters(self, embeddings: bool = True) -> int:
        """Number of parameters, with or without the two embeddings (the output layer is the token embedding)."""
        total = sum(p.numel() for p in self.parameters())
        return total if embeddings else total - self.wte.weight.numel() - self.wpe.weight.numel()

    def flops(self, n_positions: int, n_targets: int, width: float) -> float:
        """Floating-point operations of a training step, forward and backward.

        `n_positions` includes padding, `n_targets` does not; `width` is the mean row length in tokens. As in Chowdhery
        et al. 2022 (PaLM), appendix B: 6 for each weight of a matrix product, 12 L C T for attention. Attention is
        counted in full although it is causal. The output layer is computed for the targets alone.
        """
        per_position = 6.0 * self.n_parameters(embeddings=False) + 12.0 * self.shape.n_layer * self.shape.n_embd * width
        return per_position * n_positions + 6.0 * self.wte.weight.numel() * n_targets


def seeded(shape: Shape, seed: int) -> GPT:
    """A model whose initial weights `seed` determines. Leaves torch's global generator seeded."""
    torch.manual_seed(seed)
    return GPT(shape)

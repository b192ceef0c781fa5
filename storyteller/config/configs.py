"""What a run is asked to do: frozen dataclasses, validated once.

A `Config`'s JSON form stands whole in the run's `run.json`. Each message names the option that is off. How a preset and
the command's options become one is `presets`' business.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from storyteller.errors import UsageError
from storyteller.text import safe_line

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Wandb = Literal["auto", "online", "offline", "off"]

STARTER = "starter"
"""The name of the model that comes with the package."""
PROMPTS = ("Once upon a time", "Once there was a little boy", "Once there was a cute little animal")


@dataclass(frozen=True)
class Period:
    """How often something happens: every so many steps, every so many seconds, or each epoch."""

    steps: int = 0
    seconds: float = 0.0
    epochs: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """`200` steps, `30s`, `5m`, `1h`, `1epoch`, or `never`. Raises ValueError on anything else."""
        if text == "never":
            return cls()
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(steps?|s|m|h|epochs?)?", text.strip())
        if match is None or float(match[1]) <= 0:
            raise ValueError(text)
        amount, unit = float(match[1]), match[2] or "step"
        if unit in ("s", "m", "h"):
            return cls(seconds=amount * {"s": 1, "m": 60, "h": 3600}[unit])
        if amount != int(amount):
            raise ValueError(text)
        return cls(epochs=int(amount)) if unit.startswith("epoch") else cls(steps=int(amount))


def _check(ok: bool, option: str, value: object, wants: str) -> None:
    if not ok:
        shown = safe_line(str(value), 60)
        raise UsageError(f"{option} {shown} is off", f"it wants {wants}")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the GPT-2-style model."""

    n_layer: int = 4
    """Transformer blocks."""
    n_embd: int = 256
    """Width of the residual stream."""
    n_head: int = 4
    """Attention heads; they divide the width."""
    context: int = 512
    """Tokens that the model sees at once."""
    dropout: float = 0.0
    """Share of activations dropped while training."""
    activation: Literal["gelu_new", "gelu"] = "gelu_new"
    """The MLP's curve: `gelu_new` is GPT-2's tanh approximation, `gelu` the exact one, far quicker on a CPU."""

    def __post_init__(self) -> None:
        _check(1 <= self.n_layer <= 256, "--layers", self.n_layer, "1 to 256 blocks")
        _check(1 <= self.n_embd <= 16384, "--width", self.n_embd, "1 to 16,384")
        _check(1 <= self.n_head <= 256, "--heads", self.n_head, "1 to 256")
        if self.n_embd % self.n_head:
            raise UsageError(
                f"--width {self.n_embd} cannot be shared evenly by --heads {self.n_head}",
                f"take a width that is a multiple of {self.n_head}, such as "
                f"{max(self.n_embd // self.n_head, 1) * self.n_head}",
            )
        _check(8 <= self.context <= 65536, "--context", self.context, "8 to 65,536 tokens")
        _check(0 <= self.dropout < 1, "--set dropout", self.dropout, "a share from 0 up to, not including, 1")
        _check(self.activation in ("gelu_new", "gelu"), "--set activation", self.activation, "gelu_new or gelu")


@dataclass(frozen=True)
class DataConfig:
    """The stories, and how they become batches."""

    source: str | tuple[str, ...] = "auto"
    """`auto`, `tinystories`, `bundled`, or paths of files and folders."""
    valid: tuple[str, ...] = ()
    """Paths of held-out stories; none: a share of the training stories is set aside by a hash of their text."""
    valid_pct: float = 1.0
    """Percentage of the stories that the hash sets aside."""
    clean: Clean = "light"
    """How stories are cleaned: `light` or `classic`."""
    min_chars: int = 30
    """Stories with fewer characters are skipped and counted."""
    tokenizer: str = "bpe"
    """`bpe` (trained on the corpus), `gpt2`, or the path of a tokenizer folder."""
    vocab_size: int = 4096
    """Entries of a trained tokenizer."""
    tokenizer_mib: int = 16
    """MiB of the corpus's beginning that a tokenizer is trained on."""
    batching: Literal["pack", "begin", "pad"] = "pack"
    """`pack` fills whole windows with stories end to end; `begin` too, but each window begins with a story (or
    goes on with a long one), and what does not fit of its last one is left out; `pad` gives each story a row, padded to
    the longest."""
    shuffle_stories: int = 8192
    """Stories shuffled among each other at a time; 1 keeps the corpus's order."""
    hub_patience_minutes: float = 10.0
    """For so long an outage of the Hub is waited out; then the run saves a checkpoint and fails."""
    cache_gib: float = 8.0
    """GiB that tokens and the like of all corpora may take in the user's cache folder; 0: nothing is kept or read."""

    def __post_init__(self) -> None:
        _check(self.source not in ("", ()), "--data", self.source, "auto, tinystories, bundled, or paths")
        _check(self.clean in ("light", "classic"), "--clean", self.clean, "light or classic")
        _check(0 < self.valid_pct <= 50, "--set valid_pct", self.valid_pct, "a percentage above 0 and up to 50")
        _check(1 <= self.min_chars <= 100_000, "--set min_chars", self.min_chars, "1 to 100,000 characters")
        _check(257 <= self.vocab_size <= 1_000_000, "--vocab-size", self.vocab_size, "257 to 1,000,000 entries")
        _check(1 <= self.tokenizer_mib <= 4096, "--set tokenizer_mib", self.tokenizer_mib, "1 to 4,096 MiB")
        _check(self.batching in ("pack", "begin", "pad"), "--set batching", self.batching, "pack, begin or pad")
        _check(1 <= self.shuffle_stories <= 1_000_000, "--set shuffle_stories", self.shuffle_stories, "1 to 1,000,000")
        minutes = self.hub_patience_minutes
        _check(0 <= minutes <= 10_080, "--set hub_patience_minutes", minutes, "0 to 10,080 minutes (a week)")
        _check(0 <= self.cache_gib <= 1_000_000, "--set cache_gib", self.cache_gib, "0 (no cache) to 1,000,000 GiB")


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation, its budget, and what happens on the way."""

    minutes: float | None = None
    """Budget: minutes in the training loop (evaluation and saving included). One budget of four is set."""
    steps: int | None = None
    """Budget: optimiser steps."""
    epochs: float | None = None
    """Budget: passes over the corpus."""
    tokens: int | None = None
    """Budget: tokens trained on."""
    batch_size: int = 8
    """Rows in one forward pass."""
    accumulate: int = 1
    """Forward passes in one optimiser step."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon for the hidden matrices, AdamW for the rest."""
    lr: float = 1e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 0.03
    """Peak learning rate of Muon."""
    weight_decay: float = 0.01
    """Decoupled decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's decay of the gradient's running mean."""
    beta2: float = 0.95
    """AdamW's decay of the gradient's running square."""
    clip_norm: float = 1.0
    """Largest norm of the whole gradient."""
    warmup_pct: float = 2.0
    """Percentage of the budget over which the learning rate rises from 0."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up."""
    final_lr_pct: float = 0.0
    """Percentage of the peak at which the decay ends."""
    precision: Precision = "auto"
    """`auto` takes what the processor really has."""
    device: Device = "auto"
    """`auto` takes CUDA, else MPS, else the CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether `torch.compile` makes the step quicker: `auto` on CUDA, unless the budget is under three minutes."""
    threads: int = 0
    """Threads of the CPU; 0: as many as there are cores."""
    seed: int = 42
    """Fixes the weights' beginning, the order of stories and the samples."""
    eval_every: str = "30s"
    """How often held-out stories are scored and a story is told: `200` steps, `30s`, `5m`, `1epoch`, `never`."""
    eval_stories: int = 100
    """Held-out stories that an evaluation scores; the one before the first step takes the first 16 of them."""
    checkpoint_every: str = "60s"
    """How often a checkpoint is saved, beside the one at the end; written like `eval_every`."""
    keep: int = 3
    """Newest checkpoints kept, beside the best."""
    card_every: str = "never"
    """How often stories are told from many prompts and measured, beside training, and the scores logged as
    `eval/<measure>`; written like `eval_every`, and once more at the end."""
    card_completions: int = 1
    """Stories a prompt of such a card."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    skip_bad_steps: int = 0
    """So many steps of a run whose loss or gradient is no number are skipped; the next one stops it."""

    def __post_init__(self) -> None:
        budgets = [name for name in ("minutes", "steps", "epochs", "tokens") if getattr(self, name) is not None]
        if len(budgets) > 1:
            given = " and ".join(f"--{name}" for name in budgets)
            raise UsageError(f"{given} are two budgets", "give one of --minutes, --steps, --epochs, --tokens")
        for name in budgets:
            value = getattr(self, name)
            _check(value > 0 and math.isfinite(value), f"--{name}", value, "a number above 0")
        _check(1 <= self.batch_size <= 65536, "--batch-size", self.batch_size, "1 to 65,536 rows")
        _check(1 <= self.accumulate <= 65536, "--set accumulate", self.accumulate, "1 to 65,536")
        _check(self.optimizer in ("adamw", "muon"), "--set optimizer", self.optimizer, "adamw or muon")
        _check(0 < self.lr <= 10, "--lr", self.lr, "a number above 0 and up to 10")
        _check(0 < self.muon_lr <= 10, "--set muon_lr", self.muon_lr, "a number above 0 and up to 10")
        _check(0 <= self.weight_decay <= 10, "--set weight_decay", self.weight_decay, "0 to 10")
        _check(0 <= self.beta1 < 1, "--set beta1", self.beta1, "0 up to, not including, 1")
        _check(0 <= self.beta2 < 1, "--set beta2", self.beta2, "0 up to, not including, 1")
        _check(self.clip_norm > 0, "--set clip_norm", self.clip_norm, "a number above 0")
        _check(0 <= self.warmup_pct <= 100, "--set warmup_pct", self.warmup_pct, "0 to 100")
        _check(self.decay in ("linear", "cosine", "constant"), "--set decay", self.decay, "linear, cosine or constant")
        _check(0 <= self.final_lr_pct <= 100, "--set final_lr_pct", self.final_lr_pct, "0 to 100")
        _check(self.precision in typing.get_args(Precision), "--precision", self.precision, "auto, fp32, bf16 or fp16")
        _check(self.device in typing.get_args(Device), "--device", self.device, "auto, cpu, cuda or mps")
        _check(self.compile in ("auto", "on", "off"), "--set compile", self.compile, "auto, on or off")
        _check(0 <= self.threads <= 1024, "--set threads", self.threads, "0 (all cores) to 1,024")
        _check(0 <= self.seed < 2**63, "--seed", self.seed, "0 or a whole number above it")
        _check(1 <= self.eval_stories <= 100_000, "--set eval_stories", self.eval_stories, "1 to 100,000")
        _check(1 <= self.keep <= 10_000, "--set keep", self.keep, "1 to 10,000 checkpoints")
        _check(1 <= self.log_every <= 100_000, "--set log_every", self.log_every, "1 to 100,000 steps")
        _check(0 <= self.skip_bad_steps <= 10**6, "--skip-bad-steps", self.skip_bad_steps, "0 to 1,000,000 steps")
        _check(1 <= self.card_completions <= 1000, "--set card_completions", self.card_completions, "1 to 1,000")
        for name in ("eval_every", "checkpoint_every", "card_every"):
            try:
                Period.parse(getattr(self, name))
            except ValueError:
                wants = "steps (200), a time (30s, 5m, 1h), 1epoch or never"
                option = "--card-every" if name == "card_every" else f"--set {name}"
                _check(False, option, getattr(self, name), wants)


@dataclass(frozen=True)
class WandbConfig:
    """Whether and where Weights & Biases shows the run."""

    wandb: Wandb = "auto"
    """`auto`: online where there are credentials, else off; `offline` keeps its files in the run's folder."""
    wandb_project: str = "storyteller"
    """The project there."""
    wandb_artifacts: bool = False
    """Whether the best checkpoint is sent too, when the run has ended."""

    def __post_init__(self) -> None:
        _check(self.wandb in typing.get_args(Wandb), "--wandb", self.wandb, "auto, online, offline or off")
        # What its client refuses in a project's name, and a length that it takes.
        fits = re.fullmatch(r"[^/\\#?%:\x00-\x20\x7f][^/\\#?%:\x00-\x1f\x7f]{0,127}", self.wandb_project)
        _check(fits is not None, "--wandb-project", self.wandb_project, "1 to 128 characters without / \\ # ? % :")


@dataclass(frozen=True)
class SamplingParams:
    """How a story is told."""

    max_tokens: int = 400
    """Most tokens told after the prompt."""
    temperature: float = 0.8
    """0 tells the likeliest next token each time (greedy)."""
    top_k: int = 100
    """Only the so many likeliest tokens; 0: all, which takes twice as long with top_p, as all have to be sorted."""
    top_p: float = 0.95
    """Only the likeliest tokens that together have this probability; 1: all."""
    min_p: float = 0.0
    """Only the tokens at least so likely as this share of the likeliest one's probability; 0: all."""
    repetition_penalty: float = 1.0
    """Above 1, tokens told already become less likely."""
    no_repeat_ngram: int = 0
    """No run of so many tokens is told twice in a story; 0: any may be."""
    beams: int = 1
    """Above 1: beam search for the likeliest story, so many kept side by side. Nothing is drawn then: temperature,
    top_k, top_p, min_p and seed have no part in it."""
    seed: int | None = None
    """The same seed tells the same story; none: a new one each time."""
    stop: tuple[str, ...] = ()
    """Text at which the story is cut."""

    def __post_init__(self) -> None:
        _check(1 <= self.max_tokens <= 1_000_000, "--max-tokens", self.max_tokens, "1 to 1,000,000")
        _check(0 <= self.temperature <= 100, "--temperature", self.temperature, "0 (greedy) to 100")
        _check(0 <= self.top_k <= 1_000_000, "--top-k", self.top_k, "0 (all) or a whole number above it")
        _check(0 < self.top_p <= 1, "--top-p", self.top_p, "a number above 0 and up to 1")
        _check(
            0 < self.repetition_penalty <= 100, "--repetition-penalty", self.repetition_penalty, "above 0, up to 100"
        )
        _check(0 <= self.min_p < 1, "--min-p", self.min_p, "a share from 0 up to, not including, 1")
        _check(0 <= self.no_repeat_ngram <= 1000, "--no-repeat-ngram", self.no_repeat_ngram, "0 (any) to 1,000 tokens")
        _check(1 <= self.beams <= 64, "--beams", self.beams, "1 (no search) to 64")
        _check(self.seed is None or 0 <= self.seed < 2**32, "--seed", self.seed, "0 to 4,294,967,295")
        _check(all(self.stop), "--stop", self.stop, "text that is not empty")

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn by chance, rather than the likeliest taken."""
        return self.temperature > 0 and self.beams == 1


@dataclass(frozen=True)
class Config:
    """All that a run is asked to do."""

    preset: str = "quick"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mirror: WandbConfig = field(default_factory=WandbConfig)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, every field written out."""
        plain = dataclasses.asdict(self)
        return {key: _listed(value) for key, value in plain.items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Config:
        """The config that `to_json` wrote. Raises UsageError where a field is unknown or its value off."""
        sections = {
            name: section(kind, {f"{name}.{key}": value for key, value in plain.get(name, {}).items()}, name)
            for name, kind in SECTIONS.items()
        }
        return cls(preset=str(plain.get("preset", "")), **sections)


SECTIONS: dict[str, Any] = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "mirror": WandbConfig}
"""The dataclasses of a config, by the first part of their fields' dotted names."""


def section(kind: Any, values: Mapping[str, Any], name: str) -> Any:
    """One dataclass from the values under its name, each of its field's type."""
    hints = typing.get_type_hints(kind)
    own = {}
    for key, value in values.items():
        section, _, attribute = key.partition(".")
        if section != name:
            continue
        if attribute not in hints:
            raise UsageError(f"there is no setting {safe_line(key, 60)}", nearest(attribute))
        own[attribute] = _typed(value, hints[attribute], key)
    return kind(**own)


def nearest(attribute: str) -> str:
    """The remedy for a setting that is not known."""
    known = [name for kind in SECTIONS.values() for name in typing.get_type_hints(kind)]
    close = difflib.get_close_matches(attribute, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"the settings are {', '.join(sorted(known))}"


def _typed(value: Any, hint: Any, key: str) -> Any:
    """`value`, of whatever form it came in, as the field's own type."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in kinds:
            return None
        raise UsageError(f"{key} wants a value", "leave it out for its default")
    for kind in kinds:
        if typing.get_origin(kind) is tuple:
            if isinstance(value, list | tuple):
                return tuple(str(item) for item in value)
            if str not in kinds:
                return tuple(item for item in str(value).split(",") if item)
        elif typing.get_origin(kind) is Literal or kind is str:
            if not isinstance(value, list | tuple):
                return str(value)
        elif kind is bool:
            return _truth(value, key)
        elif kind in (int, float):
            return _number(value, kind, key)
    raise UsageError(f"{key} {safe_line(str(value), 60)} is off", "see storyteller train --help")


def _number(value: Any, kind: type, key: str) -> int | float:
    wants = "a whole number" if kind is int else "a number"
    try:
        number = float(str(value).replace("_", ""))
        if kind is float and math.isfinite(number):
            return number
        if kind is int and number == int(number):
            return int(str(value).replace("_", "")) if re.fullmatch(r"[+-]?[\d_]+", str(value)) else int(number)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{key} {safe_line(str(value), 60)} is off", f"it wants {wants}")


def _truth(value: Any, key: str) -> bool:
    known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if str(value).lower() not in known:
        raise UsageError(f"{key} {safe_line(str(value), 60)} is off", "it wants true or false")
    return known[str(value).lower()]


def _listed(value: Any) -> Any:
    """Tuples as lists, all the way down, so that what is written equals what is read."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


Clean = Literal["light", "classic"]

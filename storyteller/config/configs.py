"""What a run is asked to do, as frozen dataclasses that are validated when they are made.

`run.json` holds the whole `Config`. An invalid value raises UsageError, which names the command's option. `presets`
makes a `Config` from a preset, the options and `--set`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Literal

from storyteller.errors import UsageError, invalid_value
from storyteller.text import safe_line

Clean = Literal["light", "classic"]
Wandb = Literal["auto", "online", "offline", "off"]

STARTER = "starter"
"""Name of the model that the package contains."""
BUDGETS = ("minutes", "steps", "epochs", "tokens")  # the fields that limit how long a run trains; one of them is set
PROMPTS = ("Once upon a time", "Once there was a little boy", "Once there was a cute little animal")


@dataclass(frozen=True)
class Period:
    """How often something happens: every N steps, seconds or epochs; never if all are 0."""

    steps: int = 0
    seconds: float = 0.0
    epochs: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """Parses `200` (steps), `30s`, `5m`, `1h`, `1epoch` or `never`. Raises ValueError for anything else."""
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


OPTIONS = {"n_layer": "--layers", "n_embd": "--width", "n_head": "--heads", "source": "--data"}
OPTIONS |= {name: f"--{name.replace('_', '-')}" for name in (
    "context", "clean", "vocab_size", "minutes", "steps", "epochs", "tokens", "batch_size", "lr", "precision", "device",
    "seed", "card_every", "skip_bad_steps", "wandb", "wandb_project", "max_tokens", "temperature", "top_k", "top_p",
    "min_p", "repetition_penalty", "no_repeat_ngram", "beams", "stop",
)}  # fmt: skip
"""The fields that have an option of their own. The others are set with `--set`."""


@dataclass(frozen=True)
class Range:
    """The valid values of a number, in its type hint. An open range does not include the bounds that it names."""

    low: float
    high: float
    expected: str  # the range in words, for the error
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)


_Budget = Range(0, math.inf, "a number above 0", open_low=True, open_high=True)
_LearningRate = Range(0, 10, "a number above 0 and up to 10", open_low=True)
_MomentDecay = Range(0, 1, "0 up to, not including, 1", open_high=True)
_Share = Range(0, 1, "a share from 0 up to, not including, 1", open_high=True)


@cache
def _rules(kind: type) -> dict[str, tuple[Container[Any], str]]:
    """The valid values of each field of a dataclass whose type hint limits them, and their description."""
    rules: dict[str, tuple[Container[Any], str]] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is Literal:
            *others, last = choices = typing.get_args(hint)
            rules[name] = choices, f"{', '.join(others)} or {last}"
        elif typing.get_origin(hint) is Annotated:
            valid = hint.__metadata__[0]
            rules[name] = valid, valid.expected
    return rules


class _Checked:
    """A dataclass whose values are checked, by the type hints of its fields, when it is made. None is not checked."""

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, (valid, expected) in _rules(kind).items():
            value = getattr(self, name)
            self._check(name, value is None or value in valid, expected)

    def _check(self, name: str, ok: bool, expected: str) -> None:
        """Raises UsageError for the field `name` unless its value is `ok`."""
        if not ok:
            raise invalid_value(OPTIONS.get(name, f"--set {name}"), getattr(self, name), expected)


@dataclass(frozen=True)
class ModelConfig(_Checked):
    """Shape of the GPT-2 model."""

    n_layer: Annotated[int, Range(1, 256, "1 to 256 blocks")] = 4
    """Transformer blocks."""
    n_embd: Annotated[int, Range(1, 16384, "1 to 16,384")] = 256
    """Width of the residual stream."""
    n_head: Annotated[int, Range(1, 256, "1 to 256")] = 4
    """Attention heads per block. The width must be a multiple of it."""
    context: Annotated[int, Range(8, 65536, "8 to 65,536 tokens")] = 512
    """Context length in tokens."""
    dropout: Annotated[float, _Share] = 0.0
    """Dropout probability during training."""
    activation: Literal["gelu_new", "gelu"] = "gelu_new"
    """Activation of the MLP: `gelu_new` is GPT-2's tanh approximation, `gelu` the exact function (faster on CPUs)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_embd % self.n_head:
            raise UsageError(
                f"--width {self.n_embd} cannot be shared evenly by --heads {self.n_head}",
                f"take a width that is a multiple of {self.n_head}, such as "
                f"{max(self.n_embd // self.n_head, 1) * self.n_head}",
            )


@dataclass(frozen=True)
class DataConfig(_Checked):
    """Where stories come from and how they are cleaned, tokenized and batched."""

    source: str | tuple[str, ...] = "auto"
    """`auto`, `tinystories`, `bundled`, or paths to files and folders."""
    valid: tuple[str, ...] = ()
    """Paths to held-out stories. If empty, training stories are held out by a hash of their text."""
    valid_pct: Annotated[float, Range(0, 50, "a percentage above 0 and up to 50", open_low=True)] = 1.0
    """Percentage of the stories held out by hash."""
    clean: Clean = "light"
    """Cleaning of the stories: `light` or `classic`."""
    min_chars: Annotated[int, Range(1, 100_000, "1 to 100,000 characters")] = 30
    """Shorter stories (in characters) are skipped and counted."""
    tokenizer: str = "bpe"
    """`bpe` (trained on the corpus), `gpt2`, or the path to a tokenizer folder."""
    vocab_size: Annotated[int, Range(257, 1_000_000, "257 to 1,000,000 entries")] = 4096
    """Vocabulary size of a tokenizer that is trained."""
    tokenizer_mib: Annotated[int, Range(1, 4096, "1 to 4,096 MiB")] = 16
    """MiB of text, from the start of the corpus, that the tokenizer is trained on."""
    batching: Literal["pack", "begin", "pad"] = "pack"
    """`pack` fills each row with consecutive stories; `begin` does, too, but starts each row at the beginning of a
    story (or continues one longer than a row) and drops the part of its last story that does not fit; `pad` puts one
    story in each row, padded to the longest."""
    shuffle_stories: Annotated[int, Range(1, 1_000_000, "1 to 1,000,000")] = 8192
    """Size of the shuffle buffer in stories; 1 keeps the order of the corpus."""
    hub_patience_minutes: Annotated[float, Range(0, 10_080, "0 to 10,080 minutes (a week)")] = 10.0
    """How long to wait when the Hub is unreachable. After that the run saves a checkpoint and fails."""
    cache_gib: Annotated[float, Range(0, 1_000_000, "0 (no cache) to 1,000,000 GiB")] = 8.0
    """Size limit in GiB of the cache of held-out stories and tokenizers in the user's cache folder; 0 disables it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("source", self.source not in ("", ()), "auto, tinystories, bundled, or paths")


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """The budget, the optimizer, and how often to evaluate, log and save."""

    minutes: Annotated[float | None, _Budget] = None
    """Budget: minutes in the training loop, evaluation and saving included. At most one of the four budgets is set."""
    steps: Annotated[int | None, _Budget] = None
    """Budget: optimizer steps."""
    epochs: Annotated[float | None, _Budget] = None
    """Budget: passes over the corpus."""
    tokens: Annotated[int | None, _Budget] = None
    """Budget: tokens trained on."""
    batch_size: Annotated[int, Range(1, 65536, "1 to 65,536 rows")] = 8
    """Rows per forward pass."""
    accumulate: Annotated[int, Range(1, 65536, "1 to 65,536")] = 1
    """Forward passes per optimizer step (gradient accumulation)."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`adamw`, or `muon`: Muon for the hidden matrices and AdamW for the other parameters."""
    lr: Annotated[float, _LearningRate] = 1e-3
    """Peak learning rate of AdamW."""
    muon_lr: Annotated[float, _LearningRate] = 0.03
    """Peak learning rate of Muon."""
    weight_decay: Annotated[float, Range(0, 10, "0 to 10")] = 0.01
    """Decoupled weight decay, applied to matrices only."""
    beta1: Annotated[float, _MomentDecay] = 0.9
    """AdamW: decay rate of the first moment."""
    beta2: Annotated[float, _MomentDecay] = 0.95
    """AdamW: decay rate of the second moment."""
    clip_norm: Annotated[float, Range(0, math.inf, "a number above 0", open_low=True)] = 1.0
    """Maximum norm to which the gradient is clipped."""
    warmup_pct: Annotated[float, Range(0, 100, "0 to 100")] = 2.0
    """Percentage of the budget over which the learning rate rises linearly from 0."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate schedule after the warm-up."""
    final_lr_pct: Annotated[float, Range(0, 100, "0 to 100")] = 0.0
    """Learning rate at the end, as a percentage of the peak."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` takes the fastest that the hardware supports natively."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """`auto` takes CUDA if available, else MPS, else the CPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Use `torch.compile`. `auto`: on CUDA, unless the budget is under three minutes."""
    threads: Annotated[int, Range(0, 1024, "0 (all cores) to 1,024")] = 0
    """CPU threads; 0: as many as there are cores."""
    seed: Annotated[int, Range(0, 2**63 - 1, "0 or a whole number above it")] = 42
    """Seed of the initial weights, the order of the stories and the samples."""
    eval_every: str = "30s"
    """How often to evaluate and to generate a sample: `200` (steps), `30s`, `5m`, `1epoch` or `never`."""
    eval_stories: Annotated[int, Range(1, 100_000, "1 to 100,000")] = 100
    """Held-out stories per evaluation. The evaluation before the first step takes the first 16 of them."""
    checkpoint_every: str = "60s"
    """How often to save a checkpoint, in addition to the one at the end; written like `eval_every`."""
    keep: Annotated[int, Range(1, 10000, "1 to 10,000 checkpoints")] = 3
    """How many of the newest checkpoints to keep, in addition to the best."""
    card_every: str = "never"
    """How often to make a model card in the background: stories from many prompts are generated and measured, and the
    scores are logged as `eval/<measure>`. Written like `eval_every`; one more is made at the end."""
    card_completions: Annotated[int, Range(1, 1000, "1 to 1,000")] = 1
    """Stories per prompt of a model card."""
    log_every: Annotated[int, Range(1, 100_000, "1 to 100,000 steps")] = 10
    """Steps between two lines of metrics."""
    skip_bad_steps: Annotated[int, Range(0, 1_000_000, "0 to 1,000,000 steps")] = 0
    """How many steps with a non-finite loss or gradient are skipped. The next one stops the run."""

    def __post_init__(self) -> None:
        budgets = [f"--{name}" for name in BUDGETS if getattr(self, name) is not None]
        if len(budgets) > 1:
            raise UsageError(
                f"{' and '.join(budgets)} are two budgets", "give one of --minutes, --steps, --epochs, --tokens"
            )
        super().__post_init__()
        for name in ("eval_every", "checkpoint_every", "card_every"):
            try:
                Period.parse(getattr(self, name))
            except ValueError:
                self._check(name, False, "steps (200), a time (30s, 5m, 1h), 1epoch or never")


@dataclass(frozen=True)
class WandbConfig(_Checked):
    """Weights & Biases."""

    wandb: Wandb = "auto"
    """`auto`: online if there are credentials, else off. `offline` writes W&B's files to the run folder."""
    wandb_project: str = "storyteller"
    """The W&B project."""
    wandb_artifacts: bool = False
    """Upload the best checkpoint as an artifact when the run has ended."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # The wandb client refuses these characters in a project name, and longer names.
        fits = re.fullmatch(r"[^/\\#?%:\x00-\x20\x7f][^/\\#?%:\x00-\x1f\x7f]{0,127}", self.wandb_project)
        self._check("wandb_project", fits is not None, "1 to 128 characters without / \\ # ? % :")


@dataclass(frozen=True)
class SamplingParams(_Checked):
    """Sampling parameters: how a story is generated."""

    max_tokens: Annotated[int, Range(1, 1_000_000, "1 to 1,000,000")] = 400
    """Maximum number of tokens to generate."""
    temperature: Annotated[float, Range(0, 100, "0 (greedy) to 100")] = 0.8
    """Divides the logits before sampling; 0 takes the most likely token each time (greedy)."""
    top_k: Annotated[int, Range(0, 1_000_000, "0 (all) or a whole number above it")] = 100
    """Sample from the K most likely tokens; 0 disables it, which with top_p takes twice as long (all are sorted)."""
    top_p: Annotated[float, Range(0, 1, "a number above 0 and up to 1", open_low=True)] = 0.95
    """Nucleus sampling: sample from the smallest set of tokens whose probabilities sum to at least P; 1 disables it."""
    min_p: Annotated[float, _Share] = 0.0
    """Sample from tokens at least this share as likely as the most likely one; 0 disables it."""
    repetition_penalty: Annotated[float, Range(0, 100, "above 0 and up to 100", open_low=True)] = 1.0
    """Above 1, tokens that have been generated become less likely."""
    no_repeat_ngram: Annotated[int, Range(0, 1000, "0 (any) to 1,000 tokens")] = 0
    """No sequence of N tokens is generated twice in a story; 0 disables it."""
    beams: Annotated[int, Range(1, 64, "1 (no search) to 64")] = 1
    """Above 1: beam search with this many beams. Nothing is sampled then: temperature, top_k, top_p, min_p and seed
    are ignored."""
    seed: Annotated[int | None, Range(0, 2**32 - 1, "0 to 4,294,967,295")] = None
    """The same seed gives the same story; None: a new one each time."""
    stop: tuple[str, ...] = ()
    """Stop strings: generation ends before the first of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("stop", all(self.stop), "text that is not empty")

    @property
    def draws(self) -> bool:
        """True if tokens are sampled, False for greedy decoding and beam search."""
        return self.temperature > 0 and self.beams == 1


@dataclass(frozen=True)
class Config:
    """The whole configuration of a run."""

    preset: str = "quick"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    mirror: WandbConfig = field(default_factory=WandbConfig)

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, with every field."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # turns tuples into lists
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Config:
        """Reads what `to_json` wrote. Raises UsageError for an unknown field or an invalid value."""
        sections = {
            name: section(kind, {f"{name}.{key}": value for key, value in plain.get(name, {}).items()}, name)
            for name, kind in SECTIONS.items()
        }
        return cls(preset=str(plain.get("preset", "")), **sections)


SECTIONS: dict[str, Any] = {"model": ModelConfig, "data": DataConfig, "train": TrainConfig, "mirror": WandbConfig}
"""The sections of a `Config`: a setting's full name is `section.field`."""


def section(kind: Any, values: Mapping[str, Any], name: str) -> Any:
    """Returns a `kind`, one of the config's dataclasses, from those `values` whose names begin with `name.`.

    Values are converted to the fields' types. Raises UsageError for an unknown field or an invalid value.
    """
    hints = typing.get_type_hints(kind)
    own = {}
    for key, value in values.items():
        section, _, attribute = key.partition(".")
        if section != name:
            continue
        if attribute not in hints:
            raise unknown_setting(key)
        own[attribute] = _typed(value, hints[attribute], key)
    return kind(**own)


def unknown_setting(key: str) -> UsageError:
    """Returns the error for a setting that does not exist; its remedy suggests similar names."""
    known = [name for kind in SECTIONS.values() for name in typing.get_type_hints(kind)]
    close = difflib.get_close_matches(key.rpartition(".")[2], known, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(close)}?" if close else f"the settings are {', '.join(sorted(known))}"
    return UsageError(f"there is no setting {safe_line(key, 60)}", remedy)


def _typed(value: Any, hint: Any, key: str) -> Any:
    """Converts a value from the command line, `--set` (text) or JSON to the type of its field."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None or (isinstance(value, str) and value.lower() == "none"):
        if type(None) in kinds:
            return None
        raise UsageError(f"{key} needs a value", "leave it out for its default")
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
            known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            if str(value).lower() not in known:
                raise invalid_value(key, value, "true or false")
            return known[str(value).lower()]
        elif kind in (int, float):
            return _number(value, kind, key)
    raise invalid_value(key, value, "one value")


def _number(value: Any, kind: type, key: str) -> int | float:
    text = str(value).replace("_", "")
    with contextlib.suppress(ValueError, OverflowError):
        number = float(text)
        if kind is float and math.isfinite(number):
            return number
        if kind is int and number == int(number):
            return int(text) if re.fullmatch(r"[+-]?\d+", text) else int(number)
    raise invalid_value(key, value, "a whole number" if kind is int else "a number")

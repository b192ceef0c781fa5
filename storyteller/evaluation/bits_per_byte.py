"""Scores a model on held-out stories: bits per byte, nats per token and perplexity, with 95 % intervals.

    scores = score_model("latest", held_out(["latest"], root).stories, root)
    scores.bits_per_byte.value

Bits per byte is the negative log-likelihood in bits, divided by the UTF-8 bytes of the text. Unlike the loss per token
it does not depend on the tokenizer: a tokenizer with longer tokens has fewer, but harder predictions.

Checkpoints of runs and models in Hugging Face's format are scored alike (`model/loss_eval.py`): each story by itself,
after the begin-of-text token and without an end-of-text token. A story longer than the context is scored in overlapping
windows, each token once. Intervals come from a bootstrap over stories (`bootstrap.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from storyteller.config.configs import DataConfig, TrainConfig
from storyteller.data import held_out_file
from storyteller.data.cleaning import clean
from storyteller.data.held_out_stories import held_out_stories
from storyteller.data.local_files import Files
from storyteller.data.sources import BundledSource
from storyteller.errors import CorpusError, ModelError
from storyteller.evaluation.bootstrap import Difference, Interval, difference, interval
from storyteller.inference.engine import find_model, is_run
from storyteller.inference.generate import load_tokenizer
from storyteller.inference.model_folder import ModelFolder
from storyteller.text import safe_line
from storyteller.tracking.run_folder import runs_root as default_runs_root
from storyteller.tracking.run_index import find_run

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Cleaning = Literal["light", "classic", "none"]

DEFAULT_STORIES = 1000
DEFAULT_BUNDLED_STORIES = 100  # of the bundled stories: one in a hundred is held out, so more of them take long to find


@dataclass(frozen=True)
class EvalSet:
    """Stories to score models on."""

    stories: tuple[str, ...]
    source: str  # where the stories come from; safe to show


@dataclass(frozen=True)
class ModelScores:
    """The scores of a model; the lists have one item per story."""

    model: str  # `run@step`, a folder, or `owner/name`
    nats: list[float] = field(repr=False)
    n_tokens: list[int] = field(repr=False)
    n_bytes: list[int] = field(repr=False)  # bytes of UTF-8
    parameters: int
    device: str
    precision: str
    bf16_bits: float | None  # difference of bf16 and fp32 on a sample, in bits per byte; None if bf16 was not tried
    changed_stories: int
    """Stories that the tokenizer does not decode to the same text, white space apart. The model need not predict what
    the tokenizer loses, so that its scores are too good."""
    seconds: float

    @property
    def bits(self) -> list[float]:
        """Negative log-likelihood of each story in bits."""
        return [nats / math.log(2) for nats in self.nats]

    @cached_property
    def bits_per_byte(self) -> Interval:
        """Bits over bytes, summed over the stories. Comparable between tokenizers."""
        return interval(self.bits, self.n_bytes)

    @cached_property
    def nats_per_token(self) -> Interval:
        """Comparable only between models with the same tokenizer."""
        return interval(self.nats, self.n_tokens)

    @cached_property
    def perplexity(self) -> Interval:
        """exp(nats per token). Comparable only between models with the same tokenizer."""
        nats = self.nats_per_token
        return Interval(*(math.exp(min(bound, 700.0)) for bound in (nats.value, nats.low, nats.high)))

    def difference(self, other: ModelScores) -> Difference:
        """Bits per byte of this model minus those of another on the same stories, by a paired bootstrap."""
        return difference(self.bits, other.bits, self.n_bytes)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "parameters": self.parameters,
            "stories": len(self.nats),
            "tokens": sum(self.n_tokens),
            "bytes": sum(self.n_bytes),
            "bits_per_byte": asdict(self.bits_per_byte),
            "nats_per_token": asdict(self.nats_per_token),
            "perplexity": asdict(self.perplexity),
            "device": self.device,
            "precision": self.precision,
            "bf16_bits_per_byte_off": self.bf16_bits,
            "changed_stories": self.changed_stories,
            "seconds": round(self.seconds, 3),
        }


def held_out(
    models: Sequence[str],
    runs_root: Path | None = None,
    *,
    data: Sequence[str] = (),
    limit: int | None = None,
    cleaning: Cleaning = "light",
) -> EvalSet:
    """Returns up to `limit` stories that, as far as is known, none of the models was trained on.

    Reads the files and folders in `data`, cleaned as `cleaning` says; else the held-out stories of those `models` that
    are checkpoints of runs, alternating between the runs; else held-out bundled stories.
    Raises CorpusError or RunError.
    """
    if data:
        stories, names = read_stories(data, limit or DEFAULT_STORIES, cleaning, options="--data and --clean")
        return EvalSet(stories, f"{names}, {'not cleaned' if cleaning == 'none' else f'cleaned {cleaning}'}")
    if by_run := _from_runs(models, runs_root):
        # One story of each run in turn, without duplicates: equal shares however many stories each run kept.
        unique = dict.fromkeys(story for row in zip_longest(*by_run.values()) for story in row if story is not None)
        source = f"the held-out stories of {'the runs ' if len(by_run) > 1 else ''}{', '.join(by_run)}"
        return EvalSet(tuple(islice(unique, limit or DEFAULT_STORIES)), source)
    limit = limit or DEFAULT_BUNDLED_STORIES
    bundled, _ = held_out_stories(BundledSource(), DataConfig(source="bundled"), limit=limit)
    return EvalSet(tuple(bundled[:limit]), "the held-out bundled stories")


def read_stories(
    paths: Sequence[str], limit: int, cleaning: Cleaning = "light", *, options: str
) -> tuple[tuple[str, ...], str]:
    """Reads up to `limit` stories of files and folders; also returns their names, safe to show.

    Raises CorpusError if there are none, with the advice to check `options`.
    """
    texts = (raw if cleaning == "none" else clean(raw, cleaning) for raw, _ in Files(paths).read(0, None))
    stories = tuple(islice((text for text in texts if text.strip()), limit))
    names = safe_line(", ".join(map(str, paths)), 100)
    if not stories:
        raise CorpusError(f"no stories in {names}", f"check {options}")
    return stories, names


def _from_runs(models: Sequence[str], runs_root: Path | None) -> dict[str, list[str]]:
    """The held-out stories of each run among `models`, by run name."""
    found: dict[str, list[str]] = {}
    for model in filter(is_run, models):
        folder = find_run(runs_root or default_runs_root(), model.partition("@")[0])
        if kept := held_out_file.load(folder.held_out):
            found[folder.name] = kept[0]
    return found


def score_model(
    model: str,
    stories: Sequence[str],
    runs_root: Path | None = None,
    *,
    settings: TrainConfig | None = None,
    on_progress: Callable[[float], None] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> ModelScores:
    """Computes the negative log-likelihood of the stories under the model that `model` names, as in `open_model`.

    settings: device, precision (`auto`, `fp32` or `bf16`) and threads.
    on_progress: called with the share that is done, 0 to 1.
    log: called with messages about slow steps.
    Raises RunError, CheckpointError, ModelError, HubError, UsageError or OutOfMemoryError.
    """
    if not stories:
        raise CorpusError("no stories to score", "set --data")
    while True:
        folder = find_model(model, runs_root, log)
        try:
            return _score(folder, stories, settings or TrainConfig(), on_progress)
        except (ModelError, OSError):
            # A training run may have deleted the checkpoint meanwhile: find its newest one again.
            if not is_run(model) or folder.path.is_dir():
                raise


def _score(
    folder: ModelFolder, stories: Sequence[str], settings: TrainConfig, on_progress: Callable[[float], None] | None
) -> ModelScores:
    from storyteller.model.score_folder import score_folder  # imports torch

    began = time.perf_counter()
    tokenizer = load_tokenizer(folder.tokenizer_json, folder.label)
    # Lone surrogates cannot be encoded as UTF-8, which tokenizers require.
    texts = [story.encode("utf-8", "replace").decode() for story in stories]
    encoded = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    if max(chain.from_iterable(encoded), default=0) >= folder.vocab_size:
        raise ModelError(f"the tokenizer of {folder.label} has more tokens than the model", "use another model")
    if not any(encoded):
        raise ModelError(f"the tokenizer of {folder.label} finds no tokens in these stories", "use another model")
    if folder.bos_id is None:
        raise ModelError(f"{folder.label} has no begin-of-text token", "use a model with a bos or eos token")
    n_bytes = [len(text.encode()) for text in texts]
    found = score_folder(
        folder.path,
        folder.label,
        encoded,
        n_bytes,
        beginning_id=folder.bos_id,
        context=folder.context,
        settings=settings,
        on_progress=on_progress,
    )
    return ModelScores(
        model=folder.label,
        nats=found.nats,
        n_tokens=[len(ids) for ids in encoded],
        n_bytes=n_bytes,
        parameters=found.parameters,
        device=found.device,
        precision=found.precision,
        bf16_bits=found.bf16_bits,
        changed_stories=_count_changed(tokenizer, texts, encoded),
        seconds=time.perf_counter() - began,
    )


def _count_changed(tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> int:
    """Counts texts that change when encoded and decoded, white space apart: by unknown characters or lower-casing."""
    decoded = tokenizer.decode_batch([list(ids) for ids in encoded], skip_special_tokens=False)
    return sum("".join(a.split()) != "".join(b.split()) for a, b in zip(texts, decoded, strict=True))

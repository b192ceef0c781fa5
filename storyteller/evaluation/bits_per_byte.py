"""How well a model foretells stories: bits per byte, nats a token, perplexity, each with its 95 % interval.

    scores = score_model("latest", held_out("latest", root).stories, root)
    scores.bits_per_byte.value

Our own checkpoints and any model in Hugging Face's layout are scored alike, as `lm.evaluate` has it: each story on its
own from the beginning token on, without the end-of-text after it, nothing dropped. Intervals are by bootstrap over the
stories (`judging.intervals`).
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
from storyteller.data.cleaning import clean
from storyteller.errors import CorpusError, ModelError
from storyteller.text import safe_line

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from storyteller.evaluation.bootstrap import Difference, Interval
    from storyteller.inference.model_folder import ModelFolder

Cleaning = Literal["light", "classic", "none"]

MOST_STORIES = 1000
"""Scored where nobody says how many."""
BUNDLED_STORIES = 100
"""Of the bundled tales: one in a hundred is held out, so more of them take long to find."""


@dataclass(frozen=True)
class HeldOut:
    """Stories to score on."""

    stories: tuple[str, ...]
    source: str
    """Where they are from, in words that are safe to show."""


@dataclass(frozen=True)
class ModelScores:
    """What a model made of stories; the lists have an item a story."""

    model: str
    """What it is called: `run@step`, a folder, or `owner/name`."""
    nats: list[float] = field(repr=False)
    n_tokens: list[int] = field(repr=False)
    n_bytes: list[int] = field(repr=False)
    """UTF-8."""
    parameters: int
    device: str
    precision: str
    bf16_bits: float | None
    """By how much bf16 differed from fp32 on a sample, in bits per byte; None where it was not tried."""
    changed_stories: int
    """Stories that the model's tokenizer does not give back as they were, white space apart: what it loses it need not
    foretell, so they flatter the model."""
    seconds: float

    @property
    def bits(self) -> list[float]:
        """Of each story."""
        return [nats / math.log(2) for nats in self.nats]

    @cached_property
    def bits_per_byte(self) -> Interval:
        """Nats over ln 2, over UTF-8 bytes: compares models of any tokenizer."""
        return _interval(self.bits, self.n_bytes)

    @cached_property
    def nats_per_token(self) -> Interval:
        """Compares models of one tokenizer alone."""
        return _interval(self.nats, self.n_tokens)

    @cached_property
    def perplexity(self) -> Interval:
        """e to the nats a token."""
        from storyteller.evaluation.bootstrap import Interval

        nats = self.nats_per_token
        return Interval(*(math.exp(min(bound, 700.0)) for bound in (nats.value, nats.low, nats.high)))

    def difference(self, other: ModelScores) -> Difference:
        """Bits per byte of this model less those of another on the same stories, by paired bootstrap."""
        from storyteller.evaluation.bootstrap import difference

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


def _interval(values: Sequence[float], weights: Sequence[float]) -> Interval:
    from storyteller.evaluation.bootstrap import interval

    return interval(values, weights)


# --- stories ----------------------------------------------------------------------------------------------------------


def held_out(
    models: Sequence[str],
    runs_root: Path | None = None,
    *,
    data: Sequence[str] = (),
    limit: int | None = None,
    cleaning: Cleaning = "light",
) -> HeldOut:
    """Up to `limit` stories that none of the models was trained on, the same for each, as far as can be known.

    Those of the files and folders in `data`, cleaned as `cleaning` says; else the held-out stories of those `models`
    that are runs' checkpoints, in equal numbers where they are not the same; else the bundled tales' held-out ones.
    Raises CorpusError, RunError.
    """
    if data:
        return _of_files(data, limit or MOST_STORIES, cleaning)
    if kept := _of_runs(models, runs_root):
        stories = dict.fromkeys(story for row in zip_longest(*kept.values()) for story in row if story is not None)
        names = ", ".join(kept)
        whose = f"the held-out stories of {names}" if len(kept) == 1 else f"the held-out stories of the runs {names}"
        return HeldOut(tuple(islice(stories, limit or MOST_STORIES)), whose)
    return _bundled(limit or BUNDLED_STORIES)


def _of_files(data: Sequence[str], limit: int, cleaning: Cleaning) -> HeldOut:
    from storyteller.data.local_files import Files

    files = Files(data)
    texts = (raw if cleaning == "none" else clean(raw, cleaning) for raw, _ in files.read(0, None))
    stories = tuple(islice((text for text in texts if text.strip()), limit))
    names = safe_line(", ".join(map(str, data)), 100)
    if not stories:
        raise CorpusError(f"there is no story in {names}", "look at --data and --clean")
    return HeldOut(stories, f"{names}, {'as it is' if cleaning == 'none' else f'cleaned {cleaning}'}")


def _of_runs(models: Sequence[str], runs_root: Path | None) -> dict[str, list[str]]:
    """The kept held-out stories by run, of those models that are checkpoints of runs."""
    from storyteller.data import held_out_file as keeping
    from storyteller.inference.engine import is_run
    from storyteller.tracking.run_folder import runs_root as default_root
    from storyteller.tracking.run_index import find_run

    found: dict[str, list[str]] = {}
    for model in filter(is_run, models):
        folder = find_run(runs_root or default_root(), model.partition("@")[0])
        if kept := keeping.kept(folder.held_out):
            found[folder.name] = kept[0]
    return found


def _bundled(limit: int) -> HeldOut:
    from storyteller.data.held_out_stories import held_out_stories
    from storyteller.data.sources import BundledSource

    stories, _ = held_out_stories(BundledSource(), DataConfig(source="bundled"), limit=limit)
    return HeldOut(tuple(stories[:limit]), "the bundled tales' held-out stories")


# --- scores -----------------------------------------------------------------------------------------------------------


def score_model(
    model: str,
    stories: Sequence[str],
    runs_root: Path | None = None,
    *,
    settings: TrainConfig | None = None,
    say: Callable[[float], None] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> ModelScores:
    """Score the stories under the model that `model` names (as `engine.open_model` has it).

    `settings` names device, precision (`auto`, `fp32`, `bf16`) and threads, `say` hears the share that is done, `log`
    of what takes long. Raises RunError, CheckpointError, ModelError, HubError, UsageError, OutOfMemoryError.
    """
    from storyteller.inference.engine import find_model, is_run

    if not stories:
        raise CorpusError("there is no story to score", "give some with --data")
    while True:
        folder = find_model(model, runs_root, log)
        try:
            return _score(folder, stories, settings or TrainConfig(), say)
        except (ModelError, OSError):
            # A training run may have pruned the checkpoint meanwhile: look again.
            if not is_run(model) or folder.path.is_dir():
                raise


def _score(
    folder: ModelFolder, stories: Sequence[str], settings: TrainConfig, say: Callable[[float], None] | None
) -> ModelScores:
    from storyteller.inference.generate import load_tokenizer
    from storyteller.model.score_folder import score_folder

    began = time.perf_counter()
    tokenizer = load_tokenizer(folder.tokenizer_json, folder.label)
    # What no UTF-8 can hold (a lone surrogate) is no character that a tokenizer could take.
    texts = [story.encode("utf-8", "replace").decode() for story in stories]
    encoded = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    if max(chain.from_iterable(encoded), default=0) >= folder.vocabulary:
        raise ModelError(f"the tokenizer of {folder.label} has more tokens than the model", "take another model")
    if not any(encoded):
        raise ModelError(f"the tokenizer of {folder.label} makes nothing of these stories", "take another model")
    if folder.begin is None:
        raise ModelError(f"{folder.label} has no token to begin with", "take a model with a bos or eos token")
    n_bytes = [len(text.encode()) for text in texts]
    found = score_folder(
        folder.path,
        folder.label,
        encoded,
        n_bytes,
        beginning_id=folder.begin,
        context=folder.context,
        settings=settings,
        say=say,
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
        changed_stories=_changed(tokenizer, texts, encoded),
        seconds=time.perf_counter() - began,
    )


def _changed(tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[Sequence[int]]) -> int:
    """How many texts the tokenizer does not give back, white space apart: it knows no such character, or folds case."""
    back = tokenizer.decode_batch([list(ids) for ids in encoded], skip_special_tokens=False)
    return sum(_squeezed(text) != _squeezed(again) for text, again in zip(texts, back, strict=True))


def _squeezed(text: str) -> str:
    return "".join(text.split())

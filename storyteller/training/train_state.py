"""How far a run has come, as `state.json` holds it, with the checks that such a file must pass; and how it goes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from storyteller.data.batches import StepBatches
from storyteller.errors import CheckpointError
from storyteller.system.safetensors_file import is_natural
from storyteller.text import safe_line

_LARGEST = 10**15
"""Above any count or figure that a run can come to."""
_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
"""What torch's gradient scaler keeps."""
_NEEDED = ("step", "tokens", "seconds", "passes", "position")
"""Fields without which training would begin anew in silence."""


@dataclass
class TrainState:
    """How far training has come: with weights, optimisers and generators, all that a resume needs."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """In the training loop, over all its resumes."""
    passes: float = 0.0
    """Over the corpus."""
    position: dict[str, Any] | None = None
    """In the data; None: at its beginning."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """The gradient scaler's state, with fp16."""
    best_bpb: float | None = None
    """Lowest bits per byte seen."""
    happened: dict[str, float] = field(default_factory=dict)
    """When things that happen every so often happened last, by name."""
    skipped_steps: int = 0
    """Steps passed over, of all those counted, since their loss or gradient was no number."""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], label: str, vocab_size: int) -> TrainState:
        """What `state.json` says; `label` is what messages call its checkpoint. Raises CheckpointError."""
        another = "resume from another (--from STEP)"
        missing = [name for name in _NEEDED if name not in plain]
        unknown = sorted(plain.keys() - {each.name for each in dataclasses.fields(cls)})
        if missing or unknown:
            what = f"no {missing[0]}" if missing else f"an unknown {safe_line(unknown[0], 40)}"
            raise CheckpointError(f"{label}: its training state is of another version ({what})", another)
        for name, value in plain.items():
            sound = _is_position(value, vocab_size) if name == "position" else _SOUND[name](value)
            if not sound:
                shown = safe_line(repr(value), 40)
                raise CheckpointError(f"{label}: the {name} of its training state is off ({shown})", another)
        return cls(**plain)


def _is_count(value: object) -> bool:
    return is_natural(value) and value <= _LARGEST


def _is_figure(value: object) -> bool:
    """A number, finite and of a size that can be."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -_LARGEST <= value <= _LARGEST  # false for NaN too


def _is_positive(value: object) -> bool:
    return _is_figure(value) and isinstance(value, int | float) and value >= 0


def _is_position(value: object, vocab_size: int) -> bool:
    """A position in the data: where in the stories, and the tokens carried over from the last one."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"stories", "carry"}:
        return False
    stories, carry = value["stories"], value["carry"]
    if not isinstance(carry, list) or not all(is_natural(token) and token < vocab_size for token in carry):
        return False
    if stories is None:
        return True
    return (
        isinstance(stories, dict)
        and all(_is_count(stories.get(name)) for name in ("epoch", "block", "offset"))
        and isinstance(stories.get("cursor", 0), dict | None)
        and _is_positive(stories.get("passes", 0.0))
    )


def _is_scaler(value: object) -> bool:
    return isinstance(value, dict) and (
        not value or (value.keys() == _SCALER and all(map(_is_positive, value.values())) and value["scale"] > 0)
    )


def _is_happened(value: object) -> bool:
    return isinstance(value, dict) and len(value) < 100 and all(map(_is_positive, value.values()))


_SOUND: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "tokens": _is_count,
    "seconds": _is_positive,
    "passes": _is_positive,
    "scaler": _is_scaler,
    "best_bpb": lambda value: value is None or (_is_figure(value) and not math.isnan(value)),
    "happened": _is_happened,
    "skipped_steps": _is_count,
}


@dataclass
class RecentSteps:
    """Sums since the last line of metrics."""

    nats: float = 0.0
    tokens: int = 0
    positions: int = 0
    norm: float = 0.0
    """Of the last step."""
    pairs: float = 0.0
    """Of a position and one in its row."""
    busy_seconds: float = 1e-9
    waited_seconds: float = 0.0

    @property
    def width(self) -> float:
        """Tokens in the row of a position, on average."""
        return self.pairs / self.positions if self.positions else 0.0

    @property
    def padding_pct(self) -> float:
        return 100 * (1 - self.tokens / self.positions)

    def add(self, taken: tuple[float, float] | None, step: StepBatches, seconds: float) -> None:
        """A step's loss and norm (None: it was skipped, and only its time counts)."""
        self.busy_seconds += seconds
        if taken is None:
            return
        loss, self.norm = taken
        self.nats += loss * step.n_targets
        self.tokens += step.n_targets
        self.positions += step.n_positions
        self.pairs += step.n_positions * step.width

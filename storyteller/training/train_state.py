"""How far a run has come, as `state.json` holds it, and the validation of that file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from storyteller.config.configs import Period, TrainConfig
from storyteller.errors import CheckpointError
from storyteller.system.json_values import finite, is_natural
from storyteller.text import safe_line

_LARGEST = 10**15
"""Above any count or figure that a run can reach."""
_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
"""Keys of the state of `torch.amp.GradScaler`."""
_NEEDED = ("step", "tokens", "seconds", "passes", "position")
"""Fields that must not be missing: with their defaults, training would silently start over."""


@dataclass
class TrainState:
    """How far training has come. With weights, optimizer state and random generators it is all that a resume needs."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """Time in the training loop, over all resumes."""
    passes: float = 0.0
    """Passes over the corpus."""
    position: dict[str, Any] | None = None
    """Position in the data; None: the beginning."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the gradient scaler, with fp16."""
    best_bpb: float | None = None
    """Lowest bits per byte of any evaluation."""
    happened: dict[str, float] = field(default_factory=dict)
    """When periodic actions (save, eval, card) happened last, in the unit of their period."""
    skipped_steps: int = 0
    """Steps that were not taken because their loss or gradient was not finite."""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], label: str, vocab_size: int) -> TrainState:
        """Validate the content of `state.json`; `label` names its checkpoint in messages. Raises CheckpointError."""
        another = "resume from another (--from STEP)"
        missing = [name for name in _NEEDED if name not in plain]
        unknown = sorted(plain.keys() - {each.name for each in dataclasses.fields(cls)})
        if missing or unknown:
            what = f"no {missing[0]}" if missing else f"an unknown {safe_line(unknown[0], 40)}"
            raise CheckpointError(f"{label}: its training state is of another version ({what})", another)
        for name, value in plain.items():
            is_valid = _is_position(value, vocab_size) if name == "position" else _VALIDATORS[name](value)
            if not is_valid:
                shown = safe_line(repr(value), 40)
                raise CheckpointError(f"{label}: the {name} of its training state is invalid ({shown})", another)
        return cls(**plain)

    def budget_share(self, budget: TrainConfig) -> float:
        """Share of the budget that is spent, 0 to 1; in epochs always below 1: the data says when a pass has ended."""
        if budget.minutes is not None:
            return min(self.seconds / (60 * budget.minutes), 1.0)
        if budget.tokens is not None:
            return min(self.tokens / budget.tokens, 1.0)
        if budget.epochs is not None:
            return min(self.passes / budget.epochs, 1.0 - 1e-9)
        return min(self.step / (budget.steps or 1), 1.0)

    def is_due(self, action: str, period: Period) -> bool:
        """True if a periodic action is due after this step. A period in seconds or epochs is recorded as happened."""
        if period.steps:
            return self.step % period.steps == 0
        every, now = (period.seconds, self.seconds) if period.seconds else (period.epochs, self.passes)
        if not every or int(now / every) <= int(self.happened.get(action, 0) / every):
            return False
        self.happened[action] = now
        return True


def _is_count(value: object) -> bool:
    return is_natural(value, _LARGEST)


def _is_amount(value: object) -> bool:
    number = finite(value)
    return number is not None and 0 <= number <= _LARGEST


def _is_position(value: object, vocab_size: int) -> bool:
    """True for a position in the data: one in the stories, and token ids carried over from the last one."""
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != {"stories", "carry"}:
        return False
    stories, carry = value["stories"], value["carry"]
    if not isinstance(carry, list) or not all(is_natural(token, vocab_size) for token in carry):
        return False
    return stories is None or (
        isinstance(stories, dict)
        and all(_is_count(stories.get(name)) for name in ("epoch", "block", "offset"))
        and isinstance(stories.get("cursor", 0), dict | None)
        and _is_amount(stories.get("passes", 0.0))
    )


def _is_scaler(value: object) -> bool:
    return isinstance(value, dict) and (
        not value or (value.keys() == _SCALER and all(map(_is_amount, value.values())) and value["scale"] > 0)
    )


_VALIDATORS: dict[str, Callable[[Any], bool]] = {
    "step": _is_count,
    "tokens": _is_count,
    "seconds": _is_amount,
    "passes": _is_amount,
    "scaler": _is_scaler,
    "best_bpb": lambda value: value is None or _is_amount(value),
    "happened": lambda value: isinstance(value, dict) and len(value) < 100 and all(map(_is_amount, value.values())),
    "skipped_steps": _is_count,
}

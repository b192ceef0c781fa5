"""What the app remembers from one day to the next: a small JSON file in the user's config folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from storyteller.errors import UsageError
from storyteller.system.files import read_regular, write_json

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.config.configs import SamplingParams

ThemeName = Literal["dark", "light", "ansi-dark", "ansi-light"]
XAxis = Literal["step", "tokens", "seconds"]

MOST_SMOOTHING = 1.0


@dataclass
class Settings:
    """Each field a choice of the user's; `note` says why the file was not read, where it was not."""

    theme: ThemeName = "dark"
    cells: Cells = "braille"
    """What charts are drawn with: `blocks` and `ascii` are for fonts without braille."""
    x_axis: XAxis = "step"
    log_y: bool = False
    smoothing: float = 0.05
    """Span of a smoothed line as a share of what is seen, 0 (not smoothed) to 1: `curves.Curves.line`."""
    sort: str = "age"
    """The column of the runs by which they are sorted."""
    sort_reversed: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    """The last sampling settings: fields of `config.Sample`."""
    note: str = field(default="", compare=False)

    def sample(self) -> SamplingParams:
        """The last sampling settings; what is off in them falls back to the defaults."""
        from storyteller.config.configs import SamplingParams

        known = {item.name for item in dataclasses.fields(SamplingParams)} - {"stop"}
        with contextlib.suppress(UsageError, TypeError, ValueError):
            return SamplingParams(**{key: value for key, value in self.sampling.items() if key in known})
        return SamplingParams()

    def remember(self, sample: SamplingParams) -> bool:
        """Keep how stories are told for the next time, but for the seed and where they stop; whether that is new."""
        kept = {key: value for key, value in dataclasses.asdict(sample).items() if key not in ("stop", "seed")}
        new, self.sampling = kept != self.sampling, kept
        return new

    def to_json(self) -> dict[str, Any]:
        plain = dataclasses.asdict(self)
        del plain["note"]
        return plain


def settings_file() -> Path:
    """Where the settings are kept."""
    import platformdirs

    return Path(platformdirs.user_config_dir("storyteller", appauthor=False)) / "tui.json"


def read(path: Path) -> Settings:
    """The settings that `write` kept; defaults for what is missing or off, with a note where the file is broken."""
    try:
        kept = json.loads(read_regular(path))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        return Settings(note=f"the settings in {path} were not read ({why}); these are the defaults")
    if not isinstance(kept, dict):
        return Settings(note=f"the settings in {path} were not read (they are no JSON object); these are the defaults")
    return Settings(**{name: kept[name] for name, fits in _FITS.items() if name in kept and fits(kept[name])})


def write(path: Path, settings: Settings) -> None:
    """Keep the settings. Raises OSError where the disk does not take them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, settings.to_json())


def _is_smoothing(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 <= value <= MOST_SMOOTHING


_FITS: dict[str, Any] = {
    "theme": lambda value: value in get_args(ThemeName),
    "cells": lambda value: value in ("braille", "blocks", "ascii"),
    "x_axis": lambda value: value in get_args(XAxis),
    "log_y": lambda value: isinstance(value, bool),
    "smoothing": _is_smoothing,
    "sort": lambda value: isinstance(value, str),
    "sort_reversed": lambda value: isinstance(value, bool),
    "sampling": lambda value: isinstance(value, dict),
}

"""The app's settings, kept in a JSON file in the user's config folder."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from storyteller.errors import UsageError
from storyteller.system.files import read_regular, write_json
from storyteller.system.json_values import read_as

if TYPE_CHECKING:
    from storyteller.config.configs import SamplingParams

ThemeName = Literal["dark", "light", "ansi-dark", "ansi-light"]
XAxis = Literal["step", "tokens", "seconds"]


@dataclass
class Settings:
    """The user's choices. `note` says why the file could not be read; it is not saved."""

    theme: ThemeName = "dark"
    cells: Literal["braille", "blocks", "ascii"] = "braille"
    """The characters of charts; `blocks` and `ascii` are for fonts without braille."""
    x_axis: XAxis = "step"
    log_y: bool = False
    smoothing: float = 0.05
    """Span of a smoothed line as a share of the visible range, 0 (not smoothed) to 1. See `Curves.line`."""
    sort: str = "age"  # the column by which the runs are sorted
    sort_reversed: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    """The last sampling settings, as fields of `SamplingParams`."""
    note: str = field(default="", compare=False)

    def sampling_params(self) -> SamplingParams:
        """The last sampling settings, or the defaults if they are invalid."""
        from storyteller.config.configs import SamplingParams

        known = {item.name for item in dataclasses.fields(SamplingParams)} - {"stop"}
        with contextlib.suppress(UsageError, TypeError, ValueError):
            return SamplingParams(**{key: value for key, value in self.sampling.items() if key in known})
        return SamplingParams()

    def remember_sampling(self, params: SamplingParams) -> bool:
        """Keep the sampling settings except seed and stop strings. Returns whether they changed."""
        kept = {key: value for key, value in dataclasses.asdict(params).items() if key not in ("stop", "seed")}
        new, self.sampling = kept != self.sampling, kept
        return new

    def to_json(self) -> dict[str, Any]:
        plain = dataclasses.asdict(self)
        del plain["note"]
        return plain


def settings_file() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("storyteller", appauthor=False)) / "tui.json"


def read(path: Path) -> Settings:
    """Read the settings. Missing or invalid values get their defaults; a broken file is reported in `note`."""
    try:
        kept = json.loads(read_regular(path))
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "not valid JSON"
        return Settings(note=f"using the default settings: cannot read {path} ({why})")
    if not isinstance(kept, dict):
        return Settings(note=f"using the default settings: cannot read {path} (not a JSON object)")
    valid, hints = {}, get_type_hints(Settings)
    for name in Settings().to_json():
        with contextlib.suppress(KeyError, ValueError):
            valid[name] = read_as(kept[name], hints[name])
    if not 0 <= valid.get("smoothing", 0) <= 1:
        del valid["smoothing"]
    return Settings(**valid)


def write(path: Path, settings: Settings) -> None:
    """Write the settings. Raises OSError if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, settings.to_json())

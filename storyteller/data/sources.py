"""Where stories come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from storyteller.config.configs import DataConfig
from storyteller.data.local_files import Cursor, Faults, Files
from storyteller.data.tinystories import AUTO_SECONDS, Patience, TinyStories, hub_commit, within
from storyteller.errors import HubError
from storyteller.text import safe_line

_OPEN_SECONDS = 60.0  # for `auto`, once the Hub has answered: looking through the dataset takes a dozen requests
_OWN = "--data PATH trains on your own"


class StorySource(Protocol):
    """Stories in a fixed order."""

    description: dict[str, Any]
    """JSON values for run.json: kind, paths or dataset, revision, fingerprint, formats found."""
    notes: list[str]
    """Lines for the log; more are added while reading."""
    faults: Faults
    """What could not be read, counted while reading."""

    @property
    def patience_seconds(self) -> float:
        """For so long at most no story may come; infinite where nothing but this machine is read."""
        ...

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """The raw stories of one pass from `cursor` on, each with the cursor behind it. Raises CorpusError."""
        ...

    def share(self, cursor: Cursor) -> float:
        """Share of a pass that lies before `cursor`, 0 to 1; an estimate."""
        ...


class BundledSource:
    """The bundled tales: a pass is `tales.N_TALES` stories, and the next pass goes on with new ones."""

    def __init__(self, seed: int = 0) -> None:
        from storyteller.data import bundled

        self.description: dict[str, Any] = {"kind": "bundled", "seed": seed, "stories": bundled.N_TALES}
        self.notes = [f"the bundled tales: {bundled.N_TALES:,} stories a pass"]
        self.faults = Faults()
        self.patience_seconds = math.inf
        self._per_pass = bundled.N_TALES
        self.ahead: Callable[[int], str | None] = lambda _: None
        """A tale that somebody else has told already, if it has come."""
        # The first tales are asked for by the tokenizer, the held-out stories and the first block.
        self._tale = lru_cache(maxsize=24_000)(lambda index: self.ahead(index) or bundled.tale(index, seed))

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        start = epoch * self._per_pass if cursor is None else int(cursor["index"])
        for index in range(start, (epoch + 1) * self._per_pass):
            yield self._tale(index), {"index": index + 1}

    def share(self, cursor: Cursor) -> float:
        return float(cursor["index"] % self._per_pass / self._per_pass)


def open_corpus(
    data: DataConfig,
    *,
    seed: int = 0,
    revision: str | None = None,
    say: Callable[[str], None] = lambda _: None,
    auto_seconds: float = AUTO_SECONDS,
) -> StorySource:
    """The source that `data.source` names.

    `auto` is TinyStories where the Hub answers within `auto_seconds`, else the bundled tales, and `say` gets one line
    about it, and two about each outage later. `seed` is the bundled tales'; `revision` the Hub commit that a resumed
    run began with. Raises CorpusError, and HubError where TinyStories was asked for by name.
    """
    paths = (data.source,) if isinstance(data.source, str) else data.source
    patience = Patience(60 * data.hub_patience_minutes, say)
    if paths == ("bundled",):
        return BundledSource(seed)
    if paths == ("tinystories",):
        return TinyStories(revision, patience)
    if paths != ("auto",):
        return Files(paths)
    try:
        import huggingface_hub  # noqa: F401  the import's own seconds are not the Hub's

        commit = revision or within(auto_seconds, hub_commit)
        source = within(_OPEN_SECONDS, lambda: TinyStories(commit, Patience(_OPEN_SECONDS)))
    except HubError:
        say(f"data: the bundled tales, since the Hub does not answer (--data tinystories insists, {_OWN})")
        return BundledSource(seed)
    source.patience = patience
    say(f"data: TinyStories from the Hub, commit {safe_line(commit[:8])} (--data bundled needs no network, {_OWN})")
    return source

"""Sources of raw stories: TinyStories from the Hub, local files, or the bundled stories."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from storyteller.config.configs import DataConfig
from storyteller.data.local_files import Cursor, Faults, Files
from storyteller.data.tinystories import AUTO_SECONDS, HubRetries, TinyStories, hub_commit, hub_error_types
from storyteller.errors import HubError
from storyteller.system.timeouts import call_with_timeout
from storyteller.text import safe_line

_OPEN_SECONDS = 60.0  # for `auto`, once the Hub has answered: opening the dataset takes a dozen requests
_OWN = "--data PATH trains on your own"


class StorySource(Protocol):
    """Stories in a fixed order."""

    description: dict[str, Any]
    """JSON values for run.json: kind, paths or dataset, revision, fingerprint, formats found."""
    notes: list[str]  # lines for the log; reading adds more
    faults: Faults  # counts of stories that could not be read; reading adds to them

    @property
    def patience_seconds(self) -> float:
        """Longest time without a story before the source is given up; infinite for local sources."""

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """Yields the raw stories of one pass from `cursor` on, each with the cursor after it. Raises CorpusError."""

    def share(self, cursor: Cursor) -> float:
        """Estimates the share of a pass that lies before `cursor`, 0 to 1."""


class BundledSource:
    """The bundled stories: each pass has `bundled.N_STORIES` of them, and the next pass goes on with new ones."""

    def __init__(self, seed: int = 0) -> None:
        from storyteller.data import bundled

        self.description: dict[str, Any] = {"kind": "bundled", "seed": seed, "stories": bundled.N_STORIES}
        self.notes = [f"the bundled stories: {bundled.N_STORIES:,} stories a pass"]
        self.faults = Faults()
        self.patience_seconds = math.inf
        self._per_pass = bundled.N_STORIES
        # The tokenizer, the held-out stories and the first block all read the first stories.
        self._story = lru_cache(maxsize=24_000)(lambda index: bundled.story(index, seed))

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        start = epoch * self._per_pass if cursor is None else int(cursor["index"])
        for index in range(start, (epoch + 1) * self._per_pass):
            yield self._story(index), {"index": index + 1}

    def share(self, cursor: Cursor) -> float:
        return float(cursor["index"] % self._per_pass / self._per_pass)


def open_corpus(
    data: DataConfig,
    *,
    seed: int = 0,
    revision: str | None = None,
    log: Callable[[str], None] = lambda _: None,
    auto_seconds: float = AUTO_SECONDS,
) -> StorySource:
    """Opens the source that `data.source` names.

    `auto` is TinyStories if the Hub answers within `auto_seconds`, otherwise the bundled stories. `seed` is for the
    bundled stories, `revision` is the Hub commit that a resumed run began with. `log` is called once about the choice
    of `auto` and twice about each later outage. Raises CorpusError, and HubError where TinyStories was named.
    """
    paths = (data.source,) if isinstance(data.source, str) else data.source
    retries = HubRetries(60 * data.hub_patience_minutes, log)
    if paths == ("bundled",):
        return BundledSource(seed)
    if paths == ("tinystories",):
        return TinyStories(revision, retries)
    if paths != ("auto",):
        return Files(paths)
    try:
        import huggingface_hub  # noqa: F401  imported here so that the time limit covers the Hub's answer alone

        commit = revision or call_with_timeout(auto_seconds, hub_commit)
        source = call_with_timeout(_OPEN_SECONDS, lambda: TinyStories(commit, HubRetries(_OPEN_SECONDS)))
    except hub_error_types(HubError):  # TimeoutError is one of them
        log(f"data: the bundled stories, since the Hub does not answer (--data tinystories insists, {_OWN})")
        return BundledSource(seed)
    source.retries = retries
    log(f"data: TinyStories from the Hub, commit {safe_line(commit[:8])} (--data bundled needs no network, {_OWN})")
    return source

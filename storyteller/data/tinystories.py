"""TinyStories from the Hugging Face Hub, read through outages.

After a failure the stream is opened again behind the last story that it gave, after longer and longer pauses, until a
time limit. The stories that a run reads are the same whether or not the Hub failed on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from storyteller.data import compat
from storyteller.data.local_files import Cursor, Faults
from storyteller.errors import HubError
from storyteller.text import safe_line

TINYSTORIES = "roneneldan/TinyStories"
AUTO_SECONDS = 10.0  # longest time that `auto` waits for the Hub's first answer
_LONGEST_PAUSE_SECONDS = 30.0
_LIBRARY_SECONDS = 60.0  # for the last attempt of `huggingface_hub`, which takes 23 s and gives the better error

_TRAIN_ROWS = 2_119_719  # of the published training split
_PERMANENT_STATUSES = (401, 403, 404, 410)
_WITHOUT_HUB = "look at the network, or take --data bundled or --data PATH, which need no Hub"

T = TypeVar("T")


class HubRetries:
    """Retries with pauses of 1, 2, 4 ... 30 s, for `timeout_seconds` from an outage's first error on.

    `log` is called once when the second attempt fails too, and once when the outage is over.
    """

    def __init__(self, timeout_seconds: float, log: Callable[[str], None] = lambda _: None) -> None:
        self.timeout_seconds, self._log = timeout_seconds, log
        self._since: float | None = None
        self._is_logged = False
        self._pause_seconds = 1.0

    def pause(self, error: Exception) -> None:
        """Waits before the next attempt. Raises HubError if `error` is permanent or the time limit is over."""
        now = time.monotonic()
        if compat.http_status(error) in _PERMANENT_STATUSES:
            raise _hub_error(error) from error
        if self._since is None:
            self._since, self._pause_seconds, self._is_logged = now, 1.0, False
        elif not self._is_logged and self.timeout_seconds > 0:
            self._is_logged = True
            self._log(f"the Hub does not answer ({_reason(error)}): trying again for {_duration(self.timeout_seconds)}")
        left = self._since + self.timeout_seconds - now
        if left <= 0:
            raise _hub_error(error, self.timeout_seconds) from error
        time.sleep(min(self._pause_seconds, left))
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def succeeded(self) -> None:
        """Ends the outage, if there is one."""
        if self._since is not None and self._is_logged:
            self._log(f"the Hub answers again, after {time.monotonic() - self._since:.0f} s")
        self._since = None

    def call(self, action: Callable[[], T]) -> T:
        """Returns `action()`, repeated through an outage. Raises HubError."""
        while True:
            try:
                result = action()
            except hub_error_types() as error:
                self.pause(error)
            else:
                self.succeeded()
                return result


class TinyStories:
    """TinyStories from the Hub in streaming mode, at one commit.

    Its cursor is the state of the `datasets` library, which is exact for parquet: a resume opens that file and reads
    past the rows before the cursor. Raises HubError.
    """

    def __init__(self, revision: str | None = None, retries: HubRetries | None = None) -> None:
        import datasets

        compat.disable_streaming_retries()
        datasets.disable_progress_bars()
        self.retries = retries or HubRetries(0)  # may be replaced between two reads
        commit = revision or self.retries.call(hub_commit)
        self._dataset = self.retries.call(
            lambda: datasets.load_dataset(TINYSTORIES, split="train", streaming=True, revision=commit)
        )
        self.description: dict[str, Any] = {"kind": "tinystories", "dataset": TINYSTORIES, "revision": commit}
        self.description |= {"formats": ["parquet"], "fingerprint": commit}
        self.notes = [f"{TINYSTORIES} from the Hub, at commit {safe_line(commit, 40)}"]
        self.faults = Faults()

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """Yields the stories of a pass from `cursor` on, each with the cursor after it; retries through outages."""
        del epoch  # every pass is the same
        while True:
            try:
                for story, after in self._rows(cursor):
                    self.retries.succeeded()
                    cursor = after
                    if story is None:
                        self.faults.broken += 1
                    else:
                        yield story, after
            except hub_error_types() as error:
                self.retries.pause(error)
            else:
                return

    def _rows(self, cursor: Cursor | None) -> Iterator[tuple[str | None, Cursor]]:
        """Yields each row's story, or None if it has none, and the cursor after it, until the stream fails."""
        dataset = compat.independent_stream(self._dataset)
        n_rows = 0
        if cursor is not None:
            n_rows = int(cursor["rows"])
            dataset.load_state_dict(cursor["state"])
        rows = iter(dataset)
        try:
            for row in rows:
                n_rows += 1
                story = row.get("text")
                yield story if isinstance(story, str) else None, {"rows": n_rows, "state": dataset.state_dict()}
        finally:
            compat.close_stream(rows)

    @property
    def patience_seconds(self) -> float:
        """Longest time without a story, including the library's own waits (such as a server's Retry-After)."""
        return self.retries.timeout_seconds + _LIBRARY_SECONDS

    def share(self, cursor: Cursor) -> float:
        return min(int(cursor["rows"]) / _TRAIN_ROWS, 1.0)


def hub_commit() -> str:
    """Returns the commit of the dataset's main branch."""
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(TINYSTORIES, timeout=AUTO_SECONDS).sha)


def hub_error_types(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """`more` and what the Hub's libraries raise for a lost connection, an HTTP status, a missing or damaged file."""
    return (*more, OSError, ValueError, RuntimeError, EOFError, *compat.http_error_types())


def _hub_error(error: BaseException, seconds: float = 0.0) -> HubError:
    """`error` as a HubError; `seconds` is the time spent on retries."""
    duration = f" for {_duration(seconds)}" if seconds >= 1 else ""
    return HubError(f"TinyStories cannot be read from the Hub{duration} ({_reason(error)})", _WITHOUT_HUB)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} minutes"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {safe_line(' '.join(str(error).split()), 120)}"

"""TinyStories from the Hugging Face Hub, read through its outages.

A fault is waited out: the stream is opened again behind the last story that it gave, after longer and longer pauses,
until the patience is over. What a run reads is the same, whatever the Hub did meanwhile.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from storyteller.data.local_files import Cursor, Faults
from storyteller.errors import HubError
from storyteller.text import safe_line

TINYSTORIES = "roneneldan/TinyStories"
AUTO_SECONDS = 10.0
"""For so long `auto` waits for the Hub to answer."""
LONGEST_PAUSE_SECONDS = 30.0
_LIBRARY_SECONDS = 60.0  # for the last try of `huggingface_hub`, which takes 23 s and knows better what is wrong

_TRAIN_ROWS = 2_119_719  # of the published training split
_REFUSED = (401, 403, 404, 410)
"""Statuses that no waiting mends."""
_WITHOUT_HUB = "look at the network, or take --data bundled or --data PATH, which need no Hub"

T = TypeVar("T")


class Patience:
    """How an outage is borne: pauses of 1, 2, 4 ... 30 s between tries, for `seconds` from its first fault on.

    `say` hears one line when a fault was no passing one, and one when the outage is over.
    """

    def __init__(self, seconds: float, say: Callable[[str], None] = lambda _: None) -> None:
        self.seconds, self._say = seconds, say
        self._since: float | None = None
        self._said = False
        self._pause_seconds = 1.0

    def bear(self, error: Exception) -> None:
        """Wait a while before the next try. Raises HubError where that is of no use, or has been long enough."""
        now = time.monotonic()
        if _status(error) in _REFUSED:
            raise hub_error(error) from error
        if self._since is None:
            self._since, self._pause_seconds, self._said = now, 1.0, False
        elif not self._said and self.seconds > 0:
            self._said = True
            self._say(f"the Hub does not answer ({_reason(error)}): trying again for {in_words(self.seconds)}")
        left = self._since + self.seconds - now
        if left <= 0:
            raise hub_error(error, self.seconds) from error
        time.sleep(min(self._pause_seconds, left))
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def rewarded(self) -> None:
        """The Hub gave what was asked for."""
        if self._since is not None and self._said:
            self._say(f"the Hub answers again, after {time.monotonic() - self._since:.0f} s")
        self._since = None

    def trying(self, action: Callable[[], T]) -> T:
        """What `action` gives, tried again through an outage. Raises HubError."""
        while True:
            try:
                result = action()
            except hub_faults() as error:
                self.bear(error)
            else:
                self.rewarded()
                return result


class TinyStories:
    """TinyStories from the Hub in streaming mode, at one commit.

    Its position is that of the `datasets` library, exact over parquet. A resume opens the file of that position and
    reads past the rows before it. Raises HubError.
    """

    def __init__(self, revision: str | None = None, patience: Patience | None = None) -> None:
        import datasets

        for name, value in _AT_ONCE.items():
            setattr(datasets.config, name, value)
        datasets.disable_progress_bars()
        self.patience = patience or Patience(0)
        """May be replaced between two reads."""
        commit = revision or self.patience.trying(hub_commit)
        self._dataset = self.patience.trying(
            lambda: datasets.load_dataset(TINYSTORIES, split="train", streaming=True, revision=commit)
        )
        self.description: dict[str, Any] = {"kind": "tinystories", "dataset": TINYSTORIES, "revision": commit}
        self.description |= {"formats": ["parquet"], "fingerprint": commit}
        self.notes = [f"{TINYSTORIES} from the Hub, at commit {safe_line(commit, 40)}"]
        self.faults = Faults()

    def read(self, epoch: int, cursor: Cursor | None) -> Iterator[tuple[str, Cursor]]:
        """The rows of a pass from `cursor` on, an outage waited out and gone on from behind the last row."""
        del epoch  # each pass is the same
        while True:
            try:
                for story, behind in self._rows(cursor):
                    self.patience.rewarded()
                    cursor = behind
                    if story is None:
                        self.faults.broken += 1
                    else:
                        yield story, behind
            except hub_faults() as error:
                self.patience.bear(error)
            else:
                return

    def _rows(self, cursor: Cursor | None) -> Iterator[tuple[str | None, Cursor]]:
        """Each row's story (None: it has none) and the cursor behind it, from one opening of the stream."""
        rows = self._dataset.shard(num_shards=1, index=0)  # a position of its own: two may read at a time
        n_rows = 0
        if cursor is not None:
            n_rows = int(cursor["rows"])
            rows.load_state_dict(cursor["state"])
        stream = iter(rows)
        try:
            for row in stream:
                n_rows += 1
                story = row.get("text")
                yield story if isinstance(story, str) else None, {"rows": n_rows, "state": rows.state_dict()}
        finally:
            stream.close()  # an abandoned parquet stream can abort the interpreter at its exit

    @property
    def patience_seconds(self) -> float:
        """For so long no story may come, the library's own waits (such as a server's Retry-After) included."""
        return self.patience.seconds + _LIBRARY_SECONDS

    def share(self, cursor: Cursor) -> float:
        return min(int(cursor["rows"]) / _TRAIN_ROWS, 1.0)


_AT_ONCE = {
    "STREAMING_READ_MAX_RETRIES": 1,
    "STREAMING_READ_RETRY_INTERVAL": 0,
    "STREAMING_READ_SERVER_UNAVAILABLE_RETRY_INTERVAL": 0,
    "STREAMING_READ_RATE_LIMIT_RETRY_INTERVAL": 0,
    "STREAMING_OPEN_MAX_RETRIES": 1,
    "STREAMING_OPEN_RETRY_INTERVAL": 0,
}
"""`datasets` is to fail at once: by itself it tries for up to 28 minutes, and nobody hears of it.

Below it, `huggingface_hub` still tries a request 6 times within 23 s, or as the server's Retry-After says."""


def hub_commit() -> str:
    """The commit that the dataset's main branch points to."""
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(TINYSTORIES, timeout=AUTO_SECONDS).sha)


def hub_faults() -> tuple[type[Exception], ...]:
    """What the Hub's libraries raise when it fails: a lost connection, a status, a file that is not there or torn."""
    # huggingface_hub speaks through httpx2 or, before 2.0, httpx: whichever is there raises errors of its own kind.
    clients = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return (OSError, ValueError, RuntimeError, EOFError, *(client.HTTPError for client in clients))


def hub_error(error: BaseException, seconds: float = 0.0) -> HubError:
    """`error` in one line; `seconds`: for so long it was waited out."""
    for_long = f" for {in_words(seconds)}" if seconds >= 1 else ""
    return HubError(f"TinyStories cannot be read from the Hub{for_long} ({_reason(error)})", _WITHOUT_HUB)


def in_words(seconds: float) -> str:
    """A time such as `45 s` or `10 minutes`."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} minutes"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {safe_line(' '.join(str(error).split()), 120)}"


def _status(error: BaseException | None) -> int:
    """The HTTP status behind the error, or behind what caused it; 0 where there is none."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if status := getattr(getattr(error, "response", None), "status_code", 0):
            return int(status)
        seen.append(error)
        error = error.__cause__ or error.__context__
    return 0


def within(seconds: float, action: Callable[[], T]) -> T:
    """What `action` gives, or HubError after so many seconds: a server that hangs is left hanging in its thread."""
    answers: queue.SimpleQueue[T | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(action())
        except Exception as error:  # noqa: BLE001  handed to whoever waits for the answer
            answers.put(error)

    threading.Thread(target=ask, name="hub", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise HubError(f"the Hub does not answer within {seconds:g} s", _WITHOUT_HUB) from None
    if isinstance(answer, HubError):
        raise answer
    if isinstance(answer, hub_faults()):  # asked now: the first call imports the client whose errors these are
        raise hub_error(answer) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer

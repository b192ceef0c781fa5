"""Requests the stories of the story view from the generation client, and assigns its events to their columns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed
from storyteller.tui.story_columns import StoryColumn, StoryRequest, StoryVersion
from storyteller.tui.widgets.story_pane import TextSpan

if TYPE_CHECKING:
    from storyteller.inference.background import GenerationClient


class StoryRequests:
    """The stories being generated. Not thread-safe: for the app's thread."""

    def __init__(self, client: Callable[[], GenerationClient], on_events: Callable[[], object]) -> None:
        """`on_events` is called on the client's thread when events arrive, once until `take_events` is called."""
        self._client = client
        self._on_events = on_events
        self._announced = threading.Event()
        self._inbox: deque[Event] = deque()
        self._running: dict[int, tuple[StoryColumn, StoryVersion]] = {}  # by ticket

    def begin(
        self, column: StoryColumn, prefix: tuple[TextSpan, ...], params: SamplingParams, *, goes_on: bool
    ) -> None:
        """Generate what follows `prefix`, as a new version of the column."""
        version = StoryVersion(prefix, StoryRequest(column.model, params, goes_on, column.compute_type))
        column.push(version)
        version.ticket = self._client().generate(
            column.model, version.prompt, params, self._receive, goes_on=goes_on, compute_type=column.compute_type
        )
        self._running[version.ticket] = (column, version)

    def stop(self, columns: Iterable[StoryColumn]) -> None:
        """Stop the stories being generated in these columns."""
        for column in columns:
            if column.version.ticket is not None:
                self._client().cancel(column.version.ticket)

    def stop_all(self) -> None:
        for ticket in self._running:
            self._client().cancel(ticket)

    def take_events(self) -> Iterator[tuple[StoryColumn, StoryVersion, Event]]:
        """Apply the events that have arrived to their versions, and yield them with their column and version."""
        # Cleared before the inbox is emptied: an event that arrives meanwhile is announced again, never forgotten.
        self._announced.clear()
        while self._inbox:
            event = self._inbox.popleft()
            if event.ticket in self._running:
                column, version = self._running[event.ticket]
                version.apply(event)
                if isinstance(event, Ended | Failed):
                    del self._running[event.ticket]
                yield column, version, event

    def _receive(self, event: Event) -> None:
        """Called on the client's thread."""
        self._inbox.append(event)
        if not self._announced.is_set():
            self._announced.set()
            self._on_events()

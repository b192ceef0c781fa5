"""The stories of the Story view while the booth tells them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from storyteller.config.configs import SamplingParams
from storyteller.inference.background import Ended, Event, Failed
from storyteller.tui.story_columns import Page, StoryColumn, StoryRequest
from storyteller.tui.widgets.story_pane import Part

if TYPE_CHECKING:
    from storyteller.inference.background import GenerationClient


class StoryRequests:
    """Asks the booth, and knows which column's page each thing that it says is of. For the screen's thread alone."""

    def __init__(self, booth: Callable[[], GenerationClient], ring: Callable[[], None]) -> None:
        """`ring` is called on the booth's thread: once for all that comes until `heard` is taken."""
        self._booth = booth
        self._ring = ring
        self._rung = threading.Event()
        self._inbox: deque[Event] = deque()
        self._pages: dict[int, tuple[StoryColumn, Page]] = {}
        """By their tickets."""

    def begin(self, column: StoryColumn, before: tuple[Part, ...], sample: SamplingParams, *, goes_on: bool) -> None:
        """Tell in the column what follows `before`, on a page of its own."""
        page = Page(before, StoryRequest(column.model, sample, goes_on, column.numbers))
        column.turn(page)
        page.ticket = self._booth().tell(
            column.model, page.prompt, sample, self._hear, goes_on=goes_on, numbers=column.numbers
        )
        self._pages[page.ticket] = (column, page)

    def stop(self, columns: Iterable[StoryColumn]) -> None:
        """Stop what is being told in these columns."""
        for column in columns:
            if column.page.ticket is not None:
                self._booth().cancel(column.page.ticket)

    def stop_all(self) -> None:
        for ticket in self._pages:
            self._booth().cancel(ticket)

    def heard(self) -> Iterator[tuple[StoryColumn, Page, Event]]:
        """What the booth has said since, each thing with the page that has taken it."""
        self._rung.clear()
        while self._inbox:
            event = self._inbox.popleft()
            if event.ticket in self._pages:
                column, page = self._pages[event.ticket]
                page.hear(event)
                if isinstance(event, Ended | Failed):
                    del self._pages[event.ticket]
                yield column, page, event

    def _hear(self, event: Event) -> None:
        """Called on the booth's thread."""
        self._inbox.append(event)
        if not self._rung.is_set():
            self._rung.set()
            self._ring()

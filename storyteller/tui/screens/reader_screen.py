"""A screen whose contents come from a reader thread, which pauses while the screen is covered by another view."""

from __future__ import annotations

from textual import getters
from textual.screen import Screen

from storyteller.tui.base_app import BaseApp
from storyteller.tui.readers.reader_thread import ReaderThread


class ReaderScreen(Screen[None]):
    """Subclasses create `_reader` in `compose`, and start it."""

    app = getters.app(BaseApp)
    _reader: ReaderThread

    def on_unmount(self) -> None:
        self._reader.stop()

    def on_screen_suspend(self) -> None:
        self._reader.sleep()

    def on_screen_resume(self) -> None:
        self._reader.wake()

"""The part of the app that screens and widgets use. It knows none of the screens, so that all of them can import it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from textual import getters
from textual.app import App
from textual.screen import Screen

from storyteller.text import safe
from storyteller.tui import settings as settings_file
from storyteller.tui.readers.reader_thread import ReaderThread
from storyteller.tui.settings import Settings, ThemeName
from storyteller.tui.themes import PALETTES

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.inference.background import GenerationClient
    from storyteller.tui.run_actions import RunActions

Severity = Literal["information", "warning", "error"]
View = Literal["runs", "run", "story", "compare"]
VIEWS: tuple[View, ...] = get_args(View)


class BaseApp(App[None]):
    """Holds what screens share: the runs folder, the settings, the generation client and the actions on runs.

    `StorytellerApp` implements the methods that open views.
    """

    def __init__(
        self, runs_root: Path, *, now: Callable[[], float] = time.time, settings_path: Path | None = None
    ) -> None:
        """`now` returns seconds since the epoch; the ages of runs are computed with it."""
        super().__init__()
        self.runs_root = runs_root
        self.now = now
        self._settings_path = settings_path or settings_file.settings_file()
        self.settings: Settings = settings_file.read(self._settings_path)
        self._views: dict[View, Screen[None]] = {}

    @cached_property
    def generation_client(self) -> GenerationClient:
        """Generates stories in a child process, which the first request starts."""
        from storyteller.inference.background import GenerationClient

        return GenerationClient(self.runs_root)

    @cached_property
    def run_actions(self) -> RunActions:
        """Stops, resumes, renames and deletes runs."""
        from storyteller.tui.run_actions import RunActions

        return RunActions(self, self.runs_root, self.say, self.run_renamed)

    def on_unmount(self) -> None:
        if "generation_client" in self.__dict__:  # a cached property that was never used starts no child process
            self.generation_client.close()

    def say(self, text: str, severity: Severity = "information") -> None:
        """Show any text literally as a notification. Safe to call from any thread."""
        self.notify(safe(text), severity=severity, markup=False)

    def save_settings(self) -> None:
        """Write `settings` to disk; a failure is shown as a warning."""
        try:
            settings_file.write(self._settings_path, self.settings)
        except OSError as error:
            self.say(f"settings cannot be saved: {error.strerror or error}", "warning")

    @property
    def theme_name(self) -> ThemeName:
        return self.theme if self.theme in get_args(ThemeName) else "dark"  # type: ignore[return-value]

    @property
    def palette_colors(self) -> tuple[str, ...]:
        """Eight theme colours for lines and states, distinguishable on the theme's background, as style names."""
        return PALETTES[self.theme_name]

    def draw_with(self, cells: Cells) -> None:
        """Draw all charts with these characters, and save the choice."""
        self.settings.cells = cells
        self.save_settings()
        for screen in self.screen_stack:
            for widget in screen.query("*"):
                widget.refresh()

    @property
    def run_names(self) -> list[str]:
        """The runs seen at the last look, newest first."""
        # `getattr` here and below, and not `isinstance`: asking must not import the screens' modules.
        return getattr(self._views.get("runs"), "run_names", [])

    @property
    def run_shown(self) -> str | None:
        """The run of the run view, whether that view is on the screen or not."""
        return getattr(self._views.get("run"), "run_name", None)

    # --- views, implemented by the app --------------------------------------------------------------------------------

    def action_view(self, view: View) -> None:
        """Switch to a view, or say why there is nothing to show yet."""

    def action_help(self) -> None:
        """Show the keys of the current screen."""

    def open_run(self, name: str) -> None:
        """Show the run `name`."""

    def open_story(self, model: str | None = None, prompt: str = "") -> None:
        """Show the story view; a `model` or a `prompt` opens a fresh one."""

    def open_compare(self, names: Sequence[str]) -> None:
        """Show these runs side by side."""

    def run_renamed(self, old: str, new: str) -> None:
        """Update the run view after a run was renamed."""

    def action_new_run(self) -> None:
        """Show the form for a new run."""


class ReaderScreen(Screen[None]):
    """A screen whose contents come from a reader thread, which pauses while the screen is covered by another view.

    Subclasses create `_reader` in `compose`, and start it.
    """

    app = getters.app(BaseApp)
    _reader: ReaderThread

    def on_unmount(self) -> None:
        self._reader.stop()

    def on_screen_suspend(self) -> None:
        self._reader.sleep()

    def on_screen_resume(self) -> None:
        self._reader.wake()

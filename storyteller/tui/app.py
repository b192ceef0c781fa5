"""The terminal app: its views and how to move between them, its themes, and what it needs of Textual."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, get_args

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import Event, Paste
from textual.screen import Screen

from storyteller.text import safe
from storyteller.tui import compat
from storyteller.tui.base_app import BaseApp, View
from storyteller.tui.settings import ThemeName
from storyteller.tui.themes import THEMES


class StorytellerApp(BaseApp):
    """Opens the views. Each view's module is imported when the view is first shown."""

    TITLE = "storyteller"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('runs')", "Runs", show=False),
        Binding("2", "view('run')", "Run opened last", show=False),
        Binding("3", "view('story')", "Story", show=False),
        Binding("4", "view('compare')", "Compare", show=False),
        Binding("escape", "back", "Back", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        runs_root: Path,
        run: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        settings_path: Path | None = None,
    ) -> None:
        """Open `run` at the start if it is given. Raises RunError if there is no such run."""
        super().__init__(runs_root, now=now, settings_path=settings_path)
        self._first_run: str | None = None
        if run is not None:
            from storyteller.tracking import run_index

            self._first_run = run_index.find_run(runs_root, run).name
        self._earlier: list[View] = []
        """The views left so far, the last one at the end; escape goes back through them."""
        for name in set(self.available_themes) - set(get_args(ThemeName)):
            self.unregister_theme(name)
        for theme in THEMES:
            self.register_theme(theme)
        # NO_COLOR: without colour codes, text differs only in being bold, dim or reversed.
        self.set_reactive(App.theme, "ansi-dark" if self.no_color else self.settings.theme)
        if self.no_color:
            compat.drop_colors(self)
        self.stylesheet.set_variables(self.get_css_variables())
        self._first_theme, self._styles_are_new = self.theme, True

    def get_default_screen(self) -> Screen[None]:
        from storyteller.tui.screens.runs import RunsScreen

        self._views["runs"] = RunsScreen()
        return self._views["runs"]

    def on_mount(self) -> None:
        if self.settings.note:
            self.say(self.settings.note, "warning")
        if self._first_run is not None:
            self.open_run(self._first_run)

    def get_driver_class(self) -> type[Driver]:
        return compat.with_lenient_utf8(super().get_driver_class())

    async def on_event(self, event: Event) -> None:
        """Make pasted text safe before a text field shows it."""
        if isinstance(event, Paste):
            event.text = safe(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        await super().on_event(event)

    def refresh_css(self, animate: bool = True) -> None:
        """Skip the first refresh: Textual would parse all styles a second time at startup, for the same theme."""
        first, self._styles_are_new = self._styles_are_new, False
        if first and self.theme == self._first_theme:
            return
        super().refresh_css(animate)

    def watch_theme(self, theme: str) -> None:
        settings = getattr(self, "settings", None)  # Textual sets its first theme before the settings are read
        if settings is not None and not self.no_color and theme != settings.theme and theme in get_args(ThemeName):
            settings.theme = self.theme_name
            self.save_settings()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        from storyteller.tui.command_palette import commands

        yield from commands(self, screen)

    def action_command_palette(self) -> None:
        from storyteller.tui.command_palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    # --- views --------------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The view on the screen, or under a dialogue."""
        for screen in reversed(self.screen_stack):
            for name, known in self._views.items():
                if screen is known:
                    return name
        return "runs"

    def open_run(self, name: str) -> None:
        if self.run_shown != name:
            self._show_run(name)
        self._show("run")

    def run_renamed(self, old: str, new: str) -> None:
        if self.run_shown == old:
            self._show_run(new)

    def _show_run(self, name: str) -> None:
        from storyteller.tui.screens.run import RunScreen

        self._replace("run", RunScreen(name))

    def open_story(self, model: str | None = None, prompt: str = "") -> None:
        from storyteller.tui.screens.story import StoryScreen

        if "story" not in self._views or model is not None or prompt:
            self._replace("story", StoryScreen(model, prompt))
        self._show("story")

    def open_compare(self, names: Sequence[str]) -> None:
        from storyteller.tui.screens.compare import CompareScreen

        self._replace("compare", CompareScreen(list(names)))
        self._show("compare")

    def action_new_run(self) -> None:
        from storyteller.tui.screens.new_run import NewRunScreen

        self.push_screen(NewRunScreen())

    def action_view(self, view: View) -> None:
        if view in self._views:
            self._show(view)
        elif view == "run":
            self.say("no run has been opened yet: open one with enter")
        elif view == "story":
            self.open_story()
        else:
            self.say("mark two runs or more with space, then press c to compare them")

    async def action_back(self) -> None:
        if self._earlier:
            self._go(self._earlier.pop())
        elif self.view != "runs":
            self._go("runs")

    def action_help(self) -> None:
        from storyteller.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen, self.view))

    def _show(self, view: View) -> None:
        if view != self.view:
            self._earlier = [name for name in self._earlier if name not in (view, self.view)] + [self.view]
            self._go(view)

    def _go(self, view: View) -> None:
        """Switch to a view. The stack holds the runs and at most one view above; views keep their state."""
        while self.screen not in self._views.values():  # close forms and dialogues
            self.pop_screen()
        if view == self.view:
            return
        if view == "runs":
            self._earlier = []
            self.pop_screen()
        elif self.view == "runs":
            self.push_screen(view)
        else:
            self.switch_screen(view)

    def _replace(self, view: View, screen: Screen[None]) -> None:
        """Use `screen` for the view from now on, and remove the one before."""
        known = self._views.get(view)
        shown = known is not None and self.view == view
        if shown:
            while self.screen is not known:  # close forms and dialogues above it
                self.pop_screen()
            self.pop_screen()  # a screen on the stack cannot be uninstalled
        if known is not None:
            self.uninstall_screen(view)
            known.remove()
        self.install_screen(screen, view)
        self._views[view] = screen
        if shown:
            self.push_screen(view)

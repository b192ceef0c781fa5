"""The app itself: its views and how one moves between them, themes, what it remembers, and a safe voice."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import Event, Paste
from textual.filter import Monochrome, NoColor
from textual.screen import Screen

from storyteller.text import safe
from storyteller.tui import settings as remembered
from storyteller.tui.settings import Settings, ThemeName
from storyteller.tui.themes import PALETTES, THEMES

if TYPE_CHECKING:
    from storyteller.charts.types import Cells
    from storyteller.inference.background import GenerationClient
    from storyteller.tui.run_actions import RunActions

Severity = Literal["information", "warning", "error"]
View = Literal["runs", "run", "story", "compare"]
VIEWS: tuple[View, ...] = get_args(View)


class StorytellerApp(App[None]):
    """Screens find here what they share: the runs' folder, settings, the booth, and the way to each other."""

    TITLE = "storyteller"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "view('runs')", "Runs", show=False),
        Binding("2", "view('run')", "The last run", show=False),
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
        """`now` is the clock by which ages are told, seconds since the epoch. Raises RunError for an unknown `run`."""
        super().__init__()
        self.runs_root = runs_root
        self.now = now
        self._settings_path = settings_path or remembered.settings_file()
        self.settings: Settings = remembered.read(self._settings_path)
        self._first_run = _found(runs_root, run) if run is not None else None
        self._booth: GenerationClient | None = None
        self._deeds: RunActions | None = None
        self._views: dict[View, Screen[None]] = {}
        self._earlier: list[View] = []
        for name in set(self.available_themes) - set(get_args(ThemeName)):
            self.unregister_theme(name)
        for theme in THEMES:
            self.register_theme(theme)
        self.set_reactive(App.theme, self.settings.theme)
        if self.no_color:
            self._without_color()
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
        """As Textual's, but bytes that are no UTF-8 are read as U+FFFD, where they would end the app."""
        driver = super().get_driver_class()
        module: Any = sys.modules[driver.__module__]
        if hasattr(module, "getincrementaldecoder"):
            module.getincrementaldecoder = lambda encoding: partial(codecs.getincrementaldecoder(encoding), "replace")
        return driver

    async def on_event(self, event: Event) -> None:
        """As Textual's, but what is pasted is made safe: a text field shows it as it stands."""
        if isinstance(event, Paste):
            event.text = safe(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        await super().on_event(event)

    def on_unmount(self) -> None:
        if self._booth is not None:
            self._booth.close()

    def _without_color(self) -> None:
        """NO_COLOR: no code of a colour is written at all, so that what is bold, dim or reversed has to tell."""
        self.set_reactive(App.theme, "ansi-dark")
        self._filters[:] = [NoColor() if isinstance(each, Monochrome) else each for each in self._filters]

    def refresh_css(self, animate: bool = True) -> None:
        """As Textual's, but for the first time: as it starts it would parse all styles twice, for the same theme."""
        first, self._styles_are_new = self._styles_are_new, False
        if first and self.theme == self._first_theme:
            return
        super().refresh_css(animate)

    def watch_theme(self, theme: str) -> None:
        settings = getattr(self, "settings", None)  # the first theme comes before there are any
        if settings is not None and not self.no_color and theme != settings.theme and theme in get_args(ThemeName):
            settings.theme = self._theme_name()
            self.save_settings()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What ctrl+p finds: the screen's keys, the views, the runs, how it looks."""
        from storyteller.tui.command_palette import commands

        yield from commands(self, screen)

    def action_command_palette(self) -> None:
        from storyteller.tui.command_palette import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    # --- what screens share -------------------------------------------------------------------------------------------

    @property
    def booth(self) -> GenerationClient:
        """Where stories are told: a process of its own, begun by the first story."""
        if self._booth is None:
            from storyteller.inference.background import GenerationClient

            self._booth = GenerationClient(self.runs_root)
        return self._booth

    @property
    def deeds(self) -> RunActions:
        """What keys do to runs."""
        if self._deeds is None:
            from storyteller.tui.run_actions import RunActions

            self._deeds = RunActions(self)
        return self._deeds

    @property
    def palette_colors(self) -> tuple[str, ...]:
        """Eight colours of the theme, told apart on its background, as style names for lines and states."""
        return PALETTES[self._theme_name()]

    @property
    def run_names(self) -> list[str]:
        """The runs that were seen last, the newest first."""
        return getattr(self._views.get("runs"), "run_names", [])

    def draw_with(self, cells: Cells) -> None:
        """Draw charts with these cells from now on, everywhere, and remember it."""
        self.settings.cells = cells
        self.save_settings()
        for screen in self.screen_stack:
            for widget in screen.query("*"):
                widget.refresh()

    def say(self, text: str, severity: Severity = "information") -> None:
        """A passing message; any text, shown literally. May be called from any thread."""
        self.notify(safe(text), severity=severity, markup=False)

    def save_settings(self) -> None:
        """Remember `settings`; a disk that does not take them is told of, once a change."""
        try:
            remembered.write(self._settings_path, self.settings)
        except OSError as error:
            self.say(f"settings are not remembered: {error.strerror or error}", "warning")

    def _theme_name(self) -> ThemeName:
        return self.theme if self.theme in get_args(ThemeName) else "dark"  # type: ignore[return-value]

    # --- views --------------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The view that is shown, or lies under a dialogue."""
        for screen in reversed(self.screen_stack):
            for name, known in self._views.items():
                if screen is known:
                    return name
        return "runs"

    @property
    def run_shown(self) -> str | None:
        """The run that the run view shows, or would."""
        name = getattr(self._views.get("run"), "run_name", None)  # its module is not imported for a question
        return name if isinstance(name, str) else None

    def open_run(self, name: str) -> None:
        """Show the run called `name`."""
        from storyteller.tui.screens.run import RunScreen

        known = self._views.get("run")
        if not isinstance(known, RunScreen) or known.run_name != name:
            self._replace("run", RunScreen(name))
        self._show("run")

    def open_story(self, model: str | None = None, prompt: str = "") -> None:
        """Show the story view; with a `model` or a `prompt`, a fresh one that begins with them."""
        from storyteller.tui.screens.story import StoryScreen

        if "story" not in self._views or model is not None or prompt:
            self._replace("story", StoryScreen(model, prompt))
        self._show("story")

    def open_compare(self, names: Sequence[str]) -> None:
        """Show these runs side by side."""
        from storyteller.tui.screens.compare import CompareScreen

        self._replace("compare", CompareScreen(list(names)))
        self._show("compare")

    def run_renamed(self, old: str, new: str) -> None:
        """A run that is shown, or would be, goes by its new name."""
        if self.run_shown == old:
            from storyteller.tui.screens.run import RunScreen

            self._replace("run", RunScreen(new))

    def new_run(self) -> None:
        """Show the form of a new run."""
        from storyteller.tui.screens.new_run import NewRunScreen

        self.push_screen(NewRunScreen())

    def action_view(self, view: View) -> None:
        if view in self._views:
            self._show(view)
        elif view == "run":
            self.say("no run has been opened yet: choose one with enter")
        elif view == "story":
            self.open_story()
        else:
            self.say("mark two runs or more with space, then press c to compare them")

    def action_new_run(self) -> None:
        self.new_run()

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
        """The stack is always Runs and at most one view over it; a view that is left keeps what it holds."""
        while self.screen not in self._views.values():  # a form
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
        """`screen` takes the view's place; the one before is let go."""
        known = self._views.get(view)
        shown = known is not None and self.view == view
        if shown:
            while self.screen is not known:  # a form over it
                self.pop_screen()
            self.pop_screen()  # a screen on the stack cannot be uninstalled
        if known is not None:
            self.uninstall_screen(view)
            known.remove()
        self.install_screen(screen, view)
        self._views[view] = screen
        if shown:
            self.push_screen(view)


def _found(runs_root: Path, run: str) -> str:
    from storyteller.tracking import run_index

    return run_index.find_run(runs_root, run).name

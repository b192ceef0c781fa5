"""The dialogue that saves a story to a new file."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import ClassVar

from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from storyteller.text import safe_line
from storyteller.tui.base_app import BaseApp
from storyteller.tui.safe_content import line

_NAME_WORDS = 5


class SaveScreen(ModalScreen[Path | None]):
    """Asks for a file name. Returns the path of the saved story, or None if the dialogue was cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]
    app = getters.app(BaseApp)

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(line("Save the story as", "bold"), markup=False)
            yield Input(free_name(self._text), select_on_focus=False, compact=True)
            yield Static(line("enter saves, esc cancels", "$text-muted"), markup=False, classes="problem")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        name = event.value.strip()
        try:
            path = Path(name).expanduser()
            save(path, self._text)
        except (OSError, ValueError, RuntimeError) as error:
            self.query_one(".problem", Static).update(line(_problem(name, error)))
        else:
            self.dismiss(path)


def save(path: Path, text: str) -> None:
    """Write a story to a new file. Raises FileExistsError or another OSError, and leaves no partial file."""
    file = path.open("x", encoding="utf-8", errors="replace", newline="")
    try:
        with file:
            file.write(text if text.endswith("\n") else text + "\n")
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def free_name(text: str) -> str:
    """A file name made of the story's first words that does not exist in the working directory."""
    words = re.findall(r"[a-z0-9]+", text.casefold()[:200])[:_NAME_WORDS]
    stem = "-".join(words)[:60] or "story"
    name, number = f"{stem}.txt", 2
    while Path(name).exists():
        name, number = f"{stem}-{number}.txt", number + 1
    return name


def _problem(name: str, error: Exception) -> str:
    shown = safe_line(name, 60)
    if not name:
        return "enter a file name"
    if isinstance(error, FileExistsError):
        return f"{shown} exists: choose another name"
    if isinstance(error, FileNotFoundError):
        return f"the folder of {shown} does not exist"
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return f"{shown} cannot be saved: {safe_line(why, 100).lower()}"

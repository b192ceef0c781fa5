"""The input line of a session: editing, history and completion by prompt_toolkit, with all text made safe.

prompt_toolkit replaces most control characters by symbols of its own but passes bidirectional ones. So every character
goes through `text.safe` twice: on the line, where cursor positions are mapped accordingly, and once more just before
the terminal, for whatever else was drawn (menus, searches, text left by an editor).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

from storyteller.cli.story_output import cells, terminal_columns
from storyteller.text import safe, safe_line

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer
    from prompt_toolkit.history import History
    from prompt_toolkit.layout.processors import Processor
    from prompt_toolkit.output import Output

_MENU_LINES = 6
_HISTORY_LINES = 5_000
"""Lines of history that are loaded; the file may hold more."""


def line_reader(model_names: Callable[[], Sequence[str]]) -> Callable[[str], str]:
    """Returns a function that reads a line after showing a label.

    It raises EOFError on Ctrl-D and KeyboardInterrupt on Ctrl-C. Terminals that cannot move the cursor (`TERM=dumb`)
    are read with `input`.
    """
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", "") and sys.platform != "win32":
        return _read_plainly
    from prompt_toolkit import PromptSession
    from prompt_toolkit.shortcuts import CompleteStyle
    from prompt_toolkit.styles import Style

    prompts: PromptSession[str] = PromptSession(
        history=_history(),
        completer=_completer(model_names),
        complete_while_typing=True,
        complete_style=CompleteStyle.COLUMN,
        reserve_space_for_menu=_MENU_LINES,
        input_processors=[_pictures()],
        output=_safe_output(sys.stdout),
        style=Style.from_dict({"prompt": "bold", "more": "nobold"}),
        prompt_continuation=lambda width, _number, _wraps: " " * width,
    )

    def read(label: str) -> str:
        return prompts.prompt([("class:prompt", _short(label)), ("class:more", "> ")])

    return read


def _read_plainly(label: str) -> str:
    try:
        return input(f"{_short(label)}> ")
    except (EOFError, KeyboardInterrupt):
        print()
        raise


def _short(label: str) -> str:
    """Shortens the model's name to half of the line, from the left: the end of a path says more."""
    most = max(terminal_columns() // 2 - 2, 8)
    shown = safe_line(label)
    if cells(shown) > most:
        while cells(shown) > most - 1:
            shown = shown[1:]
        shown = "\u2026" + shown
    return shown


def _history() -> History:
    """Returns the lines of earlier sessions from the user's data folder; errors of reading and writing are ignored."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    from storyteller.inference.story_history import data_folder

    class Lines(FileHistory):
        def load_history_strings(self) -> Iterable[str]:
            with contextlib.suppress(OSError):
                yield from itertools.islice(super().load_history_strings(), _HISTORY_LINES)

        def store_string(self, string: str) -> None:
            with contextlib.suppress(OSError):
                super().store_string(string)

    path = data_folder() / "history.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return Lines(path)


def _completer(model_names: Callable[[], Sequence[str]]) -> Completer:
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    from storyteller.cli.tell_session import COMMANDS, SETTINGS

    class Words(Completer):
        def get_completions(self, document: Document, _: CompleteEvent) -> Iterable[Completion]:
            line = document.text_before_cursor
            command, space, begun = line.partition(" ")
            if not line.startswith("/") or line.startswith("//") or " " in begun:
                return
            if space:
                names = model_names() if command == "/model" else SETTINGS if command == "/set" else ()
                for name in names:
                    if name.startswith(begun):
                        yield Completion(name, -len(begun), display=safe_line(name, 60))
                return
            for each in COMMANDS:
                if each.name.startswith(command[1:]):
                    yield Completion(f"/{each.name}", -len(command), display_meta=each.help)

    return Words()


def _pictures() -> Processor:
    """Returns a processor that shows control characters as `text.safe_line` does and maps the cursor's position."""
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput

    class Pictures(Processor):
        def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
            shown: StyleAndTextTuples = []
            starts = [0]  # display column at which each source character starts
            for style, text, *_ in transformation_input.fragments:
                for character in text:
                    picture = safe_line(character)
                    shown.append((style, picture))
                    starts.append(starts[-1] + len(picture))

            def to_display(place: int) -> int:
                return starts[min(place, len(starts) - 1)] + max(place - len(starts) + 1, 0)

            def to_source(place: int) -> int:
                return min(bisect_right(starts, place) - 1, len(starts) - 1)

            return Transformation(shown, source_to_display=to_display, display_to_source=to_source)

    return Pictures()


def _safe_output(stream: TextIO) -> Output:
    """Returns a terminal output that makes all text safe; prompt_toolkit writes its own escapes by another method."""
    from prompt_toolkit.output import create_output

    if sys.platform == "win32":
        return create_output(stream)
    from prompt_toolkit.output.vt100 import Vt100_Output

    class Safe(Vt100_Output):
        def write(self, data: str) -> None:
            # Carriage returns are cursor movements of prompt_toolkit's; those in texts were replaced before.
            super().write("\r".join(map(safe, data.split("\r"))))

    output = Safe.from_pty(stream, term=os.environ.get("TERM"))
    # A cursor position request would be answered during generation, when nobody reads the answer.
    output.enable_cpr = False
    return output

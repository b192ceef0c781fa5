"""The keyboard beside a session: editing a story in an external editor, and muting echo during generation."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from storyteller.errors import UsageError, reason_of
from storyteller.text import safe_line


def edit_text(text: str) -> str:
    """Opens `text` in the user's editor and returns the result. Raises UsageError if there is none or it fails."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    editor = named or next((one for one in ("nano", "vi", "notepad") if shutil.which(one)), "")
    try:
        words = shlex.split(editor)
    except ValueError:
        words = []
    if not words:
        raise UsageError("there is no editor", "name one in $EDITOR")
    with tempfile.TemporaryDirectory(prefix="storyteller-") as folder:
        name, path = safe_line(words[0], 100), Path(folder) / "story.txt"
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            status = subprocess.run([*words, str(path)], check=False).returncode
        except OSError as error:
            raise UsageError(f"{name} does not start: {reason_of(error)}", "name another $EDITOR") from error
        if status:
            raise UsageError(f"{name} ended with status {status}", "the story is as it was")
        changed = path.read_text(encoding="utf-8", errors="replace")
    # Editors add a newline at the end of the file.
    return changed if text.endswith("\n") else changed.removesuffix("\n")


@contextlib.contextmanager
def echo_off() -> Iterator[None]:
    """Switches off echo, so that keys pressed during generation do not show within the story. Ctrl-C still works."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        yield
        return
    import termios

    before = termios.tcgetattr(sys.stdin)
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, [*before[:3], before[3] & ~termios.ECHO, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

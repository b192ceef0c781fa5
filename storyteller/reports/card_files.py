"""Writes a model card to files: HTML, Markdown and JSON."""

from __future__ import annotations

from pathlib import Path

from storyteller.errors import UsageError, invalid_value, write_error
from storyteller.evaluation.model_card.card import Card, read_card
from storyteller.reports.card_markdown import markdown
from storyteller.reports.card_page import card_page
from storyteller.reports.html import write as write_page
from storyteller.system.files import write_json, write_text
from storyteller.text import safe_line

_NAMES = ("card.html", "card.md", "card.json")


def target_files(path: Path) -> list[Path]:
    """Returns the files to write for `--out path`. Raises UsageError if one exists and is not a card."""
    shown = safe_line(str(path), 200)
    if path.suffix in ("", ".") or path.is_dir():
        if path.exists() and not path.is_dir():
            raise UsageError(f"{shown} is a file without an extension", "name a folder, or a .html, .md or .json file")
        targets = [path / name for name in _NAMES]
    elif path.suffix not in (".html", ".md", ".json"):
        raise invalid_value("--out", shown, "a .html, .md or .json file, or a folder")
    else:
        targets = [path]
    if not path.parent.is_dir():
        raise UsageError(f"{safe_line(str(path.parent), 200)} is not a folder", "create it, or name another file")
    for target in targets:
        if target.exists() and not _is_card(target):
            raise UsageError(f"{safe_line(str(target), 200)} exists and is not a card", "name another file")
    return targets


def _is_card(path: Path) -> bool:
    """True if `write_card` may have written the file; nothing else is overwritten."""
    if path.suffix == ".json":
        return read_card(path) is not None
    beginnings = ("# model card of", "# the card of") if path.suffix == ".md" else ("<!doctype html>",)
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(20).lower().startswith(beginnings)
    except OSError:
        return False


def write_card(path: Path, card: Card) -> None:
    """Writes the card in the format of the file's extension, or in all formats to a folder."""
    try:
        for target in target_files(path):
            if target != path:
                path.mkdir(exist_ok=True)
            if target.suffix == ".html":
                write_page(target, card_page(card))
            elif target.suffix == ".md":
                write_text(target, markdown(card))
            else:
                write_json(target, card.to_json())
    except OSError as error:
        raise write_error(safe_line(str(path), 200), error, "name another place") from error

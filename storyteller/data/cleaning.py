"""Cleaning of stories for training, and the normal form by which two stories count as the same."""

from __future__ import annotations

import re
import unicodedata

from storyteller.config.configs import Clean

END_OF_TEXT = "<|endoftext|>"
_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb", '"')
)
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015", "-") | {"\u2026": "..."})
# Mojibake: UTF-8 that was decoded as Windows-1252. A lead byte and its continuation bytes appear as one character each.
_CONTINUATION = "".join(
    bytes([b]).decode("cp1252") if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(b) for b in range(0x80, 0xC0)
)
_MOJIBAKE = re.compile(
    f"[\u00c2-\u00df][{re.escape(_CONTINUATION)}]"
    f"|[\u00e0-\u00ef][{re.escape(_CONTINUATION)}]{{2}}"
    f"|[\u00f0-\u00f4][{re.escape(_CONTINUATION)}]{{3}}"
)
# A right double quote whose last byte was lost: 0x9D is no character in that code page.
_TORN_QUOTE = re.compile("\u00e2\u20ac(?=$|[\\s.,!?A-Za-z0-9])")
_DROPPED_LIGHT = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"  # controls
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # invisible and bidirectional
    "\ufffc\ufffd\ud800-\udfff]"  # stand-ins for text that could not be decoded
)
_DROPPED_CLASSIC = re.compile(r"[^A-Za-z0-9.,!?'\" ]")


def _mend(match: re.Match[str]) -> str:
    mangled = match.group()
    raw = bytes(ord(c) if ord(c) < 0x100 else c.encode("cp1252")[0] for c in mangled)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return mangled


def mend_mojibake(text: str) -> str:
    """Repairs UTF-8 that was decoded as Windows-1252 (a curly quote appears as three odd characters)."""
    return text if text.isascii() else _TORN_QUOTE.sub('"', _MOJIBAKE.sub(_mend, text))


def clean(story: str, how: Clean = "light") -> str:
    """Cleans a story for training; returns the empty string where nothing is left.

    `light` repairs mojibake, makes curly quotes, dashes and ellipses ASCII, drops control and invisible characters, and
    collapses white space, with one line per paragraph. `classic` is the published recipe: it makes quotes straight and
    all white space single spaces, and drops everything but ASCII letters, digits and `. , ! ? ' "`.
    """
    story = story.replace(END_OF_TEXT, " ")
    if how == "classic":
        return " ".join(_DROPPED_CLASSIC.sub("", " ".join(story.translate(_QUOTES).split())).split())
    if not story.isascii():
        story = unicodedata.normalize("NFC", mend_mojibake(story)).translate(_QUOTES).translate(_DASHES)
    story = _DROPPED_LIGHT.sub("", story.replace("\r\n", "\n").replace("\r", "\n"))
    paragraphs = (" ".join(line.split()) for line in story.split("\n"))
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)


_NOT_WORD = re.compile(r"[\W_]+")
_ASCII_WORDS = bytes(code if chr(code).isalnum() and code < 0x80 else 0x20 for code in range(0x100)).lower()
"""Translation table of `fold` for ASCII: lower-case letters and digits stay, everything else becomes a space."""


def fold(story: str) -> str:
    """Reduces a story to its words, in lower case, without quotes and punctuation. Stories with equal words are equal.

    The result is the same after either way of cleaning, so the held-out split does not depend on it.
    """
    if story.isascii():  # five times faster with the same result; every story of a corpus passes through here
        return b" ".join(story.encode().translate(_ASCII_WORDS, b"'`").split()).decode()
    straight = mend_mojibake(story).translate(_QUOTES).replace("'", "")
    return _NOT_WORD.sub(" ", straight.casefold()).strip()

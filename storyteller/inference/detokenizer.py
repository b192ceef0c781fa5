"""Turns generated tokens into text that can be shown as it is made: whole characters, cut before a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPLACEMENT = "\ufffd"
"""What tokenizers decode bytes to that do not form a whole character."""
_MIN_CONTEXT, _MAX_CONTEXT = 8, 24
"""Tokens before the new ones that are decoded with them."""
_MAX_HELD_CHARS = 48
"""Trailing replacement characters that are held back; a model that generates only broken bytes is shown anyway."""


class Detokenizer:
    """Decodes a growing sequence of tokens piece by piece. A character of several tokens comes out when it is whole.

    Tokens cannot be decoded one at a time: the text of a token depends on those before it (a space at its front is
    dropped at the start of a text, and a character may span several byte tokens). Decoding the whole sequence again for
    each token would take quadratic time. So a short tail of the sequence is decoded, before and after the new tokens
    are appended, and the piece is the difference.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int]) -> None:
        """`before` is the tokens of the prompt that the text continues."""
        self._tokenizer = tokenizer
        self._ids: list[int] = self._tail(list(before)) or []
        self._shown = len(self._decode(self._ids))
        """Characters of the decoded tail that have been returned, or belong to the prompt."""

    def push(self, tokens: Sequence[int]) -> str:
        """Appends tokens and returns the text that they complete."""
        return "".join(self._push(tokens[i : i + 8]) for i in range(0, len(tokens), 8))

    def _push(self, tokens: Sequence[int]) -> str:
        self._ids += tokens
        text = self._decode(self._ids)
        # An unfinished character decodes to one replacement character or, in tokenizers with byte fallback, turns all
        # bytes of its run into replacement characters. Both stand at the end, and are held back.
        broken = len(text) - len(text.rstrip(REPLACEMENT))
        whole = len(text) - (broken if broken <= _MAX_HELD_CHARS else 0)
        piece = text[self._shown : whole]
        self._shown = max(self._shown, whole)
        # Once all of it is shown, the tail is cut to its last tokens, so that decoding stays cheap.
        if whole == len(text) and len(self._ids) > _MAX_CONTEXT and (tail := self._tail(self._ids)):
            self._ids = tail
            self._shown = len(self._decode(tail))
        return piece

    def _tail(self, ids: list[int]) -> list[int] | None:
        """The last 8 to 24 tokens, starting where a character starts; None if there is no such place."""
        for length in range(min(_MIN_CONTEXT, len(ids)), min(_MAX_CONTEXT, len(ids)) + 1):
            if not self._decode(ids[-length:]).startswith(REPLACEMENT):
                return ids[-length:] if length else []
        return None

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)


class StopStrings:
    """Cuts a text that comes in pieces before the first stop string, even one that spans several pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """Appends a piece and returns the text that is safe to show."""
        if self.found:
            return ""
        text = self._held + piece
        positions = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        if positions:
            self.found, self._held = True, ""
            return text[: min(positions)]
        # The end of the text may be the beginning of a stop string that the next piece completes. The longest such
        # end is held back, and returned later if the next piece turns it into ordinary text.
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """Returns the text that was held back, at the end of the story."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, but is not all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)

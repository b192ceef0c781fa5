"""Makes untrusted text safe to show: terminals, pages and logs pass such text through `safe` or `safe_line`."""

from __future__ import annotations

_BIDIRECTIONAL = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_KEPT = {0x09, 0x0A}


def _visible_controls() -> dict[int, str]:
    """The text that replaces each code point that could control a terminal or reorder text."""
    table = {code: chr(0x2400 + code) for code in range(0x20) if code not in _KEPT}
    table[0x7F] = "\u2421"
    # C1 controls (0x9B alone starts an escape sequence), line separators and bidirectional controls have no symbol of
    # their own, so their code point is shown.
    for code in [*range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF, *_BIDIRECTIONAL]:
        table[code] = f"\u2039{code:02X}\u203a"
    # A lone surrogate cannot be encoded as UTF-8.
    table.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))
    return table


_SAFE = _visible_controls()
_SAFE_LINE = {**_SAFE, 0x09: "\u2409", 0x0A: "\u240a"}


def safe(text: str) -> str:
    """Replaces every control character except newline and tab by a visible symbol.

    Each character is mapped on its own, so the pieces of a stream can be made safe one at a time.
    """
    return text.translate(_SAFE)


def safe_line(text: str, limit: int = 0) -> str:
    """As `safe`, on one line; with `limit`, cut to that many characters, the last of them an ellipsis."""
    line = text.translate(_SAFE_LINE)
    return line[: limit - 1] + "\u2026" if 0 < limit < len(line) else line

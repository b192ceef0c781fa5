"""Text that comes from elsewhere: cleaning stories for training, and making anything safe to show.

This is the only place that makes untrusted text safe; every door (terminal, page, log) calls `safe` or `safe_line`.
"""

from __future__ import annotations

# --- safe to show -----------------------------------------------------------------------------------------------------

_BIDIRECTIONAL = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_KEPT = {0x09, 0x0A}


def _pictures() -> dict[int, str]:
    """What each code point that could steer a terminal is shown as."""
    table = {code: chr(0x2400 + code) for code in range(0x20) if code not in _KEPT}
    table[0x7F] = "\u2421"
    # C1 controls (0x9B alone is a CSI), line separators and bidirectional controls have no picture: name them instead.
    for code in [*range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF, *_BIDIRECTIONAL]:
        table[code] = f"\u2039{code:02X}\u203a"
    # A lone surrogate cannot be written as UTF-8 at all.
    table.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))
    return table


_SAFE = _pictures()
_SAFE_LINE = {**_SAFE, 0x09: "\u2409", 0x0A: "\u240a"}


def safe(text: str) -> str:
    """`text` with every control but newline and tab shown as its picture.

    Nothing is lost and nothing can steer a terminal. Each character is mapped by itself, so pieces of a stream may be
    made safe one at a time.
    """
    return text.translate(_SAFE)


def safe_line(text: str, limit: int = 0) -> str:
    """`text` made safe and kept on one line; with `limit`, cut to so many characters with an ellipsis."""
    line = text.translate(_SAFE_LINE)
    return line[: limit - 1] + "\u2026" if 0 < limit < len(line) else line


# --- cleaning ---------------------------------------------------------------------------------------------------------

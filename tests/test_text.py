"""Untrusted text is made safe to show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.text import safe, safe_line

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_safe_text_has_no_control_but_newline_and_tab(text: str) -> None:
    shown = safe(text)
    assert not [c for c in shown if (ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0]
    shown.encode("utf-8")  # lone surrogates would raise


@given(ANY_TEXT)
def test_safe_line_is_one_line(text: str) -> None:
    assert len(safe_line(text).splitlines()) <= 1


@given(ANY_TEXT, st.integers(0, 20))
def test_pieces_made_safe_one_by_one_equal_the_whole(text: str, cut: int) -> None:
    assert safe(text[:cut]) + safe(text[cut:]) == safe(text)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b]52;c;aGk=\x07", "\u241b]52;c;aGk=\u2407"),
        ("a\x9b31mb", "a\u20399B\u203a31mb"),
        ("abc\u202edef", "abc\u2039202E\u203adef"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x7f\x00", "\u2421\u2400"),
        ("\ud800", "\ufffd"),
    ],
)
def test_a_control_is_shown_as_its_picture(raw: str, shown: str) -> None:
    assert safe(raw) == shown


def test_a_long_line_is_cut_with_an_ellipsis() -> None:
    assert safe_line("abcdef", 4) == "abc\u2026"
    assert safe_line("abcd", 4) == "abcd"

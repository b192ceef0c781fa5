"""Cleaning stories for training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyteller.data.cleaning import clean, fold, mend_mojibake

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("raw", "light", "classic"),
    [
        ("\u201cHi\u201d,  she said.\r\n\r\n It\u2019s me.", '"Hi", she said.\nIt\'s me.', '"Hi", she said. It\'s me.'),
        ("\u00e2\u20ac\u0153Hi\u00e2\u20ac\x9d she said", '"Hi" she said', "Hi she said"),
        ("A\u2014B \u2026 c", "A-B ... c", "AB c"),
        ("one\x00 two\x07\ufeff", "one two", "one two"),
        ("caf\u00c3\u00a9 (big; red)", "caf\u00e9 (big; red)", "caf big red"),
        ("The end.<|endoftext|>", "The end.", "The end."),
        (" \n\t ", "", ""),
    ],
)
def test_each_way_of_cleaning_gives_exactly_this(raw: str, light: str, classic: str) -> None:
    assert clean(raw, "light") == light
    assert clean(raw, "classic") == classic


@given(ANY_TEXT)
def test_light_cleaning_is_done_after_one_pass(text: str) -> None:
    once = clean(text)
    assert not once or once == once.strip()
    assert "\n\n" not in once and "  " not in once and "\x00" not in once


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_classic_cleaning_leaves_the_published_alphabet(text: str) -> None:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?'\" ")
    assert set(clean(text, "classic")) <= allowed


def test_good_text_is_not_taken_for_mojibake() -> None:
    for good in ("na\u00efve caf\u00e9", "\u00c3 \u00e2 \u00e9t\u00e9", "\u4f60\u597d", "20\u20ac"):
        assert mend_mojibake(good) == good


def test_the_fold_of_a_story_does_not_depend_on_how_it_was_cleaned() -> None:
    raw = "\u201cDon\u2019t!\u201d she said.\n\nThe END\u2026"
    assert fold(raw) == fold(clean(raw)) == fold(clean(raw, "classic")) == "dont she said the end"


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_ascii_folds_as_it_does_beside_other_letters(story: str) -> None:
    assert fold(f"{story} \u00e9") == f"{fold(story)} \u00e9".strip()

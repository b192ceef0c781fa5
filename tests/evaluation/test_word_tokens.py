"""Stories taken apart: what was told, what is speech, where sentences begin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.evaluation.text_metrics.word_tokens import (
    StoryCompletion,
    TokenizedStory,
    split_prompt,
    stem,
    tokenize,
)


def tokenized(text: str) -> TokenizedStory:
    return tokenize(StoryCompletion("", text, True))


def beginnings(text: str) -> list[str]:
    found = tokenized(text)
    return [token for token, begins in zip(found.tokens, found.begins_sentence, strict=True) if begins]


def test_words_keep_their_apostrophes_and_marks_stand_alone() -> None:
    assert tokenized("\"Don't!\" said Tom's cat...").tokens == ['"', "Don't", "!", '"', "said", "Tom's", "cat", "..."]


def test_what_comes_after_the_prompt_was_told_and_a_word_it_breaks_off_too() -> None:
    assert tokenize(StoryCompletion("Once upon a ti", "me, a dog", True)).words() == ["time", "a", "dog"]
    assert tokenize(StoryCompletion("Once upon a time", ", a dog", True)).words() == ["a", "dog"]
    assert tokenize(StoryCompletion("Once upon a time ", "a dog", True)).prompt_words() == ["once", "upon", "a", "time"]


def test_curly_quotes_are_speech_like_straight_ones() -> None:
    found = tokenized("\u201cHi,\u201d said Tom.")
    assert [token for token, said in zip(found.tokens, found.in_speech, strict=True) if said] == ["Hi", ","]


def test_a_paragraph_closes_speech_that_was_left_open() -> None:
    found = tokenized('"Hi, said Tom.\nHe ran.')
    assert not any(found.in_speech[found.tokens.index("\n") :])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He ran. then he fell.", ["He", "then"]),
        ('"Stop!" she said. He did.', ["Stop", "He"]),
        ('"Stop!" She ran.', ["Stop", "She"]),
        ("Mr. Bear sat. It was cold.", ["Mr", "It"]),
        ("He waited... and waited.", ["He"]),
        ("One\nTwo", ["One", "Two"]),
        ("3 dogs ran. They hid.", ["They"]),
    ],
)
def test_sentences_begin_where_a_reader_says(text: str, expected: list[str]) -> None:
    assert beginnings(text) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("kite kites kite's", "kit"),
        ("hop hops hopped hopping", "hop"),
        ("play played playing plays", "play"),
        ("puppy puppies", "puppy"),
        ("box boxes", "box"),
        ("dress dresses", "dress"),
        ("sing", "sing"),
        ("bus", "bus"),
    ],
)
def test_forms_of_a_word_have_one_stem(words: str, expected: str) -> None:
    assert {stem(word) for word in words.split()} == {expected}


def test_a_real_story_is_cut_into_a_prompt_and_the_rest() -> None:
    assert split_prompt("One two  three\nfour.", 2) == StoryCompletion("One two", "  three\nfour.", True)
    assert split_prompt("One two", 5) == StoryCompletion("", "One two", True)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60), st.text(max_size=60))
def test_any_text_is_taken_apart_into_tokens_that_are_all_in_one_sentence_at_most(prompt: str, text: str) -> None:
    found = tokenize(StoryCompletion(prompt, text, False))
    assert len(found.tokens) == len(found.begins_sentence) == len(found.in_speech) == len(found.lower)
    assert 0 <= found.start <= len(found.tokens)
    ends = [end for _, end in found.sentences]
    starts = [start for start, _ in found.sentences]
    assert all(start < end for start, end in found.sentences) and starts[1:] == ends[:-1]

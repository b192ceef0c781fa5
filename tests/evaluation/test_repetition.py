"""Repetition: loops, different n-grams, and how alike the stories of a set are."""

from __future__ import annotations

import pytest

from storyteller.evaluation.text_metrics.repetition import distinct, repeated_words, self_bleu
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, tokenize
from tests.support.judged import held_out


def words(text: str) -> list[str]:
    return text.split()


def looped(text: str, prompt: str = "") -> int:
    return len(repeated_words(tokenize(StoryCompletion(prompt, text, True))))


def test_of_one_sentence_said_ten_times_nine_tenths_are_loops() -> None:
    assert looped("The dog ran to the park. " * 10) == 54


def test_one_word_without_end_is_a_loop_from_its_ninth_word_back_to_its_second() -> None:
    assert looped("and " * 40) == 39


def test_a_sentence_of_the_prompt_said_again_is_a_loop() -> None:
    assert looped(" He was very happy. She ran.", prompt="He was very happy.") == 4


def test_short_sentences_may_be_said_twice() -> None:
    assert looped('"Thank you!" said Tom. "Thank you!" said Mia.') == 0


def test_real_tales_have_nearly_no_loops() -> None:
    stories = [tokenize(story) for story in held_out()]
    assert (
        sum(len(repeated_words(story)) for story in stories) / sum(len(tokenized.words()) for tokenized in stories)
        < 0.02
    )


def test_distinct_counts_different_ngrams() -> None:
    assert distinct(words("a b a b"), 1) == 0.5
    assert distinct(words("a b a b"), 2) == 2 / 3
    assert distinct(words("a b c"), 3) == 1
    assert distinct(["a"], 2) is None


def test_distinct_is_a_mean_over_windows_so_a_longer_story_is_not_poorer() -> None:
    fifty = [str(n) for n in range(50)]
    assert distinct(fifty, 1) == distinct(fifty * 10, 1) == 1
    assert distinct(["a"] * 51, 1) == 1 / 50
    assert distinct(["b"] + ["a"] * 50, 1) == pytest.approx((2 / 50 + 1 / 50) / 2)


def test_alike_stories_have_self_bleu_1_and_stories_without_a_shared_word_0() -> None:
    assert self_bleu([words("a b c d e")] * 3) == pytest.approx([1, 1, 1])
    assert self_bleu([words("a b c d"), words("e f g h")]) == [0, 0]


def test_self_bleu_of_a_small_set_by_hand() -> None:
    # Of "a b c d" against "a b c e": words 3/4, pairs (2+1)/(3+1), triples (1+1)/(2+1), fours (0+1)/(1+1).
    expected = (3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25
    assert self_bleu([words("a b c d"), words("a b c e")]) == pytest.approx([expected, expected])


def test_counts_are_clipped_by_the_story_that_has_most_of_them() -> None:
    # "a" five times against stories with one and two: 2 of 5 count.
    found = self_bleu([["a"] * 5, ["a", "b", "c", "d"], ["a", "a", "e", "f"]])[0]
    assert found == pytest.approx((2 / 5 * (1 + 1) / (4 + 1) * 1 / 4 * 1 / 3) ** 0.25)


def test_self_bleu_does_not_grow_with_the_number_of_stories() -> None:
    stories = [tokenize(story).words() for story in held_out()]
    few, many = self_bleu(stories[:40]), self_bleu(stories)
    mean_few = sum(score or 0 for score in few) / len(few)
    mean_many = sum(score or 0 for score in many) / len(many)
    assert mean_few == pytest.approx(mean_many, abs=0.05)


def test_stories_without_words_have_no_self_bleu() -> None:
    assert self_bleu([[], words("a b c d"), words("a b")]) == [None, None, None]
    assert self_bleu([]) == []

"""What was copied is found, word for word, with the story it comes from."""

from __future__ import annotations

import time
from random import Random

import pytest

from storyteller.evaluation.text_metrics.memorization import CopiedSpans
from storyteller.evaluation.text_metrics.metrics import per_story
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, tokenize
from tests.support.judged import reference, training

SMALL = ReferenceCorpus.build(
    [
        "One day a red fox ran up the hill. There it sat and sang a song for the moon.",
        "Then a red fox ran up the hill and saw nobody at all.",
    ]
)


def look_up(text: str) -> CopiedSpans:
    return SMALL.copies.look_up(text.lower().split())


def test_a_span_of_eight_words_is_found_and_one_of_seven_is_not() -> None:
    assert look_up("and one day a red fox ran up the") == CopiedSpans(2, 1, 8, 0, 1)
    assert look_up("and then day a red fox ran up") == CopiedSpans(1, 0, 0, None, 0)


def test_the_longest_span_is_told_with_its_source_where_two_stories_share_a_part() -> None:
    words = "oh then a red fox ran up the hill and saw nobody oh"
    found = look_up(words)
    assert (found.longest_words, found.source, found.at_word) == (11, 1, 1)
    assert found.span(words.split()) == "then a red fox ran up the hill and saw nobody"


def test_a_span_over_the_end_of_one_training_story_and_the_start_of_the_next_is_no_copy() -> None:
    assert look_up("a song for the moon then a red fox ran up").n_copied == 0


def test_unknown_words_match_nothing_not_even_each_other() -> None:
    assert look_up("blip blop blap blup blep blyp bloop bleep").n_copied == 0


@pytest.mark.parametrize("words", [0, 3, 7])
def test_a_text_of_fewer_than_eight_words_has_no_spans(words: int) -> None:
    assert look_up(" ".join(["the"] * words)) == CopiedSpans(0, 0, 0, None, 0)


def test_planted_training_stories_are_found_whole_with_their_source() -> None:
    for source in (0, 17, 400, len(training()) - 1):
        story = StoryCompletion("", training()[source], True)
        found = per_story([story], reference())
        n_words = found["words"].values[0]
        assert found["longest_copy_words"].values == [n_words]
        assert found["copied_pct"].values[0] == 100 * found["copied_pct"].weights[0]
        assert reference().copies.look_up(tokenize(story).words()).source == source


def test_the_longest_span_agrees_with_a_plain_search() -> None:
    random = Random(0)
    stories = [" ".join(random.choice("abc") for _ in range(60)) for _ in range(20)]
    copies = ReferenceCorpus.build(stories).copies
    for _ in range(20):
        words = [random.choice("abc") for _ in range(40)]
        longest = max(
            (n for n in range(8, 41) for k in range(41 - n) if any(" ".join(words[k : k + n]) in s for s in stories)),
            default=0,
        )
        found = copies.look_up(words)
        assert found.longest_words == longest
        if found.source is not None:
            assert found.span(words) in stories[found.source]


def test_looking_up_the_same_words_over_and_over_takes_bounded_time() -> None:
    copies = ReferenceCorpus.build(["once upon a time there was a little girl " * 3] * 100).copies
    started = time.process_time()
    found = copies.look_up(["once", "upon", "a", "time", "there", "was", "a", "little", "girl"] * 500)
    assert found.longest_words == 27
    assert time.process_time() - started < 5

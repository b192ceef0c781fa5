"""Each rule finds its slip, says so once, and is silent on good sentences and on real stories."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.evaluation.text_metrics.grammar import RULES, grammar_errors
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, tokenize
from tests.support.judged import held_out, reference

SMALL = ReferenceCorpus.build(
    [
        "One day a girl saw Lily in the park. Then she and Lily played with a ball. She was happy and he ran home. "
        "He wanted to play and she liked it. They went and I had a dog. We jumped, they ate, he used and he waited. "
        "She walked, she could see, he gave, she made and then he fell. I saw it then. So he hid and then he played."
    ]
    * 120
)


def found(text: str, *, prompt: str = "", ended: bool = True) -> list[str]:
    return [slip.rule for slip in grammar_errors(tokenize(StoryCompletion(prompt, text, ended)), SMALL)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("He went to to the park.", "doubled word"),
        ("She saw a a dog.", "doubled word"),
        ("He ate a apple.", "a or an"),
        ("She had an dog.", "a or an"),
        ("It was an unicorn.", "a or an"),
        ("He waited a hour.", "a or an"),
        ("He took the his ball.", "two determiners"),
        ("She saw the was happy.", "article without noun"),
        ("He ran to the.", "article without noun"),
        ("He wanted to went home.", "past tense after to"),
        ("She liked to played.", "past tense after to"),
        ("She didn't went home.", "past tense after auxiliary"),
        ("He could played.", "past tense after auxiliary"),
        ("Where did he went?", "past tense after auxiliary"),
        ("They was happy.", "agreement"),
        ("He cried because he have a dog.", "agreement"),
        ("He went home with she.", "pronoun case"),
        ("Him went home.", "pronoun case"),
        ("He ran. then he fell.", "lower case at sentence start"),
        ("He saw lily in the park.", "lower-case name"),
        ("Then i ran.", "lower-case i"),
        ("He saw Then a dog.", "stray capital"),
        ("The big dog in the little park.", "sentence without a verb"),
        ('"Hello, said Tom.', "unclosed quote"),
        ("He was very happy", "paragraph without end mark"),
        ("He ran.,", "repeated punctuation"),
    ],
)
def test_a_slip_is_found_once_by_its_rule(text: str, rule: str) -> None:
    assert found(text) == [rule]


def test_every_rule_is_tested_above() -> None:
    [mark] = test_a_slip_is_found_once_by_its_rule.pytestmark  # type: ignore[attr-defined]
    assert {rule for _, rule in mark.args[1]} == set(RULES)


@pytest.mark.parametrize(
    "text",
    [
        "He had had a dog. She said that that was fine.",
        "It was an hour. A unicorn ate a European apple. He used a one-eyed doll.",
        "She walked to red roses and to bed.",
        '"Stop!" she said. "Why?" he asked.',
        "If she were a bird, she could fly.",
        "Did he have a dog? They would see.",
        "He picked the lily for her.",
        'She said, "I ran," and he was happy.',
        "What a day! Run, run!",
        "He gave her the ball. What he did made her happy.",
        "He waited... and waited.",
        "Mr. Bear ran to the U.S. with a TV.",
    ],
)
def test_good_sentences_have_no_slips(text: str) -> None:
    assert found(text) == []


def test_the_end_of_a_story_that_a_limit_cut_off_is_no_slip() -> None:
    assert found('He said, "I was very', ended=False) == []
    assert found('He said, "I was very') == ["unclosed quote", "paragraph without end mark"]


def test_slips_of_the_prompt_are_not_the_models() -> None:
    assert found(" went home.", prompt="He saw a apple and he") == []
    assert found(" to the park.", prompt="He went to") == ["doubled word"]


def test_a_slip_is_shown_with_the_words_around_it() -> None:
    [slip] = grammar_errors(tokenize(StoryCompletion("", "Then she saw a apple in the park.", True)), SMALL)
    assert slip.words == "she saw a apple in the park"


def test_real_tales_have_hardly_any_slips_and_no_rule_fires_often() -> None:
    stories = [tokenize(story) for story in held_out()]
    n_words = sum(len(tokenized.words()) for tokenized in stories)
    all_slips = [slip for tokenized in stories for slip in grammar_errors(tokenized, reference())]
    assert len(all_slips) * 1000 / n_words < 1, [slip.words for slip in all_slips]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80) | st.text('Ai" .,\nthe', max_size=80))
def test_any_text_can_be_searched_for_slips(text: str) -> None:
    tokenized = tokenize(StoryCompletion("", text, True))
    assert all(0 <= slip.at < len(tokenized.tokens) for slip in grammar_errors(tokenized, SMALL))

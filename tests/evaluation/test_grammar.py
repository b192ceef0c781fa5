"""Each rule finds its slip, says so once, and is silent on good sentences and on real tales."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storyteller.evaluation.text_metrics.grammar import RULES, slips
from storyteller.evaluation.text_metrics.metrics import Reference, TokenizedStory
from storyteller.evaluation.text_metrics.word_tokens import parse
from tests.support.judged import held_out, reference

SMALL = Reference.build(
    [
        "One day a girl saw Lily in the park. Then she and Lily played with a ball. She was happy and he ran home. "
        "He wanted to play and she liked it. They went and I had a dog. We jumped, they ate, he used and he waited. "
        "She walked, she could see, he gave, she made and then he fell. I saw it then. So he hid and then he played."
    ]
    * 120
)


def found(text: str, *, prompt: str = "", ended: bool = True) -> list[str]:
    return [slip.rule for slip in slips(parse(TokenizedStory(prompt, text, ended)), SMALL)]


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
        ("She saw the was happy.", "no noun after an article"),
        ("He ran to the.", "no noun after an article"),
        ("He wanted to went home.", "past after to"),
        ("She liked to played.", "past after to"),
        ("She didn't went home.", "past after a helping verb"),
        ("He could played.", "past after a helping verb"),
        ("Where did he went?", "past after a helping verb"),
        ("They was happy.", "agreement"),
        ("He cried because he have a dog.", "agreement"),
        ("He went home with she.", "case"),
        ("Him went home.", "case"),
        ("He ran. then he fell.", "small letter begins a sentence"),
        ("He saw lily in the park.", "small letter begins a name"),
        ("Then i ran.", "small i"),
        ("He saw Then a dog.", "stray capital"),
        ("The big dog in the little park.", "sentence without a verb"),
        ('"Hello, said Tom.', "quotes left open"),
        ("He was very happy", "paragraph without an end"),
        ("He ran.,", "two marks"),
    ],
)
def test_a_slip_is_found_once_by_its_rule(text: str, rule: str) -> None:
    assert found(text) == [rule]


def test_every_rule_is_tested_above() -> None:
    [mark] = test_a_slip_is_found_once_by_its_rule.pytestmark  # type: ignore[attr-defined]
    assert {rule for _, rule in mark.args[1]} == {rule.key for rule in RULES}


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
    assert found('He said, "I was very') == ["quotes left open", "paragraph without an end"]


def test_slips_of_the_prompt_are_not_the_models() -> None:
    assert found(" went home.", prompt="He saw a apple and he") == []
    assert found(" to the park.", prompt="He went to") == ["doubled word"]


def test_a_slip_is_shown_with_the_words_around_it() -> None:
    [slip] = slips(parse(TokenizedStory("", "Then she saw a apple in the park.", True)), SMALL)
    assert slip.words == "she saw a apple in the park"


def test_real_tales_have_hardly_any_slips_and_no_rule_fires_often() -> None:
    proses = [parse(story) for story in held_out()]
    n_words = sum(len(prose.told_words()) for prose in proses)
    all_slips = [slip for prose in proses for slip in slips(prose, reference())]
    assert len(all_slips) * 1000 / n_words < 1, [slip.words for slip in all_slips]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80) | st.text('Ai" .,\nthe', max_size=80))
def test_any_text_can_be_searched_for_slips(text: str) -> None:
    prose = parse(TokenizedStory("", text, True))
    assert all(0 <= slip.at < len(prose.tokens) for slip in slips(prose, SMALL))

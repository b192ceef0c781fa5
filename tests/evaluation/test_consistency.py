"""Names that change, pronouns without anyone, things not brought in: found where planted, rare in real stories."""

from __future__ import annotations

import re

import pytest

from storyteller.evaluation.text_metrics.consistency import (
    changed_name,
    definite_first_mentions,
    mentions,
    prompt_overlap,
    second_half_overlap,
    unresolved_pronouns,
)
from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import StoryCompletion, TokenizedStory, tokenize
from tests.support.judged import held_out, reference

LILY = "One day, a girl named Lily found a kite. Then Lily sang. She saw a dog. Lily said that she liked a hill. "
TOM = "One day, a boy named Tom found a ball. Then Tom ran. He saw a cat. Tom said that he liked a park. "
SAM = "There was a boy called Sam. So Sam ran. He was sad. Then Sam said that he wept. "
RAIN = "Rain fell on green grass. "
SMALL = ReferenceCorpus.build([LILY, TOM, SAM] * 25 + [RAIN] * 400)
"""Nothing but rain is in more than a fifth of the stories."""


def tokenized(text: str, prompt: str = "") -> TokenizedStory:
    return tokenize(StoryCompletion(prompt, text, True))


def test_the_reference_learns_names_and_who_is_he_or_she() -> None:
    assert {"lily", "tom", "sam"} == SMALL.persons
    assert (SMALL.genders["lily"], SMALL.genders["tom"]) == ("she", "he")
    assert {"kit", "ball", "dog"} <= SMALL.introduced


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_that_changes_half_way_is_caught() -> None:
    story = "Tom had a ball. Tom was happy. He ran. Then Sam threw the ball. Sam laughed."
    assert changed_name(tokenized(story), SMALL) == ("tom", "sam")


def test_a_new_name_that_the_training_stories_do_not_have_is_caught_too() -> None:
    story = "Tom had a ball. Tom was happy. Then the ball hit Zorro. Zorro laughed at it."
    assert changed_name(tokenized(story), SMALL) == ("tom", "zorro")


@pytest.mark.parametrize(
    "story",
    [
        "Tom had a ball. Tom was happy. Then a boy named Sam came. Sam laughed.",
        'Tom had a ball. Tom was happy. "Hello, Sam!" he said. Sam laughed.',
        "Tom had a ball. Tom was happy. His brother Sam came. Sam laughed.",
        "Tom had a ball. Tom was happy. Then Sam came. Sam laughed at Tom.",
        "Tom had a ball. Tom was happy. Then Lily came. Lily laughed.",
        "Tom had a ball. Then Sam came. Sam laughed.",
    ],
)
def test_a_second_person_who_is_brought_in_or_not_in_the_firsts_place_is_no_change(story: str) -> None:
    assert changed_name(tokenized(story), SMALL) is None


def test_a_change_that_the_model_did_not_tell_is_not_its_own() -> None:
    prompt = "Tom had a ball. Tom was happy. Then Sam threw it. Sam laughed."
    assert changed_name(tokenized(" It was good.", prompt), SMALL) is None


def test_names_changed_half_way_in_tales_are_mostly_caught_and_real_tales_hardly_ever_flagged() -> None:
    caught = planted = flagged = 0
    for story in held_out():
        text = story.prompt + story.text
        whole = tokenized(text)
        flagged += changed_name(whole, reference()) is not None
        names = list(mentions(whole, reference()).values())
        main = max(names, key=names.count, default="")
        half = len(text) // 2
        other = {"he": "Rufus", "she": "Ottilie"}.get(reference().genders.get(main, ""), "Rufus")
        changed = text[:half] + re.sub(rf"\b{main.capitalize()}\b", other, text[half:])
        if main and text[:half].count(main.capitalize()) >= 2 and changed[half:].count(other) >= 2:
            planted += 1
            caught += changed_name(tokenized(changed), reference()) is not None
    assert planted >= 30
    assert caught >= 0.6 * planted, (caught, planted)
    assert flagged <= 0.03 * len(held_out())


# --- pronouns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A girl ran. He was happy.", (1, 1)),
        ("A girl ran. She was happy. His cap fell.", (1, 2)),
        ("Lily sang. She liked her song.", (0, 2)),
        ("Tom sang. She liked her song.", (2, 2)),
        ("A dog ran. He barked.", (1, 1)),  # in these stories dogs do not speak: nobody
        ("Tom ran." + " It rained." * 5 + " He won.", (0, 1)),
        ("Tom ran." + " It rained." * 6 + " He won.", (1, 1)),
        ("Tom ran." + " He fell. It rained." * 7 + " He won.", (0, 8)),
        ("Once there was a goat. She ran.", (0, 1)),  # whoever a story begins with
        ("When she woke up, Lily ran.", (0, 1)),
        ('Lily ran. "He is mine," she said.', (0, 1)),
        ("Lily and Tom ran. He won. She lost.", (0, 2)),
        ("Zorro came to see Zorro. He won and she lost.", (0, 2)),
    ],
)
def test_a_pronoun_needs_somebody_whom_it_can_mean(text: str, expected: tuple[int, int]) -> None:
    assert unresolved_pronouns(tokenized(text), SMALL) == expected


def test_whom_the_prompt_spoke_of_counts() -> None:
    assert unresolved_pronouns(tokenized(" She ran.", "Once there was a girl."), SMALL) == (0, 1)
    assert unresolved_pronouns(tokenized(" He ran.", "Once there was a girl."), SMALL) == (1, 1)


# --- things, thread, prompt -------------------------------------------------------------------------------------------


def test_the_kite_before_a_kite_is_not_introduced() -> None:
    assert definite_first_mentions(tokenized("He saw the kite. A dog ran."), SMALL) == (1, 2)
    assert definite_first_mentions(tokenized("He saw a kite. The kite flew."), SMALL) == (0, 1)
    assert definite_first_mentions(tokenized(" The kite flew.", "He saw a kite."), SMALL) == (0, 0)
    assert definite_first_mentions(tokenized("He saw the grass."), SMALL) == (0, 0)


def test_the_thread_is_what_the_later_half_takes_up() -> None:
    assert second_half_overlap(tokenized("Lily found a kite. Her kite flew over Tom."), SMALL) == (1, 2)
    assert second_half_overlap(tokenized(""), SMALL) == (0, 0)


def test_content_words_and_names_of_the_prompt_are_taken_up() -> None:
    assert prompt_overlap(tokenized(" The kites were old.", "Lily, a kite"), SMALL) == (1, 2)
    assert prompt_overlap(tokenized(" Lily found it. Kite!", "Lily, a kite"), SMALL) == (2, 2)
    assert prompt_overlap(tokenized("A kite.", ""), SMALL) == (0, 0)

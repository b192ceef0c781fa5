"""Rule-based grammar checks for the English of short stories.

Vocabulary and capitalisation come from the training stories. Only rules that hardly ever fire on real stories are
included, as others would say nothing about a model: on held-out TinyStories all rules together report fewer than two
errors in 10,000 words. A general grammar checker would be a large dependency.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from storyteller.evaluation.text_metrics.reference_corpus import ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import (
    I_FORMS,
    PARAGRAPH,
    QUOTE,
    TokenizedStory,
    is_sentence_end,
    word_set,
)

Rule = Callable[[TokenizedStory, ReferenceCorpus], Iterable[int]]  # returns the tokens with errors


@dataclass(frozen=True)
class GrammarError:
    """An error found by `rule` at token `at`, with the words around it."""

    rule: str
    at: int
    words: str


def grammar_errors(story: TokenizedStory, reference: ReferenceCorpus) -> list[GrammarError]:
    """Applies all rules to a story. Returns the errors in the continuation, in text order."""
    found = [GrammarError(key, at, _context(story, at)) for key, rule in RULES.items() for at in rule(story, reference)]
    return sorted((error for error in found if error.at >= story.start), key=lambda error: error.at)


def _context(story: TokenizedStory, at: int) -> str:
    return " ".join(story.tokens[max(0, at - 3) : at + 4]).replace(PARAGRAPH, " ")


# --- adjacent words ---------------------------------------------------------------------------------------------------


_NEVER_TWICE = word_set(
    "the a an and to of at with for from was were is are he she they we his my your their our i but as into by has "
    "have did do does would could can will there then when because if so's him them us be it's"
)
# "an" goes with a vowel sound, not with a vowel letter: a unicorn, a one-eyed owl, an hour.
_VOWEL_SOUND = re.compile(r"(?!uni|us[eu]|eu|one\b|once\b|ukulele|ut|u\b|ow[ln]?s?$\B|ewe)[aeiou]")
_SILENT_H = re.compile("hour|honest|honou?r|heir")
_DETERMINERS = word_set("the a an my your his their our its")
_ARTICLES = word_set("the a an")
_ARTICLE_LIKE = _DETERMINERS | word_set("this that these those her some one two three many of")
_NO_NOUN = word_set(
    "he she they we him them us me i it of and or but is was were are am be been to from with because the a an had has "
    "have did does do not if than into would could should him its my your his their our said went came"
)
_NO_NOUN_AFTER_THE = _NO_NOUN - word_set("do have i it its")
_PAST = word_set(
    "went ran was were had took came gave made knew told ate fell flew grew kept sat stood said began became broke "
    "caught chose drank drove forgot got hid rode sang slept spoke swam threw woke wore wrote bought brought taught"
)
_BASE_IN_ED = word_set("need feed speed bleed breed weed seed embed proceed succeed exceed shed bed red wed fed led")
_MODALS = word_set(
    "didn't can't couldn't won't wouldn't shouldn't doesn't don't could would should must cannot might will can may"
)
_SUBJECTS = word_set("he she they we i")
_OBJECTS = word_set("him them us me")
_AFTER_SUBJECT = word_set("was were went had is said")
_PREPOSITIONS = word_set("to with from of at by into")
_AFTER_SINGULAR = word_set("are have were do don't")
_AFTER_PLURAL = word_set("was is has does doesn't am")
_CLAUSE_BEGINS = word_set("because so but when while")
_WISHES = word_set("if wish wished wishes though than as like")


def _is_past(word: str, reference: ReferenceCorpus) -> bool:
    """True for an unambiguous past form: an irregular one, or a known verb plus -ed."""
    if word in _PAST:
        return True
    if not word.endswith("ed") or len(word) < 5 or word in _BASE_IN_ED or word.endswith("eed"):
        return False
    bare = word[:-2]
    forms = {bare, bare + "e", bare[:-1], bare[:-1] + "y"}
    return word in reference.verbs and any(form in reference.known for form in forms)


def _doubled(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    for i, a, b in story.word_pairs():
        never_doubled = a in reference.frequent and a not in reference.doubled and a not in {"had", "that"}
        if a == b and (a in _NEVER_TWICE or never_doubled):
            yield i + 1


def _a_an(story: TokenizedStory, _: ReferenceCorpus) -> Iterator[int]:
    for i, a, b in story.word_pairs():
        if a in {"a", "an"} and len(b) > 1 and b.isascii():
            vowel = bool(_VOWEL_SOUND.match(b) or _SILENT_H.match(b))
            if vowel == (a == "a") and not (story.tokens[i + 1].isupper()):
                yield i + 1


def _two_determiners(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    pairs = [(i, a, b) for i, a, b in story.word_pairs() if a in _DETERMINERS and b in _DETERMINERS and a != b]
    return [i + 1 for i, a, b in pairs if not (a == "his" and b in _ARTICLES)]


def _no_noun(story: TokenizedStory, _: ReferenceCorpus) -> Iterator[int]:
    for i, a, b in story.word_pairs():
        cannot = _NO_NOUN_AFTER_THE if a == "the" else _NO_NOUN
        if a in _ARTICLES and b in cannot and b not in _DETERMINERS and story.tokens[i + 1].islower():
            yield i + 1
    for i in story.continuation:
        if i and story.lower[i - 1] in {"the", "an", "my", "your", "their", "our"} and story.tokens[i] in {".", "?"}:
            yield i


def _to_past(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    for i, a, b in story.word_pairs():
        # Before a noun, -ed may be a participle ("to excited children").
        following = story.lower[i + 2 : i + 3]
        noun_follows = any(word not in reference.common and word[0].isalpha() for word in following)
        if a == "to" and _is_past(b, reference) and not noun_follows:
            yield i + 1


def _modal_past(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    lower = story.lower
    for i, a, b in story.word_pairs():
        helper = a in _MODALS and story.tokens[i].islower() and (i == 0 or lower[i - 1] not in _DETERMINERS | {"her"})
        asked = a in _SUBJECTS and i and lower[i - 1] in {"did", "didn't", "does", "doesn't"}
        if (helper or asked) and _is_past(b, reference):
            yield i + 1


def _agreement(story: TokenizedStory, _: ReferenceCorpus) -> Iterator[int]:
    lower = story.lower
    for i, a, b in story.word_pairs():
        if not (story.begins_sentence[i] or (i and lower[i - 1] in _CLAUSE_BEGINS)):
            continue
        singular = a in {"he", "she", "it"} and b in _AFTER_SINGULAR
        plural = a in {"they", "we"} and b in _AFTER_PLURAL
        first = a == "i" and b in {"is", "are", "were", "has", "does", "doesn't"}
        if (singular or plural or first) and not (i and lower[i - 1] in _WISHES):
            yield i + 1


def _case(story: TokenizedStory, _: ReferenceCorpus) -> Iterator[int]:
    for i, a, b in story.word_pairs():
        subject_after = a in _PREPOSITIONS and b in _SUBJECTS and b != "i"
        object_begins = story.begins_sentence[i] and a in _OBJECTS and b in _AFTER_SUBJECT
        if subject_after or object_begins:
            yield i + 1


# --- capitals ---------------------------------------------------------------------------------------------------------


def _lower_case_start(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    begins = [i for i in story.continuation if story.begins_sentence[i] and (i > story.start or i == 0)]
    return [i for i in begins if story.tokens[i][0].islower()]


def _lower_case_name(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    for i in story.continuation:
        # Some names are common nouns too: a lily, the beautiful daisy.
        common_noun = any(word in _ARTICLE_LIKE for word in story.lower[max(0, i - 3) : i])
        if story.tokens[i] in reference.always_capital and not story.begins_sentence[i] and not common_noun:
            yield i


def _lower_case_i(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    return [i for i in story.continuation if story.tokens[i] in I_FORMS]


def _stray_capital(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    for i in story.continuation:
        word = story.tokens[i]
        if word[0].isupper() and i and story.is_word[i - 1] and story.tokens[i - 1][0].islower():
            shouted = word.isupper() and len(word) > 1
            character = word.lower() in reference.genders  # a bear may be called Bear
            expected = story.begins_sentence[i] or shouted or character
            if not expected and word.lower() in reference.never_capital:
                yield i


# --- sentences and marks ----------------------------------------------------------------------------------------------


def _no_verb(story: TokenizedStory, reference: ReferenceCorpus) -> Iterator[int]:
    for start, end in story.sentences:
        inside = [i for i in range(start, end) if story.is_word[i]]
        whole = any(is_sentence_end(story.tokens[i]) for i in range(start, end))
        counts = len(inside) >= 6 and whole and not any(story.in_speech[i] for i in inside)
        if counts and not any(_verb_like(story.lower[i], reference) for i in inside):
            yield inside[-1]


def _verb_like(word: str, reference: ReferenceCorpus) -> bool:
    if word in reference.verbs or word.endswith(("ed", "'s", "n't", "'re", "'m", "'ll", "'d", "'ve")):
        return True
    return word.endswith("s") and not reference.verbs.isdisjoint({word[:-1], word[:-2], word[:-3] + "y"})


def _paragraphs(story: TokenizedStory) -> Iterator[tuple[range, bool]]:
    """Yields each paragraph's tokens, and False for a last paragraph that was cut off at the token limit."""
    start = 0
    for i, token in enumerate(story.tokens):
        if token == PARAGRAPH:
            yield range(start, i), True
            start = i + 1
    if start < len(story.tokens):
        yield range(start, len(story.tokens)), story.ended


def _open_quotes(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    paragraphs = [paragraph for paragraph, whole in _paragraphs(story) if whole and paragraph]
    return [paragraph[-1] for paragraph in paragraphs if sum(story.tokens[i] == QUOTE for i in paragraph) % 2]


def _no_end_mark(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    ends = [paragraph[-1] for paragraph, whole in _paragraphs(story) if whole and len(paragraph) > 3]
    return [end for end in ends if story.is_word[end]]


def _two_marks(story: TokenizedStory, _: ReferenceCorpus) -> list[int]:
    is_mark = [token == "," or is_sentence_end(token) for token in story.tokens]
    return [i for i in story.continuation if i and is_mark[i - 1] and is_mark[i]]


# All rules, each with an example of an error. On real stories each fires in well under one sentence in a hundred.
RULES: dict[str, Rule] = {
    "doubled word": _doubled,  # he went to to the park
    "a or an": _a_an,  # a apple, an dog
    "two determiners": _two_determiners,  # the his ball
    "article without noun": _no_noun,  # the was happy; he saw the.
    "past tense after to": _to_past,  # he wanted to went
    "past tense after auxiliary": _modal_past,  # she didn't went
    "agreement": _agreement,  # They was happy. He have a dog.
    "pronoun case": _case,  # he went with she
    "lower case at sentence start": _lower_case_start,  # He ran. then he fell.
    "lower-case name": _lower_case_name,  # his friend lily
    "lower-case i": _lower_case_i,  # so i ran
    "stray capital": _stray_capital,  # he saw Then a dog
    "sentence without a verb": _no_verb,  # The big dog in the little park.
    "unclosed quote": _open_quotes,  # "Hello, said Tom.
    "paragraph without end mark": _no_end_mark,  # He was very
    "repeated punctuation": _two_marks,  # He ran.,
}

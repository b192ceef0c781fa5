"""Slips of grammar that rules can find: few of them, and only those that hardly ever fire in real stories.

No grammar checker is a dependency, so these are rules of our own for the English of small stories, with words and
capitals as the training stories have them. A rule that flags real stories says nothing about a model and is left out:
on held-out TinyStories all of them together find fewer than two slips in 10,000 words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from storyteller.evaluation.text_metrics.reference_corpus import Reference
from storyteller.evaluation.text_metrics.word_tokens import I_FORMS, PARAGRAPH, QUOTE, Prose, is_end, word_set


@dataclass(frozen=True)
class Slip:
    """A slip: which rule found it, at which token, and the words around it."""

    rule: str
    at: int
    words: str


@dataclass(frozen=True)
class Rule:
    """A rule: its name, an example of what it finds, and the tokens at which it fires."""

    key: str
    example: str
    find: Callable[[Prose, Reference], Iterator[int]]


def slips(prose: Prose, reference: Reference) -> list[Slip]:
    """What the rules find in the told part of a story, in the order of the text."""
    found = [Slip(rule.key, at, _around(prose, at)) for rule in RULES for at in rule.find(prose, reference)]
    return sorted((slip for slip in found if slip.at >= prose.told_from), key=lambda slip: slip.at)


def _around(prose: Prose, at: int) -> str:
    return " ".join(prose.tokens[max(0, at - 3) : at + 4]).replace(PARAGRAPH, " ")


# --- words side by side -----------------------------------------------------------------------------------------------


_NEVER_TWICE = word_set(
    "the a an and to of at with for from was were is are he she they we his my your their our i but as into by has "
    "have did do does would could can will there then when because if so's him them us be it's"
)
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


def _is_past(word: str, reference: Reference) -> bool:
    """Whether a word can only be a past: one of a list, or -ed with a verb left when it is taken off."""
    if word in _PAST:
        return True
    if not word.endswith("ed") or len(word) < 5 or word in _BASE_IN_ED or word.endswith("eed"):
        return False
    bare = word[:-2]
    forms = {bare, bare + "e", bare[:-1], bare[:-1] + "y"}
    return word in reference.verbs and any(form in reference.known for form in forms)


def _doubled(prose: Prose, reference: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        unheard = a in reference.frequent and a not in reference.doubled and a not in {"had", "that"}
        if a == b and (a in _NEVER_TWICE or unheard):
            yield i + 1


def _a_an(prose: Prose, _: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        if a in {"a", "an"} and len(b) > 1 and b.isascii():
            vowel = bool(_VOWEL_SOUND.match(b) or _SILENT_H.match(b))
            if vowel == (a == "a") and not (prose.tokens[i + 1].isupper()):
                yield i + 1


def _two_determiners(prose: Prose, _: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        if a in _DETERMINERS and b in _DETERMINERS and a != b and not (a == "his" and b in _ARTICLES):
            yield i + 1


def _no_noun(prose: Prose, _: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        cannot = _NO_NOUN_AFTER_THE if a == "the" else _NO_NOUN
        if a in _ARTICLES and b in cannot and b not in _DETERMINERS and prose.tokens[i + 1].islower():
            yield i + 1
    for i in prose.told:
        if i and prose.lower[i - 1] in {"the", "an", "my", "your", "their", "our"} and prose.tokens[i] in {".", "?"}:
            yield i


def _to_past(prose: Prose, reference: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        if a == "to" and _is_past(b, reference) and not _noun_follows(prose, i + 2, reference):
            yield i + 1


def _noun_follows(prose: Prose, at: int, reference: Reference) -> bool:
    """Whether -ed may be a quality of what comes next ("to excited children")."""
    return at < len(prose.lower) and prose.lower[at] not in reference.common and prose.is_word[at]


def _modal_past(prose: Prose, reference: Reference) -> Iterator[int]:
    lower = prose.lower
    for i, a, b in prose.told_pairs():
        helper = a in _MODALS and prose.tokens[i].islower() and (i == 0 or lower[i - 1] not in _DETERMINERS | {"her"})
        asked = a in _SUBJECTS and i and lower[i - 1] in {"did", "didn't", "does", "doesn't"}
        if (helper or asked) and _is_past(b, reference):
            yield i + 1


def _agreement(prose: Prose, _: Reference) -> Iterator[int]:
    lower = prose.lower
    for i, a, b in prose.told_pairs():
        if not (prose.begins[i] or (i and lower[i - 1] in _CLAUSE_BEGINS)):
            continue
        singular = a in {"he", "she", "it"} and b in _AFTER_SINGULAR
        plural = a in {"they", "we"} and b in _AFTER_PLURAL
        first = a == "i" and b in {"is", "are", "were", "has", "does", "doesn't"}
        if (singular or plural or first) and not (i and lower[i - 1] in _WISHES):
            yield i + 1


def _case(prose: Prose, _: Reference) -> Iterator[int]:
    for i, a, b in prose.told_pairs():
        subject_after = a in _PREPOSITIONS and b in _SUBJECTS and b != "i"
        object_begins = prose.begins[i] and a in _OBJECTS and b in _AFTER_SUBJECT
        if subject_after or object_begins:
            yield i + 1


# --- capitals ---------------------------------------------------------------------------------------------------------


def _small_beginning(prose: Prose, _: Reference) -> Iterator[int]:
    for i in prose.told:
        if prose.begins[i] and prose.tokens[i][0].islower() and (i > prose.told_from or i == 0):
            yield i


def _small_name(prose: Prose, reference: Reference) -> Iterator[int]:
    for i in prose.told:
        # Some names are things too: a lily, the beautiful daisy.
        thing = any(word in _ARTICLE_LIKE for word in prose.lower[max(0, i - 3) : i])
        if prose.tokens[i] in reference.always_capital and not prose.begins[i] and not thing:
            yield i


def _small_i(prose: Prose, _: Reference) -> Iterator[int]:
    for i in prose.told:
        if prose.tokens[i] in I_FORMS:
            yield i


def _stray_capital(prose: Prose, reference: Reference) -> Iterator[int]:
    for i in prose.told:
        word = prose.tokens[i]
        if word[0].isupper() and i and prose.is_word[i - 1] and prose.tokens[i - 1][0].islower():
            shouted = word.isupper() and len(word) > 1
            acts = word.lower() in reference.genders  # the Bear may be called Bear
            if not prose.begins[i] and not shouted and not acts and word.lower() in reference.never_capital:
                yield i


# --- sentences and marks ----------------------------------------------------------------------------------------------


def _no_verb(prose: Prose, reference: Reference) -> Iterator[int]:
    for start, end in prose.sentences:
        inside = [i for i in range(start, end) if prose.is_word[i]]
        whole = any(is_end(prose.tokens[i]) for i in range(start, end))
        counts = len(inside) >= 6 and whole and not any(prose.in_speech[i] for i in inside)
        if counts and not any(_verb_like(prose.lower[i], reference) for i in inside):
            yield inside[-1]


def _verb_like(word: str, reference: Reference) -> bool:
    if word in reference.verbs or word.endswith(("ed", "'s", "n't", "'re", "'m", "'ll", "'d", "'ve")):
        return True
    return word.endswith("s") and not reference.verbs.isdisjoint({word[:-1], word[:-2], word[:-3] + "y"})


def _paragraphs(prose: Prose) -> Iterator[tuple[range, bool]]:
    """Each paragraph's tokens, and whether it is whole: the last one may have been cut off by a limit."""
    start = 0
    for i, token in enumerate(prose.tokens):
        if token == PARAGRAPH:
            yield range(start, i), True
            start = i + 1
    if start < len(prose.tokens):
        yield range(start, len(prose.tokens)), prose.ended


def _open_quotes(prose: Prose, _: Reference) -> Iterator[int]:
    for paragraph, whole in _paragraphs(prose):
        if whole and paragraph and sum(prose.tokens[i] == QUOTE for i in paragraph) % 2:
            yield paragraph[-1]


def _no_end(prose: Prose, _: Reference) -> Iterator[int]:
    for paragraph, whole in _paragraphs(prose):
        if whole and len(paragraph) > 3 and prose.is_word[paragraph[-1]]:
            yield paragraph[-1]


def _two_marks(prose: Prose, _: Reference) -> Iterator[int]:
    tokens = prose.tokens
    for i in prose.told:
        if i and (tokens[i] == "," or is_end(tokens[i])) and (tokens[i - 1] == "," or is_end(tokens[i - 1])):
            yield i


RULES = (
    Rule("doubled word", "he went to to the park", _doubled),
    Rule("a or an", "a apple, an dog", _a_an),
    Rule("two determiners", "the his ball", _two_determiners),
    Rule("no noun after an article", "the was happy; he saw the.", _no_noun),
    Rule("past after to", "he wanted to went", _to_past),
    Rule("past after a helping verb", "she didn't went", _modal_past),
    Rule("agreement", "They was happy. He have a dog.", _agreement),
    Rule("case", "he went with she", _case),
    Rule("small letter begins a sentence", "He ran. then he fell.", _small_beginning),
    Rule("small letter begins a name", "his friend lily", _small_name),
    Rule("small i", "so i ran", _small_i),
    Rule("stray capital", "he saw Then a dog", _stray_capital),
    Rule("sentence without a verb", "The big dog in the little park.", _no_verb),
    Rule("quotes left open", '"Hello, said Tom.', _open_quotes),
    Rule("paragraph without an end", "He was very", _no_end),
    Rule("two marks", "He ran.,", _two_marks),
)
"""Every rule. On real stories each fires in well under one sentence in a hundred."""

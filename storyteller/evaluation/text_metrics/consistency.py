"""Whether a story keeps to what it said: its names, its he and she, things brought in before they are spoken of.

Each rule speaks only where a story leaves it no doubt, so that it is nearly silent on real stories; what it does not
find may still be wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from storyteller.evaluation.text_metrics.reference_corpus import NAMING, Reference, stem_of
from storyteller.evaluation.text_metrics.word_tokens import PARAGRAPH, Prose, word_set

HE = frozenset({"he", "him", "his", "himself"})
SHE = frozenset({"she", "her", "hers", "herself"})
_PRONOUNS = HE | SHE
_LINKS = word_set("is am was are were be name i'm friend friends mr mrs miss dr")
_PRESENTS = frozenset({"there", "lived", "once", "met"})
_MOST_NAMES = 20
"""More names than a small story has; bounds the work on a text of nothing but names."""
_SENTENCES_BACK = 6
_LONG_AGO = -(10**9)
_ARTICLES = frozenset({"the", "a", "an"})


@dataclass(frozen=True)
class Mention:
    """A name in a story: its token, and the name in lower case without 's."""

    at: int
    name: str


def mentions(prose: Prose, reference: Reference) -> list[Mention]:
    """Every name in the story, prompt included: known ones, and unknown words with a capital inside a sentence."""
    new = {
        _bare(prose.lower[i])
        for i, token in enumerate(prose.tokens)
        if i and token[0].isupper() and not token.isupper() and prose.is_word[i - 1] and not prose.begins[i]
        if not reference.knows(prose.lower[i]) and prose.lower[i] not in reference.genders
    }
    found = []
    for i, token in enumerate(prose.tokens):
        if token[0].isupper():
            name = _bare(prose.lower[i])
            if name in reference.persons or name in new:
                found.append(Mention(i, name))
    return found


def _bare(word: str) -> str:
    return word[:-2] if word.endswith("'s") else word


def changed_name(prose: Prose, reference: Reference) -> tuple[str, str] | None:
    """The name of the story's first person and the one that takes its place half-way; None where none does.

    The name said most, twice or more (or any, three times or more), is not said again once another turns up that nobody
    brought in (by "named", a noun beside it, or in speech) and that is said again itself; the two may be of one gender.
    """
    all_mentions = mentions(prose, reference)
    places: dict[str, list[int]] = {}
    for mention in all_mentions:
        places.setdefault(mention.name, []).append(mention.at)
    for new, at in list(places.items())[:_MOST_NAMES]:
        if len(at) < 2 or at[-1] < prose.told_from or _brought_in(prose, at[0], reference):
            continue
        before = Counter(mention.name for mention in all_mentions if mention.at < at[0])
        if not before:
            continue
        for rank, (old, said) in enumerate(before.most_common(_MOST_NAMES)):
            gone = places[old][-1] < at[0] and not _named_again(prose, old, at[0])
            genders = {reference.genders.get(name, "either") for name in (old, new)}
            if said >= (3 if rank else 2) and gone and genders != {"he", "she"}:
                return old, new
    return None


def _named_again(prose: Prose, name: str, start: int) -> bool:
    """Whether the name's word comes again, as a part of another ("tim's", "little lily")."""
    return any(name in word for word in prose.lower[start:])


def _brought_in(prose: Prose, at: int, reference: Reference) -> bool:
    """Whether the first mention of a name says who that is, or is spoken by somebody."""
    if prose.in_speech[at]:
        return True
    begins = next((start for start, end in prose.sentences if start <= at < end), 0)
    before = prose.lower[max(begins, at - 3) : at]
    if any(word in NAMING or word in _LINKS for word in before):
        return True
    # "his cat, Tom" or "the bear Tom": somebody who acts stands just before; "Tom the bear", "Tom, a bear" after.
    if any(word in reference.genders and word not in reference.persons | _PRONOUNS for word in before[-2:]):
        return True
    after = [word for word in prose.lower[at + 1 : at + 3] if word != ","]
    return after[:1] != [] and after[0] in _ARTICLES


def stray_pronouns(prose: Prose, reference: Reference) -> tuple[int, int]:
    """How many he, she, him ... of the told text have nobody whom they can mean, and of how many.

    Whom one can mean is spoken of in the six sentences before it or in its own, by a name or noun of that gender, by
    one of either (a dog, a friend, a name that training stories use for both), or by such a pronoun that means
    somebody. Pronouns in speech are left out.
    """
    names = {mention.at: mention.name for mention in mentions(prose, reference)}
    last = {"he": _LONG_AGO, "she": _LONG_AGO}
    stray = total = 0
    for number, (start, end) in enumerate(prose.sentences):
        for i in range(start, end):
            last.update(dict.fromkeys(_may_be(prose, i, names, reference), number))
        if number not in last.values() and not _PRESENTS.isdisjoint(prose.lower[start:end]):
            last = {"he": number, "she": number}  # "there was a goat": whoever that is
        for i in range(start, end):
            word = prose.lower[i]
            if word not in _PRONOUNS or prose.in_speech[i]:
                continue
            kind = "he" if word in HE else "she"
            lost = number - last[kind] > _SENTENCES_BACK
            if not lost:
                last[kind] = number
            if i >= prose.told_from:
                total += 1
                stray += lost
    return stray, total


def _may_be(prose: Prose, at: int, names: dict[int, str], reference: Reference) -> set[str]:
    """Which pronouns may mean what this token speaks of."""
    word = prose.lower[at]
    if at in names:
        gender = reference.genders.get(names[at], "either")
    elif word in _PRONOUNS or _bare(word) in reference.persons:
        return set()  # "time" is no Tim, and a lily no Lily
    else:
        gender = reference.genders.get(_bare(word), "")
    return {"he", "she"} if gender == "either" else {gender} - {""}


def not_introduced(prose: Prose, reference: Reference) -> tuple[int, int]:
    """How many things are spoken of as "the ..." at their first mention, and of how many first mentions.

    Only of things that training stories bring in with "a" in nine stories of ten, and only first mentions that have one
    of these articles and were told.
    """
    said: set[str] = set()
    early = total = 0
    for i, word in enumerate(prose.lower):
        if not prose.is_word[i]:
            continue
        thing = stem_of(word)
        if thing in said:
            continue
        said.add(thing)
        article = prose.lower[i - 1] if i else PARAGRAPH
        if thing in reference.introduced and article in _ARTICLES and i >= prose.told_from:
            total += 1
            early += article == "the"
    return early, total


def thread(prose: Prose, reference: Reference) -> tuple[int, int]:
    """How many content words in the later half of the story were said in its first half, and of how many.

    Halves of the whole story, prompt included; only told words count. A story that drifts takes up little of how it
    began.
    """
    at = [i for i, is_word in enumerate(prose.is_word) if is_word]
    half = at[len(at) // 2] if at else 0
    first = {stem_of(_bare(prose.lower[i])) for i in at if i < half}
    later = [i for i in at if i >= max(half, prose.told_from) and reference.is_content(_bare(prose.lower[i]))]
    return sum(stem_of(_bare(prose.lower[i])) in first for i in later), len(later)


def taken_up(prose: Prose, reference: Reference) -> tuple[int, int]:
    """How many different content words and names of the prompt the told text says again, and of how many."""
    prompt = {stem_of(_bare(word)) for word in prose.prompt_words() if reference.is_content(_bare(word))}
    prompt |= {stem_of(mention.name) for mention in mentions(prose, reference) if mention.at < prose.told_from}
    told = {stem_of(_bare(word)) for word in prose.told_words()}
    # Who has a name is often only he or she from then on, which is taking up too: that is for `stray_pronouns`.
    return len(prompt & told), len(prompt)

"""Consistency metrics: names, pronouns, articles at first mention, and words that link the parts of a story.

The rules favour precision over recall: each fires only where the text leaves no doubt, so that real stories hardly
trigger it. A story without findings may still be inconsistent.
"""

from __future__ import annotations

from collections import Counter

from storyteller.evaluation.text_metrics.reference_corpus import NAMING_VERBS, ReferenceCorpus
from storyteller.evaluation.text_metrics.word_tokens import PARAGRAPH, TokenizedStory, stem, word_set

HE = frozenset({"he", "him", "his", "himself"})
SHE = frozenset({"she", "her", "hers", "herself"})
_PRONOUNS = HE | SHE
_LINKS = word_set("is am was are were be name i'm friend friends mr mrs miss dr")
_PRESENTS = frozenset({"there", "lived", "once", "met"})
_MOST_NAMES = 20  # more names than a short story has. Bounds the work on a text that consists of names.
_SENTENCES_BACK = 6
_LONG_AGO = -(10**9)
_ARTICLES = frozenset({"the", "a", "an"})


def mentions(story: TokenizedStory, reference: ReferenceCorpus) -> dict[int, str]:
    """Finds the names in a story, prompt included: token -> name, in lower case and without a possessive 's.

    Names are known ones, and unknown words that are capitalised inside a sentence.
    """
    capitals = {i: story.lower[i].removesuffix("'s") for i, token in enumerate(story.tokens) if token[0].isupper()}
    new = {
        word
        for i, word in capitals.items()
        if i and not story.tokens[i].isupper() and story.is_word[i - 1] and not story.begins_sentence[i]
        if not reference.knows(story.lower[i]) and story.lower[i] not in reference.genders
    }
    return {i: word for i, word in capitals.items() if word in reference.persons or word in new}


def changed_name(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[str, str] | None:
    """Finds a character whose name is replaced by another in mid-story: (old name, new name), or None.

    The old name occurs at least twice (three times if it is not the most frequent one) and never again from the first
    mention of the new name on. The new name occurs at least twice, is introduced nowhere (by "named", an adjacent noun
    or in direct speech), and its gender does not contradict the old one's.
    """
    names = mentions(story, reference)
    places: dict[str, list[int]] = {}
    for i, name in names.items():
        places.setdefault(name, []).append(i)
    for new, at in list(places.items())[:_MOST_NAMES]:
        if len(at) < 2 or at[-1] < story.start or _is_introduced(story, at[0], reference):
            continue
        # Candidates for the replaced name are the names before the first mention of the new one.
        before = Counter(name for i, name in names.items() if i < at[0])
        for rank, (old, n_mentions) in enumerate(before.most_common(_MOST_NAMES)):
            # The old name must not occur again, not even as a part of a word ("tim's").
            gone = places[old][-1] < at[0] and not any(old in word for word in story.lower[at[0] :])
            genders = {reference.genders.get(name, "either") for name in (old, new)}
            if n_mentions >= (3 if rank else 2) and gone and genders != {"he", "she"}:
                return old, new
    return None


def _is_introduced(story: TokenizedStory, at: int, reference: ReferenceCorpus) -> bool:
    """True if the first mention of a name introduces its bearer or lies in direct speech."""
    if story.in_speech[at]:
        return True
    begins = next((start for start, end in story.sentences if start <= at < end), 0)
    before = story.lower[max(begins, at - 3) : at]
    if any(word in NAMING_VERBS or word in _LINKS for word in before):
        return True
    # "his cat, Tom" and "the bear Tom" have a noun for a character before the name, "Tom, a bear" an article after it.
    if any(word in reference.genders and word not in reference.persons | _PRONOUNS for word in before[-2:]):
        return True
    after = [word for word in story.lower[at + 1 : at + 3] if word != ","]
    return bool(after) and after[0] in _ARTICLES


def unresolved_pronouns(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    """Counts he, she, him ... of the continuation without an antecedent. Returns (unresolved, all such pronouns).

    An antecedent stands in the pronoun's sentence or the six before it: a name or noun of the same gender or of either
    gender (a dog, a friend, a name used for both), or a pronoun that is resolved itself. Pronouns in direct speech are
    ignored.
    """
    names = mentions(story, reference)
    # The sentence with the newest possible antecedent of each gender.
    last = {"he": _LONG_AGO, "she": _LONG_AGO}
    unresolved = total = 0
    for number, (start, end) in enumerate(story.sentences):
        for i in range(start, end):
            last.update(dict.fromkeys(_genders_of(story, i, names, reference), number))
        if number not in last.values() and not _PRESENTS.isdisjoint(story.lower[start:end]):
            last = {"he": number, "she": number}  # "there was a goat": an unknown noun may be either
        for i in range(start, end):
            word = story.lower[i]
            if word not in _PRONOUNS or story.in_speech[i]:
                continue
            kind = "he" if word in HE else "she"
            is_unresolved = number - last[kind] > _SENTENCES_BACK
            if not is_unresolved:
                last[kind] = number
            if i >= story.start:
                total += 1
                unresolved += is_unresolved
    return unresolved, total


def _genders_of(story: TokenizedStory, at: int, names: dict[int, str], reference: ReferenceCorpus) -> set[str]:
    """Pronouns that can refer to this token: `he`, `she`, both, or neither."""
    word = story.lower[at]
    if at in names:
        gender = reference.genders.get(names[at], "either")
    elif word in _PRONOUNS or word.removesuffix("'s") in reference.persons:
        return set()  # a name's lower-case form is another word: a lily is not Lily
    else:
        gender = reference.genders.get(word.removesuffix("'s"), "")
    return {"he", "she"} if gender == "either" else {gender} - {""}


def definite_first_mentions(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    """Counts first mentions of things with "the" instead of "a". Returns (definite, all counted first mentions).

    Counts only nouns that training stories introduce with "a" nine times out of ten, and only first mentions in the
    continuation that have an article.
    """
    mentioned: set[str] = set()
    definite = total = 0
    for i, word in enumerate(story.lower):
        if not story.is_word[i]:
            continue
        thing = stem(word)
        if thing in mentioned:
            continue
        mentioned.add(thing)
        article = story.lower[i - 1] if i else PARAGRAPH
        if thing in reference.introduced and article in _ARTICLES and i >= story.start:
            total += 1
            definite += article == "the"
    return definite, total


def second_half_overlap(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    """Counts content words of the second half that occur in the first half. Returns (repeated, all content words).

    Halves of the whole story, prompt included; only words of the continuation are counted. A story that loses its
    thread has a low share.
    """
    at = [i for i, is_word in enumerate(story.is_word) if is_word]
    half = at[len(at) // 2] if at else 0
    first = {stem(story.lower[i].removesuffix("'s")) for i in at if i < half}
    later = [i for i in at if i >= max(half, story.start) and reference.is_content(story.lower[i].removesuffix("'s"))]
    return sum(stem(story.lower[i].removesuffix("'s")) in first for i in later), len(later)


def prompt_overlap(story: TokenizedStory, reference: ReferenceCorpus) -> tuple[int, int]:
    """Counts distinct content words and names of the prompt that the continuation repeats. Returns (repeated, all).

    A character that the continuation refers to only by a pronoun does not count as repeated.
    """
    words = [word.removesuffix("'s") for word in story.prompt_words()]
    prompt = {stem(word) for word in words if reference.is_content(word)}
    prompt |= {stem(name) for i, name in mentions(story, reference).items() if i < story.start}
    continuation = {stem(word.removesuffix("'s")) for word in story.words()}
    return len(prompt & continuation), len(prompt)

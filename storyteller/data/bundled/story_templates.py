"""Templates of the bundled stories, and the filler that makes a story of them.

A template is plain text with a few marks:

* `[this|that|something else]` is one of the alternatives (they may nest, and one may be empty);
* `<an aside>` is optional, and more likely in a story with much `leisure`;
* `{slot}` is a word fixed for the whole story, such as `{h}`, the hero's name, or `{h.his}`; `{^slot}` is the same with
  a capital letter;
* `{@bank}` is one word out of a group in `word_banks.BANKS`;
* `{~}` is a possible paragraph break, and an empty line a certain one.

Wherever a phrase of `word_banks.SAME` occurs, one with the same meaning may replace it, and a pronoun at the start of a
sentence may be replaced by the name. Capitals at the start of sentences and "an" for "a" are corrected at the end, so
templates need not care about them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from storyteller.data.bundled.word_banks import (
    BANKS,
    BOYS,
    CHILD_HOMES,
    GIRLS,
    HE_ANIMALS,
    SAME,
    SHE_ANIMALS,
    SURNAMES,
    Row,
)

T = TypeVar("T")
Node = tuple[int, Any]
Nodes = tuple[Node, ...]

_TEXT, _SLOT, _CAPITAL, _CHOICE, _MAYBE = range(5)
_TOKEN = re.compile(r"[\[\]|<>]|\{[^{}]*\}|[^\[\]|<>{}]+")
_AN = re.compile(r"([Aa])(?<!\w.) (?=[aeiouAEIOU])(?!one\b|once\b|uni|use)")
# A lower-case letter that begins a sentence: at the start of a paragraph, or after a full stop. After ?" or !" a
# lower-case letter may be right ("Who is it?" she asked), so templates write that capital themselves. Each alternative
# begins with a literal character and looks back from there, which makes a story a fifth faster.
_START = re.compile(r'((?:\n| (?<=[.!?] )| (?<=\." ))"?)([a-z])')
_END = re.compile(r'[.!?] $|\." $')
_NAMED = ("h", "f", "n")
_SAME = {ways[0]: ways for ways in SAME}
# "I am" may be "I'm" only before another word: "Yes, I am." has to stay as it is.
_SAME_PATTERN = re.compile(
    r"(?<![\w'])(?:"
    + "|".join(ways[0] + ("(?= [a-z])" if ways[1].endswith(("'m", "'s", "'re", "'ll", "'d")) else "") for ways in SAME)
    + r")(?![\w'])"
)


def _choice(options: list[Nodes]) -> Node:
    """Makes a choice node. Options of plain text are stored as strings, which are faster to expand."""
    return _CHOICE, tuple(
        option[0][1] if len(option) == 1 and option[0][0] == _TEXT else option if option else "" for option in options
    )


def _plain(text: str) -> list[Node]:
    """Makes nodes of plain text. Phrases with synonyms become choices."""
    nodes: list[Node] = []
    done = 0
    for match in _SAME_PATTERN.finditer(text):
        nodes += [(_TEXT, text[done : match.start()]), (_CHOICE, _SAME[match[0]])]
        done = match.end()
    return [*nodes, (_TEXT, text[done:])]


def _parse(tokens: list[str], closer: str, opens: bool = False) -> list[Nodes]:
    """Parses tokens up to `closer` and returns the alternatives (outside brackets there is one).

    `opens` is True where a sentence begins. Raises ValueError for unbalanced brackets.
    """
    options: list[Nodes] = []
    nodes: list[Node] = []
    while tokens:
        token = tokens.pop(0)
        begins = bool(_END.search(str(nodes[-1][1]))) if nodes else opens
        if token == closer:
            break
        if token == "[":
            nodes.append(_choice(_parse(tokens, "]", begins)))
        elif token == "<":
            nodes.append((_MAYBE, _parse(tokens, ">", begins)[0]))
        elif token == "|" and closer == "]":
            options.append(tuple(nodes))
            nodes = []
        elif token in "]>|":
            raise ValueError(f"stray {token!r} in a template, before {tokens[:3]}")
        elif token.startswith("{"):
            nodes.append(_slot(token[1:-1], begins))
        else:
            nodes += _plain(token)
    else:
        if closer:
            raise ValueError(f"a template lacks a {closer!r}")
    return [*options, tuple(nodes)]


def _slot(name: str, opens: bool = False) -> Node:
    """Makes the node for the inside of a pair of braces; `opens` is True where it begins a sentence.

    A pronoun that begins a sentence is sometimes replaced by the name, as in natural stories.
    """
    key, _, form = name.partition(".")
    if opens and key in _NAMED and form in ("he", "his"):
        named: Nodes = ((_CAPITAL, key),) if form == "he" else ((_CAPITAL, key), (_TEXT, "'s"))
        pronoun: Nodes = ((_SLOT, name),)
        return _CHOICE, (pronoun, pronoun, pronoun, named, named)
    if name == "~":
        return _CHOICE, (" ", "\n")
    if name.startswith("@"):
        return _choice(_parse([*_TOKEN.findall(BANKS[name[1:]]), "]"], "]"))
    if name.startswith("^"):
        return _CAPITAL, name[1:]
    return _SLOT, name


@cache
def compiled(template: str) -> Nodes:
    """Parses a template into nested nodes."""
    text = re.sub(r"(?<=[\[|])\s*\n\s*|\s*\n\s*(?=[|\]])", "", template.strip())
    text = re.sub(r"\s*\n\s*\n\s*", "\0", text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("\0", "\n")
    return _parse(_TOKEN.findall(text), "", opens=text.startswith("{h.h"))[0]


def polished(raw: str) -> str:
    """Corrects the spaces, articles and capitals of a story's raw text."""
    text = "\n".join(line for line in (" ".join(part.split()) for part in raw.split("\n")) if line)
    text = _AN.sub(r"\1n ", text)
    # A table cell may end with a quotation, and the sentence around it then adds a full stop of its own.
    for mark in ".!?":
        text = text.replace(f'{mark}".', f'{mark}"')
    return _START.sub(lambda match: match[1] + match[2].upper(), "\n" + text)[1:]


@dataclass(frozen=True, slots=True)
class Character:
    """A character of a story: a name, a kind (such as "boy" or "owl"), and the gender for its pronouns."""

    name: str
    kind: str
    gender: str  # "he", "she" or "it"


_PRONOUNS = {
    "he": (("he", "he"), ("him", "him"), ("his", "his"), ("himself", "himself"), ("sib", "brother"), ("child", "son")),
    "she": (
        ("he", "she"),
        ("him", "her"),
        ("his", "her"),
        ("himself", "herself"),
        ("sib", "sister"),
        ("child", "daughter"),
    ),
    "it": (("he", "it"), ("him", "it"), ("his", "its"), ("himself", "itself")),
}

_CHILD_BEGINNINGS = """
[Once upon a time, there was a {@little} {h.kind} named {h}. {h.he} {likes}.
|Once upon a time, there was a {trait} {h.kind} named {h} who {likes}.
|Once upon a time, there was a {@little} {h.kind} named {h}. <{about}> {h} {likes}.
|Once upon a time, there was a {trait} little {h.kind}. {h.his} name was {h}, and {h.he} {likes}.
|Once upon a time, {home}, there lived a {trait} {h.kind} named {h}. {h.he} {likes}.
|Once upon a time, a {h.kind} named {h} lived {home}. {h} {likes}.
|Once there was a little {h.kind} named {h}. {h.he} {likes}. <{about}>
|Once there was a {trait} little {h.kind} [named|called] {h}, who {likes}.
|Once there was a little {h.kind} who {likes}. {h.his} name was {h}.
|There once was a {@little} {h.kind} called {h}. {h.he} {likes}.
|There was once a {trait} {h.kind} named {h}. <{about}> {h} {likes}.
|{home} lived a {@little} {h.kind} named {h}, who {likes}.
|{home} lived a {trait} {h.kind} named {h}. {h.he} {likes}.
|{h} was a {trait} {h.kind} who {likes}. <{about}>
|{h} was a {trait} little {h.kind}. <{about}> {h.he} {likes}.
|{h} was {@years} years old. {h.he} lived {home}, and {h.he} {likes}.
|{h} {likes}. <{about}>
|A {@little} {h.kind} named {h} lived {home}. <{about}> {h.he} {likes}.]
"""
_CHILD_ABOUT = """
[{h.he} had [curly hair|two long braids|freckles on {h.his} nose|big brown eyes|a gap between {h.his} front teeth
|messy hair|the loudest laugh on the street|{@color} boots that {h.he} wore every day|rosy cheeks|skinny knees]
|{h.he} was [only|almost|just] {@years} years old|{h.his} [favorite color was {@color}|pockets were always full of
[string and pebbles|buttons|acorns|feathers]|best friend was [an old pillow|a gray cat|a toy rabbit]]
|{h.he} [hummed|sang|whistled|skipped] [all day long|from morning till night|wherever {h.he} went]].
"""
_ANIMAL_BEGINNINGS = """
[Once upon a time, there was a {@little} {h.kind} named {h}. {h.he} had {h.look}, and {h.he} {likes}.
|Once upon a time, there was a {trait} {h.kind} named {h} who {likes}.
|Once upon a time, {h.home}, there lived a {h.kind} named {h}. {h} {likes}.
|Once upon a time, a {trait} {h.kind} named {h} lived {h.home}. {h.he} {likes}.
|Once there was a cute little {h.kind} named {h}. {h.he} had {h.look}, and {h.he} {likes}.
|Once there was a cute little {h.kind} named {h}, who {likes}.
|Once there was a {trait} little {h.kind} who lived {h.home}. {h.his} name was {h}, and {h.he} {likes}.
|Once there was a little {h.kind} named {h}. {h} {likes}.
|There once was a {@little} {h.kind} called {h}. {h.he} {likes}.
|{h.home} lived a {trait} {h.kind} named {h}. {h.he} {likes}.
|{h.home} lived a {@little} {h.kind} with {h.look}. {h.his} name was {h}. {h} {likes}.
|{h} was a {trait} {h.kind} with {h.look}. {h.he} {likes}.
|{h} the {h.kind} lived {h.home}. {h.he} {likes}.
|{h} was a {@little} {h.kind} who {likes}.]
"""


class TemplateFiller:
    """Generates one story: keeps its characters and slots, and makes every choice with one random generator."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.random = random
        self.slots: dict[str, str] = {}
        self.cast: list[Character] = []
        self.parts: list[str] = []
        # The probability of optional text: some stories are brief, others dwell on weather, colors and small talk.
        self.leisure = 0.15 + 0.75 * random()
        self.slots["mom"] = self.one_of(("mom", "mom", "mom", "mother", "mama"))
        self.slots["dad"] = self.one_of(("dad", "dad", "dad", "father", "papa"))

    def one_of(self, items: Sequence[T]) -> T:
        """Chooses an item. Uses `random()` alone, whose numbers are the same in every version of Python."""
        return items[int(self.random() * len(items))]

    def chance(self, share: float) -> bool:
        """True with this probability."""
        return self.random() < share

    # -- slots ------------------------------------------------------------------------------------------------------
    def fill(self, template: str) -> str:
        """Expands a template with new random choices and the slots of this story."""
        out: list[str] = []
        self._expand(compiled(template), out)
        return "".join(out)

    def _expand(self, nodes: Nodes, out: list[str]) -> None:
        for what, body in nodes:
            if what == _TEXT:
                out.append(body)
            elif what == _SLOT:
                out.append(self.slots[body])
            elif what == _CHOICE:
                option = body[int(self.random() * len(body))]
                if option.__class__ is str:
                    out.append(option)
                else:
                    self._expand(option, out)
            elif what == _CAPITAL:
                word = self.slots[body]
                out.append(word[0].upper() + word[1:])
            elif self.random() < self.leisure:
                self._expand(body, out)

    def let(self, **facts: str) -> None:
        """Sets slots: each template is expanded once and keeps its text for the whole story."""
        for key, template in facts.items():
            self.slots[key] = self.fill(template)

    def row(self, key: str, table: Sequence[Row]) -> Row:
        """Chooses a row of a table and sets slots: `{key.heading}` for each cell, and `{key}` for the first one."""
        row = self.one_of(table)
        self._settle(key, row)
        return row

    def _settle(self, key: str, row: Row) -> None:
        for number, (head, cell) in enumerate(row.items()):
            words = self.slots[f"{key}.{head}"] = self.fill(cell)
            if not number:
                self.slots[key] = words

    # -- cast -------------------------------------------------------------------------------------------------------
    def add(self, key: str, name: str, kind: str, gender: str) -> Character:
        """Adds a character; its name, kind and pronouns become slots."""
        person = Character(name, kind, gender)
        self.cast.append(person)
        slots = self.slots
        slots[key], slots[f"{key}.kind"] = name, kind
        for form, word in _PRONOUNS[gender]:
            slots[f"{key}.{form}"] = word
        return person

    def _name(self, names: Sequence[str]) -> str:
        """Chooses a name that no character of this story has yet."""
        taken = {person.name.split()[-1] for person in self.cast}
        while (name := self.one_of(names)) in taken:
            pass
        return name

    def child(self, key: str, gender: str = "") -> Character:
        """Adds a boy or a girl. A second child usually has the other gender, which keeps "he" and "she" apart."""
        if not gender:
            share = 0.5
            if self.cast and self.cast[0].kind in ("boy", "girl"):
                share = 0.25 if self.cast[0].gender == "he" else 0.75
            gender = "he" if self.chance(share) else "she"
        kind, names = ("boy", BOYS) if gender == "he" else ("girl", GIRLS)
        return self.add(key, self._name(names), kind, gender)

    def animal(self, key: str, table: Sequence[Row], gender: str = "") -> Character:
        """Adds an animal with a name, of a kind that is not in the story yet; the cells of its row become slots."""
        kinds = {person.kind for person in self.cast}
        while (row := self.one_of(table))["kind"] in kinds:
            pass
        if not gender:
            share = 0.5 if not self.cast else 0.25 if self.cast[0].gender == "he" else 0.75
            gender = "he" if self.chance(share) else "she"
        person = self.add(key, self._name(HE_ANIMALS if gender == "he" else SHE_ANIMALS), row["kind"], gender)
        for head, cell in row.items():
            self.slots[f"{key}.{head}"] = self.fill(cell)
        return person

    def creature(self, key: str, kind: str, gender: str = "") -> Character:
        """Adds a character without a name: `{key}` is "the owl"."""
        kind = self.fill(kind)
        return self.add(key, f"the {kind}", kind, gender or self.one_of(("he", "she")))

    def parent(self, key: str) -> Character:
        """Adds the hero's mother or father: `{h.his} {p}` in the text, `{p.call}` when spoken to."""
        gender = self.one_of(("he", "she"))
        kind = self.slots["dad" if gender == "he" else "mom"]
        self.slots[f"{key}.call"] = kind.capitalize()
        return self.add(key, kind, kind, gender)

    def elder(self, key: str) -> Character:
        """Adds a grandmother or grandfather, who is called by that name."""
        name, gender = self.one_of((("Grandma", "she"), ("Grandpa", "he"), ("Granny", "she"), ("Grandpa", "he")))
        return self.add(key, name, name.lower(), gender)

    def neighbor(self, key: str) -> Character:
        """Adds an adult with a family name."""
        title, kind, gender = self.one_of((("Mrs.", "woman", "she"), ("Mr.", "man", "he"), ("Miss", "woman", "she")))
        return self.add(key, f"{title} {self._name(SURNAMES)}", kind, gender)

    # -- text -------------------------------------------------------------------------------------------------------
    def say(self, *templates: str) -> None:
        """Adds one of the templates as the next paragraph (or paragraphs)."""
        self.parts.append(self.fill(self.one_of(templates)))

    def go_on(self, *templates: str) -> None:
        """Adds one of the templates to the current paragraph."""
        self.parts[-1] += " " + self.fill(self.one_of(templates))

    def aside(self, *templates: str) -> None:
        """Adds one of the templates to the current paragraph with a probability that depends on `leisure`."""
        if self.random() < self.leisure + 0.15:
            self.go_on(*templates)

    def begin(self, likes: str, *direct: str, trait: str = "{@trait}", home: str = CHILD_HOMES) -> None:
        """Introduces the hero `h`, who `likes` something, or sometimes begins with one of the `direct` templates."""
        slots = self.slots
        slots["likes"], slots["trait"] = self.fill(likes), self.fill(f"[{trait}]")
        if direct and self.chance(0.3):
            self.say(*direct)
        elif slots["h.kind"] in ("boy", "girl"):
            slots["home"], slots["about"] = self.fill(f"[{home}]"), self.fill(_CHILD_ABOUT)
            self.say(_CHILD_BEGINNINGS)
        else:
            self.say(_ANIMAL_BEGINNINGS)

    def text(self) -> str:
        """Returns the finished text."""
        # Sometimes two short scenes share a paragraph.
        joined = (
            part if number == 0 else (" " if self.chance(0.12) else "\n") + part
            for number, part in enumerate(self.parts)
        )
        return polished("".join(joined))

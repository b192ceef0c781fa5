"""A page for a browser, in one file: nothing is loaded from outside, nothing in it runs, every text is escaped.

    page = Page("A run", lead="trained for five minutes")
    page.heading("Stories")
    page.story("Once", " there was a fox.", label="step 100")
    write(Path("report.html"), page)

What is given as `str` is text, whatever is in it: it is made safe and escaped here. Only `Markup`, which `element` and
the plots make, goes in as it stands.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storyteller.errors import DiskError, UsageError, is_disk_full
from storyteller.reports.style import STYLE
from storyteller.system.files import open_regular, write_text
from storyteller.text import safe, safe_line

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a page may do, as its Content-Security-Policy: style itself."""

_VOID = frozenset(("br", "col", "hr", "img", "meta", "line", "path", "circle", "rect"))
"""Elements that are closed in their start tag where nothing is in them: HTML passes over that for its own."""
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_BEGINNING = re.compile(rb"\s*<(!doctype\s+html|html)[\s>]", re.IGNORECASE)
_LOOKED_AT_BYTES = 1024
_LONGEST_FIGURE = 32
_LONGEST_WORDS = 40
_NO_FIGURE = ("", "-", "\u2013", "\u2014")


@dataclass(frozen=True)
class Markup:
    """HTML or SVG that is safe as it stands: made of elements, its texts escaped."""

    html: str

    def __str__(self) -> str:
        return self.html


Piece = str | Markup
"""A text, which is escaped, or markup."""


def escaped(piece: Piece) -> str:
    """A piece as HTML, fit for an attribute too; of a text, every control but newline and tab is a picture."""
    return piece.html if isinstance(piece, Markup) else html.escape(safe(piece), quote=True)


def element(name: str, /, *pieces: Piece, **attributes: Piece | float | bool | None) -> Markup:
    """`<name ...>pieces</name>`. An attribute's `_` is a `-`, one at its end is left out (`class_`).

    True is an attribute without a value; None and False leave it out. The names are our own, never text.
    """
    words = [_checked(name)]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = _checked(key.rstrip("_").replace("_", "-"))
        words.append(key if value is True else f'{key}="{_value(value)}"')
    start = " ".join(words)
    if name in _VOID and not pieces:
        return Markup(f"<{start} />")
    return Markup(f"<{start}>{''.join(map(escaped, pieces))}</{name}>")


def joined(*pieces: Piece) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(map(escaped, pieces)))


class HtmlPage:
    """A document, built from its top to its bottom; `str(page)` is all of it."""

    def __init__(self, title: str, *, lead: Piece = "", footer: Piece = "") -> None:
        """`lead` stands below the title, `footer` at the end."""
        self._title = title
        self._lead = lead
        self._footer = footer
        self._sections: list[tuple[str, str]] = []  # anchor, words
        self._stack: list[list[Markup]] = [[]]

    # --- what can stand on a page -------------------------------------------------------------------------------------

    def add(self, *markup: Markup) -> None:
        """Anything that `element` made."""
        self._stack[-1] += markup

    def heading(self, text: str, level: int = 2, *, note: Piece = "") -> None:
        """A heading; those of level 2 stand in the page's contents. `note` is said beside it, small."""
        if level not in (2, 3, 4):
            raise ValueError(f"no heading of level {level}")
        anchor = None
        if level == 2:
            anchor = f"part-{len(self._sections) + 1}"
            self._sections.append((anchor, text))
        beside = (" ", element("small", note)) if note else ()
        self.add(element(f"h{level}", text, *beside, id=anchor))

    def paragraph(self, *pieces: Piece) -> None:
        self.add(element("p", *pieces))

    def note(self, *pieces: Piece) -> None:
        """Something in small print."""
        self.add(element("p", *pieces, class_="note"))

    def warning(self, *pieces: Piece) -> None:
        """Something that a reader should see first: what is missing, what to be careful with."""
        self.add(element("p", *pieces, class_="warning", role="note"))

    def facts(self, facts: Mapping[str, Piece] | Sequence[tuple[str, Piece]]) -> None:
        """Names and what is said of each."""
        pairs = list(facts.items()) if isinstance(facts, Mapping) else facts
        rows = [element("div", element("dt", name), element("dd", words)) for name, words in pairs]
        self.add(element("dl", *rows, class_="facts"))

    def figures(self, figures: Sequence[tuple[str, str]]) -> None:
        """A few large figures in a row: each what it is of, and the figure."""
        tiles = [element("div", element("dt", name), element("dd", figure)) for name, figure in figures]
        self.add(element("dl", *tiles, class_="tiles"))

    def table(
        self,
        head: Sequence[Piece],
        rows: Sequence[Sequence[Piece]],
        *,
        caption: Piece,
        left: int | None = None,
        hide_caption: bool = False,
    ) -> None:
        """Rows as wide as the head; the first cell names its row.

        The first `left` columns are words, the rest figures; without it, a column is of figures where none of its cells
        is long and each has a digit or is empty (a dash). Every table has a caption, be it for screen readers alone
        (`hide_caption`). A wide one scrolls within itself.
        """
        figures = [i > 0 and all(map(_is_figure, column)) for i, column in enumerate(zip(*rows, strict=True))]
        if left is not None or not rows:
            figures = [i >= (left or 1) for i in range(len(head))]
        # On a phone a column of sentences keeps a width that can be read, and the table scrolls.
        long = [any(len(_plain(cell)) > _LONGEST_WORDS for cell in column) for column in zip(*rows, strict=True)]
        sides = ["figure" if is_figure else "words" for is_figure in figures]
        sides = [f"{side} long" if i and rows and long[i] else side for i, side in enumerate(sides)]
        columns = [element("th", cell, scope="col", class_=side) for cell, side in zip(head, sides, strict=True)]
        body = []
        for row in rows:
            first, *rest = zip(row, sides, strict=True)
            cells = [element("td", cell, class_=side) for cell, side in rest]
            body.append(element("tr", element("th", first[0], scope="row", class_=first[1]), *cells))
        named = element("caption", caption, class_="unseen" if hide_caption else None)
        table = element("table", named, element("thead", element("tr", *columns)), element("tbody", *body))
        # A box that scrolls has to be within reach of the keyboard.
        self.add(element("div", table, class_="scroll", role="region", tabindex=0, aria_label=_plain(caption)))

    def story(self, prompt: str, text: str, *, label: Piece = "", note: Piece = "") -> None:
        """A story: what was told after the prompt, the prompt itself a shade lighter."""
        self.told((("prompt", prompt), ("", text)), label=label, note=note)

    def told(self, parts: Sequence[tuple[str, str]], *, label: Piece = "", note: Piece = "") -> None:
        """A story in parts, each with its kind: `prompt`, `kept` (as before: a shade lighter), `new` (not so before,
        marked) or none."""
        words = [element(_KINDS[kind][0], text, class_=_KINDS[kind][1]) if kind else text for kind, text in parts]
        named = [element("header", label)] if label else []
        noted = [element("footer", note)] if note else []
        self.add(element("article", *named, element("p", *words, dir="auto"), *noted, class_="story"))

    def figure(self, picture: Markup, caption: Piece = "") -> None:
        """A plot, with a line below it."""
        named = [element("figcaption", caption)] if caption else []
        self.add(element("figure", picture, *named))

    def code(self, text: str) -> None:
        """A command or a file's contents, as it stands."""
        self.add(element("pre", element("code", text), tabindex=0))

    # --- what can hold others -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def details(self, summary: Piece, *, is_open: bool = False) -> Iterator[None]:
        """What is added within is folded up behind the summary."""
        with self._within() as inside:
            yield
        self.add(element("details", element("summary", summary), *inside, open=is_open))

    @contextlib.contextmanager
    def side_by_side(self, narrowest_rem: float = 20) -> Iterator[None]:
        """What is added within stands in columns of at least that width; below each other where there is no room."""
        with self._within() as inside:
            yield
        self.add(element("div", *inside, class_="grid", style=f"--narrowest:{narrowest_rem:g}rem"))

    @contextlib.contextmanager
    def _within(self) -> Iterator[list[Markup]]:
        inside: list[Markup] = []
        self._stack.append(inside)
        try:
            yield inside
        finally:
            self._stack.pop()

    # --- the whole ----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The document."""
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("meta", name="referrer", content="no-referrer"),
            element("meta", name="generator", content="storyteller"),
            element("title", safe_line(self._title, 200)),
            element("style", Markup(STYLE)),
        )
        top = [element("h1", self._title), *([element("p", self._lead, class_="lead")] if self._lead else [])]
        contents = []
        if len(self._sections) > 2:
            links = [element("li", element("a", words, href=f"#{anchor}")) for anchor, words in self._sections]
            contents = [element("nav", element("ul", *links), aria_label="Contents")]
        end = [element("footer", self._footer, class_="end")] if self._footer else []
        body = element("body", element("header", *top), *contents, element("main", *self._stack[0]), *end)
        return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def write(path: Path, page: HtmlPage) -> int:
    """Put the page in a file, all of it or nothing; returns its size in bytes.

    A page that is there is replaced. Raises UsageError where anything else is there or the folder is not, DiskError
    where the file cannot be written.
    """
    shown = safe_line(str(path), 200)
    check(path)
    try:
        text = str(page)
        write_text(path, text)
        return len(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        if is_disk_full(error):
            raise DiskError(f"{shown} cannot be written: no space is left", "free some, try again") from error
        reason = (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{shown} cannot be written: {reason}", "name another file") from error


def check(path: Path) -> None:
    """Raise UsageError where `write` would not put a page there: for whoever has long work to do before it."""
    shown = safe_line(str(path), 200)
    if "\0" in str(path):
        raise UsageError(f"{shown} is no name of a file", "name another file")
    try:
        if path.exists() and not _is_page(path):
            raise UsageError(f"{shown} is there already and is no HTML page", "name another file")
        if not path.parent.is_dir():
            raise UsageError(f"{safe_line(str(path.parent), 200)} is no folder", "make it, or name another file")
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise DiskError(f"{shown} cannot be written: {reason}", "name another file") from error


_KINDS = {"prompt": ("span", "prompt"), "kept": ("span", "kept"), "new": ("mark", None)}


def _is_page(path: Path) -> bool:
    """Whether the file is an HTML page, or empty: nothing is lost with it."""
    try:
        with open_regular(path) as file:
            beginning = file.read(_LOOKED_AT_BYTES).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return False
    return not beginning or _BEGINNING.match(beginning) is not None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an element or attribute")
    return name


def _value(value: Piece | float) -> str:
    return escaped(value if isinstance(value, str | Markup) else f"{value:g}")


def _is_figure(piece: Piece) -> bool:
    text = _plain(piece)
    return len(text) <= _LONGEST_FIGURE and (text in _NO_FIGURE or any(map(str.isdecimal, text)))


def _plain(piece: Piece) -> str:
    """A piece without its tags, to be said where none can stand."""
    return html.unescape(re.sub(r"<[^>]*>", "", piece.html)) if isinstance(piece, Markup) else piece
